package state

import (
	"slices"

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
// whose record has the earlier ones too, and what the rollbacks since then have
// left as its owner made it.
func Deviations(all []*Transaction) []journal.Deviation {
	var stand []journal.Deviation
	var back []*journal.Record // newest first
	for _, t := range slices.Backward(all) {
		if t.Stands() {
			stand = t.Find(journal.Begin).Deviations
			break
		}
		if t.Find(journal.RolledBack) != nil {
			back = append(back, t.Find(journal.Rollback))
		}
	}
	if len(back) == 0 {
		return stand
	}
	var found []journal.Deviation
	known := map[string]bool{}
	add := func(more []journal.Deviation) {
		for _, d := range more {
			if stays := d.Outcome != journal.Saved && d.Outcome != journal.MetadataKept; stays && !known[d.Path] {
				found = append(found, d)
			}
			known[d.Path] = true
		}
	}
	for _, r := range slices.Backward(back) { // the last of a path's rollbacks has the last word
		add(r.Deviations)
	}
	add(stand)
	return found
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
