package transaction

import (
	"errors"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Of overlayfs (Documentation/filesystems/overlayfs.rst) relkit sees what programs
// see, and three things are not as on other file systems:
//
//   - A folder of a lower layer cannot be renamed unless the mount has
//     redirect_dir=on: EXDEV. Such a folder, which is empty once what is in it was
//     taken, is removed, and an empty one in its slot stands for it.
//   - A file that is copied up, as by being renamed, may get another inode number
//     and change time: what numbers do not tell, content does.
//   - Names that are hard links in a lower layer come apart when they are copied up,
//     unless the mount has index=on: refused beforehand.

// exchanges tells whether a step swaps two names in one call.
func (x *Tx) exchanges(step *journal.Step) bool {
	top := &x.plan.Tops[step.Top]
	return top.Exchange && !(top.Layers && isDir(step.Old))
}

// keepsByLink tells whether the old inode of a swap gets its second name by link(2),
// so that its name is never absent; else it is moved out of the way first.
func (x *Tx) keepsByLink(step *journal.Step) bool {
	return !x.exchanges(step) && !isDir(step.Old) && !isDir(step.New) && !x.plan.Tops[step.Top].NoLinks
}

// errStays is a folder that is not empty, and cannot be taken.
var errStays = errors.New("holds something")

// takeAway moves what stands at a step's path into its slot.
//
// A cut between the two calls for a folder of a lower layer leaves it in both
// places, and backward removes the one that stands for it.
func (x *Tx) takeAway(step *journal.Step, slot string) error {
	err := x.moveTo(step.Top, step.Path(), slot)
	if err == nil || !x.layered(step) || !fsys.IsCrossDevice(err) {
		return err
	}
	if err := x.Root.Mkdir(slot, 0o700); err != nil {
		return err
	}
	// What stands for the folder must be durable before the folder can be gone.
	if err = x.Root.SyncDir(x.slotFolder(step.Top)); err == nil {
		err = x.Root.Rmdir(step.Path())
	}
	if err == nil {
		return nil
	}
	if fsys.IsNotEmpty(err) {
		err = errStays
	}
	return errors.Join(err, x.Root.Rmdir(slot))
}

// layered tells whether the old side is a folder that may be a lower layer's.
func (x *Tx) layered(step *journal.Step) bool {
	return x.plan.Tops[step.Top].Layers && isDir(step.Old)
}

// wasVerified tells whether the inode called name is the one that was verified as a
// step's old side: by its number, and where numbers do not last by its content.
func (x *Tx) wasVerified(step *journal.Step, name string, info fsys.Info) (bool, error) {
	switch {
	case info.Ino == step.OldInode || x.layered(step) && info.Kind == manifest.Dir:
		return true, nil
	case !x.plan.Tops[step.Top].Renumbers:
		return false, nil
	}
	return x.looksLike(name, info, step.Old)
}

// links refuses hard links on an overlayfs that lets them come apart.
func (p *places) links(plan *journal.Plan) {
	for i := range plan.Steps {
		step := &plan.Steps[i]
		if step.OldLinks > 1 && !isDir(step.Old) && p.tops.mounts[step.Top].Type == overlayType && !p.tops.mounts[step.Top].Has("index=on") {
			p.blocked(step.Path(), "is a hard link on an overlayfs without index=on, where hard links come apart when they change")
		}
	}
}
