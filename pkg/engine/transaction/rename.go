package transaction

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

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

// isNew asks the slot whether step i is done. Only relkit writes slots, so the
// answer holds whatever has become of the live path.
func (x *Tx) isNew(i int) (bool, error) {
	step, slot := &x.plan.Steps[i], x.slot(i)
	info, inSlot, err := exists(x.Root, slot)
	if err != nil {
		return false, err
	}
	switch step.Do {
	case journal.Place:
		return !inSlot, nil
	case journal.Take:
		return inSlot, nil
	}
	if x.plan.Tops[step.Top].Exchange {
		return inSlot && info.Ino == step.OldInode, nil
	}
	_, hasOld, err := exists(x.Root, slot+oldSuffix)
	return !inSlot && hasOld, err
}

// forward makes step i's new side visible, where it is not.
func (x *Tx) forward(i int) error {
	done, err := x.isNew(i)
	if err != nil || done {
		return err
	}
	return x.rename(i)
}

// rename makes step i's new side visible; it is known not to be.
func (x *Tx) rename(i int) error {
	step, slot := &x.plan.Steps[i], x.slot(i)
	path := step.Path()
	switch {
	case step.Do == journal.Place:
		return x.moveTo(step.Top, slot, path)
	case step.Do == journal.Take:
		return x.moveTo(step.Top, path, slot)
	case x.plan.Tops[step.Top].Exchange:
		return x.Root.Rename(slot, path, fsys.Exchange)
	}
	if err := x.renameExisting(slot+undoSuffix, slot); err != nil {
		return err // left by a rollback that failed
	}
	if !isDir(step.Old) && !isDir(step.New) {
		linked, err := x.keepOld(i)
		if err == nil && linked {
			err = x.syncSlots(step.Top)
		}
		if err != nil {
			return err
		}
		return x.Root.Rename(slot, path, fsys.Replace)
	}
	if _, hasOld, err := exists(x.Root, slot+oldSuffix); err != nil {
		return err
	} else if !hasOld {
		if err := x.moveTo(step.Top, path, slot+oldSuffix); err != nil {
			return err
		}
	}
	return x.moveTo(step.Top, slot, path)
}

// keepOld gives the inode that step i replaces its second name, in the slot,
// where it has none.
func (x *Tx) keepOld(i int) (linked bool, err error) {
	slot := x.slot(i)
	_, hasOld, err := exists(x.Root, slot+oldSuffix)
	if err != nil || hasOld {
		return false, err
	}
	return true, x.Root.Link(x.plan.Steps[i].Path(), slot+oldSuffix)
}

// syncSlots makes the names in a slot folder durable.
func (x *Tx) syncSlots(top int) error {
	return x.Root.SyncDir(SlotDir(x.plan.Tops[top].Path, x.Journal.ID))
}

// renameExisting renames from to to where from exists.
func (x *Tx) renameExisting(from, to string) error {
	_, there, err := exists(x.Root, from)
	if err != nil || !there {
		return err
	}
	return x.Root.Rename(from, to, fsys.Replace)
}

// moveTo renames from to a name that must not exist.
func (x *Tx) moveTo(top int, from, to string) error {
	if x.plan.Tops[top].Exchange {
		return x.Root.Rename(from, to, fsys.NoReplace)
	}
	// Without RENAME_NOREPLACE the look comes first; only a writer in the
	// instant between the two could be overwritten.
	if _, there, err := exists(x.Root, to); err != nil {
		return err
	} else if there {
		return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
	}
	return x.Root.Rename(from, to, fsys.Replace)
}

// backward makes step i's old side visible again, where it is not. It keeps
// whatever stands at the path now, in the slot or beside the path.
func (x *Tx) backward(i int) error {
	step, slot := &x.plan.Steps[i], x.slot(i)
	done, err := x.isNew(i)
	if err != nil {
		return err
	}
	if !done {
		return x.halfway(i)
	}
	path := step.Path()
	info, there, err := exists(x.Root, path)
	if err != nil {
		return err
	}
	switch {
	case step.Do == journal.Place:
		if !there {
			return nil // what was created is gone already
		}
		return x.moveTo(step.Top, path, slot)
	case step.Do == journal.Take:
		if there {
			if err := x.setAside(step.Top, path); err != nil {
				return err
			}
		}
		return x.moveTo(step.Top, slot, path)
	case x.plan.Tops[step.Top].Exchange:
		if !there {
			return x.moveTo(step.Top, slot, path)
		}
		return x.Root.Rename(slot, path, fsys.Exchange)
	}
	return x.swapBack(i, info, there)
}

// swapBack is backward for a swap where names cannot be exchanged; info is what
// stands at the path, where something does.
func (x *Tx) swapBack(i int, info fsys.Info, there bool) error {
	step, slot := &x.plan.Steps[i], x.slot(i)
	path, old, displaced := step.Path(), slot+oldSuffix, slot+undoSuffix
	if !there {
		return x.moveTo(step.Top, old, path)
	}
	if info.Kind == manifest.Dir || isDir(step.Old) {
		if err := x.moveTo(step.Top, path, slot); err != nil {
			return err
		}
		return x.moveTo(step.Top, old, path)
	}
	if _, left, err := exists(x.Root, displaced); err != nil {
		return err
	} else if left {
		if err := x.Root.Unlink(displaced); err != nil {
			return err // one name of an earlier try; the path is the other
		}
	}
	if err := x.Root.Link(path, displaced); err != nil {
		return err
	}
	// The link must be durable before the rename can be, or a power cut could
	// leave the displaced inode without a name.
	if err := x.syncSlots(step.Top); err != nil {
		return err
	}
	return x.Root.Rename(old, path, fsys.Replace)
}

// halfway puts a folder back that was moved out of the way of something which
// did not arrive: a file system without exchange has that instant.
func (x *Tx) halfway(i int) error {
	step := &x.plan.Steps[i]
	if step.Do != journal.Swap || x.plan.Tops[step.Top].Exchange {
		return nil
	}
	old := x.slot(i) + oldSuffix
	_, hasOld, err := exists(x.Root, old)
	if err != nil || !hasOld {
		return err
	}
	if _, there, err := exists(x.Root, step.Path()); err != nil || there {
		return err
	}
	return x.moveTo(step.Top, old, step.Path())
}

// setAside renames something that is in the way to PATH.relkit-saved.
func (x *Tx) setAside(top int, path string) error {
	name, err := x.savedName(path)
	if err != nil {
		return err
	}
	x.kept = append(x.kept, manifest.Escape(name))
	return x.moveTo(top, path, name)
}

func (x *Tx) savedName(path string) (string, error) {
	for n := 1; n < 1000; n++ {
		name := path + ".relkit-saved"
		if n > 1 {
			name = fmt.Sprintf("%s.%d", name, n)
		}
		_, there, err := exists(x.Root, name)
		if err != nil || !there {
			return name, err
		}
	}
	return "", errors.New("too many saved copies beside " + path)
}

// saveDisplaced keeps a file that was changed after it was put in place: it was
// taken out by backward and lies in the slot, and gets a name beside the path.
func (x *Tx) saveDisplaced(i int) error {
	step, slot := &x.plan.Steps[i], x.slot(i)
	if step.Do == journal.Take {
		return nil
	}
	if step.Do == journal.Swap && !x.plan.Tops[step.Top].Exchange && !isDir(step.Old) {
		slot += undoSuffix
	}
	info, inSlot, err := exists(x.Root, slot)
	if err != nil || !inSlot || info.Kind != manifest.File {
		return err
	}
	if e := step.New; e.Kind == manifest.File && info.Ino == step.NewInode && info.Size == e.Size && info.ModTime == e.ModTime {
		return nil
	}
	name, err := x.savedName(step.Path())
	if err != nil {
		return err
	}
	x.kept = append(x.kept, manifest.Escape(name))
	return x.Root.Link(slot, name)
}

// setMetas gives every folder of the plan the metadata of its new or old side.
// It comes after all renames, which move folders' times, deepest folders first.
func (x *Tx) setMetas(toNew bool) error {
	for i := range x.plan.Steps {
		step := &x.plan.Steps[i]
		e := step.Old
		if toNew {
			e = step.New
		}
		if step.Do != journal.Meta || e == nil {
			continue
		}
		info, there, err := exists(x.Root, e.Path)
		if err != nil {
			return err
		}
		if !there || info.Kind != manifest.Dir {
			continue // gone since, by somebody else's hand
		}
		if err := setFolder(x.Root, step, info, e); err != nil {
			return fmt.Errorf("setting the metadata of %q: %w", e.Path, err)
		}
	}
	return nil
}

// openFolders lets an unprivileged owner rename in every folder of the plan. A
// power cut leaves the modes as they are then; setMetas, which comes at the end
// of whatever recovery does, sets them right.
func (x *Tx) openFolders() error {
	for i := range x.plan.Steps {
		step := &x.plan.Steps[i]
		if step.Do != journal.Meta || !x.Unprivileged {
			continue
		}
		info, there, err := exists(x.Root, step.Path())
		if err != nil {
			return err
		}
		if !there || info.Kind != manifest.Dir || info.Mode&0o700 == 0o700 {
			continue
		}
		if err := x.Root.Chmod(step.Path(), info.Mode|0o700); err != nil {
			return err
		}
	}
	return nil
}

func (x *Tx) syncTops() error {
	for _, top := range x.plan.Tops {
		if err := x.Root.SyncFS(top.Path); err != nil {
			return fmt.Errorf("syncing %q: %w", top.Path, err)
		}
	}
	return nil
}
