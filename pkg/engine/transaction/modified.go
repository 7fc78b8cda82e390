package transaction

import (
	"context"
	"fmt"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
)

// What somebody has changed on the machine is treated in dpkg's manner for
// conffiles (deb-conffiles(5)). L is what stands there, O what the patch expects,
// N what it brings; a side that is not there is written -.
//
//	L = O          N takes its place, with the owner's mode and owner where those alone were changed
//	L = N          nothing to do
//	L -,  O        it stays deleted
//	L -,  O -      N is put there
//	else, N        L stays, and N is put beside it as PATH.relkit-new
//	else, N -      L stays
//
// Whatever N is put beside L is one more step of the same transaction, a Place,
// or a Swap where an earlier one lies there: it appears and goes with the rest,
// a power cut included. What stays is no step at all and never touched.

// NewSuffix is what the name of a new version ends in that lies beside the one
// its owner has changed.
const NewSuffix = ".relkit-new"

// isConfig tells whether a change is of a config file: a folder is none, and
// neither is a name of a hard-link group, which is one inode for all its names.
func (s *Survey) isConfig(l *look) bool {
	if !s.config.Covers(l.path()) {
		return false
	}
	for _, e := range []*manifest.Entry{l.Old, l.New} {
		if e != nil && (e.Kind == manifest.Dir || e.Link != 0) {
			return false
		}
	}
	return true
}

// modified says how the place of a change is not as the patch expects it, "" where it is.
func (s *Survey) modified(l *look) string {
	switch {
	case l.Old == nil && l.found:
		return "exists and the patch would create it"
	case l.Old == nil && s.o.Deleted[l.path()] && s.isConfig(l):
		return "was deleted"
	case l.Old == nil:
		return ""
	case !l.found:
		return "does not exist"
	}
	why := differs(l.live, l.Old, false)
	if why == "" && l.Old.Kind != manifest.Dir && l.Old.Link == 0 && l.info.Links > 1 {
		why = fmt.Sprintf("has %d names (hard links), 1 expected", l.info.Links)
	}
	return why
}

// spreadNames has all names of a hard-link group share the fate of one that was
// changed: they are one inode before, after, or both.
func spreadNames(looks []look, why []string) {
	for again := true; again; {
		again = false
		old, new := map[int]bool{}, map[int]bool{}
		for i, l := range looks {
			if why[i] != "" {
				mark(old, l.Old)
				mark(new, l.New)
			}
		}
		for i, l := range looks {
			if why[i] == "" && (l.Old != nil && old[l.Old.Link] || l.New != nil && new[l.New.Link]) {
				why[i], again = "is a name of a file that was changed", true
			}
		}
	}
}

func mark(groups map[int]bool, e *manifest.Entry) {
	if e != nil && e.Link != 0 {
		groups[e.Link] = true
	}
}

// settle decides about a path that was changed, and why tells how. It returns
// what is to be done, if anything.
func (s *Survey) settle(ctx context.Context, l *look, why string) ([]look, error) {
	config := s.isConfig(l)
	switch {
	case l.New == nil && !l.found:
		s.Already++
		return nil, nil
	case s.o.OnModified == OnModifiedReplace:
		return s.replace(l, why), nil
	case config && l.found && sameBytes(l.live, l.New):
		s.Already++ // its owner's mode and times stay
		return nil, nil
	case config && l.found && sameBytes(l.live, l.Old):
		return []look{withOwners(l)}, nil
	case config, s.o.OnModified == OnModifiedKeep && keepable(l):
		return s.keep(ctx, l)
	}
	s.mismatch(l.path(), "%s", why)
	return nil, nil
}

// sameBytes tells whether two entries are files with the same content.
func sameBytes(a, b *manifest.Entry) bool {
	return a != nil && b != nil && a.Kind == manifest.File && b.Kind == manifest.File && a.Size == b.Size && a.Digest == b.Digest
}

// withOwners replaces or removes a file of which only the metadata was changed:
// what its owner changed of that stays, as dpkg has it.
func withOwners(l *look) look {
	c, done := *l.Change, *l
	if c.New != nil {
		e := ownersOf(l.live, c.Old, c.New)
		c.New = &e
	}
	c.Old = l.live
	done.Change, done.replaced = &c, true
	return done
}

// keepable tells whether a path can stay as it is whatever the patch does around
// it: not where a folder comes or goes, which is a matter of what it holds.
func keepable(l *look) bool {
	if l.Old == nil || l.New == nil {
		return !isDir(l.Old) && !isDir(l.New)
	}
	return isDir(l.Old) == isDir(l.New)
}

// keep leaves a path as it is, and puts the patch's version beside it where the
// patch has one that is not what its owner began with.
func (s *Survey) keep(ctx context.Context, l *look) ([]look, error) {
	d := journal.Deviation{Path: manifest.Escape(l.path()), Outcome: journal.Kept}
	var beside []look
	switch {
	case !l.found:
		d.Outcome = journal.StaysDeleted
	case l.New == nil:
		d.Outcome = journal.KeptRemoved
	case isDir(l.New) || sameBytes(l.Old, l.New) || s.o.Repair:
	default:
		n, there, err := s.beside(ctx, l)
		if err != nil {
			return nil, err
		}
		if n == nil && !there {
			return nil, nil // told as a mismatch
		}
		d.New = manifest.Escape(l.path() + NewSuffix)
		if n != nil {
			beside = append(beside, *n)
		}
	}
	s.Deviations = append(s.Deviations, d)
	return beside, nil
}

// beside is the change that puts the patch's version of a file beside the one
// that stays; nil and true where it lies there already.
func (s *Survey) beside(ctx context.Context, l *look) (*look, bool, error) {
	path := l.path() + NewSuffix
	e := *l.New
	e.Path, e.Link = path, 0
	n := look{Change: &patch.Change{New: &e, Content: l.Content, Base: l.Base}, index: l.index, replaced: true}
	if err := s.look(&n); err != nil {
		return nil, false, err
	}
	if !n.found {
		return &n, false, nil
	}
	if n.live.Kind == manifest.Dir || n.live.Kind == manifest.Socket || n.live.Kind == manifest.Unknown {
		s.mismatch(path, "is a %s, and the new version of %q would be put there", n.live.Kind, l.path())
		return nil, false, nil
	}
	if n.live.Kind == manifest.File {
		var err error
		if n.live.Digest, err = hashFile(ctx, s.root, path, n.info); err != nil {
			return nil, false, fmt.Errorf("reading the tree: %w", err)
		}
	}
	if n.isNew(true) && n.alone() {
		return nil, true, nil
	}
	n.Old = n.live
	return &n, false, nil
}

// replace puts the patch's version in place whatever stands there, which becomes
// the rollback copy.
func (s *Survey) replace(l *look, why string) []look {
	if n := l.New; n != nil && n.Kind == manifest.File && n.Size > 0 && l.Content < 0 && l.Base < 0 && !sameBytes(l.live, n) {
		s.mismatch(l.path(), "%s, and the patch does not carry its content", why)
		s.NeedsFull = true
		return nil
	}
	c, done := *l.Change, *l
	c.Old = nil
	if l.found {
		if l.live.Kind == manifest.Socket || l.live.Kind == manifest.Unknown {
			s.mismatch(l.path(), "%s", why)
			return nil
		}
		c.Old = l.live
		s.Replaced = append(s.Replaced, l.path())
	}
	done.Change, done.replaced = &c, true
	return []look{done}
}

// Touched are the paths of the patch.
func (s *Survey) Touched() []string {
	paths := make([]string, len(s.entries.Changes))
	for i := range s.entries.Changes {
		paths[i] = s.entries.Changes[i].Path()
	}
	return paths
}
