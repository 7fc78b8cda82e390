package transaction

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/glob"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Mismatch is a place that is not as the patch expects it.
type Mismatch struct {
	Path string
	Why  string
}

// Survey is what a look at the tree found, and the plan that follows from it.
type Survey struct {
	Plan *journal.Plan
	// Mismatches are what stands in the way; the plan is to be used only where there is none.
	Mismatches []Mismatch
	// Already counts the changes whose new side is there already.
	Already int
	// Kept are folders that the patch removes and that hold something else.
	Kept []string
	// Deviations are the paths that stay as somebody has made them; Replaced those
	// that are replaced all the same.
	Deviations []journal.Deviation
	Replaced   []string
	// Differing are the paths of the patch that are not as it has them.
	Differing []string
	// Changed are the paths that are not as the patch has them, in more than times,
	// whether they could be made so or not, but for config files and folders to remove.
	Changed []string
	// NeedsFull says that a mismatch is one that a full patch would not have: the
	// patch is built on content that was changed.
	NeedsFull bool
	// NeedsSpare says that there is room enough only once Options.Spare is given up.
	NeedsSpare bool
	// StageBytes is the size of all new content, by file system of Plan.Tops.
	StageBytes []int64

	root    fsys.FS
	entries *patch.Entries
	// change maps a step to the index of its change in entries, -1 for none.
	change []int
	tops   *tops
	config glob.Set
	o      Options
	places *places
	// remounts are the read-only mounts of Plan.Tops, nil where one is writable.
	remounts []*journal.Remount
	// unfolder are the paths that are no folders and become ones: below them is
	// nothing yet, whatever a link there leads to.
	unfolder map[string]bool
}

// Options are what a look at the tree needs to know beside the patch.
type Options struct {
	// Jobs is how many files are read at a time; 0 means 1.
	Jobs int
	// Protected are paths, relative to the root, that no change may touch or hold:
	// relkit's own state.
	Protected []string
	// Scripts has the top of the tree get a slot folder, for scripts, even where
	// nothing on its file system changes.
	Scripts bool
	// Full is for a patch without an old side: whatever stands where it puts
	// something is replaced, and kept as any old file is.
	Full bool
	// Managed and Never, with Full, are globs of what belongs to the product and of
	// what never does: see removals.
	Managed, Never []string
	// Repair, with Full, restores what differs in more than its times and removes
	// nothing.
	Repair bool
	// ConfigFiles are globs of files that belong to the machine's owner: what was
	// changed of them stays.
	ConfigFiles []string
	// OnModified says what to do about other paths that are not as the patch
	// expects them, and, where it is replace, about config files too; "" is abort.
	OnModified OnModified
	// Deleted are config files that are known to have been deleted by their owner:
	// what a full patch cannot see.
	Deleted map[string]bool
	// Remount are mount points, relative to the root, that may be made writable for
	// as long as a transaction works on them.
	Remount []string
	// Spare is the room that could be made on each file system, by its top folder:
	// it counts where there is no other.
	Spare map[string]Spare
	// Root is where the tree lies, for the commands in hints; "" for /.
	Root string
}

// Spare is room on a file system that could be made.
type Spare struct{ Bytes, Inodes uint64 }

// look is a change with what was found at its path.
type look struct {
	*patch.Change
	index int
	info  fsys.Info
	found bool
	live  *manifest.Entry
	// replaced says that what was found is not what the patch knows of.
	replaced bool
	fat      bool // its file system keeps what heldByFAT says
}

// Look verifies the tree against what the patch expects and plans the change.
// It changes nothing.
func Look(ctx context.Context, root fsys.FS, entries *patch.Entries, o Options) (*Survey, error) {
	s := &Survey{root: root, entries: entries, Plan: &journal.Plan{}, tops: newTops(root), o: o}
	var err error
	if s.config, err = glob.ParseSet(o.ConfigFiles); err != nil {
		return nil, failure.As(failure.Untrusted, fmt.Errorf("config files: %w", err))
	}
	s.places = newPlaces(s.tops)
	if o.Scripts {
		if _, err := s.tops.add("."); err != nil {
			return nil, err
		}
	}
	looks := make([]look, len(entries.Changes))
	s.unfolder = map[string]bool{}
	for i := range entries.Changes {
		looks[i].Change, looks[i].index = &entries.Changes[i], i
		if err := o.allowed(looks[i].path()); err != nil {
			return nil, err
		}
		err := s.look(&looks[i])
		if err == nil {
			err = s.adapt(&looks[i])
		}
		if err != nil {
			return nil, err
		}
	}
	if o.Full {
		removals, err := s.removals(looks)
		if err != nil {
			return nil, err
		}
		looks = append(looks, removals...)
		s.takeAsOld(looks)
	}
	if err := s.hash(ctx, looks, o.Jobs); err != nil {
		return nil, err
	}
	todo, err := s.judge(ctx, looks)
	if err != nil {
		return nil, err
	}
	if err := s.checkFolders(todo); err != nil {
		return nil, err
	}
	s.checkLinks(todo)
	if len(s.Mismatches) > 0 {
		return s, nil
	}
	return s, s.plan(todo)
}

// allowed refuses the places that are relkit's own.
func (o *Options) allowed(path string) error {
	for part := range strings.SplitSeq(path, "/") {
		if part == SlotsDir {
			return failure.Errorf(failure.Refused, "the patch would change %q, where relkit keeps its slots", path)
		}
	}
	for _, own := range o.Protected {
		if path == own || strings.HasPrefix(path, own+"/") {
			return failure.Errorf(failure.Refused, "the patch would change %q, where relkit keeps its state", path)
		}
	}
	return nil
}

// path is the path of a change.
func (l *look) path() string {
	if l.New != nil {
		return l.New.Path
	}
	return l.Old.Path
}

func (s *Survey) look(l *look) (err error) {
	path := l.path()
	if below(s.unfolder, path) {
		return nil
	}
	l.info, err = s.root.Lstat(path)
	switch {
	case fsys.IsAbsent(err):
		return nil
	case err != nil:
		return failure.As(failure.Refused, fmt.Errorf("looking at %q: %w", path, err))
	}
	l.found = true
	if l.info.Kind != manifest.Dir && isDir(l.New) {
		s.unfolder[path] = true
	}
	if l.info.Kind == manifest.Socket || l.info.Kind == manifest.Unknown {
		l.live = &manifest.Entry{Path: path, Kind: l.info.Kind}
		return nil
	}
	if l.live, err = live(s.root, path, l.info); err != nil {
		return fmt.Errorf("looking at %q: %w", path, err)
	}
	return nil
}

// takeAsOld makes what was found the old side of each change, less the config
// files: of those nobody can tell whether they are as they once came.
func (s *Survey) takeAsOld(looks []look) {
	groups := map[inode]int{}
	for i := range looks {
		l := &looks[i]
		if !l.found || l.live.Kind == manifest.Socket || s.o.OnModified != OnModifiedReplace && s.isConfig(l) {
			continue
		}
		if l.info.Links > 1 && l.live.Kind != manifest.Dir {
			key := inode{l.info.Dev, l.info.Ino}
			if groups[key] == 0 {
				groups[key] = len(groups) + 1
			}
			l.live.Link = groups[key]
		}
		c := *l.Change
		c.Old = l.live
		l.Change = &c
	}
}

// hash fills in the digests of the files found where their size could match,
// and verifies every base.
func (s *Survey) hash(ctx context.Context, looks []look, jobs int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, jobs))
	for i := range looks {
		l := &looks[i]
		if !l.found || l.live.Kind != manifest.File || !l.sizeFits() && s.o.OnModified != OnModifiedReplace {
			continue
		}
		g.Go(func() error {
			var err error
			l.live.Digest, err = hashFile(ctx, s.root, l.path(), l.info)
			return err
		})
	}
	bases := make([]string, len(s.entries.Bases))
	for i, b := range s.entries.Bases {
		g.Go(func() error {
			info, found, err := present(s.root, b.Path)
			if err != nil {
				return err
			}
			if !found || info.Kind != manifest.File || info.Size != b.Size {
				bases[i] = "is not the file that the patch is built on"
				return nil
			}
			got, err := hashFile(ctx, s.root, b.Path, info)
			if err == nil && got != b.Digest {
				bases[i] = fmt.Sprintf("content is %s, the patch is built on %s", got, b.Digest)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("reading the tree: %w", err)
	}
	for i, why := range bases {
		if why != "" {
			s.mismatch(s.entries.Bases[i].Path, "%s", why)
			s.NeedsFull = true
		}
	}
	return nil
}

func hashFile(ctx context.Context, root fsys.FS, path string, want fsys.Info) (digest.Digest, error) {
	if err := ctx.Err(); err != nil {
		return digest.Digest{}, context.Cause(ctx)
	}
	f, err := root.Open(path)
	if err != nil {
		return digest.Digest{}, err
	}
	defer f.Close()
	d, n, err := digest.OfReader(f)
	if err != nil {
		return d, err
	}
	after, err := f.Stat()
	if err != nil {
		return d, err
	}
	if !after.SameInode(want) || after.ChangeTime != want.ChangeTime || n != want.Size {
		return d, failure.Errorf(failure.Refused, "%q changed while it was read", path)
	}
	return d, nil
}

func (s *Survey) mismatch(path, format string, args ...any) {
	s.Mismatches = append(s.Mismatches, Mismatch{Path: path, Why: fmt.Sprintf(format, args...)})
}

// judge sorts the looks into those to be done, those done already, those that
// stay as somebody has made them, and mismatches.
func (s *Survey) judge(ctx context.Context, looks []look) ([]look, error) {
	done := s.linkedAlready(looks)
	why := make([]string, len(looks))
	already := make([]bool, len(looks))
	for i := range looks {
		l := &looks[i]
		already[i] = l.New == nil && !l.found || l.New != nil && l.New.Link == 0 && l.isNew(!s.o.Repair) && (s.o.Repair || l.alone()) || l.New != nil && done[l.New.Link]
		if already[i] {
			continue
		}
		why[i] = s.modified(l)
		changed := l.New == nil && !isDir(l.Old) || l.New != nil && (!l.found || differs(l.live, l.New, false) != "")
		if changed && !s.isConfig(l) {
			s.Changed = append(s.Changed, l.path())
		}
	}
	if s.o.OnModified == OnModifiedKeep || s.o.OnModified == OnModifiedReplace {
		spreadNames(looks, why)
	}
	var todo []look
	for i := range looks {
		switch {
		case already[i] && why[i] == "":
			s.Already++
		case why[i] == "":
			todo = append(todo, looks[i])
		default:
			more, err := s.settle(ctx, &looks[i], why[i])
			if err != nil {
				return nil, err
			}
			todo = append(todo, more...)
		}
	}
	slices.SortFunc(todo, func(a, b look) int { return manifest.Compare(a.path(), b.path()) })
	for i := range todo {
		s.Differing = append(s.Differing, todo[i].path())
	}
	for i := 1; i < len(todo); i++ {
		if todo[i].path() == todo[i-1].path() {
			s.mismatch(todo[i].path(), "is in the patch, and is where the new version of a file that was changed would be put")
		}
	}
	return todo, nil
}

// checkFolders holds that what the patch puts somewhere has a folder to lie in:
// one that is there, or one that the patch makes, which comes before.
func (s *Survey) checkFolders(todo []look) error {
	folders := map[string]bool{".": true}
	for _, l := range todo {
		if l.New == nil {
			continue
		}
		if isDir(l.New) {
			folders[l.path()] = true
		}
		parent := manifest.Parent(l.path())
		if folders[parent] {
			continue
		}
		info, there, err := present(s.root, parent)
		switch {
		case err != nil:
			return fmt.Errorf("looking at %q: %w", parent, err)
		case !there:
			s.mismatch(l.path(), "its folder does not exist")
		case info.Kind != manifest.Dir:
			s.mismatch(l.path(), "%q is a %s, not a folder", parent, info.Kind)
		default:
			folders[parent] = true
		}
	}
	return nil
}

// sizeFits tells whether a file's size alone does not say yet that it is neither side's.
func (l *look) sizeFits() bool {
	return l.Old != nil && l.Old.Size == l.live.Size || l.New != nil && l.New.Size == l.live.Size
}

// isNew tells whether what was found is what the patch has, times included or not.
func (l *look) isNew(times bool) bool { return l.found && differs(l.live, l.New, times) == "" }

// alone tells whether what was found has no second name: a file that is equal
// but hard-linked is not yet what the patch wants.
func (l *look) alone() bool { return l.info.Kind == manifest.Dir || l.info.Links == 1 }

// linkedAlready finds the new hard-link groups that are there already: every
// name as the patch would make it, all of one inode that has no other name.
// One name that is not makes the whole group something to do.
func (s *Survey) linkedAlready(looks []look) map[int]bool {
	inodes, names := map[int]fsys.Info{}, map[int]uint64{}
	done := map[int]bool{}
	for _, l := range looks {
		if l.New == nil || l.New.Link == 0 {
			continue
		}
		g := l.New.Link
		first, seen := inodes[g]
		if !seen {
			inodes[g], first, done[g] = l.info, l.info, true
		}
		names[g]++
		done[g] = done[g] && l.isNew(!s.o.Repair) && l.info.SameInode(first)
	}
	for g := range done {
		done[g] = done[g] && inodes[g].Links == names[g]
	}
	return done
}

// differs says how live is not the entry e, "" where it is. A file touched or
// a folder that something was made in is no difference unless times is set:
// times do not make a file another one, and the rollback copy keeps them.
func differs(live, e *manifest.Entry, times bool) string {
	switch {
	case live.Kind != e.Kind:
		return fmt.Sprintf("is a %s, not a %s", live.Kind, e.Kind)
	case live.Kind == manifest.File && (live.Size != e.Size || live.Digest != e.Digest):
		return "content was changed"
	case live.Target != e.Target:
		return fmt.Sprintf("points to %q, not to %q", live.Target, e.Target)
	case live.Major != e.Major || live.Minor != e.Minor:
		return fmt.Sprintf("is device %d:%d, not %d:%d", live.Major, live.Minor, e.Major, e.Minor)
	case live.Kind != manifest.Symlink && live.Mode != e.Mode:
		return fmt.Sprintf("mode is %04o, not %04o", live.Mode, e.Mode)
	case live.UID != e.UID || live.GID != e.GID:
		return fmt.Sprintf("owner is %d:%d, not %d:%d", live.UID, live.GID, e.UID, e.GID)
	case !sameXattrs(live.Xattrs, e.Xattrs):
		return "extended attributes were changed"
	case times && live.ModTime != e.ModTime:
		return "modification time differs"
	}
	return ""
}

// sameXattrs compares what an inode has with what is wanted; a security label
// that nobody asked for is the kernel's business.
func sameXattrs(live, want []manifest.Xattr) bool {
	if !slices.ContainsFunc(want, isLabel) && slices.ContainsFunc(live, isLabel) {
		live = slices.DeleteFunc(slices.Clone(live), isLabel)
	}
	return slices.EqualFunc(live, want, sameXattr)
}

func sameXattr(a, b manifest.Xattr) bool {
	return a.Name == b.Name && string(a.Value) == string(b.Value)
}

// checkLinks refuses hard-link groups with names which the patch does not know:
// an exchange would leave those names on the old content.
func (s *Survey) checkLinks(todo []look) {
	groups := map[int][]look{}
	for _, l := range todo {
		if l.Old == nil || l.Old.Kind == manifest.Dir || s.o.OnModified == OnModifiedReplace {
			continue
		}
		if l.Old.Link != 0 {
			groups[l.Old.Link] = append(groups[l.Old.Link], l)
		}
	}
	for _, g := range groups {
		for _, l := range g {
			if l.replaced {
				continue
			}
			if l.info.Links > uint64(len(g)) || l.info.Ino != g[0].info.Ino {
				s.mismatch(l.path(), "has %d names (hard links), %d expected", l.info.Links, len(g))
			}
		}
	}
	slices.SortFunc(s.Mismatches, func(a, b Mismatch) int { return manifest.Compare(a.Path, b.Path) })
}
