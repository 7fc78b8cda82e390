// Package lock keeps two relkits from changing one thing at once.
//
// A lock is flock(2) of a file: it ends with the process that holds it, by
// kill -9 and power cut too, so there are no stale locks. The file stays; its
// content, the holder's process number, is for messages only. flock says
// nothing about other machines: the file must be on a local file system.
package lock

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/failure"
)

// Lock is a lock that is held.
type Lock struct {
	f *os.File
	// signed tells that the file holds our process number.
	signed bool
}

// Try takes the lock at path if it is free; failure.Busy, naming who holds it,
// if it is not. The file is made (mode 0600) where missing, its folder is not.
func Try(path string) (*Lock, error) {
	for {
		l, err := open(path)
		if err != nil {
			return nil, err
		}
		err = flock(l.f, unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EWOULDBLOCK):
			err = l.busy(path)
		case err != nil:
			err = &fs.PathError{Op: "flock", Path: path, Err: err}
		case !l.current(path):
			// Somebody has removed the file meanwhile: this lock keeps nobody out.
			l.f.Close()
			continue
		default:
			l.sign()
		}
		if err != nil {
			l.f.Close()
			return nil, err
		}
		return l, nil
	}
}

// Acquire takes the lock at path. With wait it waits for it until ctx ends;
// the error is then failure.Busy and ctx's.
func Acquire(ctx context.Context, path string, wait bool) (*Lock, error) {
	pause := time.Millisecond
	for {
		l, err := Try(path)
		if err == nil || !wait || failure.Of(err) != failure.Busy {
			return l, err
		}
		// Polled: a flock(2) that blocks cannot be given up.
		select {
		case <-ctx.Done():
			return nil, failure.Errorf(failure.Busy, "%w: %w", err, ctx.Err())
		case <-time.After(pause):
			pause = min(2*pause, 200*time.Millisecond)
		}
	}
}

// Release gives the lock back. A second Release is an error.
func (l *Lock) Release() error {
	var err error
	if l.signed {
		// The number goes first, so that nobody reads ours in another's lock.
		err = l.f.Truncate(0)
	}
	// Closing alone would leave the lock with a process that is just being
	// started, which has our descriptors until it runs its program (fork(2)).
	return errors.Join(err, flock(l.f, unix.LOCK_UN), l.f.Close())
}

func open(path string) (*Lock, error) {
	// O_NOFOLLOW: a lock often stands where others may write.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0600)
	if err != nil {
		return nil, err
	}
	return &Lock{f: f}, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// current tells whether path is still the file that is locked.
func (l *Lock) current(path string) bool {
	mine, err := l.f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(mine, there)
}

// sign writes our process number. On a full disk the lock is held without: that must
// not keep anybody from what would bring a machine back, or make room.
func (l *Lock) sign() {
	if err := l.f.Truncate(0); err != nil {
		return
	}
	l.signed = true
	_, _ = l.f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
}

// holder says who holds the lock, for a message.
func holder(f *os.File) (pid int, text string) {
	buf := make([]byte, 32)
	n, err := f.ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		return 0, "another process"
	}
	pid, err = strconv.Atoi(string(bytes.TrimSpace(buf[:n])))
	if err != nil || pid <= 0 {
		return 0, "another process"
	}
	text = "process " + strconv.Itoa(pid)
	if comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm"); err == nil {
		text += " (" + strconv.Quote(string(bytes.TrimSpace(comm))) + ")"
	}
	return pid, text
}

// busy says who holds the lock, and how to wait for that.
func (l *Lock) busy(path string) error {
	pid, who := holder(l.f)
	err := failure.Errorf(failure.Busy, "locking %q: held by %s", path, who)
	if pid == 0 {
		return busyHint(err, path)
	}
	return failure.WithHint(err, "tail --pid=%d -f /dev/null  # waits for it to end; then once more", pid)
}

// busyHint says how to find out who holds a lock that names nobody.
func busyHint(err error, path string) error {
	return failure.WithHint(err, "lslocks --notruncate | grep -F %s  # tells which process; once it has ended, once more", failure.Word(path))
}
