package lock

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/failure"
)

// runDir holds the locks of trees that root works on. Nobody else can enter it,
// so nobody else can hold one.
const runDir = "/run/relkit"

// Tree locks a tree against every other relkit, by what its top folder is and
// not by its name: failure.Busy if it is held. root takes a file in /run/relkit;
// others, and root where there is no /run, lock the folder itself, which leaves
// nothing in it.
func Tree(path string) (*Lock, error) {
	if os.Geteuid() != 0 || !ownRunDir() {
		return Folder(path)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	l, err := Try(filepath.Join(runDir, fmt.Sprintf("tree-%d-%d.lock", st.Dev, st.Ino)))
	if failure.Of(err) == failure.Busy {
		return nil, failure.As(failure.Busy, fmt.Errorf("%q: %w", path, err))
	}
	return l, err
}

// ownRunDir makes the folder for locks, and tells whether it is root's alone.
func ownRunDir() bool {
	if err := os.Mkdir(runDir, 0o700); err != nil && !os.IsExist(err) {
		return false
	}
	var st unix.Stat_t
	err := unix.Lstat(runDir, &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Uid == 0 && st.Mode&0o077 == 0
}
