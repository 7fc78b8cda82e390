package transaction

import (
	"errors"
	"fmt"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
)

// Undo takes back a transaction that was committing or committed. It always
// returns an error: cause as failure.Restored when the old tree is back, or
// failure.Mixed when it is not.
//
// A power cut during Undo leaves some steps new and some old; Recover runs it
// again, and each step asks its slot, so it is done once whoever does it.
func (x *Tx) Undo(reason string, cause error) error {
	if err := x.takeBackAll(journal.Undoing, reason, journal.Undone); err != nil {
		return x.mixed(errors.Join(cause, fmt.Errorf("restoring: %w", err)))
	}
	return failure.As(failure.Restored, cause)
}

// mixed is err as that of a tree that is neither old nor new.
func (t *Target) mixed(err error) error {
	return failure.WithHint(failure.As(failure.Mixed, err), "relkit patch-apply --recover%s", t.Flags)
}

// takeBackAll announces, renames everything back, durably, and closes. An error
// says that the old tree is not back; what could only not be written down is
// logged: the journal still says what began, and the next run does it over.
func (x *Tx) takeBackAll(announce journal.Event, reason string, closing journal.Event) error {
	if announce != "" {
		if err := x.State.Append(x.Journal, journal.Record{Event: announce, Time: x.Now(), Reason: reason}); err != nil {
			x.Log.Warn("taking the change back without a record of it", "err", err)
		}
	}
	if x.Hooks != nil && closing == journal.Undone {
		x.Hooks.BeforeUndo(x.Journal)
	}
	if err := x.restore(); err != nil {
		return err
	}
	if x.Hooks != nil {
		x.Hooks.AfterUndo(x.Journal)
	}
	x.close(closing)
	return nil
}

// restore has the old tree back, durably.
func (x *Tx) restore() error {
	if err := x.writable(); err != nil {
		return err
	}
	if err := x.checkSlots(); err != nil {
		return err
	}
	if err := x.renameBack(); err != nil {
		return err
	}
	if err := x.syncTops(); err != nil {
		return err
	}
	return x.checkOld()
}

// renameBack makes the old tree visible.
func (x *Tx) renameBack() error {
	if err := x.openFolders(); err != nil {
		return err
	}
	release, err := x.holdSlots()
	if err != nil {
		return err
	}
	defer release()
	for i := len(x.plan.Steps) - 1; i >= 0; i-- {
		if x.plan.Steps[i].Do == journal.Meta || x.skip[i] {
			continue
		}
		if err := x.backward(i); err != nil {
			return fmt.Errorf("restoring %q: %w", x.plan.Steps[i].Path(), err)
		}
	}
	known := x.newNames()
	for i := range x.plan.Steps {
		if x.plan.Steps[i].Do == journal.Meta || x.skip[i] {
			continue
		}
		if err := x.saveDisplaced(i, known); err != nil {
			return fmt.Errorf("keeping what stood at %q: %w", x.plan.Steps[i].Path(), err)
		}
	}
	for i := range x.plan.Steps {
		var err error
		switch {
		case x.decided.owners[i]:
			if err = x.setOwners(i); err == nil {
				err = x.saveEdited(i)
			}
		case x.decided.beside[i]:
			err = x.putBeside(i)
		}
		if err != nil {
			return fmt.Errorf("keeping what was made of %q: %w", x.plan.Steps[i].Path(), err)
		}
	}
	return x.setMetas(false)
}

// checkOld asks every slot whether the old side is in place. It does not ask
// the paths: what another writer has put there since is no failure of ours.
func (x *Tx) checkOld() error {
	for i := range x.plan.Steps {
		step := &x.plan.Steps[i]
		if step.Do == journal.Meta || step.Do == journal.Place || x.skip[i] {
			continue // what was created and is not in its slot was kept, or is gone
		}
		still, err := x.isNew(i)
		if err != nil {
			return err
		}
		if still {
			return fmt.Errorf("%q is not what it was", step.Path())
		}
	}
	return nil
}

// close writes that the old tree is back, and frees the slots. Where there is
// no room to write it, room is made first: what the slots hold now is not
// needed, and the slot folders stay until the record is durable.
func (x *Tx) close(event journal.Event) {
	r := journal.Record{Event: event, Time: x.Now(), Kept: x.kept}
	err := x.State.Append(x.Journal, r)
	if err != nil {
		if err = x.clearSlots(false); err == nil {
			err = x.State.Append(x.Journal, r)
		}
	}
	if err == nil {
		err = x.free()
	}
	if err == nil {
		err = x.State.Settle()
	}
	if err != nil {
		x.Log.Warn("the old tree is back, writing it down failed; the next run does", "err", err)
	}
	x.unwritten = err
}

// closeKept writes that the old tree is back and keeps the slots: what the
// transaction brought lies there as it was staged, and Reopen can have it
// committed again. Where it cannot be written down, the room is given up for it.
//
// A power cut before the record is durable leaves "rollback", which Recover
// completes; it then frees the slots.
func (x *Tx) closeKept(event journal.Event) {
	x.readOnlyAgain()
	if err := x.State.Append(x.Journal, journal.Record{Event: event, Time: x.Now()}); err == nil {
		x.settle()
		return
	}
	if err := x.writable(); err != nil {
		x.Log.Warn("the old tree is back, writing it down failed; the next run does", "err", err)
		return
	}
	x.close(event)
}

// again tells whether what the slots hold after a rollback is what was staged:
// what somebody had changed was treated as that was asked for.
func (r *Rollback) again() bool {
	return len(r.Modified) == 0 && len(r.Deviations) == 0 && len(r.x.kept) == 0
}

// putBack has what was staged lie in its slots under the names it was staged under:
// where names cannot be exchanged, the way back has left it under others. The old
// tree is back and durable by then, so those names say what is so, "not done"; a
// cut leaves "rollback" in the journal, and Recover frees the slots.
func (x *Tx) putBack() error {
	for i := range x.plan.Steps {
		if step := &x.plan.Steps[i]; step.Do != journal.Swap || x.exchanges(step) {
			continue
		}
		if err := x.renameExisting(x.slot(i)+undoSuffix, x.slot(i)); err != nil {
			return err
		}
	}
	for i := range x.plan.Tops {
		if err := x.Root.SyncDir(x.slotFolder(i)); err != nil {
			return err
		}
	}
	return nil
}
