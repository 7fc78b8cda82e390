package fsys

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// TestFolderSaysWhatTheFSSays compares the two ways to every name.
func TestFolderSaysWhatTheFSSays(t *testing.T) {
	each(t, func(t *testing.T, f FS) {
		kinds(t, f)
		if err := f.SetXattr("file", "user.a", []byte("b")); err != nil && !strings.Contains(err.Error(), "not supported") {
			t.Fatal(err)
		}
		for _, dir := range []string{".", "dir", "empty"} {
			folder, err := OpenFolder(f, dir)
			must(t, err)
			want, err := f.ReadDir(dir)
			must(t, err)
			for range 2 { // a second look begins at the top again
				got, err := folder.ReadDir()
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("%s: got %q, %v, want %q", dir, got, err, want)
				}
			}
			for _, base := range append(want, ".", "missing") {
				compareName(t, f, folder, dir, base)
			}
			must(t, folder.Close())
		}
		_, err := OpenFolder(f, "dir")
		must(t, err)
	})
}

func compareName(t *testing.T, f FS, folder Folder, dir, base string) {
	t.Helper()
	name := join(dir, base)
	info, err := f.Lstat(name)
	got, gotErr := folder.Lstat(base)
	same(t, "lstat "+name, got, gotErr, info, err)
	target, err := f.Readlink(name)
	gotTarget, gotErr := folder.Readlink(base)
	same(t, "readlink "+name, gotTarget, gotErr, target, err)
	attrs, err := f.Xattrs(name)
	gotAttrs, gotErr := folder.Xattrs(base)
	same(t, "xattrs "+name, gotAttrs, gotErr, attrs, err)
	if info.Kind != manifest.File {
		return
	}
	file, err := folder.Open(base)
	must(t, err)
	gotAttrs, gotErr = file.Xattrs()
	same(t, "xattrs of the open "+name, gotAttrs, gotErr, attrs, err)
	got, gotErr = file.Stat()
	same(t, "stat of the open "+name, got, gotErr, info, nil)
	content, err := io.ReadAll(file)
	part := make([]byte, 3)
	n, perr := file.ReadAt(part, 2)
	if want := get(t, f, name); err != nil || perr != nil || string(content) != want || string(part[:n]) != want[2:5] {
		t.Errorf("%s: got %q, %v and %q, %v, want %q", name, content, err, part, perr, want)
	}
	if n, err := file.ReadAt(part, int64(len(content))-1); n != 1 || err != io.EOF {
		t.Errorf("%s: at the end: %d, %v", name, n, err)
	}
	must(t, file.Close())
	if err := file.Close(); err == nil {
		t.Error("closed twice")
	}
	if _, err := file.Read(part); err == nil {
		t.Error("read after Close")
	}
}

func same(t *testing.T, what string, got any, gotErr error, want any, wantErr error) {
	t.Helper()
	if !reflect.DeepEqual(got, want) || fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
		t.Errorf("%s: got %+v, %v, want %+v, %v", what, got, gotErr, want, wantErr)
	}
}

// TestFolderLeadsNowhere: names with slashes, symlinks and what is no regular
// file are refused, and nothing waits for a FIFO's writer.
func TestFolderLeadsNowhere(t *testing.T) {
	f := openTemp(t)
	defer f.Close()
	kinds(t, f)
	put(t, f, "dir/secret", "s")
	folder, err := OpenFolder(f, "empty")
	must(t, err)
	defer folder.Close()
	for _, base := range []string{"..", "../dir", "../dir/secret", "/etc", "", "a\x00"} {
		_, err := folder.Lstat(base)
		want(t, base, err, unix.EINVAL)
		_, err = folder.Open(base)
		want(t, base, err, unix.EINVAL)
	}
	top, err := OpenFolder(f, ".")
	must(t, err)
	defer top.Close()
	for base, number := range map[string]syscall.Errno{"link": unix.ELOOP, "fifo": unix.EINVAL, "dir": unix.EISDIR, "missing": unix.ENOENT} {
		_, err := top.Open(base)
		want(t, base, err, number)
	}
	for name, number := range map[string]syscall.Errno{"link": unix.ENOTDIR, "file": unix.ENOTDIR, "missing": unix.ENOENT, "../x": unix.EINVAL, "link/x": unix.ELOOP} {
		_, err := OpenFolder(f, name)
		want(t, name, err, number)
	}
}

// TestFolderIsHeld: a folder that is moved away, its name now a symlink to
// elsewhere, still answers for itself.
func TestFolderIsHeld(t *testing.T) {
	root, elsewhere := t.TempDir(), t.TempDir()
	f, err := Open(root)
	must(t, err)
	defer f.Close()
	must(t, f.Mkdir("d", 0o755))
	put(t, f, "d/name", "inside")
	must(t, os.WriteFile(filepath.Join(elsewhere, "name"), []byte("outside"), 0o600))
	folder, err := OpenFolder(f, "d")
	must(t, err)
	defer folder.Close()
	must(t, f.Rename("d", "moved", NoReplace), f.Symlink(elsewhere, "d"))
	file, err := folder.Open("name")
	must(t, err)
	defer file.Close()
	if b, err := io.ReadAll(file); err != nil || string(b) != "inside" {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := OpenFolder(f, "d"); err == nil {
		t.Error("a folder that is a symlink now was opened")
	}
}

// TestManyNames reads a folder that takes several calls to the kernel.
func TestManyNames(t *testing.T) {
	f := openTemp(t)
	defer f.Close()
	var names []string
	for i := range 1500 {
		names = append(names, fmt.Sprintf("%s-%04d", strings.Repeat("n", 120), i))
		must(t, f.Symlink("x", names[i]))
	}
	got, err := f.ReadDir(".")
	if err != nil || !slices.Equal(got, names) {
		t.Errorf("got %d names, %v, want %d", len(got), err, len(names))
	}
}
