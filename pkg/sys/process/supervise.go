package process

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// stopGrace is Job.Grace by default.
	stopGrace = 5 * time.Second
	// lingerTime is how long what a program leaves running may end by itself
	// (bash does not wait for >(tee log)) before it is killed.
	lingerTime = 200 * time.Millisecond
	// sweepTime bounds the killing.
	sweepTime = 10 * time.Second
	// tellTime is how long after a program that failed a signal to the supervisor
	// still counts as the same one: Slurm sends it to all processes of a job.
	tellTime = 100 * time.Millisecond
)

// Supervise is the supervisor: it runs the jobs and calls that come on in, one at
// a time, answers on out, and returns the exit status once in ends, or once it is
// told to end by a signal, as by scancel(1). With a heartbeat it beats, and takes in
// for ended that is silent for several times as long.
func Supervise(in io.Reader, out io.Writer, handlers map[string]Handler, heartbeat time.Duration) int {
	// PR_SET_PDEATHSIG fires when the thread that forked ends: fork on one that stays.
	runtime.LockOSThread()
	// An emulator of another architecture, qemu-user(1), does not know it.
	err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) {
		fmt.Fprintln(os.Stderr, "becoming a subreaper:", err)
		return 1
	}
	s := &supervise{out: &frameWriter{w: out}, requests: make(chan request), chld: make(chan os.Signal, 1),
		told: make(chan os.Signal, 1), cookie: os.Getenv(CookieName), handlers: handlers, subreaper: err == nil}
	signal.Notify(s.chld, syscall.SIGCHLD)
	// Caught, not ignored: an ignored signal would stay ignored in the jobs.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	signal.Notify(s.told, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go s.read(in, heartbeat)
	if heartbeat > 0 {
		go s.beat(heartbeat)
	}
	status := 0
	if err := s.serve(); err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	s.sweep()
	if s.group != nil {
		s.group.remove()
	}
	return status
}

// serve answers requests until their end, or that of the supervisor.
func (s *supervise) serve() error {
	for {
		var r request
		var ok bool
		select {
		case sig := <-s.told:
			return toldError(sig)
		case r, ok = <-s.requests:
			if !ok {
				return nil
			}
		}
		var err error
		switch {
		case r.Job != nil:
			err = s.run(r.ID, *r.Job)
		case r.Call != nil:
			err = s.call(r.ID, *r.Call, r.End)
		default: // a cancel or input that came after the end of what it was for
		}
		if err != nil {
			return err
		}
	}
}

func toldError(sig os.Signal) error { return fmt.Errorf("told to end: %v", sig) }

type supervise struct {
	out      *frameWriter
	requests chan request
	chld     chan os.Signal
	told     chan os.Signal // that ask the supervisor to end
	cookie   string
	handlers map[string]Handler
	// subreaper tells that orphans become this process's own children. Where they do
	// not, they are known by the cookie in their environment.
	subreaper bool

	group   *cgroup
	grouped bool // group was asked for
}

// cgroup is the group of what the supervisor runs, made when it is first needed;
// nil where there can be none.
func (s *supervise) cgroup() *cgroup {
	if !s.grouped {
		s.grouped, s.group = true, newCgroup(s.cookie)
	}
	return s.group
}

// read passes requests on and closes the channel at the end of input, at
// nonsense, and where the other side has been silent for too long. What is busy
// with the request before is no silence.
func (s *supervise) read(in io.Reader, heartbeat time.Duration) {
	defer close(s.requests)
	next := make(chan request)
	go func() {
		defer close(next)
		for d := json.NewDecoder(bufio.NewReader(in)); ; {
			var r request
			if err := d.Decode(&r); err != nil {
				return
			}
			next <- r
		}
	}()
	for {
		var late <-chan time.Time
		if heartbeat > 0 {
			late = time.After(silences * heartbeat)
		}
		select {
		case <-late:
			// Where a result cannot be written either, nothing else ends this process.
			time.AfterFunc(closeTime, func() { os.Exit(1) })
			return
		case r, ok := <-next:
			if !ok {
				return
			}
			if !r.Beat {
				s.requests <- r
			}
		}
	}
}

// beat shows that the supervisor is alive. Where nobody reads, it waits.
func (s *supervise) beat(every time.Duration) {
	for range time.Tick(every) {
		if s.out.write(frameBeat, 0, nil) != nil {
			return
		}
	}
}

// run is one job from start to result. io.EOF means that input ended meanwhile;
// the job's processes are gone then.
func (s *supervise) run(id uint64, spec jobSpec) error {
	t := &task{spec: spec, started: time.Now(), eof: make(chan struct{}, 2), loud: make(chan struct{}, 1)}
	t.spec.Grace = graceOf(t.spec.Grace)
	if err := t.start(s); err != nil {
		res := Result{Reason: NotStarted, Exit: 127, Error: err.Error()}
		if errors.Is(err, fs.ErrPermission) {
			res.Exit = 126
		}
		return s.result(res)
	}
	if s.cgroup() == nil {
		defer s.journal()()
	}
	for !s.finished(t) {
		timer := time.NewTimer(t.next())
		select {
		case <-s.chld:
		case <-timer.C:
		case <-t.loud:
			s.stop(t, TooVerbose)
		case sig := <-s.told:
			t.told = sig
			s.stop(t, Canceled)
		case r, ok := <-s.requests:
			if !ok {
				s.sweep()
				return io.EOF
			}
			if r.Cancel && r.ID == id {
				s.stop(t, Canceled)
			}
		}
		timer.Stop()
		t.check(s)
	}
	res := t.collect(s)
	if t.told == nil && res.Reason == Exited && res.Exit != 0 {
		select {
		case t.told = <-s.told:
		case <-time.After(tellTime):
		}
	}
	if t.told != nil {
		return toldError(t.told) // what it came to says nothing of the program
	}
	return s.result(res)
}

func (s *supervise) result(res Result) error {
	b, err := json.Marshal(res)
	if err != nil {
		return err
	}
	return s.out.write(frameResult, res.Duration, b)
}

// reap takes every ended child; t learns about its own. It answers whether there
// is no child left, and with that, as orphans become a subreaper's own children,
// no descendant either: without a look at every process of the machine, unless it
// is no subreaper.
func (s *supervise) reap(t *task) (none bool) {
	for {
		var ws syscall.WaitStatus
		var ru syscall.Rusage
		// Without __WALL a child of clone(2) that ends without SIGCHLD would be no child.
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG|unix.WALL, &ru)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return err == syscall.ECHILD && (s.subreaper || s.alone())
		}
		if t != nil && pid == t.pid {
			t.ended, t.status, t.usage, t.endedAt = true, ws, ru, time.Now()
		}
	}
}

// descendants are the processes that the supervisor has to end.
func (s *supervise) descendants() ([]proc, error) {
	ps, err := descendants(os.Getpid())
	if err != nil || s.subreaper {
		return ps, err
	}
	orphans, err := carrying([]byte(CookieName + "=" + s.cookie))
	for _, p := range orphans {
		if !slices.ContainsFunc(ps, func(q proc) bool { return q.pid == p.pid }) {
			ps = append(ps, p)
		}
	}
	return ps, err
}

func (s *supervise) alone() bool {
	ps, err := s.descendants()
	return err == nil && len(ps) == 0
}

// finished tells whether t can be collected: the program has ended, and so has
// all it started or the time for that to happen by itself is up.
func (s *supervise) finished(t *task) bool {
	none := s.reap(t)
	if t.killed {
		return true
	}
	if !t.ended {
		return false
	}
	if none {
		return true
	}
	left, err := s.descendants()
	if err != nil || len(living(left)) == 0 {
		return true
	}
	if t.reason != "" {
		return !time.Now().Before(t.killAt)
	}
	return time.Since(t.endedAt) >= lingerTime
}

// stop asks everything to end; check follows with SIGKILL. The first reason stays.
func (s *supervise) stop(t *task, why Reason) {
	if t.reason != "" {
		return
	}
	t.reason, t.killAt = why, time.Now().Add(t.spec.Grace)
	ps, err := s.descendants()
	if err != nil {
		_ = syscall.Kill(-t.pid, syscall.SIGTERM)
		return
	}
	for _, p := range ps {
		_ = p.signal(syscall.SIGTERM)
		_ = p.signal(syscall.SIGCONT) // a stopped process does not act on SIGTERM
	}
}

// sweep kills all descendants and waits for their end. It answers how many it
// killed and how many were still there after sweepTime.
func (s *supervise) sweep() (swept, left int) { return s.sweepTask(nil) }

func (s *supervise) sweepTask(t *task) (swept, left int) {
	seen := make(map[proc]bool)
	for end := time.Now().Add(sweepTime); ; time.Sleep(time.Millisecond) {
		if s.reap(t) {
			return len(seen), 0
		}
		ps, err := s.descendants()
		if err != nil && t != nil { // no /proc: the process group is all there is
			_ = syscall.Kill(-t.pid, syscall.SIGKILL)
		}
		if len(ps) == 0 && (t == nil || t.ended || err == nil) {
			return len(seen), 0
		}
		if time.Now().After(end) {
			return len(seen), len(ps)
		}
		for _, p := range living(ps) {
			key := proc{pid: p.pid, start: p.start}
			if p.signal(syscall.SIGKILL) == nil {
				seen[key] = true
			}
		}
		// Only for the last time: some kernels kill at once what is started later
		// in a group that was killed.
		if t == nil && s.group != nil && len(living(ps)) > 0 {
			s.group.kill() // faster than they fork
		}
	}
}
