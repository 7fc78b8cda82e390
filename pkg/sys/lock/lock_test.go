package lock

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
)

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestTry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Try(path)
	must(t, err)
	if data, _ := os.ReadFile(path); string(data) != strconv.Itoa(os.Getpid())+"\n" {
		t.Errorf("the file holds %q", data)
	}
	_, err = Try(path)
	if failure.Of(err) != failure.Busy || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("held: got %v (%v)", err, failure.Of(err))
	}
	must(t, l.Release())
	if err := l.Release(); err == nil {
		t.Error("a second Release is no error")
	}
	l, err = Try(path)
	must(t, err, l.Release())
}

func TestTryErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Try(filepath.Join(dir, "none", "lock")); !errors.Is(err, fs.ErrNotExist) || failure.Of(err) != failure.Failed {
		t.Errorf("no folder: %v", err)
	}
	must(t, os.Symlink("target", filepath.Join(dir, "link")))
	if _, err := Try(filepath.Join(dir, "link")); err == nil {
		t.Error("a symlink was followed")
	}
	if _, err := os.Lstat(filepath.Join(dir, "target")); err == nil {
		t.Error("a symlink's target was made")
	}
}

// TestRemoved: a lock file removed under its holder does not let two in.
func TestRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	opened, err := open(path)
	must(t, err, os.Remove(path))
	defer opened.f.Close()
	l, err := Try(path)
	must(t, err)
	defer l.Release()
	if opened.current(path) {
		t.Error("the removed file passes for the lock")
	}
	if !l.current(path) {
		t.Error("the lock does not pass for itself")
	}
}

func TestAcquireWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Acquire(t.Context(), path, false)
	must(t, err)
	if _, err := Acquire(t.Context(), path, false); failure.Of(err) != failure.Busy {
		t.Errorf("without waiting: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Acquire(ctx, path, true); failure.Of(err) != failure.Busy || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting in vain: %v", err)
	}
	got := make(chan error)
	go func() {
		second, err := Acquire(t.Context(), path, true)
		if err == nil {
			err = second.Release()
		}
		got <- err
	}()
	time.Sleep(5 * time.Millisecond)
	must(t, l.Release(), <-got)
}

// TestOneAtATime: of many only one is ever in.
func TestOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var all sync.WaitGroup
	in := make(chan struct{}, 1)
	for range 6 {
		all.Go(func() {
			for range 10 {
				l, err := Acquire(t.Context(), path, true)
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case in <- struct{}{}:
				default:
					t.Error("two are in")
				}
				<-in
				if err := l.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// TestDiesWithItsProcess runs itself as a process that takes the lock and is killed.
func TestDiesWithItsProcess(t *testing.T) {
	if path := os.Getenv("LOCK_TEST_HOLD"); path != "" {
		_, err := Try(path)
		must(t, err)
		os.Stdout.WriteString("held\n")
		time.Sleep(time.Minute)
		t.Fatal("nobody killed me")
	}
	path := filepath.Join(t.TempDir(), "lock")
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiesWithItsProcess$")
	cmd.Env = append(os.Environ(), "LOCK_TEST_HOLD="+path)
	out, err := cmd.StdoutPipe()
	must(t, err, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	_, err = Try(path)
	if failure.Of(err) != failure.Busy || !strings.Contains(err.Error(), "process "+strconv.Itoa(cmd.Process.Pid)+" (\"lock.test\")") {
		t.Errorf("while it lives: %v", err)
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	l, err := Try(path)
	must(t, err, l.Release())
}
