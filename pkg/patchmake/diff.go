package patchmake

import (
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
)

// pair is one path in both trees; nil where a tree does not have it.
type pair struct {
	old, new *manifest.Entry
	changed  bool
}

// diff lists what turns the tree old into the tree new, in canonical order and
// without content. A hard-link group of which anything changes, a name
// included, is listed whole, on both sides: it is one inode.
func diff(old, new []manifest.Entry) []patch.Change {
	pairs := merge(old, new)
	spreadLinks(pairs)
	var changes []patch.Change
	oldLinks, newLinks := renumber{}, renumber{}
	for _, p := range pairs {
		if p.changed {
			changes = append(changes, patch.Change{Old: oldLinks.of(p.old), New: newLinks.of(p.new), Content: -1, Base: -1})
		}
	}
	return changes
}

// merge pairs the entries of two trees by path.
func merge(old, new []manifest.Entry) []pair {
	pairs := make([]pair, 0, max(len(old), len(new)))
	for len(old) > 0 || len(new) > 0 {
		order := 0
		switch {
		case len(old) == 0:
			order = 1
		case len(new) == 0:
			order = -1
		default:
			order = manifest.Compare(old[0].Path, new[0].Path)
		}
		var p pair
		if order <= 0 {
			p.old, old = &old[0], old[1:]
		}
		if order >= 0 {
			p.new, new = &new[0], new[1:]
		}
		p.changed = p.old == nil || p.new == nil || !p.old.Equal(p.new)
		pairs = append(pairs, p)
	}
	return pairs
}

// group is a hard-link group of one tree: the pairs of its names.
type group struct {
	names   []int
	changed bool
}

// spreadLinks marks every name of each group that changes, and so of the groups
// those names are in in the other tree, until nothing more follows.
func spreadLinks(pairs []pair) {
	old, new := map[int]*group{}, map[int]*group{}
	for i, p := range pairs {
		addName(old, p.old, i)
		addName(new, p.new, i)
	}
	for _, g := range old {
		g.changed = !sameGroup(pairs, g, new)
	}
	for again := true; again; {
		again = false
		for _, side := range []map[int]*group{old, new} {
			for _, g := range side {
				again = g.spread(pairs) || again
			}
		}
	}
}

func addName(groups map[int]*group, e *manifest.Entry, i int) {
	if e == nil || e.Link == 0 {
		return
	}
	if groups[e.Link] == nil {
		groups[e.Link] = &group{}
	}
	groups[e.Link].names = append(groups[e.Link].names, i)
}

// sameGroup tells whether the names of a group of the old tree are one group of
// the new tree, and all of it.
func sameGroup(pairs []pair, g *group, new map[int]*group) bool {
	first := pairs[g.names[0]].new
	if first == nil || first.Link == 0 {
		return false
	}
	n := new[first.Link]
	if len(n.names) != len(g.names) {
		return false
	}
	for i := range n.names { // both are in canonical order
		if n.names[i] != g.names[i] {
			return false
		}
	}
	return true
}

// spread marks all names when one is marked, and tells whether that was news.
func (g *group) spread(pairs []pair) bool {
	for _, i := range g.names {
		g.changed = g.changed || pairs[i].changed
	}
	if !g.changed {
		return false
	}
	news := false
	for _, i := range g.names {
		news = news || !pairs[i].changed
		pairs[i].changed = true
	}
	return news
}

// renumber numbers the groups of one side as they appear in the patch.
type renumber map[int]int

func (r renumber) of(e *manifest.Entry) *manifest.Entry {
	if e == nil || e.Link == 0 {
		return e
	}
	if r[e.Link] == 0 {
		r[e.Link] = len(r) + 1
	}
	c := *e
	c.Link = r[e.Link]
	return &c
}
