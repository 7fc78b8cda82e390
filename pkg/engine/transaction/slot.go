package transaction

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// SlotsDir is the folder at the top of each file system that holds the slots.
const SlotsDir = ".relkit"

// SlotDir is a transaction's slot folder on the file system topped by top.
func SlotDir(top, slot string) string { return join(top, SlotsDir+"/"+slot) }

// newSlot makes up the name of a slot folder. It is random: another state
// folder counts its transactions from 1 as well.
func newSlot() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails: crypto/rand
	return hex.EncodeToString(b)
}

// A file system that cannot exchange names keeps the old inode under a second
// slot name. The name in the tree is never absent: the old inode gets its
// second name by link(2), then the new one is renamed over it. A folder has no
// second name, so there a folder that changes kind is absent for an instant.
//
//	exchange:    slot N = staged  <->  slot N = old
//	no exchange: slot N = staged  <->  no slot N, slot N.old = old
//
// On the way back what is displaced becomes slot N.undo: as slot N it would say
// "not done" before the old inode is in place again.
const (
	oldSuffix  = ".old"
	undoSuffix = ".undo"
)

// slotFolder is the transaction's slot folder on one file system.
func (x *Tx) slotFolder(top int) string { return SlotDir(x.plan.Tops[top].Path, x.Journal.Slot()) }

// slot is the name of step i's inode.
func (x *Tx) slot(i int) string {
	return x.slotFolder(x.plan.Steps[i].Top) + "/" + strconv.Itoa(i)
}

// holdSlots keeps the slot folders open: every step works in one.
func (x *Tx) holdSlots() (release func(), err error) {
	var all []func()
	release = func() {
		for _, r := range all {
			r()
		}
	}
	for i := range x.plan.Tops {
		r, err := fsys.Hold(x.Root, x.slotFolder(i))
		if err != nil {
			release()
			return nil, err
		}
		all = append(all, r)
	}
	return release, nil
}

// checkSlots holds that the slot folders are there: where the file system that
// has them is not mounted, an absent slot would say nothing.
func (x *Tx) checkSlots() error {
	for i, top := range x.plan.Tops {
		info, there, err := present(x.Root, x.slotFolder(i))
		if err != nil {
			return err
		}
		if !there || info.Kind != manifest.Dir {
			return failure.WithHint(fmt.Errorf("the slots of %q are not there: is its file system mounted?", top.Path),
				"mount it, then relkit patch-apply --recover%s", x.Flags)
		}
	}
	return nil
}

// isNew asks the slot whether step i is done. Only relkit writes slots, so the
// answer holds whatever has become of the live path.
func (x *Tx) isNew(i int) (bool, error) {
	step, slot := &x.plan.Steps[i], x.slot(i)
	info, inSlot, err := present(x.Root, slot)
	if err != nil {
		return false, err
	}
	switch step.Do {
	case journal.Place:
		return !inSlot, nil
	case journal.Take:
		return inSlot, nil
	}
	if !x.exchanges(step) {
		_, hasOld, err := present(x.Root, slot+oldSuffix)
		return !inSlot && hasOld, err
	}
	if inSlot {
		is, err := x.identify(slot, info, step)
		if err != nil || is != neither {
			return is == oldSide, err
		}
	}
	// The slot is empty, or holds what somebody had put at the path. So it is once
	// the old inode is back, whatever has been made of it since. If the new one is
	// still at the path, the cut came between the exchange that brought a
	// stranger's file out and giving that back; an empty slot then means that the
	// old inode is lost.
	live, there, err := present(x.Root, step.Path())
	if err != nil || !there {
		return false, err
	}
	is, err := x.identify(step.Path(), live, step)
	if err == nil && is == newSide && !inSlot {
		err = fmt.Errorf("the slot of %q is empty, and the new one is at its place", step.Path())
	}
	return is == newSide, err
}

// side is which side of a step an inode is.
type side int

const (
	neither side = iota
	oldSide
	newSide
)

// identify tells which side of a swap an inode is. Its number says so where what else
// is known without reading it fits that side alone. Where it does not, somebody has
// changed the inode, or the whole tree is a copy, restored from a backup say, in
// which the numbers mean nothing, or others: then it is the content, and the number
// only where that is neither side's. Where numbers do not last, content comes first.
func (x *Tx) identify(name string, info fsys.Info, step *journal.Step) (side, error) {
	number := oneSide(info.Ino == step.OldInode && info.Kind == step.Old.Kind, info.Ino == step.NewInode && info.Kind == step.New.Kind)
	if number != neither && number == oneSide(fits(info, step.Old), fits(info, step.New)) && !x.plan.Tops[step.Top].Renumbers {
		return number, nil
	}
	isOld, err := x.looksLike(name, info, step.Old)
	if err != nil {
		return neither, err
	}
	isNew, err := x.looksLike(name, info, step.New)
	if content := oneSide(isOld, isNew); err != nil || content != neither {
		return content, err
	}
	return number, nil
}

// fits tells whether what stat(2) says of an inode is what it says of e's; a folder's
// times move with what is in it.
func fits(info fsys.Info, e *manifest.Entry) bool {
	switch {
	case info.Kind != e.Kind || info.Kind != manifest.Symlink && info.Mode != e.Mode || info.UID != e.UID || info.GID != e.GID:
		return false
	case info.Kind == manifest.Dir:
		return true
	}
	return info.ModTime == e.ModTime && (info.Kind != manifest.File || info.Size == e.Size)
}

// oneSide is the side that alone holds.
func oneSide(isOld, isNew bool) side {
	switch {
	case isOld == isNew:
		return neither
	case isOld:
		return oldSide
	}
	return newSide
}

// looksLike tells whether an inode has the kind, content and metadata of e.
func (x *Tx) looksLike(name string, info fsys.Info, e *manifest.Entry) (bool, error) {
	if info.Kind != e.Kind || e.Kind == manifest.File && info.Size != e.Size {
		return false, nil
	}
	is, err := live(x.Root, name, info)
	if err != nil {
		return false, err
	}
	if is.Kind == manifest.File {
		f, err := x.Root.Open(name)
		if err != nil {
			return false, err
		}
		is.Digest, _, err = digest.OfReader(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return false, err
		}
	}
	return differs(is, e, is.Kind != manifest.Dir) == "", nil
}

// free removes the slots of a transaction that is closed.
//
// Of one that was taken back the journal says so before: else a cut on the way
// would leave it as one that is whole in its slots. Where there is no room for
// that record it goes on all the same: Reopen verifies what it finds.
func (x *Tx) free() error {
	if x.Journal.TakenBack() {
		if err := x.State.Append(x.Journal, journal.Record{Event: journal.Freeing, Time: x.Now()}); err != nil && x.Log != nil {
			x.Log.Warn("giving up what was taken back without a record of it", "err", err)
		}
	}
	if err := x.clearSlots(true); err != nil {
		return err
	}
	if err := x.State.DropPlan(x.Journal); err != nil {
		return err
	}
	x.readOnlyAgain()
	return x.State.Append(x.Journal, journal.Record{Event: journal.Freed, Time: x.Now()})
}

// clearSlots removes what is in the slots, and the slot folders too.
func (x *Tx) clearSlots(folders bool) error {
	for _, top := range x.Journal.Find(journal.Begin).Tops {
		path, err := manifest.Unescape(top.Path)
		if err != nil {
			return err
		}
		if err := x.clearSlot(path, manifest.Time{Sec: top.Sec, Nsec: top.Nsec}, folders); err != nil {
			return fmt.Errorf("removing the slots of %q: %w", path, err)
		}
	}
	return nil
}

func (x *Tx) clearSlot(top string, before manifest.Time, folder bool) error {
	dir := SlotDir(top, x.Journal.Slot())
	names, err := x.Root.ReadDir(dir)
	for _, name := range names {
		if err == nil {
			err = fsys.RemoveAll(x.Root, dir+"/"+name)
		}
	}
	if err == nil && folder {
		err = x.Root.Rmdir(dir)
	}
	if err != nil && !fsys.IsAbsent(err) {
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
