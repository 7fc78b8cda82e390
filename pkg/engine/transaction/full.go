package transaction

import (
	"fmt"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/glob"
	"github.com/relkit/relkit/pkg/format/identity"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
)

// A full patch says what its product manages, and so what is not there any more:
// what is managed, is not in the patch and is not of those that never belong to
// the product is removed. Each is a Take like any other: it lies in the slot until
// the transaction is freed, and comes back with it, a power cut included.
//
// Left alone are relkit's own places, what it has put beside files, what makes a
// machine that one machine (host keys, its id), config files, what is no file, link, pipe, device or folder, and every file system on which
// the patch puts nothing: /proc, or a disk of data.

// unnamed finds what a full patch removes.
type unnamed struct {
	s              *Survey
	managed, never glob.Set
	// identity are the files that are of this machine alone.
	identity [2]glob.Set
	// named are the paths of the patch; holds are the folders above them.
	named, holds map[string]bool
	found        []look
}

// removals are the changes that remove what is managed and not in the patch.
func (s *Survey) removals(looks []look) ([]look, error) {
	if len(s.o.Managed) == 0 || s.o.Repair {
		return nil, nil
	}
	u := &unnamed{s: s, identity: [2]glob.Set{identity.Emptied(), identity.Dropped()}, named: map[string]bool{}, holds: map[string]bool{".": true}}
	var err error
	if u.managed, err = glob.ParseSet(s.o.Managed); err == nil {
		u.never, err = glob.ParseSet(s.o.Never)
	}
	if err != nil {
		return nil, failure.As(failure.Untrusted, fmt.Errorf("what the product manages: %w", err))
	}
	for i := range looks {
		path := looks[i].path()
		u.named[path] = true
		for path = manifest.Parent(path); !u.holds[path]; path = manifest.Parent(path) {
			u.holds[path] = true
		}
	}
	err = u.walk(".")
	return u.found, err
}

// walk looks through a folder that is there.
func (u *unnamed) walk(dir string) error {
	names, err := u.s.root.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("looking into %q: %w", dir, err)
	}
	for _, name := range names {
		if err := u.visit(join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func (u *unnamed) visit(path string) error {
	if u.never.Covers(path) || u.s.o.allowed(path) != nil || isAside(path) || u.identity[0].Match(path) || u.identity[1].Match(path) {
		return nil
	}
	info, there, err := present(u.s.root, path)
	if err != nil || !there {
		return err
	}
	remove := !u.named[path] && !u.holds[path] && u.managed.Covers(path)
	if info.Kind == manifest.Dir {
		g, err := u.s.tops.look(path)
		if err != nil {
			return fmt.Errorf("looking at %q: %w", path, err)
		}
		if g.place.MountPoint && !u.holds[path] {
			return nil
		}
		if err := u.walk(path); err != nil || !remove || g.place.MountPoint {
			return err
		}
	}
	if !remove || info.Kind == manifest.Socket || info.Kind == manifest.Unknown {
		return nil
	}
	if info.Kind != manifest.Dir && u.s.config.Covers(path) && u.s.o.OnModified != OnModifiedReplace {
		return nil
	}
	e, err := live(u.s.root, path, info)
	if err != nil {
		return fmt.Errorf("looking at %q: %w", path, err)
	}
	u.found = append(u.found, look{Change: &patch.Change{Old: e, Content: -1, Base: -1}, index: -1, info: info, found: true, live: e, replaced: true})
	return nil
}

// isAside tells whether a name is one that relkit gives.
func isAside(path string) bool {
	name := path[strings.LastIndexByte(path, '/')+1:]
	return strings.HasSuffix(name, NewSuffix) || strings.Contains(name, SavedSuffix) || strings.Contains(name, OldSuffix)
}

// Removed are the paths that go because they are managed and not in the full
// patch; a folder that holds something else is among Kept instead.
func (s *Survey) Removed() []string {
	var paths []string
	for i := range s.Plan.Steps {
		step := &s.Plan.Steps[i]
		if step.Do == journal.Take && s.change[i] < 0 {
			paths = append(paths, step.Path())
		}
	}
	slices.SortFunc(paths, manifest.Compare)
	return paths
}
