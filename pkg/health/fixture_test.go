package health

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

var update = flag.Bool("update", false, "write the want sections of testdata anew")

// fixture is a machine made of a txtar file. Its sections are
//
//	tree/…      files of what is installed
//	kernel/…    files of proc and sys; X.dir holds a folder X, a line "NAME TEXT" each
//	state/…     files of the state folder
//	space       a line a mount point: POINT SIZE FREE AVAILABLE INODES FREE, or POINT hang|errno
//	config      health.toml
//	options     only=…, skip=…, redact=…, root=…, a line each
//	want        the report, indented
type fixture struct {
	archive *txtar.Archive
	sys     *System
	opt     Options
	state   *fsys.Mem
	// working says that a relkit is at work on the machine.
	working bool
	// hang is closed at the end of the test, so that no goroutine outlives it.
	hang chan struct{}
}

// fixtureTime is when fixtures look at themselves.
var fixtureTime = time.Date(2026, 11, 22, 2, 13, 9, 0, time.UTC)

func readFixture(t *testing.T, file string) *fixture {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	f.archive = a
	tree, kernel := fstest.MapFS{}, fstest.MapFS{}
	spaces := map[string]string{}
	for _, section := range a.Files {
		top, rest, _ := strings.Cut(section.Name, "/")
		switch top {
		case "tree":
			tree[rest] = &fstest.MapFile{Data: section.Data}
		case "kernel":
			addKernel(kernel, rest, section.Data)
		case "state":
			f.writeState(t, rest, section.Data)
		case "space":
			for _, line := range lines(section.Data) {
				point, rest, _ := strings.Cut(line, " ")
				spaces[point] = rest
			}
		case "config":
			if err := config.Decode("config", section.Data, &f.opt.Config); err != nil {
				t.Fatal(err)
			}
		case "options":
			f.setOptions(t, section.Data)
		}
	}
	f.sys.Tree, f.sys.Kernel = tree, kernel
	f.sys.Statfs = func(point string) (Space, error) { return f.space(t, spaces, point) }
	return f
}

// newFixture is a machine with nothing in it.
func newFixture(t *testing.T) *fixture {
	f := &fixture{state: fsys.NewMem(), hang: make(chan struct{})}
	t.Cleanup(func() { close(f.hang) })
	f.sys = &System{
		Tree: fstest.MapFS{}, Path: "/", Kernel: fstest.MapFS{},
		OpenState:    func() (fsys.FS, error) { return f.state.FS(), nil },
		Working:      func() (bool, error) { return f.working, nil },
		WriteState:   func(name string, data []byte) error { return fsys.WriteFile(f.state.FS(), name, data, 0o600) },
		Statfs:       func(string) (Space, error) { return Space{}, syscall.ENOENT },
		Now:          func() time.Time { return fixtureTime },
		Random:       bytes.NewReader(make([]byte, 1<<16)),
		Architecture: "amd64", Version: "1.0.0",
	}
	return f
}

func addKernel(kernel fstest.MapFS, name string, data []byte) {
	dir, ok := strings.CutSuffix(name, ".dir")
	if !ok {
		kernel[name] = &fstest.MapFile{Data: data}
		return
	}
	for _, line := range lines(data) {
		file, text, _ := strings.Cut(line, " ")
		kernel[path.Join(dir, file)] = &fstest.MapFile{Data: []byte(text + "\n")}
	}
}

func (f *fixture) writeState(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := fsys.WriteFile(f.state.FS(), name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) setOptions(t *testing.T, data []byte) {
	t.Helper()
	for _, line := range lines(data) {
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "only":
			f.opt.Only = strings.Split(value, ",")
		case "skip":
			f.opt.Skip = strings.Split(value, ",")
		case "redact":
			f.opt.Redact = strings.Split(value, ",")
		case "root":
			f.sys.Path = value
		default:
			t.Fatalf("unknown option %q", key)
		}
	}
}

func (f *fixture) space(t *testing.T, spaces map[string]string, point string) (Space, error) {
	switch text := spaces[manifest.Escape(point)]; text {
	case "":
		t.Errorf("the fixture is asked for the space at %q", point)
		return Space{}, syscall.ENOENT
	case "hang":
		<-f.hang
		return Space{}, errors.New("the test is over")
	case "ESTALE":
		return Space{}, syscall.ESTALE
	default:
		var s Space
		if _, err := fmt.Sscan(text, &s.Size, &s.Free, &s.Available, &s.Inodes, &s.InodesFree); err != nil {
			t.Errorf("bad space %q: %v", text, err)
		}
		return s, nil
	}
}

func lines(b []byte) []string {
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' })
}

// report makes a report and holds it to the schema and to the list of fields.
func (f *fixture) report(t *testing.T) *record.Health {
	t.Helper()
	h, err := Run(context.Background(), f.sys, f.opt)
	if err != nil {
		t.Fatal(err)
	}
	checkReport(t, h)
	return h
}

// check is the one check of a name and object.
func check(t *testing.T, h *record.Health, name, object string) record.HealthCheck {
	t.Helper()
	for _, c := range h.Checks {
		if c.Name == name && c.Object == object {
			return c
		}
	}
	t.Fatalf("no check %s %q in %+v", name, object, h.Checks)
	return record.HealthCheck{}
}

// TestReports compares the report of each machine in testdata with the one wanted.
func TestReports(t *testing.T) {
	files, err := fs.Glob(os.DirFS("."), "testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(path.Base(file), ".txtar"), func(t *testing.T) {
			// In a bubble: what hangs is waited for in no time.
			synctest.Test(t, func(t *testing.T) {
				f := readFixture(t, file)
				h := f.report(t)
				b, err := h.Encode()
				if err != nil {
					t.Fatal(err)
				}
				var got bytes.Buffer
				if err := json.Indent(&got, b, "", "  "); err != nil {
					t.Fatal(err)
				}
				f.compare(t, file, "want", got.Bytes())
				f.compare(t, file, "prometheus", Metrics(h, Prometheus))
				f.compare(t, file, "nagios", []byte(strings.Join(Nagios(h), "\n")+"\n"))
				f.compare(t, file, "text", []byte(strings.Join(Text(h), "\n")+"\n"))
			})
		})
	}
}

// compare holds a section of the fixture to what came out.
func (f *fixture) compare(t *testing.T, file, name string, got []byte) {
	t.Helper()
	for i := range f.archive.Files {
		section := &f.archive.Files[i]
		if section.Name != name {
			continue
		}
		if bytes.Equal(section.Data, got) {
			return
		}
		if *update {
			section.Data = got
			if err := os.WriteFile(file, txtar.Format(f.archive), 0o644); err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Errorf("%s: %s differs\n%s", file, name, firstDifference(section.Data, got))
		return
	}
	t.Errorf("%s has no section %q", file, name)
}

func firstDifference(want, got []byte) string {
	w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return "line " + strconv.Itoa(i+1) + "\nwant " + a + "\ngot  " + b
		}
	}
	return "no line differs"
}
