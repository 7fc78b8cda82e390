package worker

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// keepTrees is how long the trees of a builder stay that no build has used: those of
// a builder that is gone, or that is built elsewhere now.
const keepTrees = 30 * 24 * time.Hour

// oldPrefix is of folders that are being removed. No builder's name begins with a dot.
const oldPrefix = ".old-"

// useTrees notes that the trees in a folder are used now, and removes the folders
// beside it that were not for a while. A lock of the folder above keeps the two apart
// where several sessions begin: what is noted in time is not removed. What cannot be
// removed stays: it is no reason not to build.
func useTrees(folder string) error {
	above := filepath.Dir(folder)
	d, err := os.Open(above)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the first build
	}
	if err != nil {
		return err
	}
	defer d.Close()
	lerr := unix.Flock(int(d.Fd()), unix.LOCK_SH)
	now := unix.Timespec{Nsec: unix.UTIME_NOW} // which a folder of another user's takes too, where it may be written
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, folder, []unix.Timespec{now, now}, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "touch", Path: folder, Err: err}
	}
	if lerr != nil || unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // another has just begun, and the next one looks again; or there are no locks here
	}
	entries, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	var old []string
	for _, e := range entries {
		path := filepath.Join(above, e.Name())
		if !strings.HasPrefix(e.Name(), oldPrefix) {
			info, err := e.Info()
			if err != nil || !info.IsDir() || time.Since(info.ModTime()) < keepTrees {
				continue
			}
			to := filepath.Join(above, oldPrefix+e.Name())
			if os.Rename(path, to) != nil {
				continue // the rest of an earlier one is in the way, and goes first
			}
			path = to
		}
		old = append(old, path)
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_UN); err != nil {
		return err
	}
	for _, path := range old {
		_ = RemoveAll(path)
	}
	return nil
}
