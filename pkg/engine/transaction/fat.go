package transaction

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// vfat and exfat, as a machine's EFI system partition or /boot, keep neither owners
// nor modes nor extended attributes, and times to two seconds: all that a mount
// shows of them is the mount's. What a patch says of them is therefore not held
// against what is there, and not set; content, kinds and names are. Links, devices
// and pipes they cannot hold, nor two names that differ in the case of letters
// alone: a patch with such is refused before anything is touched.

func isFAT(kind string) bool { return kind == "vfat" || kind == "exfat" || kind == "msdos" }

// heldByFAT is what a FAT file system keeps of want, the rest being as live shows it.
func heldByFAT(live, want *manifest.Entry) *manifest.Entry {
	if want == nil {
		return nil
	}
	e := *want
	e.Xattrs = nil
	if live == nil || live.Kind != e.Kind {
		return &e
	}
	e.UID, e.GID, e.Mode = live.UID, live.GID, live.Mode
	if d := live.ModTime.Sec - e.ModTime.Sec; d >= -2 && d <= 2 {
		e.ModTime = live.ModTime
	}
	return &e
}

// maxFAT is the size of the largest file of vfat, in bytes.
const maxFAT = 1<<32 - 1

// fat looks at what a plan would put on FAT file systems.
func (p *places) fat(steps []look) {
	names := map[string]string{}
	for _, l := range steps {
		if l.New == nil || !l.fat {
			continue
		}
		path := l.path()
		base := path[strings.LastIndexByte(path, '/')+1:]
		folded := strings.ToLower(path)
		switch first, taken := names[folded]; {
		case l.New.Kind != manifest.File && l.New.Kind != manifest.Dir:
			p.blocked(path, "would be a %s, which vfat cannot hold", l.New.Kind)
		case l.New.Link != 0:
			p.blocked(path, "would be a hard link, which vfat cannot hold")
		case l.New.Size > maxFAT:
			p.blocked(path, "would have %d bytes, vfat holds %d", l.New.Size, int64(maxFAT))
		case taken:
			p.blocked(path, "differs from %q in the case of letters only, which vfat does not tell apart", first)
		case !utf8.ValidString(base) || strings.ContainsAny(base, `"*:<>?\|`) || strings.ContainsFunc(base, func(r rune) bool { return r < ' ' || r == 0x7f }):
			p.blocked(path, "has a name that vfat cannot hold")
		case strings.HasSuffix(base, ".") || strings.HasSuffix(base, " "):
			p.blocked(path, "has a name that ends in a dot or a space, which vfat drops")
		}
		names[folded] = path
	}
}

// otherCase tells of a name that a look found on a FAT file system how it is
// written there, where that is not as the patch writes it.
func (s *Survey) otherCase(path string) (string, error) {
	names, err := s.root.ReadDir(manifest.Parent(path))
	if err != nil {
		return "", err
	}
	base := path[strings.LastIndexByte(path, '/')+1:]
	other := ""
	for _, name := range names {
		if name == base {
			return "", nil
		}
		if strings.EqualFold(name, base) {
			other = name
		}
	}
	return other, nil
}

// adapt has a change on a FAT file system ask for no more than that can keep.
func (s *Survey) adapt(l *look) error {
	kind, known := s.tops.types[l.info.Dev]
	if !l.found || !known {
		var err error
		if kind, err = s.tops.typeOf(l.path()); err != nil {
			return fmt.Errorf("looking at %q: %w", l.path(), err)
		}
	}
	if !isFAT(kind) {
		return nil
	}
	c := *l.Change
	c.Old, c.New = heldByFAT(l.live, c.Old), heldByFAT(l.live, c.New)
	l.Change, l.fat = &c, true
	if !l.found || c.Old != nil {
		return nil
	}
	other, err := s.otherCase(l.path())
	if err == nil && other != "" {
		s.mismatch(l.path(), "is there as %q, and vfat does not tell the case of letters apart", other)
	}
	return err
}

// asKept notes in a new entry what its file system has kept of it.
func (st *stager) asKept(i int) error {
	step, name := &st.x.plan.Steps[i], st.x.slot(i)
	if err := st.x.Root.SetModTime(name, step.New.ModTime); err != nil {
		return err
	}
	info, err := st.x.Root.Lstat(name)
	if err == nil {
		step.New.UID, step.New.GID, step.New.Mode, step.New.ModTime = info.UID, info.GID, info.Mode, info.ModTime
	}
	return err
}
