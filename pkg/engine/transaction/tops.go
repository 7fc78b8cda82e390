package transaction

import (
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// tops finds the file system of each folder: a slot must lie on the same one,
// or no rename could reach it.
type tops struct {
	root fsys.FS
	// of maps a folder to the ordinal of its top.
	of    map[string]int
	paths []string
}

func newTops(root fsys.FS) *tops { return &tops{root: root, of: map[string]int{}} }

// find is the ordinal of the file system that folder lies on. A folder that
// does not exist yet lies where its nearest existing parent does.
func (t *tops) find(folder string) (int, error) {
	if n, ok := t.of[folder]; ok {
		return n, nil
	}
	n, err := t.search(folder)
	if err == nil {
		t.of[folder] = n
	}
	return n, err
}

func (t *tops) search(folder string) (int, error) {
	if folder == "." {
		return t.add("."), nil
	}
	parent := manifest.Parent(folder)
	info, err := t.root.Lstat(folder)
	if fsys.IsUnreachable(err) || err == nil && info.Kind != manifest.Dir {
		return t.find(parent) // it is to be made in this transaction
	}
	if err != nil {
		return 0, err
	}
	above, err := t.root.Lstat(parent)
	if err != nil {
		return 0, err
	}
	if above.Dev == info.Dev {
		return t.find(parent)
	}
	return t.add(folder), nil
}

func (t *tops) add(path string) int {
	for i, p := range t.paths {
		if p == path {
			return i
		}
	}
	t.paths = append(t.paths, path)
	return len(t.paths) - 1
}

// refuseMountPoint refuses to replace or remove a folder that a file system is mounted on.
func (t *tops) refuseMountPoint(path string, info fsys.Info) error {
	above, err := t.root.Lstat(manifest.Parent(path))
	if err != nil {
		return err
	}
	if above.Dev != info.Dev {
		return failure.Errorf(failure.Refused, "%q is a mount point and the patch would replace or remove it", path)
	}
	return nil
}
