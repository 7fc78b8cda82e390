package update

import (
	"context"
	"errors"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
)

// awaits tells whether t was committed at boot and not confirmed.
func awaits(t *state.Transaction) bool {
	return t.Status() == journal.Awaiting || t.Status() == journal.Booted
}

// takesBoot tells whether t is to be taken back at boot: what was committed
// there, of a system that runs.
func (m *machine) takesBoot(t *state.Transaction, o RollbackOptions) bool {
	ready := t.This(journal.Ready)
	return o.AtBoot || m.opt.Root == "/" && ready != nil && ready.Boot
}

// withdrawnForNothing tells whether t waits for a boot to take it back, and need
// not: a tree that does not run may never boot.
func (m *machine) withdrawnForNothing(t *state.Transaction, o RollbackOptions) bool {
	return t.Status() == journal.Withdrawn && !m.takesBoot(t, o)
}

// confirmed tells whether t was applied for good, since it was committed last.
func confirmed(t *state.Transaction) bool { return t.This(journal.Applied) != nil }

// oneAtBoot refuses more than one rollback at boot: the second can only be
// verified on the tree that the first leaves.
func (m *machine) oneAtBoot(todo []*state.Transaction, o RollbackOptions) error {
	for i, t := range todo {
		if i < len(todo)-1 && m.takesBoot(t, o) {
			o.Last = 0 // told here
			return failure.WithHint(failure.Errorf(failure.Refused, "patch %s is taken back at boot, and the others only after that", t.Records[0].PatchID),
				"relkit patch-rollback%s%s --last %d  # then reboot, and go on", m.opt.flags(), o.same(), i+1)
		}
	}
	return nil
}

// withdraw has a patch taken back at the next boot, before a file of it runs.
func (m *machine) withdraw(ctx context.Context, t *state.Transaction, o RollbackOptions, run *runner, r *RollbackResult) error {
	if err := run.preRollback(ctx, t, o); err != nil {
		return run.notBack(ctx, t, err)
	}
	var err error
	record := journal.Record{Event: journal.Withdrawn, Reason: "asked for", OnModified: string(o.OnModified), Insecure: o.waived()}
	if awaits(t) {
		err = m.endTrial(t, record)
	} else {
		err = m.leave(t, record)
	}
	if err != nil {
		return run.notBack(ctx, t, err)
	}
	r.Status = "withdrawn"
	m.tellReboot(&Result{Patch: r.Patch})
	return nil
}

// endTrial has what awaits its confirmation taken back by the next boot, under the
// kernel from before. What can fail without harm comes before the record. From
// the record on the patch is withdrawn, whatever the boot loader can be told: cut
// before that, or where it cannot, the next boot takes the patch back under the new
// kernel, finds that the tree is not that kernel's, and has the old one boot
// (boot.Run).
func (m *machine) endTrial(t *state.Transaction, r journal.Record) error {
	b := m.opt.Boot
	if b != nil {
		if err := b.KeepCopy(); err != nil {
			return err
		}
	}
	if err := transaction.Note(m.target, t, r); err != nil || b == nil {
		return err
	}
	if err := b.GiveUp(); err != nil {
		m.opt.Log.Warn("the boot loader still tries the new kernel: the next boot takes the patch back under it, and reboots", "err", err)
	}
	return nil
}

// withdrawAgain has a patch that nobody has confirmed wait for a boot to take it back
// once more, where its rollback was begun and did not come to its end: the tree is the
// new one again, and "reapplied" says that it stands, which it must not as if somebody
// had confirmed it. The tree is whole and durable by that record, and this one changes
// nothing of it. Cut between the two, the next recovery finds "reapplied" of a patch
// that was never applied, and writes what is missing before anything is decided.
func (m *machine) withdrawAgain(t *state.Transaction) error {
	if t.Short || t.Status() != journal.Reapplied || confirmed(t) {
		return nil
	}
	w := t.This(journal.Withdrawn)
	if w == nil {
		return nil
	}
	return transaction.Note(m.target, t, journal.Record{Event: journal.Withdrawn, Reason: w.Reason, OnModified: w.OnModified, Insecure: w.Insecure})
}

// notBackAtBoot writes down that the rollback at boot of a patch that nobody has
// confirmed failed for cause and left the tree as it was, wholly new: it was refused
// before its record, or put everything back. The patch must not stand as if somebody
// had confirmed it, and the next boot tries again; but from "reapplied" on a person
// may keep what stands (stuck), since what is wrong with the rollback may never be
// mended: a rollback copy that is damaged, a plan that is lost. Neither record changes
// anything of the tree: cut before the first, the next boot is the one that fails;
// between the two, withdrawAllAgain writes the second. The same cause is told once,
// however many boots it has; a run that was told to end says nothing of the rollback.
func (m *machine) notBackAtBoot(ctx context.Context, t *state.Transaction, cause error) error {
	if t.Status() == journal.Withdrawn && ctx.Err() == nil {
		if last := t.This(journal.Reapplied); last != nil && last.Reason == cause.Error() {
			return nil
		}
		if err := transaction.Note(m.target, t, journal.Record{Event: journal.Reapplied, Reason: cause.Error()}); err != nil {
			return err
		}
	}
	return m.withdrawAgain(t)
}

// stuck is the record of the last rollback that failed, of a patch that nobody has
// confirmed and that waits for a boot to take it back; nil where none was tried.
func stuck(t *state.Transaction) *journal.Record {
	if t.Status() != journal.Withdrawn || confirmed(t) {
		return nil
	}
	return t.This(journal.Reapplied)
}

// withdrawAllAgain does so for what a run that was cut has left.
func (m *machine) withdrawAllAgain() error {
	all, err := m.target.State.Transactions()
	for _, t := range all {
		err = errors.Join(err, m.withdrawAgain(t))
	}
	return err
}

// notBack is err, after which a patch stays as it is, with what the pre-rollback hook
// did undone. A signal does not keep the hook from that.
func (r *runner) notBack(ctx context.Context, t *state.Transaction, err error) error {
	return errors.Join(err, r.undoPreRollback(context.WithoutCancel(ctx), t))
}
