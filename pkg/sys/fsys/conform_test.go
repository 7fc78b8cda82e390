package fsys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// each runs a test over an empty tree of every implementation that really changes
// one, bare and behind a Watch that asks for nothing.
func each(t *testing.T, test func(t *testing.T, f FS)) {
	makers := map[string]func(t *testing.T) FS{
		"real":         openTemp,
		"mem":          func(*testing.T) FS { return NewMem().FS() },
		"mem sub":      func(*testing.T) FS { return NewMem().Sub("some/folder") },
		"watched real": func(t *testing.T) FS { return Watch(openTemp(t), &Meter{}) },
	}
	for name, open := range makers {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			test(t, f)
			if err := f.Close(); err != nil {
				t.Error("closing:", err)
			}
		})
	}
}

func openTemp(t *testing.T) FS {
	t.Helper()
	f, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// must fails the test at the first error.
func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// want checks an error's number and that it is a *fs.PathError with a bare one.
func want(t testing.TB, what string, err error, number syscall.Errno) {
	t.Helper()
	if number == 0 {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	var p *fs.PathError
	var e syscall.Errno
	if !errors.As(err, &p) || !errors.As(err, &e) {
		t.Errorf("%s: got %v, want a path error of %v", what, err, number)
		return
	}
	if e != number {
		t.Errorf("%s: got %v, want %v", what, err, number)
	}
	if p.Op == "" || strings.HasPrefix(p.Path, "/proc/") {
		t.Errorf("%s: error does not say what and where: %#v", what, p)
	}
}

func put(t testing.TB, f FS, name, content string) {
	t.Helper()
	w, err := f.Create(name, 0644)
	must(t, err)
	_, err = io.WriteString(w, content)
	must(t, err, w.Close())
}

func get(t testing.TB, f FS, name string) string {
	t.Helper()
	data, err := ReadFile(f, name, 1<<20)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func lstat(t testing.TB, f FS, name string) Info {
	t.Helper()
	i, err := f.Lstat(name)
	must(t, err)
	return i
}

func exists(f FS, name string) bool {
	_, err := f.Lstat(name)
	return err == nil
}

// tick waits for the kernel's clock for files, which ticks a hundred times a
// second or more.
func tick() { time.Sleep(12 * time.Millisecond) }

// kinds fills a tree with one name of every kind: file, dir with a child, empty
// dir, link, fifo.
func kinds(t *testing.T, f FS) {
	t.Helper()
	put(t, f, "file", "content")
	must(t, f.Mkdir("dir", 0755), f.Mkdir("empty", 0755), f.Symlink("dir", "link"), f.Mknod("fifo", manifest.FIFO, 0600, 0, 0))
	put(t, f, "dir/child", "inner")
}

func TestFiles(t *testing.T) {
	each(t, func(t *testing.T, f FS) {
		put(t, f, "a", "hello")
		w, err := f.Append("a")
		must(t, err)
		_, err = io.WriteString(w, ", world")
		must(t, err, w.Sync(), w.Close())
		if got := get(t, f, "a"); got != "hello, world" {
			t.Errorf("after Append: got %q", got)
		}
		must(t, f.Truncate("a", 4), f.Truncate("a", 6))
		if got := get(t, f, "a"); got != "hell\x00\x00" {
			t.Errorf("after Truncate: got %q", got)
		}
		r, err := f.Open("a")
		must(t, err)
		defer r.Close()
		must(t, f.Unlink("a"))
		buf := make([]byte, 4)
		n, err := r.ReadAt(buf, 4)
		if n != 2 || err != io.EOF {
			t.Errorf("ReadAt at the end of an unlinked file: got %d, %v", n, err)
		}
		all, err := io.ReadAll(r)
		if string(all) != "hell\x00\x00" || err != nil {
			t.Errorf("reading an unlinked file: got %q, %v", all, err)
		}
		if i, err := r.Stat(); err != nil || i.Links != 0 || i.Size != 6 {
			t.Errorf("Stat of an unlinked file: got %+v, %v", i, err)
		}
	})
}

func TestModesAreExact(t *testing.T) {
	old := unix.Umask(027)
	defer unix.Umask(old)
	each(t, func(t *testing.T, f FS) {
		for _, mode := range []uint32{0, 0666, 0777, 01777, 02755, 04711} {
			name := fmt.Sprintf("%04o", mode)
			w, err := f.Create("f"+name, mode)
			must(t, err, w.Close(), f.Mkdir("d"+name, mode), f.Mknod("p"+name, manifest.FIFO, mode, 0, 0))
			for _, kind := range []string{"f", "d", "p"} {
				if got := lstat(t, f, kind+name).Mode; got != mode {
					t.Errorf("%s made with mode %04o has %04o", kind, mode, got)
				}
				must(t, f.Chmod(kind+name, 0600), f.Chmod(kind+name, mode))
				if got := lstat(t, f, kind+name).Mode; got != mode {
					t.Errorf("%s set to mode %04o has %04o", kind, mode, got)
				}
			}
		}
		must(t, f.Mkdir("setgid", 02755), f.Mkdir("setgid/in", 0755))
		if got := lstat(t, f, "setgid/in").Mode; got != 0755 {
			t.Errorf("a folder in a setgid folder has mode %04o", got)
		}
	})
}

func TestInfo(t *testing.T) {
	each(t, func(t *testing.T, f FS) {
		kinds(t, f)
		for name, kind := range map[string]manifest.Kind{
			".": manifest.Dir, "file": manifest.File, "dir": manifest.Dir, "link": manifest.Symlink,
			"fifo": manifest.FIFO, "dir/child": manifest.File,
		} {
			if got := lstat(t, f, name); got.Kind != kind {
				t.Errorf("%s: got a %v, want a %v", name, got.Kind, kind)
			}
		}
		if i := lstat(t, f, "link"); i.Size != 3 || i.Links != 1 {
			t.Errorf("symlink: %+v", i)
		}
		must(t, f.Link("file", "second"), f.Link("link", "link2"))
		a, b := lstat(t, f, "file"), lstat(t, f, "second")
		if !a.SameInode(b) || a.Links != 2 || a.Size != 7 {
			t.Errorf("hard link: %+v and %+v", a, b)
		}
		if i := lstat(t, f, "link2"); i.Kind != manifest.Symlink || i.Links != 2 {
			t.Errorf("a symlink's second name: %+v", i)
		}
		if a.SameInode(lstat(t, f, "dir/child")) {
			t.Error("two files are one inode")
		}
		names, err := f.ReadDir(".")
		must(t, err)
		if wanted := []string{"dir", "empty", "fifo", "file", "link", "link2", "second"}; !reflect.DeepEqual(names, wanted) {
			t.Errorf("ReadDir: got %q, want %q", names, wanted)
		}
		if target, err := f.Readlink("link"); target != "dir" || err != nil {
			t.Errorf("Readlink: got %q, %v", target, err)
		}
		long := strings.Repeat("x", 1000) // xfs takes 1024
		must(t, f.Symlink(long, "long"))
		if target, err := f.Readlink("long"); target != long || err != nil {
			t.Errorf("Readlink of %d bytes: got %d, %v", len(long), len(target), err)
		}
		if s, err := f.Space("dir/child"); err != nil || s.FreeBytes == 0 || s.FreeInodes == 0 || s.ReadOnly {
			t.Errorf("Space: got %+v, %v", s, err)
		}
	})
}

func TestTimes(t *testing.T) {
	each(t, func(t *testing.T, f FS) {
		kinds(t, f)
		for _, name := range []string{"file", "dir", "link", "fifo", "."} {
			for _, when := range []manifest.Time{{Sec: 1234567890, Nsec: 123456789}, {Sec: -1, Nsec: 1}, {Sec: 2208988800, Nsec: 999999999}, {}} {
				must(t, f.SetModTime(name, when))
				if got := lstat(t, f, name).ModTime; got != when {
					t.Errorf("%s: got %v, want %v", name, got, when)
				}
			}
			want(t, "utimens with UTIME_NOW", f.SetModTime(name, manifest.Time{Nsec: unix.UTIME_NOW}), unix.EINVAL)
		}
		if got := lstat(t, f, "dir/child").ModTime; got == (manifest.Time{}) {
			t.Error("setting a symlink's time set its target's")
		}
		before := lstat(t, f, "dir")
		tick()
		put(t, f, "dir/new", "")
		if after := lstat(t, f, "dir"); after.ModTime == before.ModTime || after.ChangeTime == before.ChangeTime {
			t.Error("a new name does not change its folder's times")
		}
	})
}

func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		each(t, func(t *testing.T, f FS) {
			put(t, f, "a", "")
			must(t, f.Chown("a", uint32(os.Getuid()), uint32(os.Getgid())))
		})
		return
	}
	each(t, func(t *testing.T, f FS) {
		kinds(t, f)
		for _, name := range []string{"file", "dir", "link", "fifo"} {
			must(t, f.Chown(name, 12, 4294967000))
			if i := lstat(t, f, name); i.UID != 12 || i.GID != 4294967000 {
				t.Errorf("%s: got %d:%d", name, i.UID, i.GID)
			}
		}
		// What chown and write take away.
		cap := []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00") // cap_net_raw+e, v2
		must(t, f.SetXattr("file", "security.capability", cap), f.Chmod("file", 06711), f.Chown("file", 1, 1))
		attrs, err := f.Xattrs("file")
		must(t, err)
		if got := lstat(t, f, "file").Mode; got != 0711 || hasXattr(attrs, "security.capability") {
			t.Errorf("after chown: mode %04o, attributes %v", got, attrs)
		}
		must(t, f.SetXattr("file", "security.capability", cap), f.Chmod("file", 04711))
		w, err := f.Append("file")
		must(t, err)
		_, err = io.WriteString(w, "x")
		must(t, err, w.Close())
		attrs, err = f.Xattrs("file")
		must(t, err)
		if got := lstat(t, f, "file").Mode; got != 04711 || hasXattr(attrs, "security.capability") {
			t.Errorf("after write: mode %04o, attributes %v", got, attrs)
		}
		must(t, f.Chmod("dir", 06755), f.Chown("dir", 1, 1))
		if got := lstat(t, f, "dir").Mode; got != 06755 {
			t.Errorf("a folder after chown: mode %04o", got)
		}
	})
}

func hasXattr(attrs []manifest.Xattr, name string) bool {
	for _, a := range attrs {
		if a.Name == name {
			return true
		}
	}
	return false
}

func TestDevices(t *testing.T) {
	if os.Geteuid() != 0 {
		f := openTemp(t)
		want(t, "mknod without root", f.Mknod("null", manifest.CharDev, 0666, 1, 3), unix.EPERM)
		return
	}
	each(t, func(t *testing.T, f FS) {
		must(t, f.Mknod("c", manifest.CharDev, 0666, 300, 70000), f.Mknod("b", manifest.BlockDev, 0660, 259, 1))
		if i := lstat(t, f, "c"); i.Kind != manifest.CharDev || i.Major != 300 || i.Minor != 70000 || i.Mode != 0666 {
			t.Errorf("character device: %+v", i)
		}
		if i := lstat(t, f, "b"); i.Kind != manifest.BlockDev || i.Major != 259 || i.Minor != 1 || i.Mode != 0660 {
			t.Errorf("block device: %+v", i)
		}
		_, err := f.Open("c")
		want(t, "opening a device", err, unix.EINVAL)
		want(t, "making a folder by mknod", f.Mknod("d", manifest.Dir, 0755, 0, 0), unix.EINVAL)
	})
}

func TestXattrs(t *testing.T) {
	each(t, func(t *testing.T, f FS) {
		kinds(t, f)
		big := strings.Repeat("v", 2000)
		for _, name := range []string{"file", "dir", "."} {
			must(t, f.SetXattr(name, "user.b", []byte(big)), f.SetXattr(name, "user.a", []byte{}), f.SetXattr(name, "user.b", []byte("\x00\xff")))
			attrs, err := f.Xattrs(name)
			must(t, err)
			attrs = onlyUser(attrs)
			if len(attrs) != 2 || attrs[0].Name != "user.a" || len(attrs[0].Value) != 0 || attrs[1].Name != "user.b" || string(attrs[1].Value) != "\x00\xff" {
				t.Errorf("%s: got %q", name, attrs)
			}
			must(t, f.RemoveXattr(name, "user.a"))
			want(t, "removing an absent attribute", f.RemoveXattr(name, "user.a"), unix.ENODATA)
		}
		want(t, "user attribute of a symlink", f.SetXattr("link", "user.a", nil), unix.EPERM)
		want(t, "user attribute of a FIFO", f.SetXattr("fifo", "user.a", nil), unix.EPERM)
		want(t, "unknown name space", f.SetXattr("file", "strange.a", nil), unix.EOPNOTSUPP)
		want(t, "name without a name space", f.SetXattr("file", "strange", nil), unix.EOPNOTSUPP)
		want(t, "empty name", f.SetXattr("file", "", nil), unix.ERANGE)
		want(t, "empty name in its space", f.SetXattr("file", "user.", nil), unix.EINVAL)
		want(t, "long name", f.SetXattr("file", "user."+strings.Repeat("x", 251), nil), unix.ERANGE)
		want(t, "large value", f.SetXattr("file", "user.x", make([]byte, 1<<16+1)), unix.E2BIG)
		if os.Geteuid() == 0 {
			must(t, f.SetXattr("link", "trusted.a", []byte("1")))
			if attrs, err := f.Xattrs("link"); err != nil || !hasXattr(attrs, "trusted.a") {
				t.Errorf("attribute of a symlink: got %q, %v", attrs, err)
			}
			if attrs, err := f.Xattrs("dir"); err != nil || hasXattr(attrs, "trusted.a") {
				t.Errorf("attribute of a symlink is its target's: %q, %v", attrs, err)
			}
		}
	})
}

func onlyUser(attrs []manifest.Xattr) []manifest.Xattr {
	var user []manifest.Xattr
	for _, a := range attrs {
		if strings.HasPrefix(a.Name, "user.") {
			user = append(user, a)
		}
	}
	return user
}

// TestChangeTime: each change moves the ctime of each inode it is about, and of
// no other.
func TestChangeTime(t *testing.T) {
	each(t, func(t *testing.T, f FS) {
		put(t, f, "a", "")
		put(t, f, "other", "")
		changes := []struct {
			what string
			do   func() error
		}{
			{"chmod", func() error { return f.Chmod("a", 0600) }},
			{"chown", func() error { return f.Chown("a", uint32(os.Getuid()), uint32(os.Getgid())) }},
			{"utimens", func() error { return f.SetModTime("a", manifest.Time{Sec: 1}) }},
			{"setxattr", func() error { return f.SetXattr("a", "user.x", []byte("1")) }},
			{"removexattr", func() error { return f.RemoveXattr("a", "user.x") }},
			{"truncate", func() error { return f.Truncate("a", 3) }},
			{"link", func() error { return f.Link("a", "a2") }},
			{"unlink", func() error { return f.Unlink("a2") }},
			{"rename", func() error { return f.Rename("a", "b", NoReplace) }},
			{"rename back", func() error { return f.Rename("b", "a", Replace) }},
		}
		other := lstat(t, f, "other")
		name := "a"
		for _, c := range changes {
			before := lstat(t, f, name)
			tick()
			must(t, c.do())
			if name = "a"; c.what == "rename" {
				name = "b"
			}
			if after := lstat(t, f, name); after.ChangeTime == before.ChangeTime || !after.SameInode(before) {
				t.Errorf("%s: ctime %v to %v, inode %d to %d", c.what, before.ChangeTime, after.ChangeTime, before.Ino, after.Ino)
			}
		}
		if lstat(t, f, "other") != other {
			t.Error("changes of one file show in another")
		}
	})
}

// TestExchangeTimes: what an exchange does to times, on xfs and elsewhere.
func TestExchangeTimes(t *testing.T) {
	check := func(t *testing.T, f FS, xfs bool) {
		kinds(t, f)
		must(t, f.Mkdir("dir/sub", 0755), f.SetModTime("dir/sub", manifest.Time{Sec: 7}), f.SetModTime("empty", manifest.Time{Sec: 8}))
		file, child, sub := lstat(t, f, "file"), lstat(t, f, "dir/child"), lstat(t, f, "dir/sub")
		tick()
		must(t, f.Rename("file", "dir/child", Exchange), f.Rename("empty", "dir/sub", Exchange))
		for name, before := range map[string]Info{"dir/child": file, "file": child, "empty": sub} {
			after := lstat(t, f, name)
			kept := after.ChangeTime == before.ChangeTime
			if want := xfs && after.Kind == manifest.File; kept != want {
				t.Errorf("%s: ctime kept %v, want %v", name, kept, want)
			}
			kept = after.ModTime == before.ModTime
			if want := !xfs || after.Kind == manifest.File; kept != want {
				t.Errorf("%s: mtime kept %v, want %v", name, kept, want)
			}
		}
	}
	real := openTemp(t)
	defer real.Close()
	check(t, real, onXFS(t))
	for _, xfs := range []bool{false, true} {
		m := NewMem()
		m.SetLikeXFS(xfs)
		check(t, m.FS(), xfs)
	}
}
