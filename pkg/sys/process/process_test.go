package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/relkittest"
)

func TestMain(m *testing.M) {
	Main(testHandlers)
	if dir := os.Getenv("PROCESS_TEST_PARENT"); dir != "" {
		parent(dir, strings.Repeat("c", 16)+filepath.Base(dir), family)
	}
	if dir := os.Getenv("PROCESS_TEST_CLEARED"); dir != "" {
		parent(dir, clearedCookie(dir), "env -i setsid sleep 4242 >/dev/null 2>&1 & sleep 0.2; echo $! >\"$1\"\n")
	}
	if dir := os.Getenv("PROCESS_TEST_SWEEP"); dir != "" {
		n, err := Sweep(clearedCookie(dir))
		fmt.Println(n, err)
		if err != nil || n == 0 {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// family starts a plain child, a double fork, a setsid child and one that
// ignores SIGTERM, writes their numbers to FILE.pid, and goes on.
const family = `
sleep 1001 & echo $! >>"$1"
(sleep 1002 & echo $! >>"$1") 
setsid sh -c 'echo $$ >>"$1"; exec sleep 1003' sh "$1" &
setsid sh -c 'trap "" TERM; (echo $$ >>"$1"; while :; do sleep 0.05; done) & ' sh "$1"
sleep 0.2; echo ready >>"$1"
`

func env() []string { return []string{"PATH=/usr/local/bin:/usr/bin:/bin"} }

func sh(script string, args ...string) []string {
	return append([]string{"/bin/sh", "-c", script, "sh"}, args...)
}

// gone fails where one of the four processes that the file lists still runs.
func gone(t *testing.T, pidFile string) {
	t.Helper()
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pids := 0
	for _, line := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			continue
		}
		pids++
		if p, ok := readProc(pid); ok && p.state != 'Z' {
			cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			t.Errorf("process %d is left: %q", pid, cmd)
		}
	}
	if pids != 4 {
		t.Errorf("the test started %d processes, want 4", pids)
	}
}

func TestRunOutputAndStatus(t *testing.T) {
	var out, errOut bytes.Buffer
	res, err := Run(t.Context(), Job{
		Argv: sh(`echo "a $X"; echo b >&2; cat; pwd; exit 7`), Dir: "/usr", Env: append(env(), "X=1"),
		Stdout: &out, Stderr: &errOut,
	})
	if err != nil {
		t.Fatal(err)
	}
	if res.Reason != Exited || res.Exit != 7 || res.OK() || res.String() != "exit status 7" {
		t.Errorf("result %+v", res)
	}
	if out.String() != "a 1\n/usr\n" || errOut.String() != "b\n" {
		t.Errorf("stdout %q, stderr %q", out.String(), errOut.String())
	}
	if res.Duration <= 0 || res.MaxRSSBytes < 100<<10 {
		t.Errorf("duration %v, max RSS %d", res.Duration, res.MaxRSSBytes)
	}
}

func TestEnvironmentIsOnlyWhatWasGiven(t *testing.T) {
	t.Setenv("LEAK", "1")
	var out bytes.Buffer
	if _, err := Run(t.Context(), Job{Argv: []string{"/usr/bin/env"}, Env: []string{"A=b"}, Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || lines[0] != "A=b" || !strings.HasPrefix(lines[1], CookieName+"=") {
		t.Errorf("environment %q", lines)
	}
}

func TestNoTerminalAndDefaultSignals(t *testing.T) {
	var out bytes.Buffer
	// grep SigIgn: nothing may be ignored that relkit's caller did not ignore.
	res, err := Run(t.Context(), Job{Argv: sh(`(: </dev/tty) 2>/dev/null && echo tty; grep SigIgn /proc/self/status; grep SigBlk /proc/self/status`), Env: env(), Stdout: &out})
	if err != nil || !res.OK() {
		t.Fatal(res, err)
	}
	var ignored, blocked uint64
	if _, err := fmt.Sscanf(out.String(), "SigIgn:\t%x\nSigBlk:\t%x\n", &ignored, &blocked); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	// 32 and 33 are libc's own (nptl(7)); GNU make leaves them ignored in what it starts.
	const libc = 1<<31 | 1<<32
	if ignored&^libc != 0 || blocked != 0 {
		t.Errorf("ignored %x, blocked %x", ignored, blocked)
	}
}

func TestSignalAndStartFailures(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		job    Job
		reason Reason
		exit   int
		text   string
	}{
		{Job{Argv: sh("kill -SEGV $$")}, Exited, 139, "killed by signal 11 (segmentation fault)"},
		{Job{Argv: []string{"no-such-program-here"}}, NotStarted, 127, `no such program in PATH`},
		{Job{Argv: []string{"/no/such"}}, NotStarted, 127, "no such file"},
		{Job{Argv: []string{plain}}, NotStarted, 126, "permission denied"},
		{Job{Argv: []string{"true"}, Dir: "/no/such/dir"}, NotStarted, 127, `working directory "/no/such/dir"`},
	} {
		c.job.Env = env()
		res, err := Run(t.Context(), c.job)
		if err != nil {
			t.Errorf("%q: %v", c.job.Argv, err)
		}
		if res.Reason != c.reason || res.Exit != c.exit || !strings.Contains(res.String(), c.text) {
			t.Errorf("%q: %+v: %s", c.job.Argv, res, res)
		}
	}
}

func TestTimeoutLeavesNothing(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	start := time.Now()
	res, err := Run(t.Context(), Job{Argv: sh(family+"sleep 1000", pids), Env: env(), Timeout: time.Second, Grace: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if res.Reason != TimedOut || res.OK() {
		t.Errorf("result %+v", res)
	}
	if d := time.Since(start); d < time.Second || d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	if res.Swept == 0 {
		t.Error("the child that ignores SIGTERM was not swept")
	}
	gone(t, pids)
}

func TestIdleTimeout(t *testing.T) {
	var out bytes.Buffer
	res, err := Run(t.Context(), Job{Argv: sh(`for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done; sleep 1000`), Env: env(), Idle: time.Second, Stdout: &out})
	if err != nil || res.Reason != IdledOut {
		t.Fatalf("%+v, %v", res, err)
	}
	if out.String() != "1\n2\n3\n4\n5\n6\n" {
		t.Errorf("output %q: output does not put the idle end off", out.String())
	}
}

func TestTermBeforeKill(t *testing.T) {
	var out bytes.Buffer
	res, err := Run(t.Context(), Job{Argv: sh(`trap 'echo cleaned; exit 9' TERM; while :; do sleep 0.02; done`), Env: env(), Timeout: 300 * time.Millisecond, Stdout: &out})
	if err != nil || res.Reason != TimedOut || res.Exit != 9 || out.String() != "cleaned\n" {
		t.Errorf("%+v, %v, %q", res, err, out.String())
	}
}

func TestLeftoversOfASuccessAreSwept(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	res, err := Run(t.Context(), Job{Argv: sh(family, pids), Env: env()})
	if err != nil || !res.OK() || res.Swept < 4 {
		t.Errorf("%+v, %v", res, err)
	}
	gone(t, pids)
}

func TestShortLeftoversMayFinish(t *testing.T) {
	var out bytes.Buffer
	res, err := Run(t.Context(), Job{Argv: sh(`(sleep 0.05; echo late) & exit 0`), Env: env(), Stdout: &out})
	if err != nil || !res.OK() || res.Swept != 0 || out.String() != "late\n" {
		t.Errorf("%+v, %v, %q", res, err, out.String())
	}
}

func TestOutputLimit(t *testing.T) {
	var out bytes.Buffer
	res, err := Run(t.Context(), Job{Argv: []string{"yes"}, Env: env(), MaxOutput: 100_000, Stdout: &out})
	if err != nil || res.Reason != TooVerbose || out.Len() != 100_000 {
		t.Errorf("%+v, %v, %d bytes", res, err, out.Len())
	}
}

func TestCancelAndNextJob(t *testing.T) {
	s, err := Start(nil)
	if err != nil {
		t.Fatal(err)
	}
	pids := filepath.Join(t.TempDir(), "pids")
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	time.AfterFunc(600*time.Millisecond, func() { cancel(stop) })
	res, err := s.Run(ctx, Job{Argv: sh(family+"sleep 1000", pids), Env: env(), Grace: 200 * time.Millisecond})
	if !errors.Is(err, stop) || res.Reason != Canceled {
		t.Errorf("%+v, %v", res, err)
	}
	gone(t, pids)
	if res, err := s.Run(t.Context(), Job{Argv: []string{"true"}, Env: env()}); err != nil || !res.OK() {
		t.Errorf("the next job: %+v, %v", res, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestFailingWriterEndsTheJob(t *testing.T) {
	full := errors.New("full")
	res, err := Run(t.Context(), Job{Argv: []string{"yes"}, Env: env(), Output: func(Output) error { return full }})
	if !errors.Is(err, full) || res.Reason != Canceled {
		t.Errorf("%+v, %v", res, err)
	}
}

// parent is what the kill tests kill: it runs the family and waits.
func parent(dir, cookie, script string) {
	s, err := Start(&Options{Cookie: cookie})
	if err != nil {
		panic(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "supervisor"), []byte(strconv.Itoa(s.link.pid)), 0o644); err != nil {
		panic(err)
	}
	_, err = s.Run(context.Background(), Job{Argv: sh(script+"sleep 1000", filepath.Join(dir, "pids")), Env: env()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func startParent(t *testing.T) (*exec.Cmd, string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "PROCESS_TEST_PARENT="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	wait(t, "the family", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "pids"))
		return strings.Contains(string(b), "ready")
	})
	return cmd, dir
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func supervisorOf(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "supervisor"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(b))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	w := &frameWriter{w: &b}
	if err := w.write(frameStdout, 1500*time.Microsecond, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := w.write(frameStdout, 0, make([]byte, maxPayload+1)); err == nil {
		t.Error("an oversized frame was written")
	}
	whole := b.Bytes()
	kind, at, data, err := readFrame(bytes.NewReader(whole), make([]byte, maxPayload+1))
	if err != nil || kind != frameStdout || at != 1500*time.Microsecond || string(data) != "hello" {
		t.Errorf("%c %v %q %v", kind, at, data, err)
	}
	for cut := range whole {
		if _, _, _, err := readFrame(bytes.NewReader(whole[:cut]), make([]byte, maxPayload+1)); err == nil {
			t.Errorf("a frame cut at %d was read", cut)
		}
	}
	big := append([]byte(nil), whole...)
	big[9] = 1
	if _, _, _, err := readFrame(bytes.NewReader(big), make([]byte, maxPayload+1)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("oversized: %v", err)
	}
}

// A job with a Root sees that folder as "/".
func TestRoot(t *testing.T) {
	relkittest.NeedRoot(t)
	relkittest.Need(t, "busybox")
	root := t.TempDir()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "sh"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	res, err := Run(t.Context(), Job{Argv: []string{"/sh", "-c", "pwd; echo *"}, Root: root, Env: env(), Stdout: &out})
	if err != nil || !res.OK() || out.String() != "/\nsh\n" {
		t.Fatalf("%v, %v, printed %q", res, err, out.String())
	}
}

// A supervisor that is told to end by a signal, as Slurm does with all processes of a
// job that is cancelled, does not take what the program comes to for its result.
func TestToldToEnd(t *testing.T) {
	for name, script := range map[string]string{
		"a program that ends in order":     `trap 'exit 2' TERM; kill -TERM $PPID; while :; do sleep 0.02; done`,
		"a program that gets it first":     `kill -TERM $PPID; exit 2`,
		"a program that dies of it":        `kill -TERM $PPID $$`,
		"a program that does not heed it":  `trap '' TERM; kill -INT $PPID; while :; do sleep 0.02; done`,
		"a child in a session of its own":  `setsid sleep 1000 & kill -HUP $PPID; sleep 1000`,
		"a child after the program's end":  `(sleep 0.02; kill -QUIT $PPID) & sleep 1000`,
		"one that has failed just before":  `p=$PPID; (sleep 0.01; kill -TERM $p) & exit 1`,
		"a program that writes to the end": `kill -TERM $PPID; yes`,
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Start(nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := s.Run(t.Context(), Job{Argv: sh(script), Env: env(), Grace: 200 * time.Millisecond})
			if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "told to end") {
				t.Errorf("%+v, %v", res, err)
			}
			_ = s.Close()
			if n, err := Sweep(s.Cookie()); n > 0 || err != nil {
				t.Errorf("%d processes left, %v", n, err)
			}
		})
	}
	res, err := Run(t.Context(), Job{Argv: sh("exit 3"), Env: env()})
	if err != nil || res.Exit != 3 || res.Duration > 5*time.Second {
		t.Errorf("an end of its own: %+v, %v", res, err)
	}
}
