package build

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/relkit/relkit/pkg/build/source"
	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/record"
)

// ifChanged tells whether a cell is built only when something has changed.
func (r *runner) ifChanged(c *Cell) bool {
	if r.opt.Force {
		return false
	}
	return r.opt.IfChanged || c.order != nil && c.order.ifChanged
}

// counts tells whether a change of a source is a reason to build a cell.
func (c *Cell) counts(source string) bool {
	return c.order == nil || len(c.order.sources) == 0 || slices.Contains(c.order.sources, source)
}

// glance tells from the heads of the sources alone whether a cell may have to be
// built: one differs from what was built before, and all that do have been quiet
// for as long as relkit.toml wants.
func (r *runner) glance(ctx context.Context, c *Cell, was *record.Build) (bool, error) {
	changed, quiet := was == nil, true
	for i, name := range c.builder.Sources {
		if !c.counts(name) {
			continue
		}
		if r.rev(i, name) != "" {
			return true, nil
		}
		src := r.p.source(name)
		if i == 0 && r.opt.Branch != "" {
			src.Branch = r.opt.Branch
		}
		head, err := r.head(ctx, src)
		if err != nil {
			return false, &downError{"source", name, err}
		}
		if was != nil && revisionOf(was, name) == head.ID {
			continue
		}
		changed = true
		if c.order != nil && c.order.reason != "change" {
			continue // its time has come, whatever is going on
		}
		settled, err := r.settled(src, head)
		if err != nil {
			return false, err
		}
		if quiet = quiet && settled; !settled {
			r.notDue(ctx, c, fmt.Sprintf("source %s has changed and is not quiet for %v yet", name, src.Stable))
		}
	}
	if !changed {
		var err error
		if changed, err = r.needsChanged(c, was); err != nil {
			return false, err
		}
	}
	return changed && quiet, nil
}

// notDue says why a cell is not built: to a person, and of what a schedule asks
// for only with --verbose, or cron(8) would mail it every minute.
func (r *runner) notDue(ctx context.Context, c *Cell, why string) {
	level := slog.LevelInfo
	if c.order != nil {
		level = slog.LevelDebug
	}
	r.opt.Log.Log(ctx, level, c.Name+": "+why)
}

// settled tells whether a source has been quiet for long enough.
func (r *runner) settled(src config.Source, head source.Revision) (bool, error) {
	if src.Stable <= 0 {
		return true, nil
	}
	key := src.Name
	if i := r.p.sourceIndex(src.Name); src.Branch != r.p.cfg.Sources[i].Branch {
		key += "@" + src.Branch
	}
	now := r.opt.Now()
	since := now
	look := func(st *pending) error {
		since = st.quietSince(key, pendingSource{Head: head.ID, Branch: head.Branch, Since: now.UTC().Truncate(time.Millisecond)})
		return nil
	}
	if !r.opt.look {
		err := r.p.state.pending(look)
		return now.Sub(since) >= src.Stable, err
	}
	st, _, err := r.p.state.readPending()
	if err != nil {
		return false, err
	}
	_ = look(st)
	return now.Sub(since) >= src.Stable, nil
}
