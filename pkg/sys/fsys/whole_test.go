package fsys

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWriteFile(t *testing.T) {
	each(t, func(t *testing.T, f FS) {
		put(t, f, "..a.relkit-tmp", "") // no temporary name of "a"
		put(t, f, ".a.relkit-tmp", "left by a crash")
		must(t, WriteFile(f, "a", []byte("one"), 0600), WriteFile(f, "a", []byte("two"), 0640))
		if i := lstat(t, f, "a"); get(t, f, "a") != "two" || i.Mode != 0640 {
			t.Errorf("got %q, mode %04o", get(t, f, "a"), i.Mode)
		}
		must(t, f.Mkdir("d", 0755))
		long := "d/" + strings.Repeat("n", 255)
		must(t, WriteFile(f, long, []byte("x"), 0644), WriteFile(f, "d/k", []byte("x"), 0644))
		want(t, "over a folder", WriteFile(f, "d", nil, 0644), unix.EISDIR)
		want(t, "in no folder", WriteFile(f, "none/x", nil, 0644), unix.ENOENT)
		names, err := f.ReadDir("d")
		must(t, err)
		if len(names) != 2 {
			t.Errorf("left over: %q", names)
		}
		if names, err := f.ReadDir("."); err != nil || len(names) != 3 {
			t.Errorf("left over: %q, %v", names, err)
		}
	})
}

// TestWriteFileCrashes: at every step and whatever is kept, old or new.
func TestWriteFileCrashes(t *testing.T) {
	points := 0
	for k := 1; ; k++ {
		meter := &Meter{CrashAt: k}
		m := settled(t)
		err := WriteFile(Watch(m.FS(), meter), "old", []byte("new"), 0644)
		if err == nil {
			if k < 6 {
				t.Fatalf("WriteFile is %d steps", k-1)
			}
			break
		}
		for seed := range uint64(40) {
			p := Policy{Keep(seed % 4), seed}
			c := m.Crash(p)
			if got := get(t, c.FS(), "old"); got != "old" && got != "new" {
				t.Fatalf("step %d, %v: %q", k, p, got)
			}
			points++
			must(t, WriteFile(c.FS(), "old", []byte("next"), 0644))
			if got := show(tree(t, c.Crash(Policy{}).FS())); got != `dir="/" dir/in="in" old="next"` {
				t.Fatalf("step %d, %v: written again: %s", k, p, got)
			}
		}
		m = settled(t)
		err = WriteFile(Watch(m.FS(), &Meter{FailAt: k}), "old", []byte("new"), 0644)
		if got := show(tree(t, m.FS())); err == nil || got != `dir="/" dir/in="in" old="old"` && k < 6 {
			t.Errorf("step %d failing: %v, left %s", k, err, got)
		}
	}
	t.Logf("%d crash points", points)
}

func TestMkdirAll(t *testing.T) {
	each(t, func(t *testing.T, f FS) {
		kinds(t, f)
		must(t, MkdirAll(f, "dir/a/b/c", 0700), MkdirAll(f, "dir/a/b/c", 0755), MkdirAll(f, ".", 0755))
		if i := lstat(t, f, "dir/a"); i.Mode != 0700 || lstat(t, f, "dir").Mode != 0755 {
			t.Errorf("modes: %+v", i)
		}
		want(t, "through a file", MkdirAll(f, "file/a", 0755), unix.ENOTDIR)
		want(t, "over a file", MkdirAll(f, "file", 0755), unix.ENOTDIR)
		want(t, "over a symlink to a folder", MkdirAll(f, "link", 0755), unix.ENOTDIR)
		want(t, "through a symlink", MkdirAll(f, "link/a", 0755), unix.ELOOP)
	})
	m := NewMem()
	must(t, MkdirAll(m.FS(), "a/b/c", 0755))
	if got := show(tree(t, m.Crash(Policy{}).FS())); got != `a="/" a/b="/" a/b/c="/"` {
		t.Errorf("not durable: %s", got)
	}
}

func TestRemoveAll(t *testing.T) {
	each(t, func(t *testing.T, f FS) {
		kinds(t, f)
		must(t, f.Mkdir("top", 0755), f.Mkdir("top/in", 0755), f.Symlink("../dir", "top/out"), f.Symlink("..", "top/in/up"))
		put(t, f, "top/in/f", "")
		must(t, RemoveAll(f, "top"), RemoveAll(f, "top"), RemoveAll(f, "link"), RemoveAll(f, "fifo"), RemoveAll(f, "none/below"))
		if exists(f, "top") || exists(f, "link") || get(t, f, "dir/child") != "inner" {
			t.Errorf("left: %s", dump(f))
		}
	})
	f := NewMem().FS()
	deep := "deep"
	for range maxDepth {
		must(t, f.Mkdir(deep, 0755))
		deep += "/d"
	}
	want(t, "too deep", RemoveAll(f, "."), unix.ENAMETOOLONG)
	must(t, RemoveAll(f, "deep/d/d"), RemoveAll(f, "deep"))
}

func TestAtomic(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	list := func() []string {
		names, err := filepath.Glob(filepath.Join(dir, "*"))
		must(t, err)
		hidden, err := filepath.Glob(filepath.Join(dir, ".*"))
		must(t, err)
		return append(names, hidden...)
	}
	a, err := NewAtomic(path, 0640)
	must(t, err)
	_, err = io.WriteString(a, "hello")
	must(t, err)
	_, err = a.WriteAt([]byte("J"), 0)
	must(t, err)
	buf := make([]byte, 5)
	if _, err := a.ReadAt(buf, 0); err != nil || string(buf) != "Jello" {
		t.Errorf("ReadAt: %q, %v", buf, err)
	}
	if len(list()) != 0 {
		t.Errorf("before Commit there is %q", list())
	}
	must(t, a.Commit(), a.Abort())
	if err := a.Commit(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second Commit: %v", err)
	}
	data, err := os.ReadFile(path)
	if info, _ := os.Stat(path); string(data) != "Jello" || err != nil || info.Mode() != 0640 {
		t.Errorf("got %q, %v, %v", data, err, info.Mode())
	}
	for _, end := range []func(*Atomic) error{(*Atomic).Abort, (*Atomic).Commit} {
		a, err := NewAtomic(path, 0644)
		must(t, err)
		_, err = io.WriteString(a, "other")
		must(t, err, end(a))
		if got := list(); len(got) != 1 {
			t.Errorf("left: %q", got)
		}
	}
	if data, _ := os.ReadFile(path); string(data) != "other" {
		t.Errorf("after Abort and Commit: %q", data)
	}
}

func TestAtomicWhere(t *testing.T) {
	dir := t.TempDir()
	write := func(path, text string) error {
		a, err := NewAtomic(path, 0644)
		if err != nil {
			return err
		}
		defer a.Abort()
		if _, err := io.WriteString(a, text); err != nil {
			return err
		}
		return a.Commit()
	}
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	must(t, os.WriteFile(target, []byte("old"), 0600), os.Symlink("target", link), write(link, "new"))
	if data, _ := os.ReadFile(target); string(data) != "new" {
		t.Errorf("through a symlink: %q", data)
	}
	if _, err := os.Readlink(link); err != nil {
		t.Error("the symlink has been replaced")
	}
	must(t, write("/dev/null", "x"))
	if info, err := os.Lstat("/dev/null"); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Fatal("/dev/null has been replaced")
	}
	fifo := filepath.Join(dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0600))
	read := make(chan string)
	go func() {
		data, _ := os.ReadFile(fifo)
		read <- string(data)
	}()
	must(t, write(fifo, "through"))
	if got := <-read; got != "through" {
		t.Errorf("through a FIFO: %q", got)
	}
	if err := write(dir, ""); !errors.Is(err, unix.EISDIR) {
		t.Errorf("over a folder: %v", err)
	}
	if err := write(filepath.Join(dir, "none", "x"), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in no folder: %v", err)
	}
	must(t, write(filepath.Join(dir, strings.Repeat("n", 255)), "long"))
}

// TestAtomicNamed: where the file system has no O_TMPFILE.
func TestAtomicNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("n", 255))
	for _, end := range []func(*Atomic) error{(*Atomic).Abort, (*Atomic).Commit} {
		a := &Atomic{path: path}
		must(t, a.openNamed(0600))
		_, err := io.WriteString(a, "x")
		must(t, err)
		if _, err := os.Lstat(path); err == nil {
			t.Error("visible before Commit")
		}
		must(t, end(a))
	}
	names, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(names) != 1 || names[0].Name() != filepath.Base(path) {
		t.Errorf("left: %q", names)
	}
}
