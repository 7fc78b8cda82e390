package transaction

import (
	"fmt"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
)

// plan turns the changes to be done into steps, in this order:
//
//  1. what lies in a folder that becomes something else is taken, deepest first;
//  2. new things are placed and swapped in, a folder before what it holds, so
//     that a library is there before the program that wants it;
//  3. what is to go is taken, deepest first;
//  4. folders get their metadata, deepest first, their times last of all.
func (s *Survey) plan(todo []look) error {
	var before, place, take []look
	leaving := s.leaving(todo)
	for _, l := range todo {
		switch {
		case l.New == nil && below(leaving, l.path()):
			before = append(before, l)
		case l.New == nil:
			take = append(take, l)
		default:
			place = append(place, l)
		}
	}
	slices.Reverse(before)
	slices.Reverse(take)
	metas := map[string]*journal.Step{}
	s.places.fat(todo)
	for _, group := range [][]look{before, place, take} {
		for i := range group {
			if err := s.addStep(&group[i], todo, metas); err != nil {
				return err
			}
		}
	}
	return s.addMetas(metas)
}

// leaving are the folders that become something else.
func (s *Survey) leaving(todo []look) map[string]bool {
	folders := map[string]bool{}
	for _, l := range todo {
		if l.Old != nil && l.New != nil && l.Old.Kind == manifest.Dir && l.New.Kind != manifest.Dir {
			folders[l.path()] = true
		}
	}
	return folders
}

func below(folders map[string]bool, path string) bool {
	for len(folders) > 0 && path != "." {
		path = manifest.Parent(path)
		if folders[path] {
			return true
		}
	}
	return false
}

func isDir(e *manifest.Entry) bool { return e != nil && e.Kind == manifest.Dir }

// addStep adds the step of one change, and notes the folders whose times it moves.
func (s *Survey) addStep(l *look, todo []look, metas map[string]*journal.Step) error {
	path := l.path()
	if isDir(l.Old) && isDir(l.New) {
		metas[path] = &journal.Step{Do: journal.Meta, Old: l.live, New: l.New}
		return nil
	}
	if path == "." {
		return failure.Errorf(failure.Refused, "the top folder would become a %s", l.New.Kind)
	}
	if isDir(l.Old) {
		stays, err := s.holdsMore(path, todo)
		if err != nil {
			return err
		}
		if stays != "" && l.New != nil {
			s.places.blocked(path, "would become a %s and holds %q, which the patch does not know", l.New.Kind, stays)
		}
		if stays != "" {
			s.Kept = append(s.Kept, path)
			metas[path] = &journal.Step{Do: journal.Meta, Old: l.live, New: l.live}
			return nil
		}
	}
	return s.addRename(l, metas)
}

func (s *Survey) addRename(l *look, metas map[string]*journal.Step) error {
	path, parent := l.path(), manifest.Parent(l.path())
	top, err := s.tops.find(parent)
	if err != nil {
		return fmt.Errorf("looking at %q: %w", parent, err)
	}
	step := journal.Step{Do: journal.Swap, Top: top, Old: l.live, New: l.New}
	switch {
	case l.Old == nil:
		step.Do, step.Old = journal.Place, nil
	case l.New == nil:
		step.Do = journal.Take
	}
	if l.Old != nil {
		step.OldInode, step.OldChange, step.OldLinks = l.info.Ino, l.info.ChangeTime, l.info.Links
	}
	s.Plan.Steps = append(s.Plan.Steps, step)
	s.change = append(s.change, l.index)
	if isDir(l.Old) || isDir(l.New) {
		m := &journal.Step{Do: journal.Meta}
		if isDir(l.Old) {
			m.Old = l.live
		}
		if isDir(l.New) {
			m.New = l.New
		}
		metas[path] = m
	}
	if metas[parent] == nil {
		metas[parent] = &journal.Step{Do: journal.Meta} // filled in by addMetas
	}
	return nil
}

// holdsMore names something in a folder that no change removes, "" for nothing.
func (s *Survey) holdsMore(path string, todo []look) (string, error) {
	names, err := s.root.ReadDir(path)
	if err != nil {
		return "", fmt.Errorf("looking into %q: %w", path, err)
	}
	for _, name := range names {
		child := join(path, name)
		i, ok := slices.BinarySearchFunc(todo, child, func(l look, p string) int { return manifest.Compare(l.path(), p) })
		if !ok || todo[i].New != nil || slices.Contains(s.Kept, child) {
			return child, nil
		}
	}
	return "", nil
}

// addMetas adds the steps that set folders' metadata: of those that change, and
// of those that something is renamed in, which get back what they have. The top
// of each file system is among them, since making its slots moves its time.
func (s *Survey) addMetas(metas map[string]*journal.Step) error {
	for _, top := range s.tops.paths {
		if metas[top] == nil {
			metas[top] = &journal.Step{Do: journal.Meta}
		}
	}
	paths := make([]string, 0, len(metas))
	for path, m := range metas {
		paths = append(paths, path)
		if m.Old != nil || m.New != nil {
			continue
		}
		info, err := s.root.Lstat(path)
		if err != nil {
			return fmt.Errorf("looking at %q: %w", path, err)
		}
		if m.Old, err = live(s.root, path, info); err != nil {
			return fmt.Errorf("looking at %q: %w", path, err)
		}
		m.New = m.Old
	}
	slices.SortFunc(paths, func(a, b string) int { return manifest.Compare(b, a) })
	for _, path := range paths {
		top, err := s.tops.find(path)
		if err != nil {
			return fmt.Errorf("looking at %q: %w", path, err)
		}
		m := metas[path]
		m.Top = top
		s.Plan.Steps = append(s.Plan.Steps, *m)
		s.change = append(s.change, -1)
	}
	return s.measure()
}

// refuse ends a look at a tree that has places which cannot be changed.
func (s *Survey) refuse() (err error) {
	if s.remounts, err = s.places.readOnly(s.o.Remount); err != nil {
		return err
	}
	if err := s.places.check(s.Plan, false); err != nil {
		return err
	}
	s.places.links(s.Plan)
	return s.places.refusal(s.o.Root)
}

// measure adds up what staging takes on each file system, and refuses what does not fit.
func (s *Survey) measure() error {
	s.StageBytes = make([]int64, len(s.tops.paths))
	inodes := make([]uint64, len(s.tops.paths))
	groups := map[int]bool{}
	for i := range s.Plan.Steps {
		st := &s.Plan.Steps[i]
		if st.Do == journal.Meta || st.New == nil || groups[st.New.Link] {
			continue
		}
		if st.New.Link != 0 {
			groups[st.New.Link] = true
		}
		takes, err := s.takes(i)
		if err != nil {
			return err
		}
		s.StageBytes[st.Top] += takes
		inodes[st.Top]++
	}
	if err := s.refuse(); err != nil {
		return err
	}
	for i, top := range s.tops.paths {
		s.Plan.Tops = append(s.Plan.Tops, s.tops.plan(i))
		space, err := s.root.Space(top)
		if err != nil {
			return fmt.Errorf("looking at the free space of %q: %w", top, err)
		}
		bytes, spare := uint64(max(0, s.StageBytes[i])), s.o.Spare[top]
		switch {
		case bytes <= space.FreeBytes && inodes[i] <= space.FreeInodes:
		case bytes <= space.FreeBytes+spare.Bytes && inodes[i] <= space.FreeInodes+spare.Inodes:
			s.NeedsSpare = true
		default:
			return failure.Errorf(failure.Refused, "the file system of %q has %d bytes and %d inodes free, staging takes %d and %d",
				top, space.FreeBytes, space.FreeInodes, s.StageBytes[i], inodes[i])
		}
	}
	return nil
}

// manyHoles is the least size of a file whose holes are asked for, in bytes.
const manyHoles = 1 << 20

// takes is about the room that staging step i takes: less than the size for what
// will have holes. Should it take more, as a patch may lie about its holes,
// staging finds the disk full and undoes itself: nothing is visible by then.
func (s *Survey) takes(i int) (int64, error) {
	e := s.Plan.Steps[i].New
	c := &s.entries.Changes[s.change[i]]
	if c.Content >= 0 || e.Kind != manifest.File || e.Size < manyHoles {
		return e.Size - c.Holes, nil
	}
	from := e.Path
	if b, ok := s.entries.Base(c.Base); ok {
		from = b.Path
	}
	info, found, err := present(s.root, from)
	if err != nil || !found { // staging will tell
		return e.Size, err
	}
	return min(e.Size, info.Room), nil
}

// Describe is the plan in words, a line a step, as --dry-run prints it.
func (s *Survey) Describe() []string {
	lines := describeSteps(s.Plan)
	for _, path := range s.Kept {
		lines = append(lines, "keep folder "+manifest.Escape(path)+" (holds something the patch does not know)")
	}
	for _, d := range s.Deviations {
		lines = append(lines, "keep "+d.Path+" ("+d.Why()+")")
	}
	return lines
}

// Describe is the plan of a transaction that waits, in the same words.
func (x *Tx) Describe() []string { return describeSteps(x.plan) }

// describeSteps leaves out the metadata that stays as it is.
func describeSteps(p *journal.Plan) []string {
	var lines []string
	verbs := map[journal.Action]string{journal.Place: "create", journal.Swap: "replace", journal.Take: "remove", journal.Meta: "set metadata of"}
	for i := range p.Steps {
		st := &p.Steps[i]
		if st.Do == journal.Meta && (st.Old == nil || st.New == nil || st.Old.Equal(st.New)) {
			continue
		}
		e := st.New
		if e == nil {
			e = st.Old
		}
		lines = append(lines, describe(verbs[st.Do], e, st.Path()))
	}
	return lines
}

func describe(verb string, e *manifest.Entry, path string) string {
	kind := "folder"
	if e.Kind != manifest.Dir {
		kind = e.Kind.String()
	}
	return strings.Join([]string{verb, kind, manifest.Escape(path)}, " ")
}

// DescribeChange is a change of a patch in words, as Describe has a step's.
func DescribeChange(c *patch.Change) string {
	verb, e := "replace", c.New
	switch {
	case c.Old == nil:
		verb = "create"
	case c.New == nil:
		verb, e = "remove", c.Old
	case c.Old.Kind == manifest.Dir && c.New.Kind == manifest.Dir:
		verb = "set metadata of"
	}
	return describe(verb, e, c.Path())
}
