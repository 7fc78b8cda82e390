package transaction

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Undo takes back a transaction that was committing or committed. It always
// returns an error: cause as failure.Restored when the old tree is back, or
// failure.Mixed when it is not.
//
// A power cut during Undo leaves some steps new and some old; Recover runs it
// again, and each step asks its slot, so it is done once whoever does it.
func (x *Tx) Undo(reason string, cause error) error {
	// Without the record Recover still sees "committing" and does the same.
	if err := x.State.Append(x.Journal, journal.Record{Event: journal.Undoing, Time: x.Now(), Reason: reason}); err != nil {
		x.Log.Warn("undoing without a record of it", "err", err)
	}
	if err := x.undo(journal.Undone); err != nil {
		return mixed(errors.Join(cause, fmt.Errorf("restoring: %w", err)))
	}
	return failure.As(failure.Restored, cause)
}

func mixed(err error) error {
	return failure.WithHint(failure.As(failure.Mixed, err), "relkit patch-apply --recover")
}

// undo renames everything back, durably, and writes event.
func (x *Tx) undo(event journal.Event) error {
	if err := x.restore(); err != nil {
		return err
	}
	if err := x.close(event); err != nil {
		x.Log.Warn("the old tree is back, writing it down failed; the next run does", "err", err)
	}
	return nil
}

// restore has the old tree back, durably.
func (x *Tx) restore() error {
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
	for i := len(x.plan.Steps) - 1; i >= 0; i-- {
		if x.plan.Steps[i].Do == journal.Meta || x.skip[i] {
			continue
		}
		if err := x.backward(i); err != nil {
			return fmt.Errorf("restoring %q: %w", x.plan.Steps[i].Path(), err)
		}
	}
	for i := range x.plan.Steps {
		if x.plan.Steps[i].Do == journal.Meta || x.skip[i] {
			continue
		}
		if err := x.saveDisplaced(i); err != nil {
			return fmt.Errorf("keeping what stood at %q: %w", x.plan.Steps[i].Path(), err)
		}
	}
	return x.setMetas(false)
}

// checkOld asks every slot whether the old side is in place. It does not ask
// the paths: what another writer has put there since is no failure of ours.
func (x *Tx) checkOld() error {
	for i := range x.plan.Steps {
		step := &x.plan.Steps[i]
		if step.Do == journal.Meta || x.skip[i] {
			continue
		}
		still, err := x.isNew(i)
		if err == nil && still && step.Do == journal.Place {
			_, still, err = exists(x.Root, step.Path())
		}
		if err != nil {
			return err
		}
		if still {
			return fmt.Errorf("%q is not what it was", step.Path())
		}
	}
	return nil
}

// close writes that the old tree is back, and frees the slots.
func (x *Tx) close(event journal.Event) error {
	err := x.State.Append(x.Journal, journal.Record{Event: event, Time: x.Now(), Kept: x.kept})
	if err != nil {
		return err
	}
	return errors.Join(x.free(), x.State.Settle())
}

// free removes the slots of a transaction that is closed.
func (x *Tx) free() error {
	begin := x.Journal.Find(journal.Begin)
	for _, top := range begin.Tops {
		path, err := manifest.Unescape(top.Path)
		if err != nil {
			return err
		}
		if err := x.freeSlots(path, manifest.Time{Sec: top.Sec, Nsec: top.Nsec}); err != nil {
			return fmt.Errorf("removing the slots of %q: %w", path, err)
		}
	}
	if err := x.State.DropPlan(x.Journal); err != nil {
		return err
	}
	return x.State.Append(x.Journal, journal.Record{Event: journal.Freed, Time: x.Now()})
}

func (x *Tx) freeSlots(top string, before manifest.Time) error {
	err := fsys.RemoveAll(x.Root, SlotDir(top, x.Journal.ID))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if x.Journal.Find(journal.Staged) != nil {
		return x.Root.SyncFS(top)
	}
	// A cut while the slots were being made may have left the top with the time of that.
	info, err := x.Root.Lstat(top)
	if err != nil {
		return err
	}
	if info.ModTime != before {
		if err := x.Root.SetModTime(top, before); err != nil {
			return err
		}
	}
	return x.Root.SyncFS(top)
}
