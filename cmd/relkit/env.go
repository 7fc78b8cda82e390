package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/ui"
)

// env is what the tool knows of the world: three streams, the environment, a
// clock and the signals. A test makes its own and runs the whole tool inside
// its process. The second half is what one run learns from its flags.
type env struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// LookupEnv is os.LookupEnv.
	LookupEnv func(string) (string, bool)
	Now       func() time.Time
	// IsTerminal tells whether a stream is a terminal.
	IsTerminal func(stream any) bool
	// OpenTerminal opens the terminal that the person who started this sits at,
	// wherever the streams lead; nil where there is none.
	OpenTerminal func() (*os.File, error)
	// Signals delivers what the process is sent; nil for nothing.
	Signals <-chan os.Signal
	// SameBreath is how long after the first signal another is part of it: see
	// watchSignals. 0 for not at all.
	SameBreath time.Duration
	// Exit ends the process at once: used for the second signal only.
	Exit func(code int)
	// Commands lists the commands; newEnv says commands.
	Commands func(*env) []*cli.Command

	// Set from the flags before a command's action runs.
	JSON    bool // --json
	Quiet   bool // --quiet
	Verbose bool // --verbose
	// Log is for notes and warnings; they go to standard error.
	Log     *slog.Logger
	console *ui.Console

	// Target, when a command that changes a machine sets it, is named with its
	// state in the message of a failure: `relkit: target "/": unchanged`.
	Target string

	holding sync.RWMutex // see hold
	// stdinTaken tells that an operand has been "-" already.
	stdinTaken bool
}

// newEnv is the env of the process itself.
func newEnv() *env {
	return &env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		LookupEnv:    os.LookupEnv,
		Now:          time.Now,
		IsTerminal:   ui.IsTerminal,
		OpenTerminal: func() (*os.File, error) { return os.OpenFile("/dev/tty", os.O_RDWR, 0) },
		Signals:      notify(),
		SameBreath:   500 * time.Millisecond,
		Exit:         os.Exit,
		Commands:     commands,
	}
}

// Getenv is the value of an environment variable, "" where it is unset.
func (e *env) Getenv(name string) string {
	v, _ := e.LookupEnv(name)
	return v
}

// stamp is the time to write into what is made: SOURCE_DATE_EPOCH where it is
// set (https://reproducible-builds.org/specs/source-date-epoch/), now
// elsewhere; UTC, whole seconds.
func (e *env) stamp() (time.Time, error) {
	v := e.Getenv("SOURCE_DATE_EPOCH")
	if v == "" {
		return e.Now().UTC().Truncate(time.Second), nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, failure.Errorf(failure.Usage, "reading SOURCE_DATE_EPOCH: %q is not a number of seconds", v)
	}
	return time.Unix(n, 0).UTC(), nil
}

// progress shows how far a job is, counted in bytes, as --progress says.
func (e *env) progress() ui.Progress { return e.console.Progress(ui.Bytes) }

// notify asks for the signals that end a run. A signal that the parent had
// ignored (nohup, a shell's background job) stays ignored. SIGQUIT, which Go would
// end in a dump of what it runs, must clean up as well: Ctrl-\ is a key beside
// Ctrl-C, and a commit may await its check. SIGPIPE is asked
// for so that writing to a closed pipe is an error, cleaned up after like any
// other, and not sudden death; see brokenPipe.
func notify() <-chan os.Signal {
	c := make(chan os.Signal, 4)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return c
}

// signalled is why a context was cancelled.
type signalled struct{ sig syscall.Signal }

func (s signalled) Error() string {
	return "stopped by signal " + strconv.Itoa(int(s.sig)) + " (" + s.sig.String() + ")"
}

// Is makes a signal a cancellation for whoever asks.
func (s signalled) Is(target error) bool { return target == context.Canceled }

// watchSignals cancels the context at the first signal and ends the process at
// the second. What comes in the same breath is the first still: timeout(1) sends its
// signal to the process and then to the process's group, systemd a SIGHUP behind
// its SIGTERM, a terminal that goes away several. A person's second Ctrl-C that is as
// fast is followed by a third. stop releases it.
func (e *env) watchSignals(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	done := make(chan struct{})
	go func() {
		var first time.Time
		for {
			select {
			case <-done:
				return
			case s := <-e.Signals:
				sig, ok := s.(syscall.Signal)
				if !ok {
					continue
				}
				if first.IsZero() {
					first = time.Now()
					cancel(signalled{sig})
					continue
				}
				if time.Since(first) < e.SameBreath {
					continue
				}
				e.holding.Lock()
				if e.Target != "" {
					fmt.Fprintf(e.console, "relkit: ended by a second signal: what had begun at %q is whole, taken back, or for the next run to clean up\n", e.Target)
				}
				e.Exit(128 + int(sig))
				e.holding.Unlock()
			}
		}
	}()
	var once sync.Once
	return ctx, func() { once.Do(func() { close(done); cancel(nil) }) }
}

// hold makes a second signal wait until release is called: for a commit to a
// machine, which is finished or undone whatever happens.
func (e *env) hold() (release func()) {
	e.holding.RLock()
	return sync.OnceFunc(e.holding.RUnlock)
}
