package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/sys/process"
)

// The names in a worker's folder. Those of sessions are a folder for each machine,
// as a home may be shared by many.
const (
	binDir      = "bin"
	sessionsDir = "sessions"
)

// keepBinary is how long a copy of relkit stays that no session has used.
const keepBinary = 7 * 24 * time.Hour

// host is the worker's side of a session.
type host struct {
	file *os.File // under flock(2) while the session lives
	path string   // its name
}

// openArgs are the arguments of the call that begins a session.
type openArgs struct {
	Dir     []byte `json:"dir"`
	Cookie  string `json:"cookie"`
	Project string `json:"project"`
	Key     string `json:"key"`
	Trees   []byte `json:"trees,omitempty"`
}

// opened answers it.
type opened struct {
	Description
	Dir []byte `json:"dir"`
}

// note is what a session's file holds.
type note struct {
	Key string `json:"key"`
}

// open begins a session: it writes down that it lives, ends what sessions have
// left whose supervisor was itself killed, and puts the folder in order.
func (h *host) open(ctx context.Context, raw json.RawMessage, _ io.Reader, _ io.Writer) (any, error) {
	var a openArgs
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(string(a.Dir))
	if err != nil {
		return nil, err
	}
	answer := opened{Dir: []byte(filepath.Join(dir, a.Project))}
	if answer.Description, err = describe(os.LookupEnv); err != nil {
		return nil, err
	}
	sessions := filepath.Join(dir, sessionsDir, answer.Host)
	if err := os.MkdirAll(sessions, 0o700); err != nil {
		return nil, err
	}
	if h.file, err = register(sessions, a.Cookie, a.Key); err != nil {
		return nil, fmt.Errorf("writing down the session: %w", err)
	}
	h.path = filepath.Join(sessions, a.Cookie)
	if err := sweepSessions(sessions, a.Cookie, a.Key); err != nil {
		return nil, fmt.Errorf("ending what earlier sessions left: %w", err)
	}
	if err := prune(filepath.Join(dir, binDir)); err != nil {
		return nil, fmt.Errorf("removing old copies of relkit: %w", err)
	}
	if len(a.Trees) > 0 {
		if err := useTrees(filepath.Join(string(answer.Dir), string(a.Trees))); err != nil {
			return nil, fmt.Errorf("removing trees that no build has used for long: %w", err)
		}
	}
	return answer, ctx.Err()
}

// close ends a session in order: nothing is left that another would have to look for.
func (h *host) close(context.Context, json.RawMessage, io.Reader, io.Writer) (any, error) {
	if h.file == nil {
		return nil, nil
	}
	return nil, os.Remove(h.path)
}

// register makes a session's file. It is under its lock before it has its name,
// so that nobody takes it for one that was left.
func register(dir, cookie, key string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(note{Key: key})
	if err == nil {
		_, err = f.Write(b)
	}
	if err = errors.Join(err, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, cookie))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

// sweepSessions ends what sessions left: those whose lock is free, and those that
// were for the same.
func sweepSessions(dir, own, key string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var cookies []string
	for _, e := range entries {
		if e.Name() == own {
			continue
		}
		left, err := isLeft(filepath.Join(dir, e.Name()), key)
		if errors.Is(err, fs.ErrNotExist) {
			continue // its end, or another who looks
		}
		if err != nil {
			return err
		}
		if left {
			cookies = append(cookies, e.Name())
		}
	}
	if len(cookies) == 0 {
		return nil
	}
	for _, c := range cookies {
		if !strings.HasPrefix(c, ".") { // that was never a session
			if _, err := process.Sweep(c); err != nil {
				return err
			}
		}
	}
	for _, c := range cookies {
		if err := os.Remove(filepath.Join(dir, c)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// isLeft tells whether a session's file is one that nobody holds, or of the key.
func isLeft(path, key string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		// One that has just been made is without a lock for an instant.
		info, serr := f.Stat()
		young := serr == nil && strings.HasPrefix(filepath.Base(path), ".") && time.Since(info.ModTime()) < time.Hour
		return !young, serr
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return false, err
	}
	var n note
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return false, err
	}
	return json.Unmarshal(b, &n) == nil && key != "" && n.Key == key, nil
}

// prune removes copies of relkit that no session has used for a while, and what
// is left of copies that broke off. A program that still runs needs its file no more.
func prune(dir string) error {
	if exe, err := os.Executable(); err == nil && filepath.Dir(exe) == dir {
		now := time.Now()
		if err := os.Chtimes(exe, now, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "relkit-") && !strings.HasPrefix(e.Name(), ".new-") {
			continue
		}
		if info, ierr := e.Info(); ierr == nil && time.Since(info.ModTime()) > keepBinary {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
