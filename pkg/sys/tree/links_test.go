package tree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// linkedTree is a folder with groups that are near and far apart, and with files
// whose other name is outside of it, as those of stored images are.
func linkedTree(t testing.TB) string {
	t.Helper()
	var names []string
	for i := range 60 {
		names = append(names, fmt.Sprintf("d%d/f%02d", i%3, i))
	}
	dir, outside := files(t, names...), t.TempDir()
	for i, name := range names {
		to := ""
		switch i % 5 {
		case 0:
			to = filepath.Join(outside, fmt.Sprint(i))
		case 1:
			to = filepath.Join(dir, name+"-again")
		case 2:
			to = filepath.Join(dir, fmt.Sprintf("z%02d", 99-i))
		default:
			continue
		}
		if err := os.Link(filepath.Join(dir, name), to); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestCaptureNumbersLinks has the walk as far ahead as the whole tree, and so
// little that the groups must be counted ahead of it.
func TestCaptureNumbersLinks(t *testing.T) {
	for _, dir := range []string{linkedTree(t), relkittest.Zoo(t)} {
		want := manifestOf(t, dir, Options{})
		entries, err := manifest.Decode(strings.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if linked := strings.Contains(e.Path, "-again") || strings.HasPrefix(e.Path, "z"); linked && e.Link == 0 {
				t.Errorf("%q has no group", e.Path)
			}
		}
		for _, ahead := range []int{1, 2, 7, 40} {
			for _, jobs := range []int{1, 3} {
				if got := manifestOf(t, dir, Options{ahead: ahead, Jobs: jobs}); got != want {
					t.Fatalf("%d names ahead, %d jobs:\n%s\nwant:\n%s", ahead, jobs, got, want)
				}
			}
		}
	}
}

// TestFirstNameVanishes: the names of a group that are left are a group, or one
// file, of their own.
func TestFirstNameVanishes(t *testing.T) {
	for _, left := range []int{1, 2} {
		dir := files(t, "a")
		for _, name := range []string{"b", "c"}[:left] {
			if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		for _, ahead := range []int{1, 100} {
			text := ""
			for e, err := range Capture(t.Context(), vanishing{open(t, dir)}, Options{ahead: ahead}) {
				if err != nil {
					t.Fatal(err)
				}
				text += fmt.Sprintf("%s=%d ", e.Path, e.Link)
			}
			if want := [...]string{"", ".=0 b=0 ", ".=0 b=1 c=1 "}[left]; text != want {
				t.Errorf("%d ahead: got %q, want %q", ahead, text, want)
			}
		}
	}
}

// vanishing has lost the file a when it is opened.
type vanishing struct{ fsys.FS }

func (v vanishing) Open(name string) (fsys.File, error) {
	if name == "a" {
		return nil, syscall.ENOENT
	}
	return v.FS.Open(name)
}

// TestCaptureFails: an error of the walk or of a file ends the stream, whatever
// the consumer waits for.
func TestCaptureFails(t *testing.T) {
	dir := linkedTree(t)
	for _, name := range []string{"d2", "d1/f01"} {
		for _, ahead := range []int{1, 100} {
			var last error
			n := 0
			for _, err := range Capture(t.Context(), broken{open(t, dir), name}, Options{ahead: ahead}) {
				last = err
				n++
			}
			if !errors.Is(last, syscall.EIO) || n < 1 {
				t.Errorf("%q is broken, %d ahead: %d entries and %v", name, ahead, n, last)
			}
		}
	}
}

// broken cannot read one name.
type broken struct {
	fsys.FS
	name string
}

func (b broken) Open(name string) (fsys.File, error) {
	if name == b.name {
		return nil, syscall.EIO
	}
	return b.FS.Open(name)
}

func (b broken) ReadDir(name string) ([]string, error) {
	if name == b.name {
		return nil, syscall.EIO
	}
	return b.FS.ReadDir(name)
}
