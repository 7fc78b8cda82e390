package build

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// lockPause is how often a counting lock that is taken is looked at again.
const lockPause = 50 * time.Millisecond

// takeLocks waits for a slot of each of the builder's locks. They are taken in
// the order of their names, so that no two builds wait for each other.
func (r *runner) takeLocks(ctx context.Context, c *Cell) (release func(), err error) {
	var held []*lock.Lock
	release = func() {
		for _, l := range held {
			if err := l.Release(); err != nil {
				r.opt.Log.Warn("releasing a lock", "error", err)
			}
		}
	}
	names := slices.Clone(c.builder.Locks)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		l, err := r.takeLock(ctx, c, name)
		if err != nil {
			release()
			return nil, fmt.Errorf("lock %q: %w", name, err)
		}
		held = append(held, l)
	}
	return release, nil
}

// takeLock waits for one of the slots of a lock, each a file under flock(2).
func (r *runner) takeLock(ctx context.Context, c *Cell, name string) (*lock.Lock, error) {
	i := slices.IndexFunc(r.p.cfg.Locks, func(l config.Lock) bool { return l.Name == name })
	slots := max(1, r.p.cfg.Locks[i].Slots)
	for told := false; ; {
		for n := range slots {
			// "@": no builder's name begins with it.
			l, err := lock.Try(filepath.Join(r.p.state.dir, locksDir, fmt.Sprintf("@%s.%d", name, n)))
			if err == nil || failure.Of(err) != failure.Busy {
				return l, err
			}
		}
		if !told {
			c.at(Stage{What: "waiting for lock " + name})
			r.opt.Log.Info(fmt.Sprintf("%s: waiting for lock %s", c.Name, name))
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(lockPause):
		}
	}
}
