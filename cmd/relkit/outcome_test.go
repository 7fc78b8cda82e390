package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/ui"
)

// wantErrorDocument checks the last line of standard error.
func wantErrorDocument(t *testing.T, stderr, message string, exit int, target string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	want := fmt.Sprintf(`{"error":%q,"exit":%d,"target":%q}`, message, exit, target)
	if got := lines[len(lines)-1]; got != want {
		t.Errorf("last line of stderr\n%s\nwant\n%s", got, want)
	}
}

func TestExitStatusOfEachKind(t *testing.T) {
	for kind, target := range map[failure.Kind]string{
		failure.Failed: "unchanged", failure.Usage: "unchanged", failure.No: "unchanged", failure.Refused: "unchanged",
		failure.Untrusted: "unchanged", failure.Busy: "unchanged", failure.Restored: "restored", failure.Mixed: "mixed",
	} {
		out, errs, status := runSample(t, nil, "fail", fmt.Sprint("kind", int(kind)), "--to", "x", "--json", "--root", "/mnt")
		message := fmt.Sprintf("doing: kind %d", kind)
		if status != int(kind) || out != "" {
			t.Errorf("kind %d: status %d, stdout %q", kind, status, out)
		}
		if !strings.HasPrefix(errs, "relkit fail: "+message+"\nrelkit: target \"/mnt\": "+target+"\n") {
			t.Errorf("kind %d: stderr %q", kind, errs)
		}
		wantErrorDocument(t, errs, message, int(kind), target)
	}
	if got := exitStatus(failure.Errorf(99, "x")); got != 1 {
		t.Errorf("an unknown kind gives %d, want 1", got)
	}
}

func TestErrorsAreWordedOnce(t *testing.T) {
	for how, want := range map[string]string{
		"plain":     "relkit fail: reading \"x\": file does not exist\n",
		"exitcoder": "relkit fail: a coder\n", // cli/v2 would print it and exit 42
		"hint":      "relkit fail: no space\nrelkit: hint: relkit patch-rollback --prune\n",
		"escape":    "relkit fail: \\x1b[31mred\\a two; lines\n",
	} {
		_, errs, status := runSample(t, nil, "fail", how, "--to", "x")
		if errs != want || (status != 1 && how != "hint") {
			t.Errorf("%s: status %d, stderr %q, want %q", how, status, errs, want)
		}
	}
}

func TestBugsAreStatusOne(t *testing.T) {
	for how, want := range map[string]string{
		"typo":  "internal error: relkit fail reads the flag --too, which it does not have",
		"panic": "internal error: told to",
	} {
		_, errs, status := runSample(t, nil, "fail", how, "--to", "x")
		if status != 1 || !strings.Contains(errs, want) || !strings.Contains(errs, "relkit: hint: this is a bug in relkit ") {
			t.Errorf("%s: status %d, stderr %q", how, status, errs)
		}
	}
	for _, how := range []string{"schema", "print"} {
		out, errs, status := runSample(t, nil, "fail", how, "--to", "x", "--json")
		if status != 1 || out != "" || !strings.Contains(errs, "has no schema field") {
			t.Errorf("%s: status %d, stdout %q, stderr %q", how, status, out, errs)
		}
	}
}

func TestUsageErrorInJSON(t *testing.T) {
	_, errs, status := runSample(t, nil, "echo", "--json", "--nope")
	wantErrorDocument(t, errs, `unknown flag "--nope"`, 2, "unchanged")
	if status != 2 {
		t.Errorf("status %d", status)
	}
	if _, errs, _ = runSample(t, nil, "echo", "--nope", "--", "--json"); strings.Contains(errs, "{") {
		t.Errorf("--json behind -- is an operand, stderr %q", errs)
	}
}

func TestVerbosity(t *testing.T) {
	const note, warning, detail = "relkit: a note operands=1\n", "relkit: warning: a warning\n", "relkit: a detail\n"
	for flag, want := range map[string]string{"": note + warning, "-q": "", "--quiet": "", "--verbose": note + warning + detail} {
		args := []string{"echo", "a"}
		if flag != "" {
			args = append(args, flag)
		}
		out, errs, status := runSample(t, nil, args...)
		if errs != want || out != "a\n" || status != 0 {
			t.Errorf("%q: status %d, stdout %q, stderr %q, want %q", flag, status, out, errs, want)
		}
	}
	if _, errs, _ := runSample(t, nil, "fail", "plain", "--to", "x", "-q"); errs == "" {
		t.Error("-q hides an error")
	}
}

// -q is stronger than a forgotten RELKIT_PROGRESS: cron stays silent.
func TestQuietSilencesProgress(t *testing.T) {
	for _, flag := range []string{"--progress=json", "--quiet"} {
		_, errs, status := runSample(t, map[string]string{"RELKIT_PROGRESS": "json"}, "write", "-", "-o", "-", flag)
		if quiet := flag == "--quiet"; status != 0 || (errs == "") != quiet {
			t.Errorf("%s: status %d, stderr %q", flag, status, errs)
		}
	}
}

func TestStandardStreamsAsFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "in")
	if err := os.WriteFile(file, []byte("file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, errs, status := runSample(t, nil, "write", file, "-", "-o", "-"); out != "file\ninput\n" || status != 0 {
		t.Errorf("status %d, stdout %q, stderr %q", status, out, errs)
	}
	made := filepath.Join(dir, "out")
	if _, errs, status := runSample(t, nil, "write", file, "-o", made, "--half"); status != 1 {
		t.Errorf("status %d, stderr %q", status, errs)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("a run that failed left %v", names)
	}
	if _, errs, status := runSample(t, nil, "write", file, "-o", made); status != 0 {
		t.Errorf("status %d, stderr %q", status, errs)
	}
	if b, err := os.ReadFile(made); string(b) != "file\n" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestNoBinaryDataToATerminal(t *testing.T) {
	var out, errs bytes.Buffer
	e := testEnv("data", nil, &out, &errs)
	e.Commands = sampleCommands
	e.IsTerminal = func(stream any) bool { return stream == any(&out) }
	status := run(context.Background(), e, []string{"relkit", "write", "-", "-o", "-"})
	if status != 2 || out.Len() > 0 || !strings.Contains(errs.String(), "standard output is a terminal") {
		t.Errorf("status %d, stdout %q, stderr %q", status, &out, &errs)
	}
}

func TestStamp(t *testing.T) {
	for value, want := range map[string]string{"": "2026-03-04T05:06:07Z", "0": "1970-01-01T00:00:00Z", "1700000000": "2023-11-14T22:13:20Z"} {
		e := testEnv("", map[string]string{"SOURCE_DATE_EPOCH": value}, nil, nil)
		got, err := e.stamp()
		if err != nil || got.Format(time.RFC3339Nano) != want {
			t.Errorf("%q: got %v, %v, want %s", value, got, err, want)
		}
	}
	for _, value := range []string{"yesterday", "-1", "1.5"} {
		e := testEnv("", map[string]string{"SOURCE_DATE_EPOCH": value}, nil, nil)
		if _, err := e.stamp(); failure.Of(err) != failure.Usage {
			t.Errorf("%q: got %v", value, err)
		}
	}
}

// startWait starts the sample command wait in this process and returns once it
// waits. signals is its source of signals, status delivers how it ends.
func startWait(t *testing.T, prepare func(*env), args ...string) (signals chan os.Signal, status chan int, errs *bytes.Buffer) {
	t.Helper()
	signals, status, errs = make(chan os.Signal), make(chan int, 1), new(bytes.Buffer)
	started := make(chan struct{})
	e := testEnv("", nil, writerFunc(func(p []byte) (int, error) { close(started); return len(p), nil }), errs)
	e.Commands, e.Signals = sampleCommands, signals
	if prepare != nil {
		prepare(e)
	}
	go func() { status <- run(context.Background(), e, append([]string{"relkit", "wait"}, args...)) }()
	<-started
	return signals, status, errs
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestSignalEndsARun(t *testing.T) {
	for _, c := range []struct {
		signal syscall.Signal
		then   string
		status int
		want   string
		target string
	}{
		{syscall.SIGINT, "cause", 130, "stopped by signal 2 (interrupt)", "unchanged"},
		{syscall.SIGTERM, "cause", 143, "stopped by signal 15 (terminated)", "unchanged"},
		{syscall.SIGHUP, "cause", 129, "stopped by signal 1 (hangup)", "unchanged"},
		{syscall.SIGQUIT, "cause", 131, "stopped by signal 3 (quit)", "unchanged"},
		{syscall.SIGINT, "wrap", 130, "stopped by signal 2 (interrupt): copying x: context canceled", "unchanged"},
		{syscall.SIGINT, "restored", 130, "undone: stopped by signal 2 (interrupt)", "restored"},
		{syscall.SIGINT, "mixed", 8, "half done: stopped by signal 2 (interrupt)", "mixed"},
		{syscall.SIGINT, "untrusted", 5, "bad signature", "unchanged"},
		{syscall.SIGINT, "done", 0, "", ""},
	} {
		t.Run(fmt.Sprint(c.signal, c.then), func(t *testing.T) {
			signals, status, errs := startWait(t, nil, "--json", "--then", c.then)
			signals <- c.signal
			if got := <-status; got != c.status {
				t.Errorf("status %d, want %d", got, c.status)
			}
			if c.want != "" {
				wantErrorDocument(t, errs.String(), c.want, c.status, c.target)
			}
		})
	}
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	exits := make(chan int)
	held := make(chan func(), 1)
	var list = sampleCommands
	signals := make(chan os.Signal)
	e := testEnv("", nil, new(bytes.Buffer), new(bytes.Buffer))
	e.Signals, e.Commands = signals, list
	e.Exit = func(code int) { exits <- code }
	ctx, stop := e.watchSignals(context.Background())
	defer stop()
	held <- e.hold()
	signals <- syscall.SIGINT
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), context.Canceled) {
		t.Errorf("cause is %v", context.Cause(ctx))
	}
	signals <- syscall.SIGTERM
	select {
	case code := <-exits:
		t.Fatalf("exit %d in the middle of what is held", code)
	case <-time.After(50 * time.Millisecond):
	}
	release := <-held
	release()
	release() // twice does no harm
	if code := <-exits; code != 143 {
		t.Errorf("exit %d, want 143", code)
	}
}

// TestSignalInTheSameBreath: of what is sent right after the first signal, nothing
// ends the process; what comes later does.
func TestSignalInTheSameBreath(t *testing.T) {
	exits := make(chan int, 1)
	signals := make(chan os.Signal)
	e := testEnv("", nil, new(bytes.Buffer), new(bytes.Buffer))
	e.Signals, e.Exit, e.SameBreath = signals, func(code int) { exits <- code }, 300*time.Millisecond
	ctx, stop := e.watchSignals(context.Background())
	defer stop()
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGINT, syscall.SIGHUP} {
		signals <- s
	}
	<-ctx.Done()
	var why signalled
	if !errors.As(context.Cause(ctx), &why) || why.sig != syscall.SIGINT {
		t.Errorf("cause is %v", context.Cause(ctx))
	}
	time.Sleep(400 * time.Millisecond)
	select {
	case code := <-exits:
		t.Fatalf("exit %d by one signal", code)
	default:
	}
	signals <- syscall.SIGINT
	if code := <-exits; code != 130 {
		t.Errorf("exit %d, want 130", code)
	}
}

// sampleProcess is the sample program as a process of its own.
func sampleProcess(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "sample" // what testscript.Main goes by
	return cmd
}

// `relkit … | head` ends the run with the status of SIGPIPE and without a word.
func TestClosedPipeIsQuiet(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := sampleProcess(t, "write", "/dev/null", "-o", "-", "--endless")
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := r.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 141 || errs.Len() > 0 {
		t.Errorf("got %v, stderr %q, want status 141 and silence", err, &errs)
	}
	e := testEnv("", nil, nil, new(bytes.Buffer))
	e.setOutput(ui.Never)
	if code := e.finish(context.Background(), "", errors.Join(&fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}, failure.Errorf(failure.Untrusted, "no"))); code != 5 {
		t.Errorf("a closed pipe hides another failure: status %d", code)
	}
	other := &fs.PathError{Op: "write", Path: "socket", Err: syscall.EPIPE}
	if brokenPipe(fmt.Errorf("sending: %w", other)) {
		t.Error("a peer that hung up is taken for the reader of standard output")
	}
}

func TestRealSignals(t *testing.T) {
	// Whoever runs the tests may ignore the hangup (nohup); a process that is
	// started by one that catches it does not.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	for _, c := range []struct {
		signal os.Signal
		status int
	}{{os.Interrupt, 130}, {syscall.SIGTERM, 143}, {syscall.SIGHUP, 129}, {syscall.SIGQUIT, 131}} {
		cmd := sampleProcess(t, "wait")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(c.signal); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != c.status {
			t.Errorf("%v: got %v, want status %d", c.signal, err, c.status)
		}
	}
}

// A signal that the parent ignores (nohup) stays ignored.
func TestIgnoredSignalStaysIgnored(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `trap "" HUP; exec "$0" wait`, filepath.Join(linkTo(t, self, "sample")))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 143 {
		t.Errorf("got %v, want the status of SIGTERM, 143", err)
	}
}

func linkTo(t *testing.T, target, name string) string {
	t.Helper()
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	return link
}

func TestJSONResult(t *testing.T) {
	out, _, status := runSample(t, nil, "echo", "<a&b>", "--json")
	var doc map[string]any
	if err := json.Unmarshal([]byte(out), &doc); err != nil || doc["schema"] != "relkit.echo/v1" || status != 0 {
		t.Errorf("%v, %v", err, doc)
	}
	if !strings.Contains(out, "<a&b>") || !strings.HasSuffix(out, "}\n") {
		t.Errorf("got %s", out)
	}
	var buf bytes.Buffer
	e := testEnv("", nil, &buf, nil)
	for _, name := range []string{"a", "b"} {
		if err := e.printJSONLine(echoResult{Schema: "relkit.echo/v1", Operands: []string{name}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(buf.String(), "\n"); n != 2 {
		t.Errorf("two documents are %d lines:\n%s", n, &buf)
	}
}
