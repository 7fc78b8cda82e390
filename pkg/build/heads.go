package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/relkit/relkit/pkg/build/source"
	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/config"
)

const (
	// pollTime is how long a repository may take to say what its head is: one that
	// does not answer keeps the others waiting for no longer.
	pollTime = 30 * time.Second
	// pollsAtATime bounds how many sources are asked at a time.
	pollsAtATime = 8
)

// headOf is the head of a branch, asked for once a run so that all builders
// build the same.
type headOf struct {
	once     sync.Once
	revision source.Revision
	err      error
}

// head asks a source for its head, once a run, from this machine.
func (r *runner) head(ctx context.Context, src config.Source) (source.Revision, error) {
	r.mu.Lock()
	key := src.Name + "\x00" + src.Branch
	h := r.heads[key]
	if h == nil {
		h = &headOf{}
		r.heads[key] = h
	}
	r.mu.Unlock()
	h.once.Do(func() { h.revision, h.err = r.ask(ctx, src) })
	return h.revision, h.err
}

// ask asks a source in a session of its own: one session does one thing at a time.
func (r *runner) ask(ctx context.Context, src config.Source) (rev source.Revision, err error) {
	here, err := worker.Open(ctx, config.Worker{}, worker.Options{Dir: r.p.state.dir, LookupEnv: r.opt.LookupEnv})
	if err != nil {
		return rev, err
	}
	defer func() { err = errors.Join(err, here.Close()) }()
	d, err := r.driver(src, here)
	if err != nil {
		return rev, err
	}
	bound := r.opt.poll
	if bound == 0 {
		bound = pollTime
	}
	asking := ctx
	if slices.Contains([]string{"git", "hg", "svn"}, src.VCS) { // the others are read here, however long that takes
		var done func()
		asking, done = context.WithTimeout(ctx, bound)
		defer done()
	}
	rev, err = d.Head(asking, src.Branch)
	if err != nil && asking.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%q does not answer within %v", config.Redact(r.p.sourceURL(src.URL)), bound)
	}
	return rev, err
}

// askAll asks all sources whose changes make cells due, several at a time. What one
// answers, or that it does not, is told by whoever needs it.
func (r *runner) askAll(ctx context.Context, cells []Cell, list []owed) {
	names := map[string]bool{}
	for i := range cells {
		c := &cells[i]
		o := r.p.orderOf(c, list)
		watched := slices.ContainsFunc(r.p.cfg.Schedules, func(s config.Schedule) bool {
			return s.On == "change" && slices.Contains(r.p.cfg.ScheduleBuilders(&s), c.builder.Name)
		})
		if o != nil || watched {
			for _, name := range c.builder.Sources {
				names[name] = true
			}
		}
	}
	free := make(chan struct{}, pollsAtATime)
	var wait sync.WaitGroup
	for i := range r.p.cfg.Sources {
		src := r.p.cfg.Sources[i]
		if !names[src.Name] {
			continue
		}
		free <- struct{}{}
		wait.Go(func() {
			_, _ = r.head(ctx, src) // kept, with its error
			<-free
		})
	}
	wait.Wait()
}
