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
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Target is the machine that is changed.
type Target struct {
	Root  fsys.FS
	State *state.State
	Now   func() time.Time
	Log   *slog.Logger
	// Unprivileged has folders that their owner may not write to be made writable
	// while something is renamed in them; they get their modes with their times.
	Unprivileged bool
	// Flags are those of the command line that name this machine, for hints.
	Flags string
	// Hooks hears of a transaction being taken back; nil for nobody.
	Hooks Hooks
	// Remount are mount points, relative to the root, that may be made writable for
	// as long as a transaction works on them; Path is where the root lies, "" for /,
	// for the commands in hints.
	Remount []string
	Path    string
}

// Hooks are called around the taking back of a transaction that was not yet
// applied, or of which a recovery completes the rollback. A cut may have them
// called again. The tree is taken back whatever they do.
type Hooks interface {
	// BeforeUndo comes while the tree is new, or partly so.
	BeforeUndo(*state.Transaction)
	// AfterUndo comes once the old tree is back and durable, or before what was
	// staged is given up, while the transaction's scripts are still there.
	AfterUndo(*state.Transaction)
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// present is Lstat with "not there" as an answer instead of an error. A name
// below something that is no folder, a link for one, is not there either: what
// stands in the way was looked at when the tree was verified, and is a step of
// its own.
func present(f fsys.FS, name string) (fsys.Info, bool, error) {
	info, err := f.Lstat(name)
	if fsys.IsUnreachable(err) {
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
