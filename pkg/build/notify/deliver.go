package notify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// Outcome is what became of one try.
type Outcome struct {
	Builder string
	Number  int
	// Label is who was to be told.
	Label string
	// Err is why that failed, nil where it did not; GivenUp tells that there
	// will be no other try.
	Err     error
	GivenUp bool
	// Again tells that it was not the first try; Label was Was then.
	Again bool
	Was   string
}

// Text is Err as one line.
func (o Outcome) Text() string { return clean(o.Err.Error(), maxLine) }

func (e *entry) outcome(err error, givenUp bool) Outcome {
	return Outcome{e.Notice.Builder, e.Notice.Number, e.Label, err, givenUp, e.Attempts > 0, e.was}
}

// Deliver tries what waits, each entry once in the life of a process. One that
// another process is trying is left to that.
func (s *Spool) Deliver(ctx context.Context) ([]Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids, err := s.ids()
	list, due, derr := s.due(ids)
	err = errors.Join(err, derr)
	var done []Outcome
	for i, e := range list {
		if ctx.Err() != nil {
			break
		}
		if s.tried[e.Notice.ID] || s.held(e, len(ids)) {
			continue
		}
		with := []string{e.Notice.ID}
		for _, o := range list[i+1:] {
			if g := o.group(); g != "" && g == e.group() && !s.tried[o.Notice.ID] {
				with = append(with, o.Notice.ID)
			}
		}
		more, terr := s.try(ctx, with, due)
		err = errors.Join(err, terr)
		done = append(done, more...)
	}
	return done, err
}

// held tells whether an entry waits for others that will be told in the same mail.
// It does not where that would fill the spool, nor for longer than HoldFor.
func (s *Spool) held(e *entry, waiting int) bool {
	bound := s.HoldFor
	if bound == 0 {
		bound = MaxHold
	}
	if s.now().Sub(e.Queued) >= bound {
		return false
	}
	return s.Hold != nil && e.group() != "" && waiting < maxEntries/2 && s.Hold(e.builder())
}

// due loads the entries, and finds the targets for which the time of one has come:
// then all of theirs are tried, in order, lest "works again" arrives before "fails".
func (s *Spool) due(ids []string) ([]*entry, map[string]bool, error) {
	due := map[string]bool{}
	var list []*entry
	var errs []error
	for _, id := range ids {
		e, err := s.load(id)
		if errs = append(errs, err); e == nil {
			continue
		}
		e.Log = nil // the try reads it again, and all of them at once are many
		list = append(list, e)
		// A target whose address somebody has mended is tried at once.
		if to := s.target(e.Target); to == nil || to.label() != e.Label || e.due(s.now()) {
			due[e.Target] = true
		}
	}
	return list, due, errors.Join(errs...)
}

// target is the one of this key; nil where the configuration has none.
func (s *Spool) target(key string) *target {
	i := slices.IndexFunc(s.targets, func(t target) bool { return t.key() == key })
	if i < 0 {
		return nil
	}
	return &s.targets[i]
}

// try delivers entries of one group as one, under their locks.
func (s *Spool) try(ctx context.Context, ids []string, due map[string]bool) (out []Outcome, err error) {
	var list []*entry
	for _, id := range ids {
		lockFile := filepath.Join(s.dir, id+".lock")
		l, lerr := lock.Try(lockFile)
		if failure.Of(lerr) == failure.Busy {
			continue
		}
		if lerr != nil {
			return out, errors.Join(err, fmt.Errorf("delivering a notice: %w", lerr))
		}
		defer func() { err = errors.Join(err, os.Remove(lockFile), l.Release()) }()
		if e, lerr := s.load(id); e != nil && lerr == nil && due[e.Target] { // due has told the error
			list = append(list, e)
		}
	}
	if len(list) == 0 || list[0].group() != list[len(list)-1].group() { // another process has been at it
		return out, nil
	}
	return s.deliver(ctx, list)
}

// deliver tells of entries whose locks are held.
func (s *Spool) deliver(ctx context.Context, list []*entry) (out []Outcome, err error) {
	to := s.target(list[0].Target)
	each := func(f func(*entry) (Outcome, error)) ([]Outcome, error) {
		for _, e := range list {
			o, ferr := f(e)
			out, err = append(out, o), errors.Join(err, ferr)
		}
		return out, err
	}
	switch {
	case to == nil:
		gone := errors.New("the configuration has it no more")
		return each(func(e *entry) (Outcome, error) { return e.outcome(gone, true), e.remove() })
	case s.silent[list[0].Target]:
		return nil, nil
	}
	for _, e := range list {
		s.tried[e.Notice.ID] = true
		e.Label = to.label() // what it is called now
	}
	start := time.Now()
	message := bundle(list)
	message.roots = s.roots(message.Notice.ID, list)
	derr := to.deliver(ctx, message)
	for _, e := range list {
		e.To = message.To // those that are left
	}
	var r rejected
	switch {
	case ctx.Err() != nil && derr != nil: // not the target's fault
		for _, e := range list {
			err = errors.Join(err, e.save())
		}
		return nil, err
	case derr == nil:
		err = s.noteRoots(message.Notice.ID, list)
		return each(func(e *entry) (Outcome, error) { return e.outcome(nil, false), e.remove() })
	case errors.As(derr, &r):
		return each(func(e *entry) (Outcome, error) { return e.outcome(derr, true), e.remove() })
	}
	s.silent[list[0].Target] = time.Since(start) > to.o.Deadline/patience
	return each(func(e *entry) (Outcome, error) {
		o := e.outcome(derr, s.now().Sub(e.Queued) > maxAge)
		if o.GivenUp {
			return o, e.remove()
		}
		e.Attempts++
		e.Last, e.Error = s.now().UTC().Truncate(time.Second), o.Text()
		return o, e.save()
	})
}

func (e *entry) remove() error {
	err := os.Remove(e.path + entryExt)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // to make room
	}
	return err
}
