package build

import (
	"context"
	"fmt"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
)

// queue hands out the cells of a run: one that needs others after them.
type queue struct {
	cells    []Cell
	waits    [][]int // what each needs of this run
	begun    []bool
	ended    []bool
	outcomes []outcome
	// busy counts the cells that are begun on a worker, place says which.
	busy  map[string]int
	place []string
}

func (p *Project) newQueue(cells []Cell) *queue {
	q := &queue{cells: cells, waits: make([][]int, len(cells)), begun: make([]bool, len(cells)), ended: make([]bool, len(cells)), outcomes: make([]outcome, len(cells)),
		busy: map[string]int{}, place: make([]string, len(cells))}
	index := map[string]int{}
	for i, c := range cells {
		index[c.Name] = i
	}
	for i := range cells {
		for _, n := range p.needs(&cells[i]) {
			for _, c := range n.cells {
				if k, here := index[c.Name]; here {
					q.waits[i] = append(q.waits[i], k)
				}
			}
		}
	}
	return q
}

// next is a cell whose needs have all ended and that has room on a worker, the first
// in the order of relkit.toml; -1 where none is ready.
func (q *queue) next() int {
	for i := range q.cells {
		ready := !q.begun[i]
		for _, k := range q.waits[i] {
			ready = ready && q.ended[k]
		}
		if !ready {
			continue
		}
		if w := q.room(&q.cells[i]); w >= 0 {
			q.begun[i], q.place[i] = true, q.cells[i].fits()[w].Name
			q.busy[q.place[i]]++
			return i
		}
	}
	return -1
}

// missing says why a cell cannot be built: something that it needs was not.
func (q *queue) missing(i int) error {
	for _, k := range q.waits[i] {
		o := &q.outcomes[k]
		text := fmt.Sprintf("builder %s: skipped: it needs %s", q.cells[i].Name, q.cells[k].Name)
		switch {
		case o.build != nil && o.build.Status != record.BuildSuccess:
			return failure.Errorf(failure.No, "%s, and build %s/%d ended as %s", text, o.build.Builder, o.build.Number, o.build.Status)
		case o.err != nil:
			return failure.Errorf(failure.Of(o.err), "%s, which was not built", text)
		case o.skipped:
			return failure.Errorf(failure.No, "%s, which was skipped", text)
		}
	}
	return nil
}

// all builds cells, several at a time.
func (r *runner) all(ctx context.Context, cells []Cell) []outcome {
	share(cells, r.opt.Jobs)
	together := len(cells)
	if r.opt.Jobs > 0 {
		together = min(together, r.opt.Jobs)
	}
	var steps int64
	for _, c := range cells {
		steps += int64(len(c.builder.Steps))
		if r.repro(&c) {
			steps += int64(len(c.builder.Steps))
		}
	}
	r.opt.Progress.Start(steps, "building")
	defer r.opt.Progress.Done()
	r.enter(cells)
	defer r.deliverHeld(ctx)()
	q := r.p.newQueue(cells)
	done := make(chan int)
	stop := false
	for running, left := 0, len(cells); left > 0; left-- {
		for running < together {
			i := q.next()
			if i < 0 {
				break
			}
			missing := q.missing(i)
			skip := missing != nil || stop || ctx.Err() != nil
			running++
			go func() {
				if skip {
					q.outcomes[i] = outcome{err: missing, skipped: true}
					if ctx.Err() != nil {
						q.outcomes[i].err = context.Cause(ctx)
					}
				} else {
					q.outcomes[i] = r.one(ctx, i, &cells[i])
				}
				r.leave(ctx, &cells[i])
				done <- i
			}()
		}
		i := <-done
		running--
		q.ended[i] = true
		q.busy[q.place[i]]--
		if r.ended(&q.outcomes[i]) {
			stop = true
		}
	}
	return q.outcomes
}

// one builds one cell, and tells whoever watches.
func (r *runner) one(ctx context.Context, i int, c *Cell) outcome {
	if r.opt.Watch != nil {
		c.watch = func(s Stage) { r.opt.Watch(i, s) }
	}
	o := r.run(ctx, c)
	c.ended(o)
	r.deliver(ctx)
	if o.build == nil {
		r.opt.Progress.Add(int64(len(c.builder.Steps)))
	}
	return o
}
