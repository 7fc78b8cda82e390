package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Link leads to a supervisor, wherever it runs.
type Link struct {
	// In is what the supervisor reads; closing it ends the supervisor and all it runs.
	In io.WriteCloser
	// Out is what it answers.
	Out io.Reader
	// Wait waits for the end of what carries the link, after In was closed and Out ended.
	Wait func() error
	// Kill breaks the link off, from any goroutine: reads and writes end.
	Kill func()
	// Said is the last of what came on the error stream; nil for nothing.
	Said func() string

	pid int // of the program that carries it
}

// Command executes a program that carries a link: ssh(1), srun(1). It is in a
// session of its own, so that neither Ctrl-C nor a password prompt reaches it, and
// it gets SIGTERM when this program dies. argv[0] is looked up in this program's PATH.
func Command(argv, env []string) (*Link, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, fmt.Errorf("running %s: %w", argv[0], err)
	}
	return start(&exec.Cmd{Path: path, Args: argv, Env: env, SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}})
}

// start starts what carries a link.
func start(cmd *exec.Cmd) (*Link, error) {
	note := &tail{max: 4 << 10}
	cmd.Stderr = note
	// What a lost supervisor started may hold its error stream open.
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Link{pid: cmd.Process.Pid, In: in, Out: out, Wait: cmd.Wait, Said: note.String, Kill: func() {
		// ssh(1) and srun(1) tell the other end; a supervisor catches SIGTERM.
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if c, ok := out.(*os.File); ok {
			_ = c.SetReadDeadline(time.Now().Add(killGrace))
		}
		time.AfterFunc(killGrace, func() { _ = cmd.Process.Kill() })
		in.Close()
	}}, nil
}

// killGrace is how long a program that carries a link may take to end.
const killGrace = 2 * time.Second

// Heartbeat is how often each side of a link to another machine shows that it is
// alive, and silences how many of these times of silence mean that the other is not.
const (
	Heartbeat = 15 * time.Second
	silences  = 4
)

// ErrLost is the error of a supervisor that is not heard from any more: how what
// it ran has ended is not known.
var ErrLost = errors.New("the supervisor was lost")

// Attach makes a supervisor of a link to one that runs already, for which it was
// started with SuperviseArg and heartbeat, if that is not 0. cookie is the one
// that it has been given in CookieName.
func Attach(l *Link, cookie string, heartbeat time.Duration) *Supervisor {
	s := newSupervisor(l, cookie)
	if s.heartbeat = heartbeat; heartbeat > 0 {
		s.quit = make(chan struct{})
		go s.beat()
	}
	return s
}

// beat tells the supervisor again and again that somebody is there.
func (s *Supervisor) beat() {
	t := time.NewTicker(s.heartbeat)
	defer t.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-t.C:
			if s.send(request{Beat: true}) != nil {
				return
			}
		}
	}
}

// next reads the next frame that says something; a supervisor that is silent for
// too long is cut off. Between two calls nobody waits, and no time counts.
func (s *Supervisor) next() (kind byte, at time.Duration, data []byte, err error) {
	for {
		var late *time.Timer
		if s.heartbeat > 0 {
			late = time.AfterFunc(silences*s.heartbeat, s.link.Kill)
		}
		kind, at, data, err = readFrame(s.out, s.buf)
		if late != nil && !late.Stop() {
			return 0, 0, nil, fmt.Errorf("nothing heard of it for %v", silences*s.heartbeat)
		}
		if err != nil || kind != frameBeat {
			return kind, at, data, err
		}
	}
}

// lost ends what a supervisor that broke off may have left running.
func (s *Supervisor) lost(err error) error {
	s.link.In.Close()
	s.link.Kill()
	if s.local {
		_, _ = Sweep(s.cookie)
	}
	_ = s.wait() // for the last of what it said
	if s.broken != nil {
		err = s.broken
	}
	if text := s.said(); text != "" {
		err = fmt.Errorf("%w: %q", err, text)
	}
	if s.Name != "" {
		return fmt.Errorf("%s: %w: %w", s.Name, ErrLost, err)
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// wait waits for the end of what carries the link, which can be done once.
func (s *Supervisor) wait() error {
	s.ended.Do(func() { s.endErr = s.link.Wait() })
	return s.endErr
}

func (s *Supervisor) said() string {
	if s.link.Said == nil {
		return ""
	}
	return strings.TrimSpace(s.link.Said())
}

// closeTime bounds the end of a supervisor on another machine, which kills what
// it still runs.
const closeTime = sweepTime + 5*time.Second

// Close ends the supervisor and, should one still run, its job.
func (s *Supervisor) Close() error {
	s.link.In.Close()
	if !s.local {
		late := time.AfterFunc(closeTime, s.link.Kill)
		defer late.Stop()
	}
	if s.quit != nil {
		s.closed.Do(func() { close(s.quit) })
	}
	_, _ = io.Copy(io.Discard, s.out) // a job that is being ended may still talk
	err := s.wait()
	if err == nil {
		return nil
	}
	if text := s.said(); text != "" {
		err = fmt.Errorf("%w: %q", err, text)
	}
	err = fmt.Errorf("ending the supervisor: %w", err)
	if s.local {
		_, serr := Sweep(s.cookie)
		err = errors.Join(err, serr)
	}
	return err
}
