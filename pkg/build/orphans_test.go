package build

import (
	"context"
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

	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
)

// family is a step that starts a plain child, a double fork, one in a session of
// its own and one that ignores SIGTERM, writes their numbers down, and stays.
const family = `
sleep 1001 & echo $! >>pids
(sleep 1002 & echo $! >>pids)
setsid sh -c 'echo $$ >>pids; exec sleep 1003' &
setsid sh -c 'trap "" TERM; (echo $$ >>pids; while :; do sleep 0.05; done) & ' &
while [ "$(wc -l <pids)" -lt 4 ]; do sleep 0.02; done
mv pids ready
sleep 1000
`

// members waits for a family below dir, and answers the numbers of its processes.
func members(t *testing.T, dir string) []int {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		found, _ := filepath.Glob(dir + "/*/work/fw/fw/ready")
		if len(found) == 0 {
			continue
		}
		b, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		var pids []int
		for _, w := range strings.Fields(string(b)) {
			n, err := strconv.Atoi(w)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, n)
		}
		if len(pids) != 4 {
			t.Fatalf("%d processes, want 4", len(pids))
		}
		return pids
	}
	t.Fatal("the step does not start")
	return nil
}

// supervisorOf is the supervisor above a process that is its direct or further child.
func supervisorOf(t *testing.T, pid int) int {
	t.Helper()
	for p := pid; p > 1; {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "__supervise") {
			return p
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if err != nil {
			t.Fatal(err)
		}
		text := string(stat)
		if p, err = strconv.Atoi(strings.Fields(text[strings.LastIndexByte(text, ')')+1:])[1]); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("process %d has no supervisor", pid)
	return 0
}

// noneLeft fails where a process of the family is still there after a while.
func noneLeft(t *testing.T, pids []int, within time.Duration) {
	t.Helper()
	var left []int
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		left = nil
		for _, pid := range pids {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if text := string(stat); err == nil && !strings.HasPrefix(text[strings.LastIndexByte(text, ')')+1:], " Z") {
				left = append(left, pid)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			break
		}
	}
	for _, pid := range left {
		cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		t.Errorf("process %d is left: %q", pid, cmd)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// relkitArg makes this test program build a bench, and be killed.
const relkitArg = "BUILD_TEST_CONFIG"

// beRelkit is what the kill tests kill.
func beRelkit(config string) {
	p, err := Open(config, "")
	if err == nil {
		var cells []Cell
		if cells, err = p.Plan(nil); err == nil {
			err = p.Run(context.Background(), cells, Options{Version: "test", heartbeat: testBeat})
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// testBeat is short, so that silence is noticed within a test's time.
const testBeat = time.Second

// TestOrphans: in no way does a build end so that a process of a step is left.
func TestOrphans(t *testing.T) {
	for _, kind := range workerKinds {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t, builder(family, "", ""), nil)
			p := newPlace(b, kind)
			b.opt.heartbeat, b.opt.grace = testBeat, 300*time.Millisecond
			orphans(t, b, p)
		})
	}
}

func orphans(t *testing.T, b *bench, p *place) {
	sh := b.read("relkit.toml")
	// fresh is the next build's family: what an earlier one wrote is gone.
	fresh := func(limits string) {
		b.write("relkit.toml", strings.Replace(sh, "sources = [\"fw\"]\n", "sources = [\"fw\"]\ncheckout = \"clean\"\n"+limits, 1))
		for _, f := range must(filepath.Glob(p.dir + "/*/work/fw/fw/ready")) {
			_ = os.Remove(f)
		}
	}
	last := func() *record.Build {
		if len(b.built) == 0 {
			t.Fatal("no build")
		}
		return b.built[len(b.built)-1]
	}
	next := func() { // a build that succeeds: what runs next
		t.Helper()
		b.write("relkit.toml", strings.Replace(sh, family, "true", 1))
		b.must()
	}
	t.Run("timeout", func(t *testing.T) {
		fresh("limits = { time = \"4s\" }\n")
		done := b.start(t.Context())
		pids := members(t, p.dir)
		if err := <-done; err == nil || last().Steps[0].Reason != "timeout" || last().Status != record.BuildFailed {
			t.Errorf("%v, %+v", err, last().Steps)
		}
		noneLeft(t, pids, 0)
	})
	t.Run("cancel", func(t *testing.T) {
		fresh("")
		ctx, cancel := context.WithCancel(t.Context())
		done := b.start(ctx)
		pids := members(t, p.dir)
		cancel()
		if err := <-done; err != context.Canceled || last().Status != record.BuildInterrupted {
			t.Errorf("%v, %+v", err, last())
		}
		noneLeft(t, pids, 0)
	})
	t.Run("kill relkit", func(t *testing.T) {
		fresh("")
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), relkitArg+"="+b.path("relkit.toml"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pids := members(t, p.dir)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		// Without another run: whoever it was that it spoke to notices.
		noneLeft(t, pids, 4*testBeat+20*time.Second)
		next()
	})
	t.Run("kill supervisor", func(t *testing.T) {
		fresh("")
		done := b.start(t.Context())
		pids := members(t, p.dir)
		_ = syscall.Kill(supervisorOf(t, pids[0]), syscall.SIGKILL)
		if err := <-done; err == nil || last().Status != record.BuildError {
			t.Errorf("%v, %+v", err, last())
		}
		next()
		noneLeft(t, pids, 0)
	})
	if p.sshd == nil {
		return
	}
	for name, drop := range map[string]func(){"cut": p.sshd.Cut, "stall": p.sshd.Stall} {
		t.Run(name, func(t *testing.T) {
			fresh("")
			done := b.start(t.Context())
			pids := members(t, p.dir)
			drop()
			if err := <-done; err == nil || last().Status != record.BuildError {
				t.Errorf("%v, %+v", err, last())
			}
			noneLeft(t, pids, 4*testBeat+20*time.Second)
		})
	}
}

// cleared is a step that starts a process which is no child of anybody's, has cleared
// its environment and lets go of the step's output, and stays.
const cleared = `
env -i setsid sleep 4242 >/dev/null 2>&1 &
echo $! >pids
sleep 1
mv pids ready
sleep 1000
`

// TestOrphansOfAPlainUser: one who can have no control group, whose relkit is killed
// together with its supervisor: the next build ends what they left.
func TestOrphansOfAPlainUser(t *testing.T) {
	relkittest.NeedRoot(t) // to be somebody else
	b := newBench(t, strings.Replace(builder(cleared, "", ""), "sources = [\"fw\"]\n", "", 1), nil)
	exe := b.path("exe")
	if err := errors.Join(os.WriteFile(exe, must(os.ReadFile("/proc/self/exe")), 0o755), os.Chmod(filepath.Dir(b.dir), 0o755), os.Chown(b.dir, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	as := func() *exec.Cmd {
		cmd := exec.Command(exe)
		cmd.Dir, cmd.Env = b.dir, append(os.Environ(), relkitArg+"="+b.path("relkit.toml"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return cmd
	}
	cmd := as()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for end := time.Now().Add(90 * time.Second); pid == 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		text, _ := os.ReadFile(b.path("state/work/fw/.empty/ready"))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if pid == 0 {
		_ = cmd.Process.Kill()
		t.Fatal("the step does not start")
	}
	sup := supervisorOf(t, pid)
	_ = syscall.Kill(sup, syscall.SIGSTOP) // it would end its own as soon as relkit is gone
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	_ = syscall.Kill(sup, syscall.SIGKILL)
	if syscall.Kill(pid, 0) != nil {
		t.Fatal("nothing is left: the test shows nothing")
	}
	b.write("relkit.toml", strings.Replace(b.read("relkit.toml"), cleared, "true", 1))
	out, err := as().CombinedOutput()
	if _, serr := os.Stat(b.path("state/builds/fw/000002/build.json")); serr != nil {
		t.Errorf("the next build: %v, %s", err, out)
	}
	noneLeft(t, []int{pid}, 0)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
