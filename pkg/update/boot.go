package update

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/boot"
)

// BootOptions are for the run that comes before the system starts.
type BootOptions struct {
	ApplyOptions
	// Boots is how many boots a patch may take to be confirmed, the one that
	// commits it included; 0 for DefaultBoots.
	Boots int
	// Failed says that the boot loader fell back to this boot, since the last
	// one did not come up.
	Failed bool
	// Entry is the boot loader's entry that this boot is: boot.Good says Failed too.
	Entry boot.Choice
}

// DefaultBoots is BootOptions.Boots where nobody says.
const DefaultBoots = 3

// BootSchema is the schema of BootResult.
const BootSchema = "relkit.boot/v1"

// BootResult is relkit.boot/v1: what was done before the system starts.
type BootResult struct {
	Schema    string       `json:"schema"`
	Recovered []Recovered  `json:"recovered"`
	Done      []BootAction `json:"done"`
	// Reboot says that what runs was loaded from the tree as it was before: the
	// machine is to be rebooted at once, before anything of the tree runs.
	Reboot bool `json:"reboot"`
}

// BootAction is what became of one transaction.
type BootAction struct {
	Transaction string        `json:"transaction"`
	Patch       string        `json:"patch"`
	Found       journal.Event `json:"found"`
	Now         journal.Event `json:"now"`
	// Boots is how many boots it has waited for its confirmation.
	Boots int `json:"boots,omitempty"`
	// Reason says why it did not become what it was to be.
	Reason string `json:"reason,omitempty"`
}

// Boot does what waits for a boot, before a file of the tree runs: it mends what
// was cut off, commits what is armed, takes back what is withdrawn, and counts
// the boots of what awaits confirmation, to take it back after too many.
//
// Whatever of this fails leaves a tree that is old or new, which may be started.
// Each step is a transaction's own, so a cut at any of them is mended by the next
// boot's Boot; a commit that was cut is taken back and not tried again, so that
// a patch that stops the machine cannot do so twice.
func Boot(ctx context.Context, o BootOptions) (r *BootResult, err error) {
	m, err := openMachine(o.Options)
	if err != nil {
		return nil, err
	}
	defer m.end(&err)
	r = &BootResult{Schema: BootSchema, Done: []BootAction{}}
	if o.DryRun {
		return r, m.atBoot(r)
	}
	defer o.hold()()
	found, err := m.recover()
	r.Recovered = append([]Recovered{}, found...)
	if err := m.allTheSame(err); err != nil {
		return r, err
	}
	a := &applier{machine: m, o: o.ApplyOptions}
	all, err := m.target.State.Transactions()
	if err != nil {
		return r, err
	}
	for _, t := range slices.Backward(all) {
		if !t.Pending() || t.Status() == journal.Ready {
			continue
		}
		act := BootAction{Transaction: t.ID, Patch: t.Records[0].PatchID, Found: t.Status()}
		kernel, reason := transaction.Touches(m.target, t, kernelGlobs)
		switch {
		case reason == nil || awaits(t): // which counts boots, plan or no plan
			reason = a.boot(ctx, t, o)
		case t.Status() == journal.Armed: // its plan cannot be read, now or at the next boot
			reason = a.giveUp(t, reason)
		default: // its rollback fails on that, and says so
			reason = a.rollbackAtBoot(ctx, t)
		}
		if t.Active() { // its rollback is given up
			reason = errors.Join(reason, a.runnerOf(t).undoPreRollback(ctx, t))
		}
		if act.Now = t.Status(); reason != nil {
			act.Reason = reason.Error()
		}
		if act.Now == journal.Freed { // it is the event before that tells
			act.Now = outcome(t)
		}
		act.Boots = t.Boots()
		r.Done = append(r.Done, act)
		// Under an entry of its own kernel nothing else runs than what the tree has.
		other := o.Entry != boot.Test && o.Entry != boot.Good
		r.Reboot = r.Reboot || kernel && other && (act.Now == journal.RolledBack || act.Now == journal.Awaiting)
		if failure.Of(reason) == failure.Mixed {
			return r, reason
		}
	}
	return r, nil
}

// atBoot puts into r what Boot would find, as it is.
func (m *machine) atBoot(r *BootResult) error {
	all, err := m.target.State.Transactions()
	r.Recovered = append([]Recovered{}, interrupted(all)...)
	for _, t := range slices.Backward(all) {
		if s := t.Status(); t.Pending() && s != journal.Ready {
			r.Done = append(r.Done, BootAction{Transaction: t.ID, Patch: t.Records[0].PatchID, Found: s, Now: s, Boots: t.Boots()})
		}
	}
	return err
}

// kernelGlobs are what a running kernel was loaded from, or loads from later.
var kernelGlobs = []string{"boot", "efi", "lib/modules", "usr/lib/modules"}

// boot does what one transaction waits for, and says why where it cannot.
func (a *applier) boot(ctx context.Context, t *state.Transaction, o BootOptions) error {
	limit := o.Boots
	if limit == 0 {
		limit = DefaultBoots
	}
	switch t.Status() {
	case journal.Armed:
		if giveUp, err := a.unswitched(t, o.Entry); err != nil {
			if giveUp {
				err = errors.Join(err, transaction.Drop(a.target, t, err.Error()))
			}
			return err
		}
		return a.commitAtBoot(ctx, t)
	case journal.Withdrawn:
		if !confirmed(t) {
			return a.rollbackAtBoot(ctx, t) // it ends a trial, under whatever kernel
		}
		if giveUp, err := a.unswitched(t, o.Entry); err != nil {
			if giveUp {
				err = errors.Join(err, transaction.Note(a.target, t, journal.Record{Event: journal.Reapplied, Reason: err.Error()}))
			}
			return err
		}
		return a.rollbackAtBoot(ctx, t)
	}
	reason := ""
	switch {
	case o.Failed || o.Entry == boot.Good:
		reason = "the boot loader fell back: the machine did not come up"
	case t.Boots() >= limit:
		reason = fmt.Sprintf("not confirmed after %d boots", t.Boots())
	default:
		return transaction.Note(a.target, t, journal.Record{Event: journal.Booted})
	}
	err := transaction.Note(a.target, t, journal.Record{
		Event: journal.Withdrawn, Reason: reason, OnModified: string(transaction.OnModifiedReplace),
	})
	if err != nil {
		return err
	}
	return a.rollbackAtBoot(ctx, t)
}

// commitAtBoot commits what is armed. What cannot be committed any more, or must not
// be, is dropped, and the machine starts as it was; where a new kernel was tried for
// it, boot.Run goes back to the old one.
func (a *applier) commitAtBoot(ctx context.Context, t *state.Transaction) error {
	if err := a.admitAgain(ctx, t); err != nil {
		return a.giveUp(t, err)
	}
	tx, modified, err := transaction.Reopen(ctx, a.target, t, a.opt.Jobs)
	if err == nil {
		err = listMismatches(modified)
	}
	if err != nil {
		return a.giveUp(t, err)
	}
	run := a.runnerOf(t)
	if err := run.before(ctx, tx); err != nil {
		return errors.Join(err, tx.Abort(err.Error()))
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if err := run.script(ctx, t, hookPost); err != nil {
		return tx.Undo(err.Error(), err)
	}
	return tx.Await()
}

// rollbackAtBoot takes back what is withdrawn: see modifiedAtBoot. The kernel from before
// runs, and what was asked for held of the files as they were then.
func (a *applier) rollbackAtBoot(ctx context.Context, t *state.Transaction) error {
	w := t.Find(journal.Withdrawn)
	on := modifiedAtBoot(t, transaction.OnModified(w.OnModified))
	err := a.willWriteVersion()
	var rb *transaction.Rollback
	run, o := a.runnerOf(t), transaction.RollbackOptions{OnModified: on, Jobs: a.opt.Jobs}
	if err == nil {
		rb, err = transaction.OpenRollback(ctx, a.target, t, o)
	}
	if err == nil && run.preRollbackAtBoot(ctx, t) {
		rb, err = transaction.OpenRollback(ctx, a.target, t, o) // of the tree as the hook has left it
	}
	if err == nil {
		err = rb.Commit(journal.Record{Reason: w.Reason}, func() {
			if err := run.script(ctx, t, hookPostRollback); err != nil {
				a.opt.Log.Warn("the old tree is back, and the post-rollback hook failed", "err", err)
			}
		})
	}
	if err == nil || failure.Of(err) == failure.Mixed {
		return err
	}
	if !confirmed(t) {
		return errors.Join(err, a.notBackAtBoot(ctx, t, err))
	}
	if t.Status() != journal.Withdrawn {
		return err
	}
	// It stands as it is; who asked for it sees the reason.
	return errors.Join(err, transaction.Note(a.target, t, journal.Record{Event: journal.Reapplied, Reason: err.Error()}))
}
