package fsys

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// everyChange makes each change that FS has once, stopping at the first error.
func everyChange(f FS) error {
	w, err := f.Create("a", 0644)
	if err != nil {
		return err
	}
	defer w.Close()
	steps := []func() error{
		func() error { return second(io.WriteString(w, "0123456789")) },
		func() error { return w.Sync() },
		func() error { return f.Truncate("a", 5) },
		func() error { return f.Mkdir("d", 0755) },
		func() error { return f.Symlink("a", "l") },
		func() error { return f.Mknod("p", manifest.FIFO, 0600, 0, 0) },
		func() error { return f.Link("a", "a2") },
		func() error { return f.Unlink("a2") },
		func() error { return f.Rename("a", "d/a", NoReplace) },
		func() error { return f.Rename("l", "d/a", Exchange) },
		func() error { return f.Chown("l", uint32(os.Getuid()), uint32(os.Getgid())) },
		func() error { return f.Chmod("l", 0600) },
		func() error { return f.SetModTime("l", manifest.Time{Sec: 1}) },
		func() error { return f.SetXattr("l", "user.x", []byte("1")) },
		func() error { return f.RemoveXattr("l", "user.x") },
		func() error { return f.SyncFile("l") },
		func() error { return f.SyncDir("d") },
		func() error { return f.SyncFS(".") },
		func() error { return f.SettleFS(".") },
		func() error { return f.Unlink("d/a") },
		func() error { return f.Rmdir("d") },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// allChanges is everyChange as a Meter records it.
var allChanges = []string{
	"create a", "write a", "fsync a", "truncate a", "mkdir d", "symlink l", "mknod p", "link a2", "unlink a2",
	"rename-noreplace d/a", "exchange d/a", "chown l", "chmod l", "utimens l", "setxattr l", "removexattr l",
	"fsync l", "fsyncdir d", "syncfs .", "settlefs .", "unlink d/a", "rmdir d",
}

func TestWatchCounts(t *testing.T) {
	m := NewMem()
	meter := &Meter{Record: true}
	var before []string
	meter.Before = func(step int, op, name string) {
		if step != len(before)+1 {
			t.Errorf("step %d after %d steps", step, len(before))
		}
		before = append(before, op+" "+name)
	}
	must(t, everyChange(Watch(m.FS(), meter)))
	if got := meter.Trace(); !slices.Equal(got, allChanges) || !slices.Equal(before, allChanges) || meter.Count() != len(allChanges) {
		t.Errorf("%d steps:\n%q\nwant\n%q", meter.Count(), got, allChanges)
	}
	// Reading counts nothing; a second Watch counts on.
	f := Watch(m.FS(), meter)
	if got := get(t, f, "l"); got != "01234" {
		t.Errorf("read %q", got)
	}
	f.Lstat("l")
	f.ReadDir(".")
	if meter.Count() != len(allChanges) {
		t.Error("reading counts as a change")
	}
	must(t, Watch(m.Sub("x"), meter).Mkdir("y", 0755))
	if meter.Count() != len(allChanges)+1 {
		t.Error("a meter does not count over two file systems")
	}
}

// TestWatchFails: each step in turn fails alone, is not done, and says so.
func TestWatchFails(t *testing.T) {
	for k := range allChanges {
		m := NewMem()
		plain := &Meter{CrashAt: k + 1}
		crashed := everyChange(Watch(m.FS(), plain))
		if !errors.Is(crashed, ErrCrashed) || !plain.Crashed() {
			t.Fatalf("step %d: crash: %v", k+1, crashed)
		}
		n := NewMem()
		err := everyChange(Watch(n.FS(), &Meter{FailAt: k + 1, Err: unix.ENOSPC}))
		var p *fs.PathError
		if !errors.As(err, &p) || !errors.Is(err, unix.ENOSPC) || !strings.HasSuffix(allChanges[k], " "+p.Path) {
			t.Errorf("step %d: got %v", k+1, err)
		}
		if a, b := dump(m.FS()), dump(n.FS()); a != b {
			t.Errorf("step %d: a step that failed left\n%s\nand one that did not come left\n%s", k+1, b, a)
		}
		if err := everyChange(Watch(NewMem().FS(), &Meter{FailAt: k + 1})); !errors.Is(err, unix.EIO) {
			t.Errorf("step %d: without Err: %v", k+1, err)
		}
	}
}

func TestWatchShortWrite(t *testing.T) {
	m := NewMem()
	f := Watch(m.FS(), &Meter{FailAt: 2, Err: unix.ENOSPC, ShortWrite: true})
	w, err := f.Create("a", 0644)
	must(t, err)
	n, err := io.WriteString(w, "0123456789")
	if n != 5 || !errors.Is(err, unix.ENOSPC) || get(t, f, "a") != "01234" {
		t.Errorf("short write: %d, %v, left %q", n, err, get(t, f, "a"))
	}
	must(t, f.Mkdir("d", 0755)) // the failure passes
	f = Watch(m.FS(), &Meter{FailAt: 1, Sticky: true})
	for range 3 {
		want(t, "a sticky failure", f.Mkdir("e", 0755), unix.EIO)
	}
}

// TestWatchCrash: after the crash nothing works and nothing changes.
func TestWatchCrash(t *testing.T) {
	m := settled(t)
	f := Watch(m.FS(), &Meter{CrashAt: 2})
	r, err := f.Open("old")
	must(t, err)
	w, err := f.Append("old")
	must(t, err, f.Mkdir("d1", 0755))
	for what, err := range map[string]error{
		"mkdir": f.Mkdir("d2", 0755), "write": second(io.WriteString(w, "x")), "fsync": w.Sync(), "close": w.Close(),
		"lstat": second(f.Lstat("old")), "open": second(f.Open("old")), "read": second(io.ReadAll(r)), "readat": second(r.ReadAt(make([]byte, 1), 0)),
		"fstat": second(r.Stat()), "closing the reader": r.Close(), "readdir": second(f.ReadDir(".")), "readlink": second(f.Readlink("old")),
		"xattrs": second(f.Xattrs("old")), "space": second(f.Space(".")), "append": second(f.Append("old")), "create": second(f.Create("n", 0)),
	} {
		if !errors.Is(err, ErrCrashed) {
			t.Errorf("%s after the crash: %v", what, err)
		}
	}
	if got := show(tree(t, m.FS())); got != `d1="/" dir="/" dir/in="in" old="old"` {
		t.Errorf("left: %s", got)
	}
}

// TestWatchBefore: another writer comes between the look and the change.
func TestWatchBefore(t *testing.T) {
	m := settled(t)
	f := Watch(m.FS(), &Meter{Before: func(step int, op, name string) {
		if op == "unlink" {
			must(t, m.FS().Rename("old", "away", Replace))
		}
	}})
	want(t, "removing what has just gone", f.Unlink("old"), unix.ENOENT)
}

// TestWatchKills runs itself as a process that is to be killed at a step.
func TestWatchKills(t *testing.T) {
	if dir := os.Getenv("FSYS_TEST_KILL"); dir != "" {
		f, err := Open(dir)
		must(t, err)
		everyChange(Watch(f, &Meter{KillAt: 6}))
		t.Fatal("still alive")
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestWatchKills$")
	cmd.Env = append(os.Environ(), "FSYS_TEST_KILL="+dir)
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process ended by %v", err)
	}
	f, err := Open(dir)
	must(t, err)
	defer f.Close()
	if got := show(tree(t, f)); got != `a="01234" d="/"` {
		t.Errorf("killed before the sixth step it left %s", got)
	}
}

func TestDryRun(t *testing.T) {
	m := settled(t)
	before := dump(m.FS())
	var out bytes.Buffer
	f := DryRun(m.FS(), &out)
	must(t, everyChange(f))
	must(t, WriteFile(f, "dir/in", []byte("four"), 0600))
	w, err := f.Append("old")
	must(t, err)
	_, err = io.WriteString(w, "12345")
	must(t, err, w.Close())
	if after := dump(m.FS()); after != before || m.Pending() != 0 {
		t.Errorf("a dry run changed\n%s\nto\n%s", before, after)
	}
	if got := get(t, f, "dir/in"); got != "in" {
		t.Errorf("reading through: %q", got)
	}
	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	for _, line := range []string{
		`create "a" mode 0644`, `fsync "a"`, `truncate "a" to 5 bytes`, `mkdir "d" mode 0755`, `symlink "l" to "a"`,
		`mknod "p" fifo mode 0600 0:0`, `link "a2" to "a"`, `unlink "a2"`, `rename-noreplace "a" to "d/a"`, `exchange "l" to "d/a"`,
		`chmod "l" to 0600`, `utimens "l" to 1.000000000`, `setxattr "l" "user.x" 1 bytes`, `removexattr "l" "user.x"`,
		`fsyncdir "d"`, `syncfs "."`, `rmdir "d"`, `create "dir/.in.relkit-tmp" mode 0600`, `write "dir/.in.relkit-tmp" 4 bytes`,
		`rename "dir/.in.relkit-tmp" to "dir/in"`, `append "old"`, `write "old" 5 bytes`,
	} {
		if !slices.Contains(got, line) {
			t.Errorf("the plan lacks %s:\n%s", line, out.String())
		}
	}
}
