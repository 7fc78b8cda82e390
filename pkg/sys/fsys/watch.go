package fsys

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// Meter counts the changes made through every Watch that shares it and says
// what is to happen at which. Steps count from 1; a zero field asks for
// nothing. Fields are set before the first step.
type Meter struct {
	// FailAt is the step that is not done and answers Err; EIO for a nil Err.
	FailAt int
	Err    error
	// Sticky makes every step from FailAt on fail, as on a disk that stays full.
	Sticky bool
	// ShortWrite makes a Write that fails do the first half of its bytes.
	ShortWrite bool
	// CrashAt is the step before which the power goes: it and all later calls,
	// reads too, answer ErrCrashed and do nothing.
	CrashAt int
	// KillAt is the step before which the process sends itself SIGKILL.
	KillAt int
	// Before is called before each step is done, even one that is to fail. It
	// may use the file system underneath, but not through the Watch.
	Before func(step int, op, name string)
	// Record has every step kept for Trace.
	Record bool

	mu      sync.Mutex
	count   int
	crashed bool
	trace   []string
}

// Count is the number of steps so far.
func (m *Meter) Count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// Trace is the steps so far, each "op name"; none without Record.
func (m *Meter) Trace() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.trace...)
}

// Crashed tells whether CrashAt has been reached.
func (m *Meter) Crashed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.crashed
}

// step counts one change; an error says that it must not be done.
func (m *Meter) step(op, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return pathError(op, name, ErrCrashed)
	}
	m.count++
	k := m.count
	if m.Record {
		m.trace = append(m.trace, op+" "+name)
	}
	if m.KillAt != 0 && k == m.KillAt {
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {} // until it arrives
	}
	if m.Before != nil {
		m.Before(k, op, name)
	}
	if m.CrashAt != 0 && k >= m.CrashAt {
		m.crashed = true
		return pathError(op, name, ErrCrashed)
	}
	if m.FailAt != 0 && (k == m.FailAt || m.Sticky && k > m.FailAt) {
		err := m.Err
		if err == nil {
			err = unix.EIO
		}
		return pathError(op, name, err)
	}
	return nil
}

// read answers ErrCrashed once the power is gone.
func (m *Meter) read(op, name string) error {
	if m.Crashed() {
		return pathError(op, name, ErrCrashed)
	}
	return nil
}

// watch is FS with a Meter.
type watch struct {
	inner FS
	m     *Meter
}

// Watch is inner with each change counted by meter, and failed, crashed or
// killed where that says so. What counts as a change: every method from Create
// on but Append, which only opens, and Write and Sync of a Writer.
func Watch(inner FS, meter *Meter) FS { return &watch{inner, meter} }

func (w *watch) change(op, name string, do func() error) error {
	if err := w.m.step(op, name); err != nil {
		return err
	}
	return do()
}

func read[T any](w *watch, op, name string, do func(string) (T, error)) (T, error) {
	if err := w.m.read(op, name); err != nil {
		var zero T
		return zero, err
	}
	return do(name)
}

func (w *watch) Lstat(name string) (Info, error) { return read(w, "lstat", name, w.inner.Lstat) }
func (w *watch) ReadDir(name string) ([]string, error) {
	return read(w, "readdir", name, w.inner.ReadDir)
}
func (w *watch) Readlink(name string) (string, error) {
	return read(w, "readlink", name, w.inner.Readlink)
}
func (w *watch) Xattrs(name string) ([]manifest.Xattr, error) {
	return read(w, "listxattr", name, w.inner.Xattrs)
}
func (w *watch) Space(name string) (Space, error) { return read(w, "statfs", name, w.inner.Space) }
func (w *watch) Place(name string) (Place, error) { return read(w, "statx", name, w.inner.Place) }
func (w *watch) Mount(name string) (Mount, error) { return read(w, "statfs", name, w.inner.Mount) }

func (w *watch) Open(name string) (File, error) {
	f, err := read(w, "open", name, w.inner.Open)
	if err != nil {
		return nil, err
	}
	return &watchedFile{f, w.m, name}, nil
}

type watchedFile struct {
	File
	m    *Meter
	name string
}

func (f *watchedFile) Read(p []byte) (int, error) {
	if err := f.m.read("read", f.name); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *watchedFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.m.read("read", f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *watchedFile) Stat() (Info, error) {
	if err := f.m.read("fstat", f.name); err != nil {
		return Info{}, err
	}
	return f.File.Stat()
}

// Close releases the descriptor also after the crash, so that tests leak none.
func (f *watchedFile) Close() error { return errors.Join(f.File.Close(), f.m.read("close", f.name)) }

type watchedWriter struct {
	inner Writer
	m     *Meter
	name  string
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	err := w.m.step("write", w.name)
	if err == nil {
		return w.inner.Write(p)
	}
	if !w.m.ShortWrite || errors.Is(err, ErrCrashed) {
		return 0, err
	}
	n, innerErr := w.inner.Write(p[:len(p)/2])
	return n, errors.Join(err, innerErr)
}

func (w *watchedWriter) Sync() error {
	if err := w.m.step("fsync", w.name); err != nil {
		return err
	}
	return w.inner.Sync()
}

func (w *watchedWriter) Close() error {
	return errors.Join(w.inner.Close(), w.m.read("close", w.name))
}

func (w *watch) Create(name string, mode uint32) (Writer, error) {
	if err := w.m.step("create", name); err != nil {
		return nil, err
	}
	inner, err := w.inner.Create(name, mode)
	if err != nil {
		return nil, err
	}
	return &watchedWriter{inner, w.m, name}, nil
}

func (w *watch) Append(name string) (Writer, error) {
	if err := w.m.read("append", name); err != nil {
		return nil, err
	}
	inner, err := w.inner.Append(name) // opening changes nothing: no step
	if err != nil {
		return nil, err
	}
	return &watchedWriter{inner, w.m, name}, nil
}

func (w *watch) Overwrite(name string) (Writer, error) {
	if err := w.m.read("overwrite", name); err != nil {
		return nil, err
	}
	inner, err := w.inner.Overwrite(name) // as in Append
	if err != nil {
		return nil, err
	}
	return &watchedWriter{inner, w.m, name}, nil
}

func (w *watch) Truncate(name string, size int64) error {
	return w.change("truncate", name, func() error { return w.inner.Truncate(name, size) })
}

func (w *watch) Mkdir(name string, mode uint32) error {
	return w.change("mkdir", name, func() error { return w.inner.Mkdir(name, mode) })
}

func (w *watch) Symlink(target, name string) error {
	return w.change("symlink", name, func() error { return w.inner.Symlink(target, name) })
}

func (w *watch) Mknod(name string, kind manifest.Kind, mode, major, minor uint32) error {
	return w.change("mknod", name, func() error { return w.inner.Mknod(name, kind, mode, major, minor) })
}

func (w *watch) Link(oldname, newname string) error {
	return w.change("link", newname, func() error { return w.inner.Link(oldname, newname) })
}

func (w *watch) Unlink(name string) error {
	return w.change("unlink", name, func() error { return w.inner.Unlink(name) })
}

func (w *watch) Rmdir(name string) error {
	return w.change("rmdir", name, func() error { return w.inner.Rmdir(name) })
}

func (w *watch) Rename(oldname, newname string, mode RenameMode) error {
	return w.change(mode.String(), newname, func() error { return w.inner.Rename(oldname, newname, mode) })
}

func (w *watch) Chown(name string, uid, gid uint32) error {
	return w.change("chown", name, func() error { return w.inner.Chown(name, uid, gid) })
}

func (w *watch) Chmod(name string, mode uint32) error {
	return w.change("chmod", name, func() error { return w.inner.Chmod(name, mode) })
}

func (w *watch) SetModTime(name string, t manifest.Time) error {
	return w.change("utimens", name, func() error { return w.inner.SetModTime(name, t) })
}

func (w *watch) SetXattr(name, attr string, value []byte) error {
	return w.change("setxattr", name, func() error { return w.inner.SetXattr(name, attr, value) })
}

func (w *watch) RemoveXattr(name, attr string) error {
	return w.change("removexattr", name, func() error { return w.inner.RemoveXattr(name, attr) })
}

func (w *watch) SyncFile(name string) error {
	return w.change("fsync", name, func() error { return w.inner.SyncFile(name) })
}

func (w *watch) SyncDir(name string) error {
	return w.change("fsyncdir", name, func() error { return w.inner.SyncDir(name) })
}

func (w *watch) SyncFS(name string) error {
	return w.change("syncfs", name, func() error { return w.inner.SyncFS(name) })
}

func (w *watch) SettleFS(name string) error {
	return w.change("settlefs", name, func() error { return w.inner.SettleFS(name) })
}

func (w *watch) Remount(name string, to ReadOnly) error {
	return w.change("remount", name, func() error { return w.inner.Remount(name, to) })
}

func (w *watch) Close() error { return w.inner.Close() }
