package build

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/format/record"
)

// downError is a source or a worker that cannot be used, whoever wants it.
type downError struct {
	what, name string
	err        error
}

func (e *downError) Error() string { return fmt.Sprintf("%s %q: %v", e.what, e.name, e.err) }
func (e *downError) Unwrap() error { return e.err }

// key tells one from another.
func (e *downError) key() string { return e.what + " " + e.name }

// outage is what cannot be used, since when, and what was said of it.
type outage struct {
	Since time.Time `json:"since"`
	Said  string    `json:"said"`
}

// outages takes out of the outcomes what an earlier run has told of: cron(8) would
// mail it every minute. What says something else is told again, and so is what
// works again.
func (r *runner) outages(outcomes []outcome) (left []outcome, err error) {
	known := map[string]bool{}
	down := map[string]string{}
	for _, o := range outcomes {
		if e := (*downError)(nil); errors.As(o.err, &e) {
			down[e.key()] = e.Error()
		}
	}
	works := r.works(outcomes)
	st, _, err := r.p.state.readPending()
	if err != nil || len(down) == 0 && len(st.Down) == 0 {
		return outcomes, err
	}
	err = r.p.state.pending(func(st *pending) error {
		if st.Down == nil {
			st.Down = map[string]outage{}
		}
		for key, was := range st.Down {
			if down[key] == "" && works[key] {
				r.opt.Log.Error(fmt.Sprintf("%s works again; it did not since %s", key, was.Since.Format(time.RFC3339)))
				delete(st.Down, key)
			}
		}
		for key, said := range down {
			was, again := st.Down[key]
			known[key] = again && was.Said == said
			if !again {
				was.Since = r.opt.Now().UTC().Truncate(time.Second)
			}
			was.Said = said
			st.Down[key] = was
		}
		return nil
	})
	return slices.DeleteFunc(outcomes, func(o outcome) bool {
		e := (*downError)(nil)
		return errors.As(o.err, &e) && known[e.key()]
	}), err
}

// works lists what could be used in this run.
func (r *runner) works(outcomes []outcome) map[string]bool {
	works := map[string]bool{}
	for _, o := range outcomes {
		if o.build != nil && (o.build.Status == record.BuildSuccess || o.build.Status == record.BuildFailed) {
			works["worker "+o.build.Worker.Name] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, h := range r.heads {
		name, _, _ := strings.Cut(key, "\x00")
		works["source "+name] = h.err == nil
	}
	return works
}

// recordDown records that a schedule's build could not begin because its worker
// cannot be used, once in a row: history and [[notify]] know it then. What is due
// stays so.
func (r *runner) recordDown(c *Cell, why error) error {
	down := (*downError)(nil)
	if c.order == nil || c.order.reason == "asked" || !errors.As(why, &down) || down.what != "worker" || !worker.IsLost(why) {
		return nil
	}
	s := r.p.state
	numbers, err := s.numbers(c.Name)
	if err != nil {
		return err
	}
	if len(numbers) > 0 {
		if was, err := s.load(c.Name, numbers[len(numbers)-1]); err == nil && was.Status == record.BuildError && was.Error == down.Error() {
			return nil
		}
	}
	n, err := s.reserve(c.Name)
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	b := &record.Build{Schema: record.BuildSchema, Project: r.p.cfg.Project.Name, Builder: c.Name, Number: n, Status: record.BuildError, Error: down.Error(),
		Reason: c.order.reason, Schedule: c.order.schedule, Started: now, Finished: now, Relkit: record.BuildRelkit{Version: r.opt.Version}, Matrix: c.Axes,
		Worker: record.BuildWorker{Name: down.name}}
	if err := s.start(c.Name, n, running{Started: now, Reason: b.Reason, Partial: b}); err != nil {
		return err
	}
	return s.finish(b)
}
