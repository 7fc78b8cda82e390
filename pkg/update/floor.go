package update

import (
	"strings"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/version"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// The security floor of a product is the oldest version that may be installed.
// A patch that was applied has set it, or a channel that was fetched from, and
// no patch lowers it: who wants below it says so, each time, and the audit log
// keeps that.

// channelsDir is where fetch keeps what it has seen of each channel, in the state.
const channelsDir = "channels"

// floors are the security floors by product.
func (m *machine) floors(all []*state.Transaction) map[string]string {
	floors := map[string]string{}
	for _, t := range all {
		if b := t.Find(journal.Begin); b != nil && b.Floor != "" && b.To != nil {
			raise(floors, b.To.Product, state.Floor(all, b.To.Product))
		}
	}
	f := m.target.State.FS()
	names, err := f.ReadDir(channelsDir)
	if err != nil && !fsys.IsAbsent(err) {
		m.opt.Log.Warn("what was seen of channels cannot be read", "err", err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		var seen *channel.Seen
		b, err := fsys.ReadFile(f, channelsDir+"/"+name, channel.MaxSeen)
		if err == nil {
			seen, err = channel.ParseSeen(b)
		}
		if err != nil {
			// It must not keep a machine from being mended; fetch refuses it.
			m.opt.Log.Warn("what was seen of a channel cannot be read", "file", channelsDir+"/"+name, "err", err)
			continue
		}
		raise(floors, seen.Product, seen.Floor)
	}
	return floors
}

func raise(floors map[string]string, product, floor string) {
	if floor != "" && (floors[product] == "" || version.Compare(floor, floors[product]) > 0) {
		floors[product] = floor
	}
}

// admitFloor refuses a patch that leads below the floor.
func (a *applier) admitFloor(h *patch.Header, w *world) error {
	floor := w.floors[h.Product]
	if floor == "" || h.To.Version == "" || version.Compare(h.To.Version, floor) >= 0 || a.o.AllowDowngrade {
		return nil
	}
	return failure.WithHint(failure.Errorf(failure.Refused, "patch %s leads to %s %s, and the security floor is %s", h.ID, h.Product, h.To.Version, floor),
		"relkit patch-apply%s --allow-downgrade%s  # which the audit log tells", a.flags(), a.given)
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
	floor := m.floors(all)[begin.To.Product]
	if floor == "" || version.Compare(begin.From.Version, floor) >= 0 {
		return false, nil
	}
	if o.BelowFloor {
		return true, nil
	}
	return true, failure.WithHint(failure.Errorf(failure.Refused, "%s would be %s again, and the security floor is %s", begin.To.Product, begin.From.Version, floor),
		"relkit patch-rollback%s --below-floor --last %d  # which the audit log tells", o.flags(), len(todo))
}
