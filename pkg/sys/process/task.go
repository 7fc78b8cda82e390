package process

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// task is a running job.
type task struct {
	spec    jobSpec
	pid     int
	started time.Time
	pipes   []*os.File    // read ends of the output
	eof     chan struct{} // one for each read end that is done
	loud    chan struct{} // more output than allowed

	lastOutput atomic.Int64 // nanoseconds since started
	written    atomic.Int64 // bytes of output

	bound MemoryBound // how MaxMemory is held

	ended   bool // the program itself
	endedAt time.Time
	status  syscall.WaitStatus
	usage   syscall.Rusage

	reason Reason // why it is being stopped; "" while it is not
	killAt time.Time
	killed bool
	told   os.Signal // the one to the supervisor that ended it
}

func (t *task) start(s *supervise) error {
	path, dir := t.spec.Argv[0], t.spec.Dir
	if t.spec.Root != "" {
		dir = "/"
	} else {
		var err error
		if path, err = lookup(path, t.spec.Env); err != nil {
			return err
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	files := []uintptr{null.Fd()}
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer w.Close()
		t.pipes = append(t.pipes, r)
		files = append(files, w.Fd())
		// The program shares the pipe's file status flags and expects to block.
		if err := syscall.SetNonblock(int(w.Fd()), false); err != nil {
			return err
		}
	}
	t.pid, err = t.fork(s, path, dir, files)
	if err != nil {
		for _, r := range t.pipes {
			r.Close()
		}
		return t.startError(path, err)
	}
	for i, kind := range []byte{frameStdout, frameStderr} {
		go t.pump(s.out, kind, t.pipes[i])
	}
	return nil
}

// fork executes the program within its bounds, in the supervisor's group where it has one.
func (t *task) fork(s *supervise, path, dir string, files []uintptr) (int, error) {
	group := s.cgroup()
	if t.spec.MaxMemory > 0 {
		t.bound = BoundByAddressSpace
		if group != nil && group.bound(t.spec.MaxMemory) == nil {
			t.bound = BoundByCgroup
		}
	}
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Chroot: t.spec.Root}
	program, argv, err := t.confined(path, attr)
	if err != nil {
		return 0, err
	}
	proc := &syscall.ProcAttr{Dir: dir, Env: append(t.spec.Env, CookieName+"="+s.cookie), Files: files, Sys: attr}
	if group != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(group.dir.Fd())
		pid, err := syscall.ForkExec(program, argv, proc)
		if err == nil || t.bound == BoundByCgroup {
			return pid, err
		}
		// clone3(2) may be forbidden, or not know groups (before Linux 5.7).
		attr.UseCgroupFD = false
	}
	pid, err := syscall.ForkExec(program, argv, proc)
	if err != nil && t.spec.NoNetwork {
		err = fmt.Errorf("taking the network away: %w", err)
	}
	return pid, err
}

// startError names what could not be used: chdir and execve fail alike.
func (t *task) startError(path string, err error) error {
	if t.spec.Dir != "" {
		if info, serr := os.Stat(t.spec.Dir); serr != nil || !info.IsDir() {
			return fmt.Errorf("running %q: working directory %q: %w", t.spec.Argv[0], t.spec.Dir, err)
		}
	}
	return fmt.Errorf("running %q: %w", path, err)
}

// pump frames one stream until it ends.
func (t *task) pump(out *frameWriter, kind byte, r *os.File) {
	defer func() { t.eof <- struct{}{} }()
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			at := time.Since(t.started)
			t.lastOutput.Store(int64(at))
			total := t.written.Add(int64(n))
			if limit := t.spec.MaxOutput; limit > 0 && total > limit {
				select {
				case t.loud <- struct{}{}:
				default:
				}
				n = int(max(0, int64(n)-(total-limit)))
			}
			if n > 0 && out.write(kind, at, buf[:n]) != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// next is the time until something has to be looked at.
func (t *task) next() time.Duration {
	wait := time.Hour
	until := func(at time.Duration) { wait = min(wait, at-time.Since(t.started)) }
	if t.reason != "" {
		wait = min(time.Until(t.killAt), 20*time.Millisecond)
	} else {
		if t.spec.Timeout > 0 {
			until(t.spec.Timeout)
		}
		if t.spec.Idle > 0 {
			until(time.Duration(t.lastOutput.Load()) + t.spec.Idle)
		}
	}
	if t.ended {
		wait = min(wait, 5*time.Millisecond)
	}
	return max(wait, time.Millisecond)
}

// check acts on the limits that have passed.
func (t *task) check(s *supervise) {
	elapsed := time.Since(t.started)
	switch {
	case t.reason != "":
		t.killed = t.killed || !time.Now().Before(t.killAt)
	case t.ended:
	case t.spec.Timeout > 0 && elapsed >= t.spec.Timeout:
		s.stop(t, TimedOut)
	case t.spec.Idle > 0 && elapsed-time.Duration(t.lastOutput.Load()) >= t.spec.Idle:
		s.stop(t, IdledOut)
	}
}

// collect kills what is left, waits for the last output and makes the result.
func (t *task) collect(s *supervise) Result {
	ended := t.ended
	swept, left := s.sweepTask(t)
	if !ended && swept > 0 {
		swept-- // the program itself is not a process that it left behind
	}
	if !t.ended {
		t.endedAt = time.Now()
	}
	t.drain()
	res := Result{Reason: Exited, Exit: t.status.ExitStatus(), Duration: t.endedAt.Sub(t.started),
		UserTime: time.Duration(t.usage.Utime.Nano()), SystemTime: time.Duration(t.usage.Stime.Nano()),
		MaxRSSBytes: t.usage.Maxrss << 10, Swept: swept, Left: left, MemoryBound: t.bound}
	if t.status.Signaled() {
		res.Signal = t.status.Signal()
		res.Exit = 128 + int(res.Signal)
	}
	if t.reason != "" {
		res.Reason = t.reason
	}
	return res
}

// drain waits for the ends of both streams. With every descendant gone they are
// there at once, unless a stranger was handed a descriptor of ours.
func (t *task) drain() {
	timeout := time.After(2 * time.Second)
	for range t.pipes {
		select {
		case <-t.eof:
		case <-timeout:
			for _, r := range t.pipes {
				r.Close()
			}
			return
		}
	}
	for _, r := range t.pipes {
		r.Close()
	}
}

// lookup finds a program as execvp(3) does, in the job's own PATH; relative
// folders in it are passed over.
func lookup(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	var denied bool
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, name)
		info, err := os.Stat(file)
		if err != nil || info.IsDir() {
			continue
		}
		if unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
		denied = true
	}
	if denied {
		return "", fmt.Errorf("running %q: %w", name, fs.ErrPermission)
	}
	return "", fmt.Errorf("running %q: no such program in PATH %q", name, path)
}
