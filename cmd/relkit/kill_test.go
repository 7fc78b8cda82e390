package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// killBox is a folder with two trees, a patch between them and the tool.
type killBox struct {
	dir, tool string
	old, new  string // manifests
}

func (b *killBox) run(t *testing.T, env string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(b.tool, args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", env)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, stderr.Bytes())
	}
	return out.String(), err
}

// manifestOf is the manifest of a tree in mtree(5), relkit's own places left out.
func manifestOf(t *testing.T, dir string) string {
	t.Helper()
	root, err := fsys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var b []byte
	for e, err := range tree.Capture(t.Context(), root, tree.Options{}) {
		if err != nil {
			t.Fatal(err)
		}
		b = manifest.AppendEntry(b, e)
	}
	return string(b)
}

func newKillBox(t *testing.T) *killBox {
	t.Helper()
	b := &killBox{dir: t.TempDir(), tool: buildTool(t)}
	script := `
set -e
umask 022
mkdir -p old/bin old/etc old/lib old/gone/deep old/turn old/var/lib
echo one >old/bin/fw; chmod 4755 old/bin/fw; echo same >old/bin/same
echo conf >old/etc/conf; echo becomes-link >old/etc/was
echo linked >old/lib/a; ln old/lib/a old/lib/b; ln -s so.1 old/lib/so
echo g >old/gone/g; echo d >old/gone/deep/d; echo t >old/turn/t
find old -exec touch -h -d '2026-01-01 00:00:00.123456789Z' {} +
cp -a old new
head -c 300000 /dev/zero | tr '\0' x >new/bin/fw; chmod 755 new/bin/fw
chmod 600 new/etc/conf; ln -sf conf new/etc/was; mkfifo new/etc/pipe
rm new/lib/a; echo unlinked >new/lib/a; ln -sf so.2 new/lib/so; mkdir new/lib/new; echo n >new/lib/new/n
rm -r new/gone new/turn; echo file >new/turn
`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = b.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := b.run(t, "", "patch-make", "old", "new", "--product", "fw", "--from-version", "1", "--to-version", "2", "-o", "p.rkp"); err != nil {
		t.Fatal(err)
	}
	b.old, b.new = manifestOf(t, filepath.Join(b.dir, "old")), manifestOf(t, filepath.Join(b.dir, "new"))
	return b
}

// TestKillAtEveryStep sends the real process SIGKILL before every change it
// would make to a real tree, in apply, in rollback, and in the recovery from
// each, and wants the old tree or the new one afterwards.
func TestKillAtEveryStep(t *testing.T) {
	b := newKillBox(t)
	apply := []string{"patch-apply", "--root", "m", "--insecure-unsigned", "p.rkp"}
	rollback := []string{"patch-rollback", "--root", "m"}
	for name, args := range map[string][]string{"apply": apply, "rollback": rollback} {
		t.Run(name, func(t *testing.T) {
			kills := 0
			for k := 1; ; k++ {
				b.fresh(t, name == "rollback", apply)
				_, err := b.run(t, "RELKIT_CRASH_AT="+strconv.Itoa(k), args...)
				if err == nil {
					break // there is no step k
				}
				if !killed(err) {
					t.Fatalf("step %d: %v", k, err)
				}
				// Every third time the recovery is killed as well.
				if k%3 == 0 {
					if _, err := b.run(t, "RELKIT_CRASH_AT="+strconv.Itoa(1+k/3%7), "patch-apply", "--root", "m", "--recover"); err != nil && !killed(err) {
						t.Fatalf("step %d: recovering: %v", k, err)
					}
				}
				b.check(t, fmt.Sprintf("killed at step %d", k))
				kills++
			}
			if kills < 30 {
				t.Fatalf("only %d steps", kills)
			}
			t.Logf("%d steps", kills)
		})
	}
}

// fresh makes the machine anew.
func (b *killBox) fresh(t *testing.T, applied bool, apply []string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "rm -rf m && cp -a old m && mkdir -p m/var/lib/relkit && touch -h -d '2026-01-01 00:00:00.123456789Z' m/var/lib")
	cmd.Dir = b.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if applied {
		if _, err := b.run(t, "", apply...); err != nil {
			t.Fatal(err)
		}
	}
}

// check recovers the machine and holds it against the two trees.
func (b *killBox) check(t *testing.T, where string) {
	t.Helper()
	if _, err := b.run(t, "", "patch-apply", "--root", "m", "--recover"); err != nil {
		t.Fatalf("%s: recovering: %v", where, err)
	}
	got := manifestOf(t, filepath.Join(b.dir, "m"))
	version, err := os.ReadFile(filepath.Join(b.dir, "m/var/lib/relkit/version.json"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	says2 := strings.Contains(string(version), `"version":"2"`)
	switch {
	case got == b.old && !says2, got == b.new && says2:
	default:
		t.Fatalf("%s: neither old nor new, or version.json of the other (%s):\n%s\nold:\n%s\nnew:\n%s", where, version, got, b.old, b.new)
	}
	if len(version) == 0 && got == b.old {
		if _, err := os.Stat(filepath.Join(b.dir, "m/var/lib/relkit/audit.jsonl")); errors.Is(err, os.ErrNotExist) {
			return // killed before there was anything to tell
		}
	}
	if _, err := b.run(t, "", "audit", "--verify", "--state", "m/var/lib/relkit"); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
}

func killed(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// TestSignalDuringCheck: a signal while a check runs ends the check and takes the
// patch back; the status says the signal, the message what became of the tree. So
// does Ctrl-\, and what timeout(1) sends, which is its signal twice.
func TestSignalDuringCheck(t *testing.T) {
	relkittest.Need(t, "timeout")
	for _, c := range []struct {
		name   string
		by     []string
		signal syscall.Signal
		status int
	}{
		{"SIGTERM", nil, syscall.SIGTERM, 143},
		{"SIGQUIT", nil, syscall.SIGQUIT, 131},
		// Told to end, it does with that signal as with its own when the time is up.
		{"timeout", []string{"timeout", "600"}, syscall.SIGINT, 130},
	} {
		t.Run(c.name, func(t *testing.T) { signalDuringCheck(t, c.by, c.signal, c.status) })
	}
}

func signalDuringCheck(t *testing.T, by []string, signal syscall.Signal, status int) {
	b := newKillBox(t)
	b.fresh(t, false, nil)
	started := filepath.Join(b.dir, "started")
	argv := append(by, b.tool, "patch-apply", "--root", "m", "--insecure-unsigned", "--check", "touch "+started+"; sleep 600", "p.rkp")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = b.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, err := os.Stat(started); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() != status || !strings.Contains(stderr.String(), `target "m": restored`) {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	if strings.Contains(stderr.String(), "goroutine ") || strings.Contains(stderr.String(), "second signal") {
		t.Errorf("%s", stderr.Bytes())
	}
	if got := manifestOf(t, filepath.Join(b.dir, "m")); got != b.old {
		t.Fatalf("the tree is not the old one:\n%s", got)
	}
	b.check(t, "after the signal")
}
