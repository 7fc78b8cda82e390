package state

import (
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/version"
)

// Stands tells whether the transaction was applied and not taken back, whether
// or not it awaits its confirmation and its rollback copies are still kept.
func (t *Transaction) Stands() bool {
	stands := false
	for i := range t.Records {
		switch t.Records[i].Event {
		case journal.Applied, journal.Awaiting, journal.Reapplied:
			stands = true
		case journal.Rollback, journal.RolledBack, journal.Undone:
			stands = false
		}
	}
	return stands
}

// Deviations are the paths that are not as the patches say, since somebody had
// changed them when a patch came: those of the newest transaction that stands,
// whose record has the earlier ones too.
func Deviations(all []*Transaction) []journal.Deviation {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Stands() {
			return all[i].Find(journal.Begin).Deviations
		}
	}
	return nil
}

// Floor is the oldest version of a product that may be installed: the highest
// that any patch has set which was ever applied and, where it asks for that,
// confirmed. Taking the patch back does not lower it: what it mended is known by
// then. "" is no floor.
func Floor(all []*Transaction, product string) string {
	floor := ""
	for _, t := range all {
		if t.Find(journal.Applied) == nil {
			continue
		}
		b := t.Find(journal.Begin)
		if b.Floor != "" && b.To != nil && b.To.Product == product && (floor == "" || version.Compare(b.Floor, floor) > 0) {
			floor = b.Floor
		}
	}
	return floor
}
