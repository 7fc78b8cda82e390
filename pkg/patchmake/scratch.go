package patchmake

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/sys/lock"
)

const scratchPrefix = ".relkit-patch-make-"

// scratch is a folder for temporary files. It is locked while it is in use, so
// that the next run can tell what a killed one has left and remove it.
type scratch struct {
	dir  string
	lock *lock.Lock
}

// makeScratch makes a scratch folder in parent, after removing left ones.
func makeScratch(parent string) (*scratch, error) {
	left, err := filepath.Glob(filepath.Join(escapeGlob(parent), scratchPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, dir := range left {
		// Whatever stands in the way, another user's folder say, it is not ours to report.
		if l, err := lock.Folder(dir); err == nil {
			_ = removeAll(dir)
			_ = l.Release()
		}
	}
	const tries = 10
	for range tries {
		dir, err := os.MkdirTemp(parent, scratchPrefix)
		if err != nil {
			return nil, err
		}
		l, err := lock.Folder(dir)
		if err != nil {
			continue // another run took it for a left one
		}
		if _, err := os.Stat(dir); err == nil {
			return &scratch{dir, l}, nil
		}
		if err := l.Release(); err != nil {
			return nil, err
		}
	}
	return nil, failure.Errorf(failure.Failed, "making a scratch folder in %q: none stayed", parent)
}

// escapeGlob makes a path match itself in filepath.Glob.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// close removes the folder.
func (s *scratch) close() error {
	err := removeAll(s.dir)
	if e := s.lock.Release(); err == nil {
		err = e
	}
	return err
}

// removeAll removes a folder with all that is in it, folders without the right
// to write included.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	// What cannot be changed shows again when it is removed.
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
