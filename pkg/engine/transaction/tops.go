package transaction

import (
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// tops finds the place that each folder's slots must lie in, or no rename could
// reach the folder: the same mount, since rename(2) leads from no mount to another
// even of one file system; the same btrfs subvolume, which has a st_dev of its own;
// and the same project, where folders take in nothing of another.
type tops struct {
	root fsys.FS
	// of maps a folder to the ordinal of its top.
	of     map[string]int
	paths  []string
	mounts []fsys.Mount // of paths
	ground map[string]ground
	types  map[uint64]string // by st_dev
}

// ground is what a folder is on.
type ground struct {
	info  fsys.Info
	place fsys.Place
}

func newTops(root fsys.FS) *tops {
	return &tops{root: root, of: map[string]int{}, ground: map[string]ground{}, types: map[uint64]string{}}
}

// find is the ordinal of the place that folder lies on. A folder that does not
// exist yet lies where its nearest existing parent does.
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
		return t.add(".")
	}
	parent := manifest.Parent(folder)
	g, err := t.look(folder)
	if fsys.IsUnreachable(err) || err == nil && g.info.Kind != manifest.Dir {
		return t.find(parent) // it is to be made in this transaction
	}
	if err != nil {
		return 0, err
	}
	above, err := t.look(parent)
	if err != nil {
		return 0, err
	}
	if above.reaches(g) {
		return t.find(parent)
	}
	return t.add(folder)
}

// look is what a folder is on, asked once.
func (t *tops) look(folder string) (g ground, err error) {
	if g, ok := t.ground[folder]; ok {
		return g, nil
	}
	if g.info, err = t.root.Lstat(folder); err != nil {
		return g, err
	}
	if g.place, err = t.root.Place(folder); err == nil {
		t.ground[folder] = g
	}
	return g, err
}

// reaches tells whether renames lead from one folder into the other and back.
func (g ground) reaches(other ground) bool {
	return g.info.Dev == other.info.Dev && g.place.Mount == other.place.Mount && g.project() == other.project()
}

// project is the one that everything in a folder must be of, 0 for none.
func (g ground) project() uint32 {
	if !g.place.Inherits {
		return 0
	}
	return g.place.Project
}

func (t *tops) add(path string) (int, error) {
	for i, p := range t.paths {
		if p == path {
			return i, nil
		}
	}
	m, err := t.root.Mount(path)
	if err != nil {
		return 0, err
	}
	t.paths, t.mounts = append(t.paths, path), append(t.mounts, m)
	return len(t.paths) - 1, nil
}

// plan is what the plan says of a top before its slots are made.
func (t *tops) plan(i int) journal.PlanTop {
	kind := t.mounts[i].Type
	return journal.PlanTop{Path: t.paths[i], Renumbers: isFAT(kind) || kind == overlayType, Layers: kind == overlayType}
}

// overlayType is overlayfs among the types of /proc/filesystems.
const overlayType = "overlay"

// typeOf is the type of the file system that path is on, or will be.
func (t *tops) typeOf(path string) (string, error) {
	info, there, err := present(t.root, path)
	for err == nil && !there {
		path = manifest.Parent(path)
		info, there, err = present(t.root, path)
	}
	if err != nil {
		return "", err
	}
	kind, known := t.types[info.Dev]
	if !known {
		m, err := t.root.Mount(path)
		if err != nil {
			return "", err
		}
		kind = m.Type
		t.types[info.Dev] = kind
	}
	return kind, nil
}

// mountPoint is where the mount that top i lies on is mounted; found is false where
// that is outside the tree.
func (t *tops) mountPoint(i int) (path string, found bool, err error) {
	path = t.paths[i]
	for {
		g, err := t.look(path)
		if err != nil || g.place.MountPoint || path == "." {
			return path, g.place.MountPoint, err
		}
		path = manifest.Parent(path)
	}
}
