package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal makes a terminal of 60 columns (pty(7)): what is written to tty
// can be read from screen.
func openTerminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 60}); err != nil {
		t.Fatal(err)
	}
	return screen, tty
}

// onTerminal runs the sample program with its streams where attach puts them
// and returns what the terminal showed.
func onTerminal(t *testing.T, environ []string, attach func(cmd *exec.Cmd, tty *os.File), args ...string) (shown string, status int) {
	t.Helper()
	screen, tty := openTerminal(t)
	cmd := sampleProcess(t, args...)
	cmd.Env = append(os.Environ(), append([]string{"TERM=xterm", "NO_COLOR="}, environ...)...)
	attach(cmd, tty)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	var b bytes.Buffer
	_, _ = io.Copy(&b, screen) // ends with EIO once nobody has the terminal open
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return b.String(), cmd.ProcessState.ExitCode()
}

// slow is a reader that takes longer than the bar takes to appear.
type slow struct{ left int }

func (s *slow) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	s.left--
	time.Sleep(400 * time.Millisecond)
	return copy(p, "some bytes\n"), nil
}

func TestProgressOnARealTerminal(t *testing.T) {
	for _, c := range []struct {
		name    string
		environ []string
		flags   []string
		bar     bool
	}{
		{"auto", nil, nil, true},
		{"no colour", []string{"NO_COLOR=1"}, nil, true},
		{"never", nil, []string{"--progress", "never"}, false},
		{"quiet", nil, []string{"-q"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var data bytes.Buffer
			shown, status := onTerminal(t, c.environ, func(cmd *exec.Cmd, tty *os.File) {
				cmd.Stdin, cmd.Stdout, cmd.Stderr = &slow{4}, &data, tty
			}, append([]string{"write", "-", "-o", "-"}, c.flags...)...)
			if status != 0 || data.String() != strings.Repeat("some bytes\n", 4) {
				t.Errorf("status %d, stdout %q", status, &data)
			}
			if strings.Contains(shown, "\rcopying ") != c.bar || (shown == "") == c.bar {
				t.Errorf("the terminal showed %q", shown)
			}
			if len(c.environ) > 0 && strings.Contains(shown, "\x1b[3") {
				t.Errorf("colours in spite of NO_COLOR: %q", shown)
			}
		})
	}
	shown, _ := onTerminal(t, nil, func(cmd *exec.Cmd, tty *os.File) {
		cmd.Stdin, cmd.Stdout = &slow{4}, tty
		cmd.Stderr = io.Discard
	}, "echo", "a")
	if shown != "a\r\n" {
		t.Errorf("standard output alone on a terminal shows %q", shown)
	}
}

func TestNoBinaryDataToARealTerminal(t *testing.T) {
	var errs bytes.Buffer
	shown, status := onTerminal(t, nil, func(cmd *exec.Cmd, tty *os.File) {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("\x1b[2J"), tty, &errs
	}, "write", "-", "-o", "-")
	if status != 2 || shown != "" || !strings.Contains(errs.String(), "standard output is a terminal") {
		t.Errorf("status %d, terminal %q, stderr %q", status, shown, &errs)
	}
}
