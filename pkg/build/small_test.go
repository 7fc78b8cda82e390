package build

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/sys/process"
)

func TestSubstitute(t *testing.T) {
	vars := map[string]string{"slots": "2", "cc": "gcc", "evil": "a b;c"}
	for in, want := range map[string]string{
		"-j{slots}": "-j2", "{cc}{cc}": "gccgcc", "${HOME}": "${HOME}", "{{cc}}": "{cc}", "{ print }": "{ print }", "{}": "{}", "{evil}": "a b;c",
	} {
		if got, err := substitute(in, vars); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if _, err := substitute("{nope}", vars); err == nil || !strings.Contains(err.Error(), `"{{nope}}"`) {
		t.Errorf("%v", err)
	}
	for in, want := range map[string]string{
		"make -j{slots}": "make -j2", "${slots}": "${slots}", "awk '{print}'": "awk '{print}'", "{{cc}}": "{{cc}}", "f() { cc; }": "f() { cc; }",
	} {
		if got, err := substituteShell(in, vars); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if _, err := substituteShell("echo {evil}", vars); err == nil {
		t.Error("a value went to the shell")
	}
}

func TestLeadsOut(t *testing.T) {
	for _, c := range []struct {
		links string // FILE=TARGET; the first one is looked at
		want  bool
	}{
		{"out/l=x", false}, {"out/l=../x", false}, {"out/l=../../x", true}, {"l=..", true}, {"out/l=/etc", true},
		{"out/l=a/../../..", true}, {"a/b/l=../../c", false}, {"l=a//./b", false}, {"l=.//etc", false},
		// Not what the text says: s/s/s is where s is.
		{"up=s/s/s/s/../../../.. s=.", true}, {"up=s/s s=.", false}, {"up=d/../x d=a/b", false}, {"up=d/../../x d=a/b", false},
		{"up=d/../../../x d=a/b", true}, {"d/up=e/../.. d/e=../e", true}, {"l=m m=/etc", true}, {"l=l", true}, {"l=m m=n n=l", true},
	} {
		links, first := map[string]string{}, ""
		for _, l := range strings.Fields(c.links) {
			file, target, _ := strings.Cut(l, "=")
			links[file] = target
			if first == "" {
				first = file
			}
		}
		if got := leadsOut(first, links); got != c.want {
			t.Errorf("%q: %v", c.links, got)
		}
	}
}

func TestWorkFoldersOfCells(t *testing.T) {
	if got := workFolder("/s", workDir, "fw[cc=gcc,os=el9]"); got != "/s/work/fw+cc-gcc+os-el9" {
		t.Error(got)
	}
}

func TestNumbers(t *testing.T) {
	s := state{t.TempDir()}
	for _, name := range []string{"000001", "000010", "999999", "1000000", "1", "last", "0000002", "-00001"} {
		if err := os.MkdirAll(filepath.Join(s.builder("fw"), name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.numbers("fw"); err != nil || !slices.Equal(got, []int{1, 10, 999999, 1000000}) {
		t.Errorf("%v, %v", got, err)
	}
	if n, err := s.reserve("fw"); err != nil || n != 1000001 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestSourceURL(t *testing.T) {
	p := &Project{dir: "/conf"}
	for in, want := range map[string]string{
		"repo": "/conf/repo", "../repo": "/repo", ".": "/conf", "/srv/repo": "/srv/repo", "file:///srv/repo": "file:///srv/repo",
		"ssh://git@h/x": "ssh://git@h/x", "git@h:x": "git@h:x", "dir/a:b": "/conf/dir/a:b",
	} {
		if got := p.sourceURL(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// lines are the lines of a log as "stream text".
func lines(t *testing.T, data []byte) []string {
	t.Helper()
	var out []string
	if err := readLog(bytes.NewReader(data), func(l LogLine) error {
		out = append(out, l.Stream+" "+string(l.Text))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestStepLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "l")
	var live []string
	l, err := newStepLog(file, func(line []byte) { live = append(live, string(line)) })
	if err != nil {
		t.Fatal(err)
	}
	l.Note(0, "$ %s", "x")
	write := func(at time.Duration, isErr bool, text string) {
		t.Helper()
		if err := l.Output(process.Output{Elapsed: at, Stderr: isErr, Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	write(1234*time.Millisecond, false, "one\ntw")
	write(2*time.Second, true, "err\n")
	write(3*time.Second, false, "o\n\nno end")
	write(4*time.Second, true, strings.Repeat("x", maxLogLine+1))
	// What is there can be read while it is written.
	time.Sleep(flushEvery + 200*time.Millisecond)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := lines(t, data); len(got) != 6 || got[2] != "stderr err" {
		t.Errorf("while it is written: %.60q", got)
	}
	for i := range 30 {
		write(5*time.Second, false, fmt.Sprintf("%d\n", i))
	}
	l.Note(6*time.Second, "exit status 0")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	data, err = os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := lines(t, data)
	long := "stderr " + strings.Repeat("x", maxLogLine)
	want := []string{"relkit $ x", "stdout one", "stderr err", "stdout two", "stdout ", long + "x", "stdout no end0"}
	for i := 1; i < 30; i++ {
		want = append(want, fmt.Sprintf("stdout %d", i))
	}
	want = append(want, "relkit exit status 0")
	if !slices.Equal(got, want) {
		t.Errorf("%.80q", got)
	}
	if tail := l.Tail(); len(tail) != tailLines || string(tail[tailLines-1]) != "29" {
		t.Errorf("%q", tail)
	}
	if len(live) != len(want)-2 || live[0] != "one" {
		t.Errorf("%d lines live", len(live))
	}
	var raw []byte
	_ = readLog(bytes.NewReader(data), func(l LogLine) error { raw = append(raw, l.Raw...); return nil })
	if !bytes.Contains(raw, []byte("     1.234 o one\n     2.000 e err\n     1.234 o two\n")) {
		t.Errorf("%.200q", raw)
	}
	// A log cut anywhere can be read as far as it goes.
	for cut := 0; cut < len(data); cut += 7 {
		if got := lines(t, data[:cut]); len(got) > len(want)+1 {
			t.Errorf("cut at %d: %d lines", cut, len(got))
		}
	}
}

// What is made durable one by one is all of a build: each file before its folder,
// symlinks with theirs; of many the whole file system is.
func TestSyncTree(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"log/01-a.log.zst", "artifacts/out/x", "tests.json"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "artifacts/link")); err != nil {
		t.Fatal(err)
	}
	paths, few := toSync(dir)
	for i, path := range paths {
		paths[i] = strings.TrimPrefix(path, dir)
	}
	if got := strings.Join(paths, " "); !few || got != "/tests.json /log/01-a.log.zst /log /artifacts/out/x /artifacts/out /artifacts " {
		t.Errorf("%v, %q", few, got)
	}
	if err := syncTree(dir); err != nil {
		t.Error(err)
	}
	for i := range syncEach {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if paths, few := toSync(dir); few || len(paths) > 0 {
		t.Errorf("many: %q", paths)
	}
	if err := syncTree(dir); err != nil {
		t.Error(err)
	}
	if err := syncTree(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}
