package process

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// linked is a supervisor of this program behind a link of two pipes that the
// test can stop; beat is its heartbeat.
func linked(t *testing.T, beat time.Duration) (s *Supervisor, stall func()) {
	t.Helper()
	cookie := NewCookie()
	l, err := Command([]string{"/proc/self/exe", SuperviseArg, beat.String()}, []string{CookieName + "=" + cookie})
	if err != nil {
		t.Fatal(err)
	}
	// A link that dies without a word: nothing gets through, nothing is closed.
	dead := make(chan struct{})
	inner := *l
	in := &stalling{w: l.In, dead: dead}
	pr, pw := io.Pipe()
	go func() {
		buf := make([]byte, 4<<10)
		for {
			n, err := inner.Out.Read(buf)
			select {
			case <-dead:
				return
			default:
			}
			if n > 0 {
				_, _ = pw.Write(buf[:n])
			}
			if err != nil {
				pw.CloseWithError(err)
				return
			}
		}
	}()
	l.In, l.Out = in, pr
	l.Kill = func() { pw.CloseWithError(errors.New("cut off")) }
	t.Cleanup(func() { inner.In.Close(); inner.Kill(); _ = inner.Wait() })
	return Attach(l, cookie, beat), func() { close(dead) }
}

type stalling struct {
	w    io.WriteCloser
	dead chan struct{}
}

func (s *stalling) Write(p []byte) (int, error) {
	select {
	case <-s.dead:
		return len(p), nil
	default:
		return s.w.Write(p)
	}
}

func (s *stalling) Close() error {
	select {
	case <-s.dead:
		return nil
	default:
		return s.w.Close()
	}
}

// A link that falls silent is noticed at both ends: the caller's run ends with
// ErrLost, and there is nothing left of what the supervisor ran.
func TestSilentLinkIsNoticedAtBothEnds(t *testing.T) {
	s, stall := linked(t, 100*time.Millisecond)
	pids := filepath.Join(t.TempDir(), "pids")
	go func() {
		for range 200 {
			if b, _ := os.ReadFile(pids); strings.Contains(string(b), "ready") {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		stall()
	}()
	start := time.Now()
	_, err := s.Run(t.Context(), Job{Argv: sh(family+"sleep 1000", pids), Env: env()})
	if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "nothing heard of it for 400ms") {
		t.Errorf("got %v", err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("noticed after %v", d)
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if found, err := carrying([]byte(CookieName + "=" + s.Cookie())); err != nil || len(found) == 0 {
			break
		}
	}
	gone(t, pids)
}

// A supervisor that beats and does not answer is given up: at a standstill, but not
// while something moves, and soon after the caller has had enough.
func TestCallAtAStandstill(t *testing.T) {
	s, _ := linked(t, time.Second)
	if err := s.Call(t.Context(), "stat", "/", nil, nil, nil); err != nil { // it has started
		t.Fatal(err)
	}
	s.Name, s.Patience = `worker "far"`, func(string) time.Duration { return 2 * time.Second }
	var out strings.Builder
	if err := s.Call(t.Context(), "drip", nil, nil, &out, nil); err != nil || out.Len() != 12 {
		t.Errorf("a call that goes on: %v, %d bytes", err, out.Len())
	}
	slow := writerFunc(func(p []byte) (int, error) { time.Sleep(3 * time.Second); return len(p), nil })
	if err := s.Call(t.Context(), "upper", "x", strings.NewReader("y"), slow, nil); err != nil {
		t.Errorf("a caller that takes its time: %v", err)
	}
	start := time.Now()
	err := s.Call(t.Context(), "hang", nil, nil, nil, nil)
	if !errors.Is(err, ErrLost) || err.Error() != `worker "far": the supervisor was lost: the call "hang" has been at a standstill for 2s` || time.Since(start) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	s, _ = linked(t, time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	start = time.Now()
	err = s.Call(ctx, "hang", nil, nil, nil, nil)
	if !errors.Is(err, ErrLost) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `the call "hang" was told to end`) || time.Since(start) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

// A supervisor that does not keep the limits of a program is given up as well.
func TestRunAtAStandstill(t *testing.T) {
	t.Parallel() // it takes as long as killing may
	s, stall := linked(t, time.Hour)
	if res, err := s.Run(t.Context(), Job{Argv: []string{"/bin/true"}}); err != nil || !res.OK() {
		t.Fatalf("%+v, %v", res, err)
	}
	// As Command's link does: the program that carries it ends.
	cut := s.link.Kill
	s.link.Kill = func() { cut(); _ = syscall.Kill(s.link.pid, syscall.SIGKILL) }
	stall()
	start := time.Now()
	_, err := s.Run(t.Context(), Job{Argv: []string{"/bin/true"}, Timeout: 500 * time.Millisecond, Grace: 500 * time.Millisecond})
	if d := time.Since(start); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "a program has been at a standstill for 21s") || d < answerTime || d > answerTime+20*time.Second {
		t.Errorf("after %v: %v", d, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Beats keep a link that has nothing to say, before, between and during jobs.
func TestBeatsKeepAQuietLink(t *testing.T) {
	s, _ := linked(t, 200*time.Millisecond)
	for range 2 {
		time.Sleep(1200 * time.Millisecond)
		var out strings.Builder
		res, err := s.Run(t.Context(), Job{Argv: sh("sleep 0.5; echo x"), Env: env(), Stdout: &out})
		if err != nil || !res.OK() || out.String() != "x\n" {
			t.Errorf("%+v, %v, %q", res, err, out.String())
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestCommandThatIsNoSupervisor(t *testing.T) {
	l, err := Command([]string{"/bin/sh", "-c", "echo no route to host >&2; exit 255"}, env())
	if err != nil {
		t.Fatal(err)
	}
	s := Attach(l, NewCookie(), time.Minute)
	if _, err := s.Run(t.Context(), Job{Argv: []string{"true"}}); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), `"no route to host"`) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "exit status 255") {
		t.Errorf("got %v", err)
	}
	if _, err := Command([]string{"no-such-program-here"}, nil); err == nil {
		t.Error("a program that is not there was started")
	}
}
