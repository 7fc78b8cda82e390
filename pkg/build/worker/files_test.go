package worker

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/relkit/relkit/pkg/sys/process"
)

func TestMain(m *testing.M) {
	process.Main(Handlers()) // the supervisor is this program
	os.Exit(m.Run())
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"*.c", "x.c", true}, {"*.c", "d/x.c", false}, {"**/*.c", "x.c", true},
		{"**/*.c", "a/b/x.c", true}, {"a/**", "a/b/c", true}, {"a/**", "b/a", false}, {"a/**/z", "a/z", true}, {"a/**/z", "a/b/c/z", true},
		{"**", "x/y", true}, {"[ab]?", "b1", true}, {"**/**/x", "x", true}, {"out/*", "out/.hidden", true},
	} {
		if got := Match(c.pattern, c.name); got != c.want {
			t.Errorf("%q %q: %v", c.pattern, c.name, got)
		}
	}
}

// TestFiles holds the files of this machine and those behind a supervisor to the same.
func TestFiles(t *testing.T) {
	sup, err := process.Start(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer sup.Close()
	for name, files := range map[string]Files{"local": localFiles{}, "remote": remoteFiles{sup, "far"}} {
		t.Run(name, func(t *testing.T) {
			t.Run("Find", func(t *testing.T) { testFind(t, files) })
			t.Run("FindFolders", func(t *testing.T) { testFindFolders(t, files) })
			t.Run("Stat", func(t *testing.T) { testStat(t, files) })
			t.Run("Remove", func(t *testing.T) { testRemove(t, files) })
			t.Run("Get", func(t *testing.T) { testGet(t, files) })
			t.Run("Put", func(t *testing.T) { testPut(t, files) })
		})
	}
}

func paths(list []Info) string {
	var names []string
	for _, i := range list {
		names = append(names, i.Path)
	}
	return strings.Join(names, " ")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func testFind(t *testing.T, files Files) {
	root := t.TempDir()
	for _, f := range []string{"a/x.img", "a/deep/y.img", "b/z.txt", ".git/x.img", "a/.git/c", "top.img", "outside/secret.img"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("outside", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]string{
		"*.img": "top.img", "**/*.img": "a/deep/y.img a/x.img outside/secret.img top.img", "a": "a/deep/y.img a/x.img",
		"a/*": "a/deep/y.img a/x.img", "a/x.img": "a/x.img", "nothing/*": "", "link": "link", "link/*": "", "link/secret.img": "", "b/**": "b/z.txt",
	} {
		found, err := files.Find(t.Context(), root, pattern)
		if got := paths(found.Files); err != nil || got != want {
			t.Errorf("%q: %q, %v", pattern, got, err)
		}
	}
}

func testFindFolders(t *testing.T, files Files) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "out/empty/deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]string{"out/**": "out out/empty out/empty/deep", "out/*": "out/empty out/empty/deep", "*": "out out/empty out/empty/deep", "out/*/x": ""} {
		found, err := files.Find(t.Context(), root, pattern)
		if got := paths(found.Folders); err != nil || len(found.Files) > 0 || got != want {
			t.Errorf("%q: %q, %q, %v", pattern, paths(found.Files), got, err)
		}
	}
}

func testStat(t *testing.T, files Files) {
	root := t.TempDir()
	name := "caf\xe9\n" // not UTF-8, and two lines
	write(t, filepath.Join(root, name), "12345")
	when := time.Unix(1700000000, 123456789)
	if err := errors.Join(os.Chmod(filepath.Join(root, name), 0o755|fs.ModeSetuid), os.Chtimes(filepath.Join(root, name), when, when), os.Symlink("to \xff", filepath.Join(root, "link"))); err != nil {
		t.Fatal(err)
	}
	list, err := files.Stat(t.Context(), root, name, "link", ".")
	if err != nil {
		t.Fatal(err)
	}
	f := list[0]
	if f.Path != name || f.Size != 5 || f.Mode != 0o755|fs.ModeSetuid || !f.ModTime.Equal(when) {
		t.Errorf("file: %+v", f)
	}
	if l := list[1]; l.Path != "link" || l.Target != "to \xff" || l.Mode&fs.ModeSymlink == 0 {
		t.Errorf("link: %+v", l)
	}
	if !list[2].Mode.IsDir() {
		t.Errorf("folder: %+v", list[2])
	}
	if _, err := files.Stat(t.Context(), root, "link", "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func testRemove(t *testing.T, files Files) {
	root := t.TempDir()
	for _, name := range []string{"a/.git/x", "a/b/.git", "a/b/c", "d/e"} {
		write(t, filepath.Join(root, name), "")
	}
	if err := files.RemoveNamed(t.Context(), root, ".git"); err != nil {
		t.Fatal(err)
	}
	found, err := files.Find(t.Context(), root, "**")
	if err != nil || paths(found.Files) != "a/b/c d/e" {
		t.Errorf("left: %q, %v", paths(found.Files), err)
	}
	if err := os.Chmod(filepath.Join(root, "d"), 0o500); err != nil {
		t.Fatal(err)
	}
	if err := files.Remove(t.Context(), filepath.Join(root, "d"), filepath.Join(root, "none")); err != nil {
		t.Error(err)
	}
	if err := files.Mkdir(t.Context(), filepath.Join(root, "new/one")); err != nil {
		t.Error(err)
	}
	if _, err := files.Stat(t.Context(), root, "d"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := files.Stat(t.Context(), root, "new/one"); err != nil {
		t.Error(err)
	}
	// Folders empties the ones and leaves the others alone.
	write(t, filepath.Join(root, "tmp/old/f"), "x")
	write(t, filepath.Join(root, "kept/f"), "x")
	if err := files.Folders(t.Context(), []string{filepath.Join(root, "tmp"), filepath.Join(root, "a/b")}, []string{filepath.Join(root, "kept"), filepath.Join(root, "c/d")}); err != nil {
		t.Error(err)
	}
	if list, err := files.Stat(t.Context(), root, "tmp", "a/b", "kept/f", "c/d"); err != nil || len(list) != 4 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := files.Stat(t.Context(), root, "tmp/old"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func testGet(t *testing.T, files Files) {
	root := t.TempDir()
	big := strings.Repeat("0123456789", 50<<10)
	write(t, filepath.Join(root, "big"), big)
	write(t, filepath.Join(root, "empty"), "")
	write(t, filepath.Join(root, "d/small"), "s")
	got := map[string]string{}
	err := files.Get(t.Context(), root, []string{"big", "empty", "d/small"}, func(i Info, r io.Reader) error {
		b, err := io.ReadAll(iotest.HalfReader(r))
		got[i.Path] = string(b)
		return err
	})
	if err != nil || got["big"] != big || got["d/small"] != "s" || len(got) != 3 {
		t.Errorf("%d files, big of %d bytes, %v", len(got), len(got["big"]), err)
	}
	enough := errors.New("enough")
	if err := files.Get(t.Context(), root, []string{"big", "empty"}, func(Info, io.Reader) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if err := files.Get(t.Context(), root, []string{"empty", "none"}, func(Info, io.Reader) error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := files.Get(t.Context(), root, []string{"d"}, func(Info, io.Reader) error { return nil }); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("got %v", err)
	}
}

func testPut(t *testing.T, files Files) {
	root := t.TempDir()
	big := strings.Repeat("0123456789", 50<<10)
	if err := files.Put(t.Context(), filepath.Join(root, "f"), 0o755, strings.NewReader(big)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "f"))
	info, serr := os.Stat(filepath.Join(root, "f"))
	if err != nil || serr != nil || string(b) != big || info.Mode() != 0o755 {
		t.Errorf("%d bytes, %v, %v, %v", len(b), info, err, serr)
	}
	// What breaks off leaves the file as it was and nothing beside it.
	broken := errors.New("broken")
	if err := files.Put(t.Context(), filepath.Join(root, "f"), 0o755, io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v", entries, err)
	}
	if err := files.Put(t.Context(), filepath.Join(root, "none/f"), 0o755, bytes.NewReader(nil)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// FuzzReceiveFile holds a worker that lies to an error: what is passed on as whole has its digest behind it.
func FuzzReceiveFile(f *testing.F) {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	if err := errors.Join(sendFile(w, Info{Path: "x", Mode: 0o644, Size: 5, ModTime: time.Unix(1, 0)}, strings.NewReader("hello")), w.Flush()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(data), maxLine)
		var got []byte
		var info Info
		err := remoteFiles{}.receiveFile(r, "x", func(i Info, r io.Reader) (err error) {
			info = i
			got, err = io.ReadAll(r)
			return err
		})
		if err != nil {
			return
		}
		var again bytes.Buffer
		w := bufio.NewWriter(&again)
		if err := errors.Join(sendFile(w, info, bytes.NewReader(got)), w.Flush()); err != nil {
			t.Fatal(err)
		}
		end := len(data) - r.Buffered()
		if !bytes.HasSuffix(data[:end], again.Bytes()[bytes.IndexByte(again.Bytes(), '\n')+1:]) {
			t.Errorf("%q passed for %q", data, got)
		}
	})
}
