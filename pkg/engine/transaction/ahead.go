package transaction

import (
	gopath "path"
	"slices"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Of several transactions that are to be taken back, the newest first, each can be
// made only on the tree that the ones before it leave. All are looked at before the
// first is made, so that the last does not refuse when the others are gone: what a
// rollback will put at a path is its old side, which was verified in its slot, with
// what was decided about it.

// ahead is what rollbacks that come first will have made of the tree: the old side by
// path, nil where nothing will be, and the metadata of folders that stay.
type ahead struct {
	old   map[string]*manifest.Entry
	metas map[string]*manifest.Entry
	// below are the paths of old by their folder.
	below map[string][]string
}

// aheadOf is nil where nothing comes first.
func aheadOf(first []*Rollback) (*ahead, error) {
	if len(first) == 0 {
		return nil, nil
	}
	a := &ahead{old: map[string]*manifest.Entry{}, metas: map[string]*manifest.Entry{}, below: map[string][]string{}}
	for _, r := range first {
		if err := a.add(r); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *ahead) add(r *Rollback) error {
	d, stays := decisionsOf(&r.decided), map[int]bool{}
	for _, i := range r.skip {
		stays[i] = r.on == OnModifiedKeep
		d.saved[i] = d.saved[i] || r.on == OnModifiedReplace && r.replaces(i)
	}
	for i := range r.x.plan.Steps {
		step := &r.x.plan.Steps[i]
		path := step.Path()
		if d.beside[i] {
			a.put(path+OldSuffix, step.Old)
		}
		switch {
		case r.x.skip[i] || stays[i]:
		case step.Do == journal.Meta:
			if step.Old != nil && step.New != nil && differs(step.Old, step.New, false) != "" {
				a.metas[path] = step.Old
			}
		case d.owners[i]:
			e := ownersOf(r.lives[i], step.New, step.Old)
			a.put(path, &e)
		default:
			a.put(path, step.Old)
		}
		if d.saved[i] {
			a.put(path+SavedSuffix, r.lives[i])
		}
	}
	return a.addStaying(r, stays)
}

func (a *ahead) put(path string, e *manifest.Entry) {
	if _, known := a.old[path]; !known {
		parent := manifest.Parent(path)
		a.below[parent] = append(a.below[parent], path)
	}
	a.old[path] = e
}

// addStaying adds the folders that were created and stay, since something will be in
// them: see Tx.takeBack. A folder comes before what it holds.
func (a *ahead) addStaying(r *Rollback, stays map[int]bool) error {
	for i, step := range slices.Backward(r.x.plan.Steps) {
		if step.Do != journal.Place || r.x.skip[i] || stays[i] || !isDir(r.lives[i]) {
			continue
		}
		names, err := a.names(r.x.Root, step.Path())
		if err != nil {
			return err
		}
		if len(names) > 0 {
			a.put(step.Path(), r.lives[i])
		}
	}
	return nil
}

// at is what will be at path; known is false where that is what is there now.
func (a *ahead) at(path string) (e *manifest.Entry, known bool) {
	if a == nil {
		return nil, false
	}
	e, known = a.old[path]
	return e, known
}

// meta is the metadata that a folder which stays will have, nil for what it has.
func (a *ahead) meta(path string) *manifest.Entry {
	if a == nil {
		return nil
	}
	return a.metas[path]
}

// names are the names that will be in a folder.
func (a *ahead) names(root fsys.FS, dir string) ([]string, error) {
	names, err := root.ReadDir(dir)
	if a == nil || err != nil && !fsys.IsUnreachable(err) {
		return names, err
	}
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		e, known := a.old[join(dir, name)]
		return known && e == nil
	})
	for _, path := range a.below[dir] {
		name := gopath.Base(path)
		if a.old[path] != nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}
