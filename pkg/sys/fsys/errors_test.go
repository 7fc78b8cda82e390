package fsys

import (
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

func second[T any](_ T, err error) error { return err }

func TestErrorsOfReading(t *testing.T) {
	each(t, func(t *testing.T, f FS) {
		kinds(t, f)
		for name, number := range map[string]unix.Errno{
			"missing": unix.ENOENT, "missing/x": unix.ENOENT, "file/x": unix.ENOTDIR, "file/x/y": unix.ENOTDIR,
			"link/child": unix.ELOOP, "link/x/y": unix.ELOOP, "": unix.EINVAL, "..": unix.EINVAL, "../x": unix.EINVAL,
			"dir/../file": unix.EINVAL, "/etc": unix.EINVAL, "./file": unix.EINVAL, "dir/": unix.EINVAL, "a\x00b": unix.EINVAL,
			strings.Repeat("n", 256): unix.EINVAL,
		} {
			want(t, "Lstat "+name, second(f.Lstat(name)), number)
			want(t, "Open "+name, second(f.Open(name)), number)
			want(t, "ReadDir "+name, second(f.ReadDir(name)), number)
			want(t, "Readlink "+name, second(f.Readlink(name)), number)
			want(t, "Xattrs "+name, second(f.Xattrs(name)), number)
			want(t, "Space "+name, second(f.Space(name)), number)
		}
		want(t, "Open a folder", second(f.Open("dir")), unix.EISDIR)
		want(t, "Open the root", second(f.Open(".")), unix.EISDIR)
		want(t, "Open a symlink", second(f.Open("link")), unix.ELOOP)
		want(t, "Open a FIFO", second(f.Open("fifo")), unix.EINVAL)
		want(t, "ReadDir of a file", second(f.ReadDir("file")), unix.ENOTDIR)
		want(t, "ReadDir of a symlink to a folder", second(f.ReadDir("link")), unix.ENOTDIR)
		want(t, "Readlink of a file", second(f.Readlink("file")), unix.EINVAL)
		want(t, "ReadFile above its limit", second(ReadFile(f, "file", 6)), unix.EFBIG)
		want(t, "ReadFile at its limit", second(ReadFile(f, "file", 7)), 0)
	})
}

// bad are names that no change can work on, and the error.
var bad = map[string]unix.Errno{
	"missing/x": unix.ENOENT, "file/x": unix.ENOTDIR, "link/child": unix.ELOOP, "../x": unix.EINVAL, "": unix.EINVAL,
}

func TestErrorsOfChanging(t *testing.T) {
	each(t, func(t *testing.T, f FS) {
		kinds(t, f)
		for name, number := range bad {
			want(t, "Create "+name, second(f.Create(name, 0644)), number)
			want(t, "Append "+name, second(f.Append(name)), number)
			want(t, "Overwrite "+name, second(f.Overwrite(name)), number)
			want(t, "Truncate "+name, f.Truncate(name, 0), number)
			want(t, "Mkdir "+name, f.Mkdir(name, 0755), number)
			want(t, "Symlink "+name, f.Symlink("x", name), number)
			want(t, "Mknod "+name, f.Mknod(name, manifest.FIFO, 0644, 0, 0), number)
			want(t, "Link to "+name, f.Link("file", name), number)
			want(t, "Link from "+name, f.Link(name, "new"), number)
			want(t, "Unlink "+name, f.Unlink(name), number)
			want(t, "Rmdir "+name, f.Rmdir(name), number)
			want(t, "Rename to "+name, f.Rename("file", name, Replace), number)
			want(t, "Rename from "+name, f.Rename(name, "new", Replace), number)
			want(t, "Chown "+name, f.Chown(name, 0, 0), number)
			want(t, "Chmod "+name, f.Chmod(name, 0), number)
			want(t, "SetModTime "+name, f.SetModTime(name, manifest.Time{}), number)
			want(t, "SetXattr "+name, f.SetXattr(name, "user.x", nil), number)
			want(t, "RemoveXattr "+name, f.RemoveXattr(name, "user.x"), number)
			want(t, "SyncFile "+name, f.SyncFile(name), number)
			want(t, "SyncDir "+name, f.SyncDir(name), number)
			want(t, "SyncFS "+name, f.SyncFS(name), number)
			want(t, "SettleFS "+name, f.SettleFS(name), number)
		}
		for _, name := range []string{"file", "dir", "link", "fifo", "."} {
			want(t, "Create over "+name, second(f.Create(name, 0644)), unix.EEXIST)
			want(t, "Mkdir over "+name, f.Mkdir(name, 0755), unix.EEXIST)
			want(t, "Symlink over "+name, f.Symlink("x", name), unix.EEXIST)
			want(t, "Mknod over "+name, f.Mknod(name, manifest.FIFO, 0644, 0, 0), unix.EEXIST)
			want(t, "Link over "+name, f.Link("file", name), unix.EEXIST)
		}
		for name, number := range map[string]unix.Errno{"dir": unix.EISDIR, "link": unix.ELOOP, "fifo": unix.EINVAL} {
			want(t, "Append "+name, second(f.Append(name)), number)
			want(t, "Overwrite "+name, second(f.Overwrite(name)), number)
			want(t, "Truncate "+name, f.Truncate(name, 0), number)
			want(t, "SyncFile "+name, f.SyncFile(name), number)
		}
		want(t, "Truncate below zero", f.Truncate("file", -1), unix.EINVAL)
		want(t, "Symlink to nothing", f.Symlink("", "new"), unix.ENOENT)
		want(t, "Symlink to more than a path", f.Symlink(strings.Repeat("x", 4096), "new"), unix.ENAMETOOLONG)
		want(t, "Link of a folder", f.Link("dir", "new"), unix.EPERM)
		want(t, "Unlink a folder", f.Unlink("empty"), unix.EISDIR)
		want(t, "Unlink the root", f.Unlink("."), unix.EISDIR)
		want(t, "Rmdir a file", f.Rmdir("file"), unix.ENOTDIR)
		want(t, "Rmdir a symlink", f.Rmdir("link"), unix.ENOTDIR)
		want(t, "Rmdir with a child", f.Rmdir("dir"), unix.ENOTEMPTY)
		want(t, "Rmdir the root", f.Rmdir("."), unix.EBUSY)
		want(t, "Chmod a symlink", f.Chmod("link", 0777), unix.EOPNOTSUPP)
		want(t, "SyncDir of a file", f.SyncDir("file"), unix.ENOTDIR)
		for _, name := range []string{"file", "dir", "link", "fifo", "."} {
			want(t, "SyncFS "+name, f.SyncFS(name), 0)
		}
		want(t, "SyncFile", f.SyncFile("file"), 0)
		want(t, "SyncDir", f.SyncDir("dir"), 0)
		if exists(f, "new") {
			t.Error("a refused change left a name")
		}
		if got := get(t, f, "dir/child"); got != "inner" {
			t.Errorf("refused changes changed dir/child: %q", got)
		}
	})
}

// TestRename is every pair of kinds under every mode.
func TestRename(t *testing.T) {
	fails := map[string]unix.Errno{ // "old new" under Replace; the rest works
		"file dir": unix.EISDIR, "file empty": unix.EISDIR, "link dir": unix.EISDIR, "link empty": unix.EISDIR, "fifo dir": unix.EISDIR, "fifo empty": unix.EISDIR,
		"dir file": unix.ENOTDIR, "dir link": unix.ENOTDIR, "dir fifo": unix.ENOTDIR, "empty file": unix.ENOTDIR, "empty link": unix.ENOTDIR, "empty fifo": unix.ENOTDIR,
		"empty dir": unix.ENOTEMPTY,
	}
	all := []string{"file", "dir", "empty", "link", "fifo"}
	each(t, func(t *testing.T, f FS) {
		for _, mode := range []RenameMode{Replace, NoReplace, Exchange} {
			for _, from := range all {
				for _, to := range append([]string{"new"}, all...) {
					kinds(t, f)
					number := fails[from+" "+to]
					switch {
					case mode == NoReplace && to != "new":
						number = unix.EEXIST
					case mode == Exchange && to == "new":
						number = unix.ENOENT
					case mode != Replace:
						number = 0
					}
					checkRename(t, f, from, to, mode, number)
					for _, name := range append([]string{"new"}, all...) {
						must(t, RemoveAll(f, name))
					}
				}
			}
		}
	})
}

func checkRename(t *testing.T, f FS, from, to string, mode RenameMode, number unix.Errno) {
	t.Helper()
	old := lstat(t, f, from)
	target, missing := f.Lstat(to)
	what := mode.String() + " " + from + " to " + to
	want(t, what, f.Rename(from, to, mode), number)
	now, gone := f.Lstat(from)
	switch {
	case number != 0:
		if gone != nil || !now.SameInode(old) {
			t.Errorf("%s failed and moved %s", what, from)
		}
		if after, err := f.Lstat(to); missing == nil && (err != nil || !after.SameInode(target)) {
			t.Errorf("%s failed and moved %s", what, to)
		}
		return
	case !lstat(t, f, to).SameInode(old):
		t.Errorf("%s: not at its new name", what)
	case mode == Exchange && (gone != nil || !now.SameInode(target)):
		t.Errorf("%s: the other is not at the old name", what)
	case mode != Exchange && from != to && gone == nil:
		t.Errorf("%s: still at its old name", what)
	}
}

func TestRenameTies(t *testing.T) {
	each(t, func(t *testing.T, f FS) {
		must(t, f.Mkdir("a", 0755), f.Mkdir("a/b", 0755), f.Mkdir("a/b/c", 0755))
		put(t, f, "x", "x")
		must(t, f.Link("x", "y"))
		want(t, "into itself", f.Rename("a", "a/b/new", Replace), unix.EINVAL)
		want(t, "over what is in itself", f.Rename("a", "a/b", Replace), unix.EINVAL)
		want(t, "over its parent", f.Rename("a/b/c", "a", Replace), unix.ENOTEMPTY)
		want(t, "exchange with its parent", f.Rename("a/b", "a", Exchange), unix.EINVAL)
		want(t, "exchange with its child", f.Rename("a", "a/b", Exchange), unix.EINVAL)
		want(t, "a missing name", f.Rename("nothing", "a", Replace), unix.ENOENT)
		want(t, "the root", f.Rename(".", "new", Replace), unix.EBUSY)
		want(t, "over the root", f.Rename("a", ".", Replace), unix.EBUSY)
		want(t, "an unknown mode", f.Rename("a", "new", 9), unix.EINVAL)
		// rename(2): two names of one file, and nothing happens.
		must(t, f.Rename("x", "y", Replace))
		if !exists(f, "x") || !exists(f, "y") {
			t.Error("renaming a name over another of its inode removed one")
		}
		must(t, f.Rename("x", "y", Exchange))
		// A folder keeps what is in it, and a file and a folder change places.
		must(t, f.Rename("a/b", "moved", NoReplace), f.Rename("x", "moved", Exchange))
		if !exists(f, "x/c") || get(t, f, "moved") != "x" {
			t.Error("exchange of a file and a folder")
		}
	})
}

func TestAcrossMounts(t *testing.T) {
	m := NewMem()
	m.Mount("mnt/other")
	f := m.FS()
	put(t, f, "a", "a")
	put(t, f, "mnt/other/b", "b")
	if a, b := lstat(t, f, "a"), lstat(t, f, "mnt/other/b"); a.Dev == b.Dev {
		t.Error("two file systems have one device number")
	}
	if lstat(t, f, "mnt/other").Dev != lstat(t, f, "mnt/other/b").Dev {
		t.Error("a mount point shows the folder underneath")
	}
	for _, mode := range []RenameMode{Replace, NoReplace, Exchange} {
		want(t, "rename across", f.Rename("a", "mnt/other/b", mode), unix.EXDEV)
	}
	want(t, "link across", f.Link("a", "mnt/other/new"), unix.EXDEV)
	want(t, "removing a mount point", f.Rmdir("mnt/other"), unix.EBUSY)
	must(t, f.Mkdir("dir", 0755))
	want(t, "renaming a mount point", f.Rename("mnt/other", "mnt/new", Replace), unix.EBUSY)
	want(t, "exchanging a mount point", f.Rename("dir", "mnt/other", Exchange), unix.EBUSY)
	// A crash leaves each file system what it has, mounted.
	must(t, f.SyncFS("mnt/other/b"))
	c := m.Crash(Policy{}).FS()
	if exists(c, "a") || get(t, c, "mnt/other/b") != "b" {
		t.Error("SyncFS of one file system is about that one")
	}
}

func TestMemSpace(t *testing.T) {
	m := NewMem()
	f := m.FS()
	put(t, f, "a", "0123456789")
	m.SetSpace(256 + 5)
	w, err := f.Create("b", 0644) // takes 256
	must(t, err)
	n, err := io.WriteString(w, "abcdefgh")
	if n != 5 {
		t.Errorf("wrote %d bytes into room for 5", n)
	}
	want(t, "writing to a full disk", err, unix.ENOSPC)
	want(t, "creating on a full disk", second(f.Create("c", 0644)), unix.ENOSPC)
	want(t, "mkdir on a full disk", f.Mkdir("c", 0755), unix.ENOSPC)
	if s, err := f.Space("."); err != nil || s.FreeBytes != 0 {
		t.Errorf("Space of a full disk: %+v, %v", s, err)
	}
	must(t, w.Close(), f.Unlink("a"))
	put(t, f, "c", "")
	if got := get(t, f, "b"); got != "abcde" {
		t.Errorf("what fitted: got %q", got)
	}
}

func TestMemNoExchange(t *testing.T) {
	m := NewMem()
	f := m.FS()
	put(t, f, "a", "a")
	put(t, f, "b", "b")
	m.SetNoExchange(true)
	want(t, "exchange", f.Rename("a", "b", Exchange), unix.EINVAL)
	want(t, "noreplace", f.Rename("a", "c", NoReplace), unix.EINVAL)
	want(t, "noreplace over a name", f.Rename("a", "b", NoReplace), unix.EEXIST)
	must(t, f.Rename("a", "b", Replace))
}
