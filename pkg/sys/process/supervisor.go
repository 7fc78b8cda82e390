package process

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// SuperviseArg is the hidden first argument that makes the program the supervisor;
// the second, where there is one, is the time between two signs of life, as
// time.ParseDuration has it.
const SuperviseArg = "__supervise"

// CookieName is the environment variable that every process of a supervisor
// carries, so that Sweep finds those of a supervisor that was itself killed.
const CookieName = "RELKIT_SUPERVISOR"

// Main is the first call of a main (or TestMain) whose program may play the
// supervisor: there it does not return. The supervisor answers the handlers' calls.
func Main(handlers map[string]Handler) {
	if len(os.Args) > 1 && os.Args[1] == confineArg {
		fmt.Fprintln(os.Stderr, "relkit: confining a program:", confine(os.Args[2:]))
		os.Exit(126)
	}
	if len(os.Args) > 1 && os.Args[1] == SuperviseArg {
		var heartbeat time.Duration
		if len(os.Args) > 2 {
			var err error
			if heartbeat, err = time.ParseDuration(os.Args[2]); err != nil || heartbeat <= 0 {
				fmt.Fprintf(os.Stderr, "bad heartbeat %q\n", os.Args[2])
				os.Exit(2)
			}
		}
		os.Exit(Supervise(os.Stdin, os.Stdout, handlers, heartbeat))
	}
}

// Supervisor is a running supervisor; it runs one job after the other.
type Supervisor struct {
	// Name says in errors whose supervisor it is; "" says nothing.
	Name string
	// Patience is how long a call may go without a byte in or out before the
	// supervisor is given up; nil or 0 is for as long as the supervisor lives.
	Patience func(call string) time.Duration

	link      *Link
	local     bool // it is on this machine, and so is what it leaves
	out       *bufio.Reader
	cookie    string
	buf       []byte
	heartbeat time.Duration // 0: none
	quit      chan struct{}
	closed    sync.Once // of quit
	ended     sync.Once
	endErr    error

	inMu sync.Mutex // guards link.In: a job and a cancel may be written at once
	runs sync.Mutex // held during Run and Call
	id   uint64     // of what runs; guarded by runs
	// broken is why a watch has broken the link off; guarded by runs.
	broken error
}

func newSupervisor(l *Link, cookie string) *Supervisor {
	return &Supervisor{link: l, out: bufio.NewReaderSize(l.Out, 2*headerSize+maxPayload), cookie: cookie, buf: make([]byte, maxPayload+1)}
}

// Options of a supervisor; nil is all defaults.
type Options struct {
	// Cookie names the supervisor's processes for Sweep; "" makes one up.
	Cookie string
}

// NewCookie makes up a cookie.
func NewCookie() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails, says crypto/rand
	return hex.EncodeToString(b)
}

// Start starts a supervisor: the running program again, in a session of its
// own, so that neither Ctrl-C nor a password prompt reaches what it runs.
func Start(o *Options) (*Supervisor, error) {
	if len(os.Args) > 1 && os.Args[1] == SuperviseArg {
		// This was to be a supervisor, and would start itself without end.
		return nil, errors.New("starting a supervisor: the program does not begin with process.Main")
	}
	var cookie string
	if o != nil {
		cookie = o.Cookie
	}
	if cookie == "" {
		cookie = NewCookie()
	}
	// /proc/self/exe is this very program even when its file has been replaced meanwhile.
	l, err := start(&exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{os.Args[0], SuperviseArg},
		Env:         []string{CookieName + "=" + cookie, "PATH=" + os.Getenv("PATH")},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	s := newSupervisor(l, cookie)
	s.local = true
	return s, nil
}

// Cookie is what Sweep takes to end what this supervisor may have left.
func (s *Supervisor) Cookie() string { return s.cookie }

func (s *Supervisor) send(r request) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	s.inMu.Lock()
	defer s.inMu.Unlock()
	_, err = s.link.In.Write(append(line, '\n'))
	return err
}

// Run runs a job and waits for its end and that of all it started. When ctx
// ends, the job gets SIGTERM, then SIGKILL, and Run answers with its Result and
// the context's cause. An error of Output, Stdout or Stderr ends the job too.
func (s *Supervisor) Run(ctx context.Context, job Job) (Result, error) {
	s.runs.Lock()
	defer s.runs.Unlock()
	if len(job.Argv) == 0 {
		return Result{}, errors.New("running a program: no program given")
	}
	if err := ctx.Err(); err != nil {
		return Result{Reason: Canceled}, context.Cause(ctx)
	}
	s.id++
	id := s.id
	w := s.watch(ctx, id, "a program", jobPatience(job), graceOf(job.Grace)+answerTime)
	defer w.stop()
	err := s.send(request{ID: id, Job: &jobSpec{Argv: job.Argv, Root: job.Root, Dir: job.Dir, Env: job.Env, Timeout: job.Timeout,
		Idle: job.Idle, Grace: job.Grace, MaxOutput: job.MaxOutput, MaxMemory: job.MaxMemory, NoNetwork: job.NoNetwork}})
	if err != nil {
		return Result{}, w.lost(err)
	}
	res, outErr, err := s.answer(id, job, w)
	switch {
	case err != nil:
		return Result{}, w.lost(err)
	case outErr != nil:
		return res, outErr
	case res.Reason == Canceled:
		return res, context.Cause(ctx)
	}
	return res, nil
}

// cancel asks for the end of the running job; a supervisor that is gone shows in answer.
func (s *Supervisor) cancel(id uint64) { _ = s.send(request{ID: id, Cancel: true}) }

// answer passes output on until the result comes.
func (s *Supervisor) answer(id uint64, job Job, w *watch) (res Result, outErr, err error) {
	for {
		w.waits()
		kind, at, data, err := s.next()
		w.pause()
		if err != nil {
			return res, nil, err
		}
		switch kind {
		case frameStdout, frameStderr:
			if outErr != nil {
				continue
			}
			if outErr = job.emit(Output{Elapsed: at, Stderr: kind == frameStderr, Data: data}); outErr != nil {
				s.cancel(id)
			}
		case frameResult:
			if err := json.Unmarshal(data, &res); err != nil {
				return res, nil, fmt.Errorf("reading the result: %w", err)
			}
			return res, outErr, nil
		default:
			return res, nil, fmt.Errorf("unknown frame %q", kind)
		}
	}
}

func (j *Job) emit(o Output) error {
	w := j.Stdout
	if o.Stderr {
		w = j.Stderr
	}
	switch {
	case j.Output != nil:
		return j.Output(o)
	case w != nil:
		_, err := w.Write(o.Data)
		return err
	}
	return nil
}

// tail keeps the last max bytes written to it.
type tail struct {
	mu  sync.Mutex
	max int
	b   bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(p)
	if over := t.b.Len() - t.max; over > 0 {
		t.b.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
