package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Atomic is a plain file of the host, outside any target, that appears under
// its name whole and durable at Commit, or not at all.
type Atomic struct {
	f    *os.File
	path string // where it is to appear, symlinks resolved
	temp string // its name until then; "" for a file without a name, or written in place
	// direct is set where path is no regular file but, say, /dev/null or a FIFO:
	// that is written to, not replaced.
	direct bool
	done   bool
}

// NewAtomic starts a file that Commit puts at path, with mode less the umask.
// Where path is a symlink its target is replaced, not the link. Until Commit
// the file has no name where the file system can do that (O_TMPFILE, open(2)),
// so that not even kill -9 leaves anything behind.
func NewAtomic(path string, mode os.FileMode) (*Atomic, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, &fs.PathError{Op: "create", Path: path, Err: unix.EISDIR}
	case err == nil && !info.Mode().IsRegular() && info.Mode()&fs.ModeSymlink == 0:
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		return &Atomic{f: f, path: path, direct: true}, nil
	}
	a := &Atomic{path: path}
	dir := filepath.Dir(path)
	fd, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, uint32(mode.Perm()))
	})
	if err == nil {
		a.f = os.NewFile(uintptr(fd), path)
		return a, nil
	}
	// EOPNOTSUPP or EISDIR: no O_TMPFILE here. Any other error comes again.
	if err := a.openNamed(mode); err != nil {
		return nil, a.asked(err)
	}
	return a, nil
}

// asked makes an error speak of the file that was asked for: nobody knows its
// temporary name.
func (a *Atomic) asked(err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return &fs.PathError{Op: p.Op, Path: a.path, Err: p.Err}
	case errors.As(err, &l):
		return &fs.PathError{Op: l.Op, Path: a.path, Err: l.Err}
	}
	return err
}

func (a *Atomic) openNamed(mode os.FileMode) (err error) {
	a.temp = a.spare()
	a.f, err = os.OpenFile(a.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode.Perm())
	return err
}

// spare is a name beside path that nobody else has.
func (a *Atomic) spare() string {
	base := filepath.Base(a.path)
	base = base[:min(len(base), 200)]
	return filepath.Join(filepath.Dir(a.path), fmt.Sprintf(".%s.%016x%s", base, rand.Uint64(), tempSuffix))
}

// Write appends to the file.
func (a *Atomic) Write(p []byte) (int, error) {
	n, err := a.f.Write(p)
	if a.temp != "" {
		err = a.asked(err)
	}
	return n, err
}

// WriteAt writes at an offset, of a regular file.
func (a *Atomic) WriteAt(p []byte, off int64) (int, error) { return a.f.WriteAt(p, off) }

// ReadAt reads back what has been written, of a regular file.
func (a *Atomic) ReadAt(p []byte, off int64) (int, error) { return a.f.ReadAt(p, off) }

// Commit makes the file durable, then visible, then its name durable.
func (a *Atomic) Commit() error {
	if a.done {
		return &fs.PathError{Op: "commit", Path: a.path, Err: fs.ErrClosed}
	}
	if a.direct {
		a.done = true
		return a.f.Close()
	}
	if err := a.publish(); err != nil {
		return errors.Join(a.asked(err), a.Abort())
	}
	a.done = true
	dir, err := os.Open(filepath.Dir(a.path))
	if err != nil {
		return errors.Join(err, a.f.Close())
	}
	return errors.Join(dir.Sync(), dir.Close(), a.f.Close())
}

func (a *Atomic) publish() error {
	if err := a.f.Sync(); err != nil {
		return err
	}
	if a.temp == "" {
		temp := a.spare()
		old := procFD + strconv.Itoa(int(a.f.Fd()))
		err := unix.Linkat(unix.AT_FDCWD, old, unix.AT_FDCWD, temp, unix.AT_SYMLINK_FOLLOW)
		if err != nil {
			return pathError("link", temp, err)
		}
		a.temp = temp
	}
	return os.Rename(a.temp, a.path)
}

// Abort drops the file. After Commit it does nothing, so it can be deferred.
func (a *Atomic) Abort() error {
	if a.done {
		return nil
	}
	a.done = true
	err := a.f.Close()
	if a.temp != "" {
		err = errors.Join(err, os.Remove(a.temp))
	}
	return err
}

// OpenMake is Open for a folder of the host, made with its parents where missing.
func OpenMake(dir string) (FS, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return Open(dir)
}
