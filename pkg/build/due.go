package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
)

// order is what a schedule asks of a cell; nil for what a person asks for.
type order struct {
	reason    string // as record.Build has it
	schedule  string
	clean     bool
	repro     bool
	ifChanged bool
	sources   []string // that count for ifChanged; none is all
	owed      []owed   // what is settled with it
}

// owes tells whether an entry of the list is of the order.
func (o *order) owes(e owed) bool {
	return slices.ContainsFunc(o.owed, func(mine owed) bool {
		return mine.Builder == e.Builder && mine.Schedule == e.Schedule && mine.Since.Equal(e.Since)
	})
}

// clockBack is how far a clock may be put back without a schedule taking a time
// that it has seen already for another one. cron(8) has the same.
const clockBack = 3 * time.Hour

// Due builds what the schedules owe: what was due since the last run, once
// however often it was; what has changed and been quiet; and what follows the
// builds that have ended. Errors are as those of Run; what another run is
// building is left for the next.
func (p *Project) Due(ctx context.Context, opt Options) (err error) {
	if len(p.cfg.Schedules) == 0 {
		return p.cfg.ErrorAt(nil, "no [[schedule]]: nothing is ever due")
	}
	all, err := p.scheduled()
	if err != nil {
		return err
	}
	opt.KeepGoing = true // one that fails is no reason to forget another
	r, err := p.newRunner(all, opt)
	if err != nil {
		return err
	}
	if err := r.recoverAll(ctx); err != nil {
		return err
	}
	var outcomes []outcome
	tried := map[string]bool{}
	for round := 0; ctx.Err() == nil; round++ {
		cells, failed, err := r.due(ctx, all, round == 0)
		if err != nil {
			return err
		}
		outcomes = append(outcomes, failed...)
		cells = slices.DeleteFunc(cells, func(c Cell) bool { return tried[c.Name] })
		if len(cells) == 0 {
			break
		}
		for _, c := range cells {
			tried[c.Name] = true
		}
		outcomes = append(outcomes, r.all(ctx, cells)...)
		if r.err != nil {
			return r.err
		}
	}
	if outcomes, err = r.outages(outcomes); err != nil {
		return err
	}
	outcomes = slices.DeleteFunc(outcomes, func(o outcome) bool { return failure.Of(o.err) == failure.Busy && o.err != nil })
	return p.verdict(ctx, outcomes)
}

// scheduled lists the cells that some schedule builds.
func (p *Project) scheduled() ([]Cell, error) {
	var names []string
	for i := range p.cfg.Schedules {
		s := &p.cfg.Schedules[i]
		names = append(names, p.cfg.ScheduleBuilders(s)...)
	}
	if len(names) == 0 {
		return nil, p.cfg.ErrorAt(nil, "no builder")
	}
	return p.Plan(names)
}

// due lists what is to be built now. Where changes is false, only what the times
// and the builds that have ended ask for. A source that cannot be asked is an
// outcome: the others are built nevertheless.
func (r *runner) due(ctx context.Context, all []Cell, changes bool) (cells []Cell, failed []outcome, err error) {
	var list []owed
	err = r.p.state.pending(func(st *pending) error {
		if err := r.p.advance(st, r.opt.Now(), all); err != nil {
			return err
		}
		list = slices.Clone(st.Owed)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if changes {
		r.askAll(ctx, all, list)
	}
	told := map[string]bool{}
	for i := range all {
		c := all[i]
		if c.order = r.p.orderOf(&c, list); c.order == nil && changes {
			c.order, err = r.changed(ctx, &c)
		}
		key := ""
		if err != nil {
			key = err.Error()
		}
		if down := (*downError)(nil); errors.As(err, &down) {
			key = down.key() // whichever schedules and builders want it
		}
		if err != nil && !told[key] {
			told[key] = true
			failed = append(failed, outcome{err: err})
		}
		if err = nil; c.order != nil {
			cells = append(cells, c)
		}
	}
	return cells, failed, nil
}

// advance brings the schedules to now: what has become due is owed.
func (p *Project) advance(st *pending, now time.Time, all []Cell) error {
	was := st.Schedules
	st.Schedules = map[string]pendingSchedule{} // without those that are gone
	for i := range p.cfg.Schedules {
		s := &p.cfg.Schedules[i]
		at := was[s.Name]
		var fires bool
		var err error
		switch {
		case s.Cron != "":
			fires, err = at.advanceCron(s.Cron, now)
		case s.Dependent():
			fires, err = at.advanceDependent(p, s)
		default:
			continue
		}
		if err != nil {
			return err
		}
		st.Schedules[s.Name] = at
		if !fires {
			continue
		}
		builders := p.cfg.ScheduleBuilders(s)
		for _, c := range all {
			twice := slices.ContainsFunc(st.Owed, func(e owed) bool { return e.Builder == c.Name && e.Schedule == s.Name })
			if slices.Contains(builders, c.builder.Name) && !twice {
				st.Owed = append(st.Owed, owed{Builder: c.Name, Schedule: s.Name, Since: now.UTC().Truncate(time.Millisecond)})
			}
		}
	}
	// What relkit.toml no longer asks for is nobody's due.
	st.Owed = slices.DeleteFunc(st.Owed, func(e owed) bool {
		_, asked := st.Schedules[e.Schedule]
		return !asked || !slices.ContainsFunc(all, func(c Cell) bool { return c.Name == e.Builder })
	})
	return nil
}

// advanceCron tells whether a line was due since it last was: once, however often.
func (at *pendingSchedule) advanceCron(line string, now time.Time) (bool, error) {
	cron, err := config.ParseCron(line)
	if err != nil {
		return false, err
	}
	switch {
	case at.Cron != line:
		// A line that is new counts from this minute on.
		*at = pendingSchedule{Cron: line, Last: now.Truncate(time.Minute).Add(-time.Nanosecond).UTC()}
	case at.Last.Sub(now) > clockBack:
		at.Last = now.UTC()
	}
	next, ok := cron.Next(at.Last.In(now.Location()))
	if !ok || next.After(now) {
		return false, nil
	}
	at.Last = now.UTC()
	return true, nil
}

// advanceDependent tells whether a build has ended that a schedule follows and
// has not followed yet. Of a builder that is new to it, only the newest counts.
func (at *pendingSchedule) advanceDependent(p *Project, s *config.Schedule) (fires bool, err error) {
	was := at.Seen
	at.Seen = map[string]int{}
	of := p.cfg.ScheduleOf(s)
	for i := range p.cfg.Builders {
		if !slices.Contains(of, p.cfg.Builders[i].Name) {
			continue
		}
		for _, c := range p.expand(i) {
			ended, err := p.state.endedSince(c.Name, was[c.Name])
			if err != nil {
				return false, err
			}
			if n := was[c.Name]; n > 0 {
				at.Seen[c.Name] = n
			} else if len(ended) > 1 {
				ended = ended[len(ended)-1:]
			}
			for _, b := range ended {
				at.Seen[c.Name] = b.Number
				fires = fires || s.On == "always" || s.On == "success" && b.Status == record.BuildSuccess || s.On == "failure" && b.Status == record.BuildFailed
			}
		}
	}
	return fires, nil
}

// endedSince lists a builder's builds after number n that have ended, oldest first.
func (s state) endedSince(name string, n int) ([]*record.Build, error) {
	numbers, err := s.numbers(name)
	if err != nil {
		return nil, err
	}
	var list []*record.Build
	for _, k := range numbers {
		if k <= n {
			continue
		}
		b, err := s.load(name, k)
		if err == nil {
			if !b.IsTry() { // nothing follows a try
				list = append(list, b)
			}
			continue
		}
		if _, err := os.Lstat(filepath.Join(s.build(name, k), runningFile)); !errors.Is(err, fs.ErrNotExist) {
			break // runs, or is put in order by the next run of the builder
		}
	}
	return list, nil
}

// orderOf makes one order of all that a cell is owed; nil where that is nothing.
func (p *Project) orderOf(c *Cell, list []owed) *order {
	var o *order
	for _, e := range list {
		i := slices.IndexFunc(p.cfg.Schedules, func(s config.Schedule) bool { return s.Name == e.Schedule })
		if e.Builder != c.Name || i < 0 {
			continue
		}
		s := &p.cfg.Schedules[i]
		if o == nil {
			o = &order{reason: "schedule", schedule: s.Name, ifChanged: true, sources: s.Sources}
			if s.Dependent() {
				o.reason = "dependent"
			}
		}
		o.clean, o.repro = o.clean || s.Clean, o.repro || s.Repro
		if !s.OnlyIfChanged {
			o.ifChanged = false
		}
		o.owed = append(o.owed, e)
	}
	return o
}

// changed is the order of the first schedule that a change of a source makes due
// for a cell; nil where there is none.
func (r *runner) changed(ctx context.Context, c *Cell) (*order, error) {
	for i := range r.p.cfg.Schedules {
		s := &r.p.cfg.Schedules[i]
		if s.On != "change" || !slices.Contains(r.p.cfg.ScheduleBuilders(s), c.builder.Name) {
			continue
		}
		with := *c
		with.order = &order{reason: "change", schedule: s.Name, clean: s.Clean, repro: s.Repro, ifChanged: true, sources: s.Sources}
		was, err := r.p.state.previous(c.Name, 0)
		if err != nil {
			return nil, err
		}
		due, err := r.glance(ctx, &with, was)
		if err != nil {
			return nil, fmt.Errorf("schedule %q: %w", s.Name, err)
		}
		if due {
			often, err := r.cutTooOften(ctx, c)
			if err != nil {
				return nil, err
			}
			if !often {
				return with.order, nil
			}
		}
	}
	return nil, nil
}
