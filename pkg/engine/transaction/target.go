// Package transaction changes a machine so that at every instant, whatever
// fails or is cut, the tree is the old one or the new one once Recover has run.
//
// Survey verifies that the tree is what a patch expects, and plans. Stage makes
// every new inode complete and durable in a slot folder of its own file system.
// Commit renames them into place, one atomic exchange a name; what was there
// lands in the slot, which is the rollback copy. Undo and Rollback rename back.
//
// Recovery asks the slots, which only relkit writes, and never the live paths:
// a slot that holds the staged inode says "not done", one that holds the old
// inode says "done". A transaction that is not yet applied is always taken
// back: the old tree is the one known to have worked.
package transaction

import (
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// SlotsDir is the folder at the top of each file system that holds the slots.
const SlotsDir = ".relkit"

// Target is the machine that is changed.
type Target struct {
	Root  fsys.FS
	State *state.State
	Now   func() time.Time
	Log   *slog.Logger
	// Unprivileged has folders that their owner may not write to be made writable
	// while something is renamed in them; they get their modes with their times.
	Unprivileged bool
}

// SlotDir is the slot folder of a transaction on the file system topped by top.
func SlotDir(top, id string) string { return join(top, SlotsDir+"/"+id) }

// slotName is the name of step i in its slot folder.
func slotName(dir string, i int) string { return dir + "/" + strconv.Itoa(i) }

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// exists is Lstat with "not there" as an answer instead of an error. A name
// below something that is no folder is not there either.
func exists(f fsys.FS, name string) (fsys.Info, bool, error) {
	info, err := f.Lstat(name)
	if fsys.IsAbsent(err) {
		return info, false, nil
	}
	return info, err == nil, err
}

// live is the entry that stands at path, without the digest of its content.
func live(f fsys.FS, path string, info fsys.Info) (*manifest.Entry, error) {
	e := &manifest.Entry{
		Path: path, Kind: info.Kind, Mode: info.Mode, UID: info.UID, GID: info.GID, ModTime: info.ModTime,
		Major: info.Major, Minor: info.Minor,
	}
	var err error
	switch info.Kind {
	case manifest.File:
		e.Size = info.Size
	case manifest.Symlink:
		if e.Target, err = f.Readlink(path); err != nil {
			return nil, err
		}
	case manifest.Unknown, manifest.Socket:
		return nil, &fs.PathError{Op: "lstat", Path: path, Err: fmt.Errorf("is a %s", info.Kind)}
	}
	e.Xattrs, err = f.Xattrs(path)
	return e, err
}
