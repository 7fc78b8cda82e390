package transaction

import (
	"io/fs"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

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
		return x.takeAway(step, slot)
	case x.exchanges(step):
		return x.Root.Rename(slot, path, fsys.Exchange)
	}
	if err := x.renameExisting(slot+undoSuffix, slot); err != nil {
		return err // left by a rollback that failed
	}
	if x.keepsByLink(step) {
		linked, err := x.keepOld(i)
		if err == nil && linked {
			err = x.Root.SyncDir(x.slotFolder(step.Top))
		}
		if err != nil {
			return err
		}
		return x.Root.Rename(slot, path, fsys.Replace)
	}
	if _, hasOld, err := present(x.Root, slot+oldSuffix); err != nil {
		return err
	} else if !hasOld {
		if err := x.takeAway(step, slot+oldSuffix); err != nil {
			return err
		}
	}
	return x.moveTo(step.Top, slot, path)
}

// keepOld gives the inode that step i replaces its second name, in the slot,
// where it has none.
func (x *Tx) keepOld(i int) (linked bool, err error) {
	slot := x.slot(i)
	_, hasOld, err := present(x.Root, slot+oldSuffix)
	if err != nil || hasOld {
		return false, err
	}
	return true, x.Root.Link(x.plan.Steps[i].Path(), slot+oldSuffix)
}

// renameExisting renames from to to where from exists.
func (x *Tx) renameExisting(from, to string) error {
	_, there, err := present(x.Root, from)
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
	if _, there, err := present(x.Root, to); err != nil {
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
	info, there, err := present(x.Root, path)
	if err != nil {
		return err
	}
	switch {
	case step.Do == journal.Place:
		return x.takeBack(i, info, there)
	case step.Do == journal.Take:
		if there && info.Kind == manifest.Dir && x.layered(step) {
			return x.Root.Rmdir(slot) // the one that stood for it
		}
		if there {
			if err := x.setAside(step.Top, path); err != nil {
				return err
			}
		}
		return x.moveTo(step.Top, slot, path)
	case x.exchanges(step):
		if !there {
			return x.moveTo(step.Top, slot, path)
		}
		return x.Root.Rename(slot, path, fsys.Exchange)
	}
	return x.swapBack(i, info, there)
}

// takeBack is backward for something that was created. A folder that holds
// something else by now, all of the patch's own being out of it, stays.
func (x *Tx) takeBack(i int, info fsys.Info, there bool) error {
	step := &x.plan.Steps[i]
	path := step.Path()
	if !there {
		return nil // what was created is gone already
	}
	if x.decided.saved[i] && info.Kind != manifest.Dir {
		return x.setAside(step.Top, path) // while its folder is there
	}
	if info.Kind == manifest.Dir {
		names, err := x.Root.ReadDir(path)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			x.keep(path)
			return nil
		}
	}
	return x.moveTo(step.Top, path, x.slot(i))
}

// swapBack is backward for a swap where names cannot be exchanged; info is what
// stands at the path, where something does.
func (x *Tx) swapBack(i int, info fsys.Info, there bool) error {
	step, slot := &x.plan.Steps[i], x.slot(i)
	path, old, displaced := step.Path(), slot+oldSuffix, slot+undoSuffix
	if !there {
		return x.moveTo(step.Top, old, path)
	}
	if info.Kind == manifest.Dir || !x.keepsByLink(step) {
		if err := x.moveTo(step.Top, path, slot); err != nil {
			return err
		}
		return x.moveTo(step.Top, old, path)
	}
	if _, left, err := present(x.Root, displaced); err != nil {
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
	if err := x.Root.SyncDir(x.slotFolder(step.Top)); err != nil {
		return err
	}
	return x.Root.Rename(old, path, fsys.Replace)
}

// halfway puts a folder back that was moved out of the way of something which
// did not arrive: a file system without exchange has that instant.
func (x *Tx) halfway(i int) error {
	step := &x.plan.Steps[i]
	if step.Do != journal.Swap || x.exchanges(step) {
		return nil
	}
	old := x.slot(i) + oldSuffix
	_, hasOld, err := present(x.Root, old)
	if err != nil || !hasOld {
		return err
	}
	if _, there, err := present(x.Root, step.Path()); err != nil || there {
		return err
	}
	return x.moveTo(step.Top, old, step.Path())
}
