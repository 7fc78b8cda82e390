package transaction

import (
	"context"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
)

// Run takes a tree through a whole transaction without hooks or checks: it is
// what patch-make proves a patch with.
func Run(ctx context.Context, t Target, entries *patch.Entries, segments Segments, r journal.Record, o Options) (*state.Transaction, error) {
	s, err := Look(ctx, t.Root, entries, o)
	if err != nil {
		return nil, err
	}
	x, err := Begin(t, s, r)
	if err != nil {
		return nil, err
	}
	if err := x.Stage(ctx, segments); err != nil {
		return nil, err
	}
	if err := x.Commit(); err != nil {
		return nil, err
	}
	return x.Journal, x.Finish()
}

// Revert takes an applied transaction back, and fails where something has
// changed its paths since.
func Revert(ctx context.Context, t Target, j *state.Transaction, jobs int) error {
	r, err := OpenRollback(ctx, t, j, RollbackOptions{Jobs: jobs})
	if err != nil {
		return err
	}
	if len(r.Modified) > 0 {
		return failure.Errorf(failure.Refused, "%q %s", r.Modified[0].Path, r.Modified[0].Why)
	}
	return r.Commit(journal.Record{Reason: "asked for"}, nil)
}
