package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxPassphrase is the longest line that a terminal hands over, in bytes
// (termios(3), canonical mode).
const maxPassphrase = 4096

// ReadPassphrase asks on a terminal, which shows nothing of the answer. tty must
// have been opened by os.OpenFile and be used for nothing else. When ctx ends, so
// does the asking, and the terminal is as it was.
func ReadPassphrase(ctx context.Context, tty *os.File, prompt string) ([]byte, error) {
	restore, err := hideInput(tty)
	if err != nil {
		return nil, fmt.Errorf("asking on the terminal: %w", err)
	}
	defer restore()
	stop := context.AfterFunc(ctx, func() { _ = tty.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(tty, Visible(prompt)); err != nil {
		return nil, fmt.Errorf("asking on the terminal: %w", err)
	}
	line, err := readLine(tty)
	_, _ = io.WriteString(tty, "\n")
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return line, err
}

func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	buf := make([]byte, maxPassphrase)
	for len(line) < maxPassphrase {
		n, err := r.Read(buf)
		line = append(line, buf[:n]...)
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			return line[:i], nil
		}
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil, errors.New("nothing was typed")
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("more than %d bytes were typed", maxPassphrase)
}

// hideInput turns off the terminal's echo. A file's Fd would make its reads
// ones that no deadline ends, hence the detour.
func hideInput(tty *os.File) (restore func(), err error) {
	conn, err := tty.SyscallConn()
	if err != nil {
		return nil, err
	}
	var was *unix.Termios
	set := func(change func(*unix.Termios)) (err error) {
		refused := conn.Control(func(fd uintptr) {
			if was == nil {
				if was, err = unix.IoctlGetTermios(int(fd), unix.TCGETS); err != nil {
					return
				}
			}
			t := *was
			change(&t)
			err = unix.IoctlSetTermios(int(fd), unix.TCSETSF, &t)
		})
		return errors.Join(refused, err)
	}
	err = set(func(t *unix.Termios) {
		t.Lflag &^= unix.ECHO
		t.Lflag |= unix.ICANON | unix.ISIG
		t.Iflag |= unix.ICRNL
	})
	return func() { _ = set(func(*unix.Termios) {}) }, err
}
