package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// journalFolder is the same for all, whatever TMPDIR says: who sweeps may be
	// started from elsewhere.
	journalFolder = "/tmp"
	// journalTime is between two looks at what runs. What a supervisor that is killed
	// with SIGKILL has started since the last one is in no journal.
	journalTime = 250 * time.Millisecond
	// maxJournal bounds one, in bytes.
	maxJournal = 4 << 20
)

// A journal tells Sweep of processes that do not carry the cookie: those that have
// cleared their environment. It is kept where the supervisor has no control group,
// which nobody leaves:
//
//	boot   the boot's own number (proc(5), random/boot_id), as start times are since then
//	PID START
//	…
func journalFile(cookie string) string {
	return filepath.Join(journalFolder, ".relkit-"+filepath.Base(cookie))
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// journal keeps one until stop is called, which removes it: all is over in order.
func (s *supervise) journal() (stop func()) {
	boot, quit, done := bootID(), make(chan struct{}), make(chan struct{})
	if boot == "" || len(s.cookie) < minCookie {
		return func() {}
	}
	go func() {
		defer close(done)
		var last []byte
		for wait := journalTime / 10; ; wait = journalTime {
			select {
			case <-quit:
				return
			case <-time.After(wait):
			}
			ps, err := s.descendants()
			if err != nil {
				continue
			}
			text := fmt.Appendf(nil, "%s\n", boot)
			for _, p := range living(ps) {
				text = fmt.Appendf(text, "%d %d\n", p.pid, p.start)
			}
			if bytes.Equal(text, last) || writeJournal(s.cookie, text) != nil {
				continue // without room there is no journal, and the work goes on
			}
			last = text
		}
	}()
	return func() {
		close(quit)
		<-done
		_ = os.Remove(journalFile(s.cookie))
	}
}

// writeJournal replaces it: who reads finds the one before or this.
func writeJournal(cookie string, text []byte) error {
	f, err := os.CreateTemp(journalFolder, ".relkit-new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), journalFile(cookie))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// journaled are the processes of a journal that are there still, and what they have
// started since. A number that another process has by now is none of them, and
// neither is anything that another user wrote down.
func journaled(cookie string) ([]proc, error) {
	f, err := os.OpenFile(journalFile(cookie), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil // there is none, or it is not ours
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || !info.Mode().IsRegular() || info.Size() > maxJournal || int(st.Uid) != os.Geteuid() {
		return nil, nil
	}
	text := make([]byte, info.Size())
	n, _ := f.ReadAt(text, 0)
	var found []proc
	for i, line := range strings.Split(string(text[:n]), "\n") {
		if i == 0 && line != bootID() {
			return nil, nil // all of that ended with the machine
		}
		var pid int
		var start uint64
		if n, _ := fmt.Sscanf(line, "%d %d", &pid, &start); n != 2 {
			continue
		}
		p, ok := readProc(pid)
		if !ok || p.start != start || pid == os.Getpid() {
			continue
		}
		found = append(found, p)
		below, err := descendants(pid)
		if err != nil {
			return nil, err
		}
		found = append(found, below...)
	}
	return living(found), nil
}

// left are the processes that a supervisor which is gone has left: those that carry
// its cookie, and those of its journal.
func left(cookie string) ([]proc, error) {
	found, err := carrying([]byte(CookieName + "=" + cookie))
	if err != nil {
		return nil, err
	}
	more, err := journaled(cookie)
	for _, p := range more {
		if !slices.ContainsFunc(found, func(q proc) bool { return q.pid == p.pid }) {
			found = append(found, p)
		}
	}
	return found, err
}
