package transaction

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Commit makes what is staged visible. When it returns nil the tree is new and
// durable, and awaits Finish or Undo. On an error the tree is the old one again
// (failure.Restored, or a plain error where nothing had changed), or, where
// even that failed, neither (failure.Mixed).
//
// A power cut
//   - before the record "committing" is durable: nothing has changed, the plan of the
//     commit before it is the one that counts, and
//     Recover removes the slots;
//   - after it and before "committed" is: any of the renames may have reached
//     the disk, in any order; Recover asks each slot and renames back;
//   - after "committed": all of the tree is durable (every touched file system
//     was synced before the record was written); Recover takes it back all the
//     same, since the checks had not passed.
func (x *Tx) Commit() error {
	r := journal.Record{Event: journal.Committing, Time: x.Now(), Tops: x.tops, Insecure: x.Insecure, Reason: x.Reason}
	err := x.replan(&r)
	if err == nil {
		err = x.State.Append(x.Journal, r)
	}
	if err != nil {
		return errors.Join(err, x.Abort(err.Error()))
	}
	if err := x.commit(); err != nil {
		return x.Undo(err.Error(), err)
	}
	return nil
}

func (x *Tx) commit() error {
	if err := x.writable(); err != nil {
		return err
	}
	if err := x.openFolders(); err != nil {
		return err
	}
	start := time.Now()
	g := guard{x: x, changed: map[inode]manifest.Time{}}
	if err := g.keepOlds(); err != nil {
		return err
	}
	kept, err := g.renameAll()
	if err != nil {
		return err
	}
	if err := x.setMetas(true); err != nil {
		return err
	}
	x.Visible = time.Since(start)
	if err := x.syncTops(); err != nil {
		return err
	}
	return x.State.Append(x.Journal, journal.Record{Event: journal.Committed, Time: x.Now(), Kept: kept})
}

// renameAll makes all steps visible, and returns the folders that stay.
func (g *guard) renameAll() (kept []string, err error) {
	x := g.x
	kept = slices.Clone(x.stays)
	release, err := x.holdSlots()
	if err != nil {
		return kept, err
	}
	defer release()
	for i := range x.plan.Steps {
		step := &x.plan.Steps[i]
		if step.Do == journal.Meta {
			continue
		}
		stays, err := g.step(i)
		if err != nil {
			return kept, err
		}
		if stays {
			kept = append(kept, manifest.Escape(step.Path()))
		}
	}
	return kept, nil
}

// step makes step i visible. Its folder is the same one from the look to the rename.
func (g *guard) step(i int) (stays bool, err error) {
	step := &g.x.plan.Steps[i]
	release, err := fsys.Hold(g.x.Root, manifest.Parent(step.Path()))
	if fsys.IsUnreachable(err) {
		err = changedError(step.Path())
	}
	if err != nil {
		return false, err
	}
	defer release()
	if err := g.before(step); err != nil {
		return false, err
	}
	if err := g.x.rename(i); err != nil {
		if errors.Is(err, errStays) && step.Do == journal.Take {
			return true, nil
		}
		return false, fmt.Errorf("committing %q: %w", step.Path(), err)
	}
	return g.after(i)
}

// guard holds, just before each rename, that the path still is what was verified.
type guard struct {
	x *Tx
	// changed is the change time of inodes that relkit itself has given or
	// taken a name, of which they have others.
	changed map[inode]manifest.Time
}

// inode tells inodes of several file systems apart.
type inode struct {
	fs, number uint64 // fs is st_dev, or the ordinal of a top
}

// keepOlds gives all inodes that are to be renamed over their second names,
// durably, before the first rename: where renames cannot exchange.
func (g *guard) keepOlds() error {
	x, any := g.x, false
	for i := range x.plan.Steps {
		step := &x.plan.Steps[i]
		if step.Do != journal.Swap || !x.keepsByLink(step) {
			continue
		}
		any = true
		if err := g.before(step); err != nil {
			return err
		}
		if _, err := x.keepOld(i); err != nil {
			return fmt.Errorf("keeping %q: %w", step.Path(), err)
		}
		info, err := x.Root.Lstat(x.slot(i) + oldSuffix)
		if err != nil {
			return err
		}
		g.changed[inode{uint64(step.Top), info.Ino}] = info.ChangeTime
	}
	if !any {
		return nil
	}
	return x.syncTops()
}

func changedError(path string) error {
	return failure.Errorf(failure.Refused, "%q was changed by something else meanwhile", path)
}

func (g *guard) before(step *journal.Step) error {
	if step.Do == journal.Place {
		return nil // RENAME_NOREPLACE holds it
	}
	info, there, err := present(g.x.Root, step.Path())
	if err != nil {
		return err
	}
	want := step.OldChange
	if t, ok := g.changed[inode{uint64(step.Top), step.OldInode}]; ok {
		want = t
	}
	switch {
	case !there:
		return changedError(step.Path())
	case info.Ino == step.OldInode && isDir(step.Old):
		return nil // its own renames moved its times
	case info.Ino == step.OldInode && info.ChangeTime == want && (step.Old.Kind != manifest.File || info.Size == step.Old.Size):
		return nil
	case !g.x.plan.Tops[step.Top].Renumbers:
		return changedError(step.Path())
	}
	same, err := g.x.looksLike(step.Path(), info, step.Old)
	if err == nil && !same {
		err = changedError(step.Path())
	}
	return err
}

// after holds that what came out was what was verified, and puts a folder back
// that something was made in meanwhile (stays is true then).
func (g *guard) after(i int) (stays bool, err error) {
	step, slot := &g.x.plan.Steps[i], g.x.slot(i)
	if step.Do == journal.Place {
		return false, nil
	}
	if !g.x.exchanges(step) && step.Do == journal.Swap {
		slot += oldSuffix
	}
	info, err := g.x.Root.Lstat(slot)
	if err != nil {
		return false, err
	}
	verified, err := g.x.wasVerified(step, slot, info)
	if err != nil {
		return false, err
	}
	if !verified {
		// Between the look and the exchange another writer replaced the file:
		// give it back before anything else happens.
		return false, errors.Join(changedError(step.Path()), g.x.giveBack(i))
	}
	if step.OldLinks > 1 {
		g.changed[inode{uint64(step.Top), info.Ino}] = info.ChangeTime
	}
	if !isDir(step.Old) {
		return false, nil
	}
	names, err := g.x.Root.ReadDir(slot)
	if err != nil || len(names) == 0 {
		return false, err
	}
	if step.Do == journal.Swap {
		return false, changedError(step.Path())
	}
	return true, g.x.moveTo(step.Top, slot, step.Path())
}

// giveBack undoes an exchange that brought out an inode nobody had verified;
// asking the slot would not tell it from the staged one.
func (x *Tx) giveBack(i int) error {
	step := &x.plan.Steps[i]
	if step.Do == journal.Take {
		return x.moveTo(step.Top, x.slot(i), step.Path())
	}
	if x.exchanges(step) {
		return x.Root.Rename(x.slot(i), step.Path(), fsys.Exchange)
	}
	return nil
}

// Finish makes the transaction stand: its checks have passed.
func (x *Tx) Finish() error { return x.end(journal.Applied) }

// Await leaves a transaction that was committed at boot, before the system it
// changes runs, for Confirm: Recover lets it stand.
func (x *Tx) Await() error { return x.end(journal.Awaiting) }

func (x *Tx) end(event journal.Event) error {
	x.readOnlyAgain()
	err := x.State.Append(x.Journal, journal.Record{Event: event, Time: x.Now()})
	if err == nil {
		x.settle()
		return nil
	}
	// The record may be on the disk although its writing failed. Only when it
	// is cut off again may the tree be taken back: else the journal could say
	// that an old tree is the new one.
	if repair := x.State.Repair(x.Journal); repair != nil {
		return x.mixed(errors.Join(err, repair))
	}
	return x.Undo(err.Error(), err)
}

// Abort ends a transaction of which nothing is visible. What is in the slots goes
// first only where there is no room to write that down.
//
// Where a record could not be written, "committing" for one, it may be on the disk
// all the same: it is cut off before a slot is touched, or a power cut would leave
// a commit to be undone without its slots. Where that fails they stay, and the
// next run finds either record with all that belongs to it. A cut after "aborted"
// leaves slots, which Recover removes.
func (x *Tx) Abort(reason string) error {
	if x.Hooks != nil {
		x.Hooks.AfterUndo(x.Journal)
	}
	if x.Journal.TakenBack() {
		return x.State.Repair(x.Journal) // it stays what it was, and can be tried again
	}
	readOnly := x.writable() // where it fails there may be no slots to be cleared
	if err := x.State.Repair(x.Journal); err != nil {
		return errors.Join(err, readOnly)
	}
	r := journal.Record{Event: journal.Aborted, Time: x.Now(), Reason: reason}
	err := x.State.Append(x.Journal, r)
	if err != nil {
		if err = x.clearSlots(false); err == nil {
			err = x.State.Append(x.Journal, r)
		}
	}
	if err == nil {
		err = x.free()
	}
	if err != nil {
		return errors.Join(err, readOnly)
	}
	return x.State.Settle()
}
