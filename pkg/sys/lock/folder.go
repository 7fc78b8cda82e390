package lock

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/failure"
)

// Folder locks a folder itself: nothing is written in it, so that a tree whose
// bytes are compared can be locked. failure.Busy if another process holds it.
func Folder(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case err == nil:
		return &Lock{f: f}, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		err = busyHint(failure.Errorf(failure.Busy, "locking %q: held by another process", path), path)
	default:
		err = &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	f.Close()
	return nil, err
}
