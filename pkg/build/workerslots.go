package build

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// fits lists the workers that a cell may be built on, the one to take first before
// the others.
func (c *Cell) fits() []config.Worker { return append([]config.Worker{c.Worker}, c.spare...) }

// takeSlot waits for a free slot of one of the workers, those before others. A slot
// is a file under flock(2), as one of a lock is: it is counted over all the relkits
// that build in this state, and is free when the one that has it is gone.
func (r *runner) takeSlot(ctx context.Context, c *Cell, workers []config.Worker) (at int, l *lock.Lock, err error) {
	for told := false; ; {
		for i, w := range workers {
			for n := range max(1, w.Slots) {
				l, err := lock.Try(r.p.state.slotFile(w.Name, n))
				if err == nil || failure.Of(err) != failure.Busy {
					return i, l, err
				}
			}
		}
		if !told {
			var names []string
			for _, w := range workers {
				names = append(names, w.Name)
			}
			what := "waiting for a slot of " + strings.Join(names, " or ")
			c.at(Stage{What: what})
			r.opt.Log.Info(c.Name + ": " + what)
			told = true
		}
		select {
		case <-ctx.Done():
			return 0, nil, context.Cause(ctx)
		case <-time.After(lockPause):
		}
	}
}

// slotFile is the lock of a worker's slot; the name of no [[lock]] begins with "@".
func (s state) slotFile(worker string, n int) string {
	return filepath.Join(s.dir, locksDir, fmt.Sprintf("@@%s.%d", worker, n))
}

// placed takes a slot of a worker of the list and answers the cell as it is built
// there, with the others of the list for when that worker is lost.
func (r *runner) placed(ctx context.Context, c *Cell, workers []config.Worker) (*Cell, error) {
	at, l, err := r.takeSlot(ctx, c, workers)
	if err != nil {
		return nil, fmt.Errorf("builder %s: taking a slot of a worker: %w", c.Name, err)
	}
	there := *c
	there.Worker, there.Slots = workers[at], c.share[workers[at].Name]
	there.spare = slices.Delete(slices.Clone(workers), at, at+1)
	there.slot = &heldSlot{workers[at].Name, l}
	return &there, nil
}

// share tells each cell how many slots it has on each of its workers: those of the
// worker, shared by all the cells of the run that may be built there at a time.
// Jobs bounds how many are built at a time; 0 is as many as there are slots.
func share(cells []Cell, jobs int) {
	count := map[string]int{}
	for i := range cells {
		for _, w := range cells[i].fits() {
			count[w.Name]++
		}
	}
	for i := range cells {
		c := &cells[i]
		c.share = map[string]int{}
		for _, w := range c.fits() {
			together := min(count[w.Name], w.Slots)
			if jobs > 0 {
				together = min(together, jobs)
			}
			c.share[w.Name] = max(1, w.Slots/max(1, together))
		}
		c.Slots = c.share[c.Worker.Name]
	}
}

// room finds a worker of a cell that this run has not filled with others, -1 where
// there is none: a cell that waits is not begun, and keeps none of those behind it.
func (q *queue) room(c *Cell) int {
	return slices.IndexFunc(c.fits(), func(w config.Worker) bool { return q.busy[w.Name] < max(1, w.Slots) })
}

// heldSlot is the slot that a cell has while it is built.
type heldSlot struct {
	worker string
	lock   *lock.Lock
}

// move gives a slot back and waits for one of another worker, in this order: two
// builds that kept theirs and wanted each other's would wait for ever.
func (r *runner) move(ctx context.Context, c *Cell, w config.Worker) error {
	if c.slot.worker == w.Name && c.slot.lock != nil {
		return nil
	}
	if err := c.slot.release(); err != nil {
		return err
	}
	_, l, err := r.takeSlot(ctx, c, []config.Worker{w})
	if err == nil {
		c.slot.worker, c.slot.lock = w.Name, l
	}
	return err
}

func (h *heldSlot) release() error {
	if h.lock == nil {
		return nil
	}
	l := h.lock
	h.lock = nil
	return l.Release()
}
