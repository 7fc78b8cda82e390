package transaction

import (
	"fmt"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// places looks, before anything is touched, whether each place that a plan changes
// can be changed at all. What it finds is refused in one list: met midway it would
// cost an undoing each time.
type places struct {
	tops *tops
	all  []Mismatch
	// fixes are commands that clear the way, and what they are for, in the order found.
	fixes []fix
	// seen are the inodes that the plan takes from a path.
	seen map[inode]string
	// folders are those that were looked at.
	folders map[string]bool
}

type fix struct {
	command string
	paths   []string
}

func newPlaces(t *tops) *places {
	return &places{tops: t, seen: map[inode]string{}, folders: map[string]bool{}}
}

func (p *places) blocked(path, format string, args ...any) {
	p.all = append(p.all, Mismatch{Path: path, Why: fmt.Sprintf(format, args...)})
}

// fix notes a command that takes paths and would clear the way.
func (p *places) fix(command, path string) {
	i := slices.IndexFunc(p.fixes, func(f fix) bool { return f.command == command })
	if i < 0 {
		i = len(p.fixes)
		p.fixes = append(p.fixes, fix{command: command})
	}
	if !slices.Contains(p.fixes[i].paths, path) {
		p.fixes[i].paths = append(p.fixes[i].paths, path)
	}
}

// check looks at every step of a plan; back is for taking it back.
func (p *places) check(plan *journal.Plan, back bool) error {
	for i := range plan.Steps {
		step := &plan.Steps[i]
		err := p.folder(step.Path(), step.Do == journal.Meta)
		if err == nil && step.Do != journal.Meta {
			err = p.path(step, back)
		}
		if err != nil {
			return fmt.Errorf("looking at %q: %w", step.Path(), err)
		}
	}
	return p.sameTops()
}

// folder looks at the folder that something is renamed in, or that gets metadata.
func (p *places) folder(path string, itself bool) error {
	if !itself {
		path = manifest.Parent(path)
	}
	if p.folders[path] {
		return nil
	}
	p.folders[path] = true
	g, err := p.tops.look(path)
	if fsys.IsUnreachable(err) || err == nil && g.info.Kind != manifest.Dir {
		return nil // it is made in this transaction
	}
	if err == nil {
		p.frozen(path, g.place)
	}
	return err
}

func (p *places) frozen(path string, at fsys.Place) bool {
	switch {
	case at.Immutable:
		p.blocked(path, "is immutable (chattr +i)")
		p.fix("chattr -i --", path)
	case at.AppendOnly:
		p.blocked(path, "is append-only (chattr +a)")
		p.fix("chattr -a --", path)
	}
	return at.Immutable || at.AppendOnly
}

// path looks at what a step renames away.
func (p *places) path(step *journal.Step, back bool) error {
	path := step.Path()
	info, there, err := present(p.tops.root, path)
	if err != nil || !there {
		return err
	}
	if !back && step.Do == journal.Place {
		return nil // survey has told of what is in the way
	}
	at, err := p.tops.root.Place(path)
	if err != nil {
		return err
	}
	above, err := p.tops.look(manifest.Parent(path))
	if err != nil {
		return err
	}
	here := ground{info, at}
	switch {
	case at.MountPoint || at.Mount != above.place.Mount:
		p.blocked(path, "is a mount point, which the patch would replace or remove")
		p.fix("umount --", path)
	case info.Kind == manifest.Dir && info.Dev != above.info.Dev:
		p.blocked(path, "is the top of a subvolume, which the patch would replace or remove")
	case p.frozen(path, at):
	case at.Swap:
		p.blocked(path, "is a swap file in use")
		p.fix("swapoff --", path)
	case above.place.Inherits && at.Project != above.place.Project && (info.Kind == manifest.Dir || info.Kind == manifest.File):
		p.blocked(path, "is of quota project %d, its folder of %d", at.Project, above.place.Project)
		p.fix(fmt.Sprintf("chattr -p %d --", above.place.Project), path)
	case info.Kind == manifest.Dir && here.project() != above.project():
		p.blocked(path, "is the top of quota project %d, which the patch would replace or remove", at.Project)
	}
	key := inode{info.Dev, info.Ino}
	if first, ok := p.seen[key]; ok && info.Links < 2 && info.Kind != manifest.Dir {
		p.blocked(path, "is the same file as %q, by another mount", first)
	}
	p.seen[key] = path
	return nil
}

// within holds that each path of a plan that was made earlier can still be reached
// by a rename from its slots: nothing was mounted above it since, or taken away
// again. A folder is told once, by where the other mount begins.
func (p *places) within(plan *journal.Plan) error {
	told := map[int]bool{}
	for i := range plan.Steps {
		step := &plan.Steps[i]
		folder := step.Path()
		if step.Do != journal.Meta {
			folder = manifest.Parent(folder)
		}
		is, err := p.tops.find(folder)
		if err != nil {
			return fmt.Errorf("looking at %q: %w", step.Path(), err)
		}
		if is == step.Top || told[is] {
			continue
		}
		told[is] = true
		at := p.tops.paths[is]
		p.blocked(at, "was mounted or unmounted since the patch was staged: %q lies elsewhere now", step.Path())
		if g, err := p.tops.look(at); err == nil && g.place.MountPoint && at != "." {
			p.fix("umount --", at)
		}
	}
	return nil
}

// sameTops refuses two tops that are one folder: their slots would be too.
func (p *places) sameTops() error {
	tops := map[inode]string{}
	for _, path := range p.tops.paths {
		g, err := p.tops.look(path)
		if err != nil {
			return err
		}
		key := inode{g.info.Dev, g.info.Ino}
		if first, ok := tops[key]; ok {
			p.blocked(path, "is the same folder as %q, by another mount, and the patch changes both", first)
		}
		tops[key] = path
	}
	return nil
}

// refusal is what was found as an error, nil for nothing; root is where the tree
// lies, for hints.
func (p *places) refusal(root string) error {
	if len(p.all) == 0 {
		return nil
	}
	const shown = 20
	text := "1 place cannot be changed"
	if n := len(p.all); n > 1 {
		text = fmt.Sprintf("%d places cannot be changed", n)
	}
	slices.SortStableFunc(p.all, func(a, b Mismatch) int { return manifest.Compare(a.Path, b.Path) })
	for i, m := range p.all {
		if i == shown {
			text += fmt.Sprintf("\n  … and %d more", len(p.all)-shown)
			break
		}
		text += fmt.Sprintf("\n  %s: %s", manifest.Escape(m.Path), m.Why)
	}
	err := failure.Errorf(failure.Refused, "%s", text)
	if len(p.fixes) == 0 {
		return err
	}
	return failure.WithHint(err, "%s", strings.Join(p.commands(root), "; "))
}

// commands are the fixes, ready to be pasted.
func (p *places) commands(root string) []string {
	var all []string
	for _, f := range p.fixes {
		line := f.command
		for _, path := range f.paths[:min(len(f.paths), 20)] {
			line += " " + failure.Word(strings.TrimSuffix(root, "/")+"/"+strings.TrimPrefix(path, "."))
		}
		all = append(all, line)
	}
	return all
}
