package update

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
)

// Retention is how many applied patches can be taken back.
type Retention struct {
	// Keep is their number at most, Size what their copies may take together, in
	// bytes; a negative one is no bound.
	Keep int
	Size int64
}

// Prune gives up what is kept of patches that were taken back, and the rollback
// copies of applied ones that are beyond what r keeps, or machine.toml where r is nil, oldest first, and returns the
// transactions it freed. What awaits its confirmation is always kept, and counted.
func Prune(_ context.Context, o Options, r *Retention) (freed []string, err error) {
	m, err := openMachine(o)
	if err != nil {
		return nil, err
	}
	defer m.end(&err)
	behind := m.recoverFirst()
	if err := m.allTheSame(behind); err != nil {
		return nil, err
	}
	if r == nil {
		if m.confErr != nil {
			return nil, m.confErr
		}
		c := m.configured()
		r = &c
	}
	defer o.hold()()
	back, err := m.freeTakenBack("asked for")
	if err != nil {
		return back, err
	}
	freed, err = m.prune(*r, "asked for")
	if err == nil && behind != nil {
		err = m.target.State.Settle() // there may be room now
	}
	freed = append(back, freed...)
	slices.Sort(freed)
	return freed, err
}

// configured is the retention that machine.toml asks for.
func (m *machine) configured() Retention {
	r := Retention{Keep: m.conf.Retention.Count(), Size: int64(m.conf.Retention.KeepSize)}
	if r.Size == 0 {
		r.Size = -1
	}
	return r
}

// retain gives up what machine.toml does not have kept, now that a patch stands.
// That it fails is told, and is no failure of the patch: the next one does it.
func (m *machine) retain() {
	if m.opt.DryRun {
		return
	}
	m.markState()
	if m.confErr != nil {
		return // it may say that more is to be kept
	}
	defer m.opt.hold()()
	if _, err := m.dropTakenBack(); err != nil {
		m.opt.Log.Warn("what was taken back could not be given up; the next patch does", "err", err)
	}
	freed, err := m.prune(m.configured(), "retention")
	if len(freed) > 0 {
		m.opt.Log.Info(fmt.Sprintf("%d older patches can no longer be taken back: %s", len(freed), m.keeps()))
	}
	if err != nil {
		m.opt.Log.Warn("older rollback copies could not be given up", "err", err)
	}
}

// keeps says how many patches retain keeps, and by whose word.
func (m *machine) keeps() string {
	if _, found, _ := m.readMachine(); !found {
		return fmt.Sprintf("%d are kept where there is no /%s", m.conf.Retention.Count(), MachineFile)
	}
	return fmt.Sprintf("/%s keeps %d", MachineFile, m.conf.Retention.Count())
}

// prune frees what r does not keep. Each transaction is freed on its own: a power
// cut leaves one half freed, which Recover completes, and the tree is what it was
// at every instant, since nothing of it is in a slot.
func (m *machine) prune(r Retention, reason string) (freed []string, err error) {
	beyond, err := m.beyond(r)
	if err != nil {
		return nil, err
	}
	for _, t := range beyond {
		if !m.opt.DryRun {
			if err := transaction.Free(m.target, t, reason); err != nil {
				return freed, err
			}
		}
		freed = append(freed, t.ID)
	}
	return freed, nil
}

// beyond are the transactions that r does not keep, oldest first. Once one is
// not kept, none before it is: a patch can be taken back only after those that
// came later.
func (m *machine) beyond(r Retention) (beyond []*state.Transaction, err error) {
	all, err := m.target.State.Transactions()
	if err != nil {
		return nil, err
	}
	if r.Keep < 0 {
		r.Keep = math.MaxInt
	}
	kept, bytes := 0, int64(0)
	for _, t := range slices.Backward(all) {
		if !t.Active() && !awaits(t) {
			continue
		}
		c := cost{}
		if r.Size >= 0 {
			if c, err = m.cost(t); err != nil {
				return nil, err
			}
		}
		if t.Active() && (len(beyond) > 0 || kept >= r.Keep || r.Size >= 0 && bytes+c.bytes > r.Size) {
			beyond = append(beyond, t)
			continue
		}
		kept++
		bytes += c.bytes
	}
	slices.Reverse(beyond)
	return beyond, nil
}
