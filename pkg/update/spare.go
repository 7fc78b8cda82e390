package update

import (
	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
)

// dropTakenBack gives up what was taken back before a patch that stands by now
// began: the tree goes another way. Until then it is kept, since a patch that is
// refused, or does not pass its checks, changes nothing. One that was taken back
// itself and is committed again began before, and leaves the others.
func (m *machine) dropTakenBack() (freed []string, err error) {
	all, err := m.target.State.Transactions()
	if err != nil {
		return nil, err
	}
	began := int64(0)
	for _, t := range all {
		if t.Active() {
			began = t.Records[0].Seq
		}
	}
	return m.freeBack(all, "another patch was applied", func(t *state.Transaction) bool { return t.Find(journal.RolledBack).Seq < began })
}

// freeTakenBack frees every transaction that was taken back.
func (m *machine) freeTakenBack(reason string) (freed []string, err error) {
	all, err := m.target.State.Transactions()
	if err != nil {
		return nil, err
	}
	return m.freeBack(all, reason, func(*state.Transaction) bool { return true })
}

// freeBack frees the transactions that were taken back and are meant.
func (m *machine) freeBack(all []*state.Transaction, reason string, meant func(*state.Transaction) bool) (freed []string, err error) {
	for _, t := range all {
		if !t.TakenBack() || !meant(t) {
			continue
		}
		if !m.opt.DryRun {
			if err := transaction.Free(m.target, t, reason); err != nil {
				return freed, err
			}
		}
		freed = append(freed, t.ID)
	}
	return freed, nil
}

// spare is the room that would be free without what was taken back, by the top
// folder of the file system.
func (m *machine) spare() (map[string]transaction.Spare, error) {
	all, err := m.target.State.Transactions()
	if err != nil {
		return nil, err
	}
	spare := map[string]transaction.Spare{}
	for _, t := range all {
		if !t.TakenBack() {
			continue
		}
		for _, top := range t.Records[0].Tops {
			path, err := manifest.Unescape(top.Path)
			if err != nil {
				return nil, err
			}
			c := costing{fs: m.root, seen: map[[2]uint64]bool{}}
			if err := c.add(transaction.SlotDir(path, t.Slot())); err != nil {
				return nil, err
			}
			s := spare[path]
			spare[path] = transaction.Spare{Bytes: s.Bytes + uint64(c.bytes), Inodes: s.Inodes + uint64(c.inodes)}
		}
	}
	return spare, nil
}
