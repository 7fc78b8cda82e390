package fsys

import (
	"fmt"
	"io"
	"sync"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// dryRun is FS that only says what it would change.
type dryRun struct {
	inner FS
	mu    sync.Mutex
	w     io.Writer
}

// DryRun is inner with every change written to w as one line and not done.
// Reads pass through and so see none of the changes. An error of w is the
// change's error; Close leaves w and closes inner.
func DryRun(inner FS, w io.Writer) FS { return &dryRun{inner: inner, w: w} }

func (d *dryRun) say(format string, args ...any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := fmt.Fprintf(d.w, format+"\n", args...)
	return err
}

func (d *dryRun) Lstat(name string) (Info, error)              { return d.inner.Lstat(name) }
func (d *dryRun) Open(name string) (File, error)               { return d.inner.Open(name) }
func (d *dryRun) ReadDir(name string) ([]string, error)        { return d.inner.ReadDir(name) }
func (d *dryRun) Readlink(name string) (string, error)         { return d.inner.Readlink(name) }
func (d *dryRun) Xattrs(name string) ([]manifest.Xattr, error) { return d.inner.Xattrs(name) }
func (d *dryRun) Space(name string) (Space, error)             { return d.inner.Space(name) }
func (d *dryRun) Place(name string) (Place, error)             { return d.inner.Place(name) }
func (d *dryRun) Mount(name string) (Mount, error)             { return d.inner.Mount(name) }
func (d *dryRun) Close() error                                 { return d.inner.Close() }

// dryWriter counts what would be written.
type dryWriter struct {
	d    *dryRun
	name string
	n    int64
}

func (w *dryWriter) Write(p []byte) (int, error) { w.n += int64(len(p)); return len(p), nil }
func (w *dryWriter) Sync() error                 { return w.d.say("fsync %q", w.name) }
func (w *dryWriter) Close() error                { return w.d.say("write %q %d bytes", w.name, w.n) }

func (d *dryRun) Create(name string, mode uint32) (Writer, error) {
	return &dryWriter{d: d, name: name}, d.say("create %q mode %04o", name, mode)
}

func (d *dryRun) Append(name string) (Writer, error) {
	return &dryWriter{d: d, name: name}, d.say("append %q", name)
}

func (d *dryRun) Overwrite(name string) (Writer, error) {
	return &dryWriter{d: d, name: name}, d.say("overwrite %q", name)
}

func (d *dryRun) Truncate(name string, size int64) error {
	return d.say("truncate %q to %d bytes", name, size)
}

func (d *dryRun) Mkdir(name string, mode uint32) error {
	return d.say("mkdir %q mode %04o", name, mode)
}

func (d *dryRun) Symlink(target, name string) error { return d.say("symlink %q to %q", name, target) }

func (d *dryRun) Mknod(name string, kind manifest.Kind, mode, major, minor uint32) error {
	return d.say("mknod %q %v mode %04o %d:%d", name, kind, mode, major, minor)
}

func (d *dryRun) Link(oldname, newname string) error { return d.say("link %q to %q", newname, oldname) }
func (d *dryRun) Unlink(name string) error           { return d.say("unlink %q", name) }
func (d *dryRun) Rmdir(name string) error            { return d.say("rmdir %q", name) }

func (d *dryRun) Rename(oldname, newname string, mode RenameMode) error {
	return d.say("%v %q to %q", mode, oldname, newname)
}

func (d *dryRun) Chown(name string, uid, gid uint32) error {
	return d.say("chown %q to %d:%d", name, uid, gid)
}

func (d *dryRun) Chmod(name string, mode uint32) error { return d.say("chmod %q to %04o", name, mode) }

func (d *dryRun) SetModTime(name string, t manifest.Time) error {
	return d.say("utimens %q to %d.%09d", name, t.Sec, t.Nsec)
}

func (d *dryRun) SetXattr(name, attr string, value []byte) error {
	return d.say("setxattr %q %q %d bytes", name, attr, len(value))
}

func (d *dryRun) RemoveXattr(name, attr string) error { return d.say("removexattr %q %q", name, attr) }
func (d *dryRun) SyncFile(name string) error          { return d.say("fsync %q", name) }
func (d *dryRun) SyncDir(name string) error           { return d.say("fsyncdir %q", name) }
func (d *dryRun) SyncFS(name string) error            { return d.say("syncfs %q", name) }
func (d *dryRun) SettleFS(name string) error          { return d.say("settlefs %q", name) }

func (d *dryRun) Remount(name string, to ReadOnly) error {
	return d.say("remount %q mount read-only %v file system read-only %v", name, to.Mount, to.FileSystem)
}
