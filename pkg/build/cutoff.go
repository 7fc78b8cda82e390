package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// again is what becomes of a schedule's wish whose build was cut off.
type again int

const (
	notOwed   again = iota // no schedule wanted it
	owedAgain              // the next relkit build --due builds it once more
	givenUp                // it was the second time
)

// maxCut is how often in a row a build of a schedule may be cut off: one that
// kills its machine would do so for ever.
const maxCut = 2

// oweAgain owes once more what a schedule began with a build that was cut off. To
// do it twice for one build owes it once.
func (s state) oweAgain(b *record.Build, was *running) (left again, err error) {
	if len(was.Owed) > 0 {
		return s.oweTimes(was.Owed)
	}
	if b.Reason != "change" || b.Schedule == "" {
		return notOwed, nil
	}
	// The change is still there for the next run to see; only the row is counted.
	err = s.pending(func(st *pending) error {
		cut := cutOff{Of: revisionsOf(b.Sources), Times: 1, Number: b.Number}
		switch was := st.Cut[b.Builder]; {
		case was.Number == b.Number:
			cut = was
		case was.Of == cut.Of:
			cut.Times += was.Times
		}
		if left = owedAgain; cut.Times >= maxCut {
			left = givenUp
		}
		if st.Cut == nil {
			st.Cut = map[string]cutOff{}
		}
		st.Cut[b.Builder] = cut
		return nil
	})
	return left, err
}

func (s state) oweTimes(list []owed) (left again, err error) {
	left = givenUp
	err = s.pending(func(st *pending) error {
		for _, e := range list {
			if e.Again {
				continue
			}
			left, e.Again = owedAgain, true
			known := slices.ContainsFunc(st.Owed, func(o owed) bool { return o.Builder == e.Builder && o.Schedule == e.Schedule })
			if !known {
				st.Owed = append(st.Owed, e)
			}
		}
		return nil
	})
	return left, err
}

// revisionsOf tells revisions of sources apart from others.
func revisionsOf(sources []record.BuildSource) string {
	var parts []string
	for _, s := range sources {
		parts = append(parts, s.Name+"="+s.Revision)
	}
	return strings.Join(parts, " ")
}

// cutTooOften tells whether a change of a cell's sources is not built any more,
// because relkit was killed each time it was.
func (r *runner) cutTooOften(ctx context.Context, c *Cell) (bool, error) {
	st, _, err := r.p.state.readPending()
	if err != nil || st.Cut[c.Name].Times < maxCut {
		return false, err
	}
	var now []record.BuildSource
	for _, name := range c.builder.Sources {
		head, err := r.head(ctx, r.p.source(name))
		if err != nil {
			return false, err
		}
		now = append(now, record.BuildSource{Name: name, Revision: head.ID})
	}
	return revisionsOf(now) == st.Cut[c.Name].Of, nil
}

// putInOrder recovers a builder, whose lock is held, and says so.
func (r *runner) putInOrder(name string, level slog.Level) error {
	b, err := r.recover(name)
	if err != nil {
		return fmt.Errorf("builder %s: putting an earlier run in order: %w", name, err)
	}
	if b != nil {
		r.opt.Log.Log(context.Background(), level, fmt.Sprintf("%s/%d: an earlier run left it; recorded as %s: %s", name, b.Number, b.Status, b.Error))
	}
	return nil
}

// recoverAll puts in order every builder whose build was cut off, those too that
// no schedule builds, and tells of it: a run that was killed in the night is
// noticed by the next, not by the next build of the same builder. It says so as an
// error, which --quiet lets through: under cron(8) nobody has seen the kill.
func (r *runner) recoverAll(ctx context.Context) error {
	s := r.p.state
	entries, err := os.ReadDir(filepath.Join(s.dir, buildsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if cut, err := s.cut(e.Name()); err != nil || !cut {
			continue // one that cannot be read is told of when it is built
		}
		l, err := lock.Try(s.lockFile(e.Name()))
		if failure.Of(err) == failure.Busy {
			continue // it has begun meanwhile
		}
		if err != nil {
			return err
		}
		err = r.putInOrder(e.Name(), slog.LevelError)
		r.announce(e.Name())
		if err = errors.Join(err, l.Release()); err != nil {
			return err
		}
	}
	r.deliver(ctx)
	return nil
}

// cut tells whether the newest build of a builder has not ended, and nobody builds it.
func (s state) cut(name string) (bool, error) {
	numbers, err := s.numbers(name)
	if err != nil || len(numbers) == 0 {
		return false, err
	}
	return s.cutOff(name, numbers[len(numbers)-1])
}

// cutOff tells whether a build has not ended and never will: its builder's lock is
// free. What is read of the build comes after the lock: it ends before that is free.
func (s state) cutOff(name string, n int) (bool, error) {
	held, err := lock.Held(s.lockFile(name))
	if err != nil || held {
		return false, err
	}
	dir := s.build(name, n)
	if _, err := os.Lstat(filepath.Join(dir, runningFile)); !errors.Is(err, fs.ErrNotExist) {
		return err == nil, err
	}
	_, err = os.Lstat(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// interruptedError says that a build was cut off and is not recorded yet.
func (p *Project) interruptedError(builder string, n int) error {
	err := failure.Errorf(failure.No, "build %s/%d was interrupted: relkit was killed while it built", builder, n)
	hint := "relkit build " + failure.Word(builder)
	if len(p.cfg.Schedules) > 0 {
		hint = "relkit build --due"
	}
	return failure.WithHint(err, "%s%s  # records it and goes on", hint, p.given)
}
