package update

import (
	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/version"
)

// The security floor of a product is the oldest version that may be installed.
// A patch that was applied has set it, and nothing lowers it: who wants below it
// says so, each time, and the audit log keeps that.

// admitFloor refuses a patch that leads below the floor.
func (a *applier) admitFloor(h *patch.Header, w *world) error {
	floor := w.floors[h.Product]
	if floor == "" || h.To.Version == "" || version.Compare(h.To.Version, floor) >= 0 || a.o.AllowDowngrade {
		return nil
	}
	return failure.WithHint(failure.Errorf(failure.Refused, "patch %s leads to %s %s, and the security floor is %s", h.ID, h.Product, h.To.Version, floor),
		"relkit patch-apply%s --allow-downgrade%s  # which the audit log tells", a.opt.flags(), a.given)
}

// belowFloor tells whether taking back todo leads below the floor, and refuses
// it where that was not asked for.
func (m *machine) belowFloor(todo []*state.Transaction, o RollbackOptions) (bool, error) {
	if len(todo) == 0 {
		return false, nil
	}
	all, err := m.target.State.Transactions()
	if err != nil {
		return false, err
	}
	begin := todo[len(todo)-1].Find(journal.Begin)
	if begin.To == nil || begin.From == nil || begin.From.Version == "" {
		return false, nil // what it was before nobody wrote down
	}
	floor := state.Floor(all, begin.To.Product)
	if floor == "" || version.Compare(begin.From.Version, floor) >= 0 {
		return false, nil
	}
	if o.BelowFloor {
		return true, nil
	}
	return true, failure.WithHint(failure.Errorf(failure.Refused, "%s would be %s again, and the security floor is %s", begin.To.Product, begin.From.Version, floor),
		"relkit patch-rollback%s --below-floor --last %d  # which the audit log tells", o.flags(), len(todo))
}
