// Package process runs a program so that nothing of it outlives the run.
//
// Between relkit and the program stands a supervisor: relkit itself, executed
// again with a hidden first argument. It is the subreaper (prctl(2),
// PR_SET_CHILD_SUBREAPER) of everything the program starts, so that daemons,
// double forks and setsid(2) lead back to it (where the kernel is an emulated one
// that has no subreapers, by the cookie in their environment), and it dies, taking all of them
// along, when its standard input closes: however relkit ends, kill -9 included,
// no process is left behind. A program that uses this package calls Main (or
// dispatches to Supervise) before anything else.
package process

import (
	"context"
	"fmt"
	"io"
	"syscall"
	"time"
)

// Job is one program to run.
type Job struct {
	// Argv is the program and its arguments. A name without a slash is looked
	// up in the PATH of Env; a relative name with one starts at Dir.
	Argv []string
	// Root, where set, is the folder that is the program's "/" (chroot(2), which
	// takes CAP_SYS_CHROOT). Argv then starts with an absolute path in it, and
	// Dir is "/" there.
	Root string
	// Dir is the working directory; "" is the caller's.
	Dir string
	// Env is the whole environment, "KEY=value"; nothing is inherited. The
	// supervisor adds CookieName.
	Env []string
	// Timeout bounds the run, Idle the time without a byte of output; 0 is no bound.
	Timeout, Idle time.Duration
	// Grace is the time between SIGTERM and SIGKILL; 0 is 5 s.
	Grace time.Duration
	// MaxOutput ends the run once it has written more bytes; 0 is no bound.
	MaxOutput int64
	// MaxMemory bounds the memory, in bytes, as Result.MemoryBound then says; 0 is no bound.
	MaxMemory int64
	// NoNetwork runs it where there is no network but the loopback, which takes root
	// or a kernel that lets users have namespaces.
	NoNetwork bool
	// Stdout and Stderr take the output; nil drops it. Standard input is /dev/null.
	Stdout, Stderr io.Writer
	// Output, where set, takes the output instead of Stdout and Stderr.
	Output func(Output) error
}

// Output is a piece of what a program wrote. Data is valid during the call only.
type Output struct {
	// Elapsed is the time since the program started, taken where it runs.
	Elapsed time.Duration
	Stderr  bool
	Data    []byte
}

// Reason says why a program ended.
type Reason string

// The reasons.
const (
	Exited     Reason = "exit"     // by itself or by a signal of its own
	TimedOut   Reason = "timeout"  // Job.Timeout
	IdledOut   Reason = "idle"     // Job.Idle
	TooVerbose Reason = "output"   // Job.MaxOutput
	Canceled   Reason = "canceled" // the context ended
	NotStarted Reason = "start"    // the program could not be executed
)

// Result is how a program ended.
type Result struct {
	Reason Reason `json:"reason"`
	// Exit is the exit status; 128+n when signal n ended the program, as a
	// shell has it, and 126 or 127 when it could not be started.
	Exit   int            `json:"exit"`
	Signal syscall.Signal `json:"signal,omitempty"`
	// Error says why the program was not started.
	Error    string        `json:"error,omitempty"`
	Duration time.Duration `json:"duration_ns"`
	// UserTime, SystemTime and MaxRSSBytes are of the program and the children
	// it waited for, as getrusage(2) has them.
	UserTime    time.Duration `json:"user_ns"`
	SystemTime  time.Duration `json:"system_ns"`
	MaxRSSBytes int64         `json:"max_rss_bytes"`
	// Swept counts the processes that had to be killed after the program itself
	// had ended; Left those that even SIGKILL did not end within ten seconds
	// (in uninterruptible sleep, say).
	Swept int `json:"swept,omitempty"`
	Left  int `json:"left,omitempty"`
	// MemoryBound is how Job.MaxMemory was held; "" without one.
	MemoryBound MemoryBound `json:"memory_bound,omitempty"`
}

// OK tells whether the program ended by itself with status 0.
func (r Result) OK() bool { return r.Reason == Exited && r.Exit == 0 }

// String says in words how the program ended.
func (r Result) String() string {
	switch r.Reason {
	case TimedOut:
		return fmt.Sprintf("timed out after %v", r.Duration.Round(time.Millisecond))
	case IdledOut:
		return fmt.Sprintf("no output for too long, ended after %v", r.Duration.Round(time.Millisecond))
	case TooVerbose:
		return "too much output"
	case Canceled:
		return "canceled"
	case NotStarted:
		return r.Error
	}
	if r.Signal != 0 {
		return fmt.Sprintf("killed by signal %d (%v)", int(r.Signal), r.Signal)
	}
	return fmt.Sprintf("exit status %d", r.Exit)
}

// Run runs one job under a supervisor of its own. An error means that how the
// job ended is not known, or that ctx ended (then Result says how the job did);
// a program that fails is no error.
func Run(ctx context.Context, job Job) (Result, error) {
	s, err := Start(nil)
	if err != nil {
		return Result{}, err
	}
	res, err := s.Run(ctx, job)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return res, err
}
