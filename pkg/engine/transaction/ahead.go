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
// rollback will put at a path is its old side, which was verified in its slot.

// ahead is what rollbacks that come first will have made of the tree: the old side by
// path, nil where nothing will be, and the metadata of folders that stay.
type ahead struct {
	old   map[string]*manifest.Entry
	metas map[string]*manifest.Entry
	// below are the paths of old by their folder.
	below map[string][]string
}

// aheadOf is nil where nothing comes first.
func aheadOf(first []*Rollback) *ahead {
	if len(first) == 0 {
		return nil
	}
	a := &ahead{old: map[string]*manifest.Entry{}, metas: map[string]*manifest.Entry{}, below: map[string][]string{}}
	for _, r := range first {
		a.add(r)
	}
	return a
}

func (a *ahead) add(r *Rollback) {
	stays := map[int]bool{}
	if r.on == OnModifiedKeep {
		for _, i := range r.skip {
			stays[i] = true
		}
	}
	for i := range r.x.plan.Steps {
		step := &r.x.plan.Steps[i]
		path := step.Path()
		switch {
		case r.x.skip[i] || stays[i]:
		case step.Do == journal.Meta:
			if step.Old != nil && step.New != nil && differs(step.Old, step.New, false) != "" {
				a.metas[path] = step.Old
			}
		default:
			if _, known := a.old[path]; !known {
				parent := manifest.Parent(path)
				a.below[parent] = append(a.below[parent], path)
			}
			a.old[path] = step.Old
		}
	}
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
