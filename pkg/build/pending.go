package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/strict"
	"github.com/relkit/relkit/pkg/sys/lock"
)

const (
	pendingFile   = "pending.json"
	pendingLock   = ".pending.lock"
	pendingSchema = "relkit.build-pending/v1"
	// maxPending bounds what is read of pendingFile, in bytes.
	maxPending = 64 << 20
)

// pending is what is to be built and is not begun: what runs of relkit build
// --due and hooks of repositories leave for the next run.
type pending struct {
	Schema string `json:"schema"`
	// Sources are the newest changes, by the name of the source.
	Sources map[string]pendingSource `json:"sources,omitempty"`
	// Schedules are by name.
	Schedules map[string]pendingSchedule `json:"schedules,omitempty"`
	// Owed are builds that were due and are not begun.
	Owed []owed `json:"owed,omitempty"`
	// Cut are builds for a change that were cut off, by the builder's name with its cell.
	Cut map[string]cutOff `json:"cut,omitempty"`
	// Down are the sources and workers that could not be used last, by downError.key.
	Down map[string]outage `json:"down,omitempty"`
}

// pendingSource is the head of a source, and since when it is known.
type pendingSource struct {
	Head   string    `json:"head"`
	Branch string    `json:"branch,omitempty"`
	Since  time.Time `json:"since"`
}

// pendingSchedule is how far a schedule has come.
type pendingSchedule struct {
	// Cron is the line that Last belongs to, and Last when it was last due.
	Cron string    `json:"cron,omitempty"`
	Last time.Time `json:"last,omitzero"`
	// Seen are the newest builds that a dependent schedule has followed, by the
	// builder's name with its cell.
	Seen map[string]int `json:"seen,omitempty"`
}

// owed is a build that is due.
type owed struct {
	Builder  string    `json:"builder"` // with its cell
	Schedule string    `json:"schedule"`
	Since    time.Time `json:"since"`
	// Again tells that it was begun once and cut off.
	Again bool `json:"again,omitempty"`
}

// cutOff is a build for a change that was cut off, and how often it was in a row.
type cutOff struct {
	Of    string `json:"of"` // as revisionsOf has it
	Times int    `json:"times"`
	// Number is that of the newest of them.
	Number int `json:"number"`
}

// readPending reads pendingFile; one that is not there is empty.
func (s state) readPending() (*pending, []byte, error) {
	file := filepath.Join(s.dir, pendingFile)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return noPending(), nil, nil
	}
	var st *pending
	if err == nil {
		st, err = decodePending(data)
	}
	if err != nil {
		err = fmt.Errorf("reading %s: %w", file, err)
		return nil, nil, failure.WithHint(err, "mv %s %s  # schedules then count from now on", failure.Word(file), failure.Word(file+".bad"))
	}
	return st, data, nil
}

func noPending() *pending {
	return &pending{Schema: pendingSchema, Sources: map[string]pendingSource{}, Schedules: map[string]pendingSchedule{}}
}

func decodePending(data []byte) (*pending, error) {
	st := noPending()
	if err := strict.Decode(data, maxPending, st); err != nil {
		return nil, err
	}
	if st.Schema != pendingSchema {
		return nil, fmt.Errorf("schema %q, want %q", st.Schema, pendingSchema)
	}
	return st, nil
}

// pending changes pendingFile, durably, while nobody else does. It is held for
// no longer than that: hooks wait for it.
func (s state) pending(change func(*pending) error) error {
	if err := os.MkdirAll(filepath.Join(s.dir, locksDir), 0o755); err != nil {
		return fmt.Errorf("preparing the state: %w", err)
	}
	l, err := lock.Acquire(context.Background(), filepath.Join(s.dir, locksDir, pendingLock), true)
	if err != nil {
		return fmt.Errorf("noting what is due: %w", err)
	}
	defer l.Release()
	st, was, err := s.readPending()
	if err != nil {
		return err
	}
	if err := change(st); err != nil {
		return err
	}
	data, err := strict.Encode(st)
	data = append(bytes.TrimRight(data, "\n"), '\n')
	if err != nil || bytes.Equal(data, was) {
		return err
	}
	if err := writeWhole(filepath.Join(s.dir, pendingFile), data); err != nil {
		return fmt.Errorf("noting what is due: %w", err)
	}
	return nil
}

// claim tells whether what a cell is owed still is: another run may have built it
// since this one looked. The builder's lock is held.
func (s state) claim(c *Cell) (bool, error) {
	if c.order == nil || len(c.order.owed) == 0 {
		return true, nil
	}
	st, _, err := s.readPending()
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(st.Owed, c.order.owes), nil
}

// settleOwed takes what a cell is owed off the list: it is being built, or need not be.
func (s state) settleOwed(c *Cell) error {
	if c.order == nil || len(c.order.owed) == 0 {
		return nil
	}
	return s.pending(func(st *pending) error {
		st.Owed = slices.DeleteFunc(st.Owed, c.order.owes)
		return nil
	})
}

// quietSince notes the head of a source, as a run or a hook finds it, and answers
// since when it is that. A time that a clock which was put back leaves in the
// future starts anew.
func (st *pending) quietSince(key string, head pendingSource) time.Time {
	was, ok := st.Sources[key]
	if ok && was.Head == head.Head && !was.Since.After(head.Since) {
		head.Since = was.Since
	}
	if head.Branch == "" {
		head.Branch = was.Branch
	}
	st.Sources[key] = head
	return head.Since
}
