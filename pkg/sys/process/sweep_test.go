package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

func TestKilledParentLeavesNothing(t *testing.T) {
	cmd, dir := startParent(t)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	sup := supervisorOf(t, dir)
	wait(t, "the supervisor's end", func() bool { p, ok := readProc(sup); return !ok || p.state == 'Z' })
	gone(t, filepath.Join(dir, "pids"))
}

func TestKilledSupervisorIsNoticedAndSwept(t *testing.T) {
	cmd, dir := startParent(t)
	if err := syscall.Kill(supervisorOf(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the parent did not notice that its supervisor was killed")
	}
	gone(t, filepath.Join(dir, "pids"))
}

func TestSweepByCookie(t *testing.T) {
	cmd, dir := startParent(t)
	// Both at once: nobody is left to sweep but the next run.
	sup := supervisorOf(t, dir)
	_ = syscall.Kill(sup, syscall.SIGSTOP)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	_ = syscall.Kill(sup, syscall.SIGKILL)
	n, err := Sweep(strings.Repeat("c", 16) + filepath.Base(dir))
	if err != nil || n == 0 {
		t.Errorf("swept %d, %v", n, err)
	}
	gone(t, filepath.Join(dir, "pids"))
	if _, err := Sweep("short"); err == nil {
		t.Error("a short cookie would match too much")
	}
}

// clearedCookie is one that no other run has.
func clearedCookie(dir string) string {
	return strings.Repeat("c", 16) + filepath.Base(filepath.Dir(dir)) + filepath.Base(dir)
}

// What has cleared its environment, and is no child of anybody's any more, is swept too
// where there is no control group, as a plain user has none: it is in the journal. Of a
// process that has another's number nothing is ended.
func TestSweepByJournal(t *testing.T) {
	relkittest.NeedRoot(t) // to be somebody else
	dir := t.TempDir()
	exe, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "exe"), exe, 0o755)
	}
	if err = errors.Join(err, os.Chmod(dir, 0o777), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	as := func(env string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(dir, "exe"))
		cmd.Env, cmd.Dir, cmd.Stderr = append(os.Environ(), env+dir), "/", os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return cmd
	}
	cmd := as("PROCESS_TEST_CLEARED=")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var pid int
	wait(t, "the process without an environment", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "pids"))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return pid > 0
	})
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	cookie := clearedCookie(dir)
	wait(t, "the journal", func() bool {
		b, _ := os.ReadFile(journalFile(cookie))
		return strings.Contains(string(b), fmt.Sprintf("\n%d ", pid))
	})
	sup := supervisorOf(t, dir)
	_ = syscall.Kill(sup, syscall.SIGSTOP)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	_ = syscall.Kill(sup, syscall.SIGKILL)
	// A stranger's number, with another start time than it has.
	stranger := exec.Command("sleep", "1000")
	stranger.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Process.Kill(); _ = stranger.Wait() }()
	f, err := os.OpenFile(journalFile(cookie), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(f, "%d 1\n", stranger.Process.Pid); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if p, ok := readProc(pid); !ok || p.state == 'Z' {
		t.Fatal("nothing is left to sweep: the test shows nothing")
	}
	if out, err := as("PROCESS_TEST_SWEEP=").Output(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if p, ok := readProc(pid); ok && p.state != 'Z' {
		t.Errorf("process %d is left", pid)
	}
	if p, ok := readProc(stranger.Process.Pid); !ok || p.state == 'Z' {
		t.Error("a stranger was killed")
	}
	if _, err := os.Stat(journalFile(cookie)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the journal is left: %v", err)
	}
}

// Where the supervisor is no subreaper, what has lost its parent is found all the same.
func TestOrphansWithoutSubreaper(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	s := &supervise{cookie: strings.Repeat("d", 16) + strconv.Itoa(os.Getpid())}
	argv := sh(family, pids)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(env(), CookieName+"="+s.cookie)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if s.reap(nil) {
		t.Error("the supervisor takes itself for alone")
	}
	if swept, left := s.sweep(); swept < 4 || left != 0 || !s.alone() {
		t.Errorf("swept %d, left %d", swept, left)
	}
	gone(t, pids)
}
