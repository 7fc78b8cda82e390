package transaction

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// What somebody else has put where the old side belongs is never lost on the
// way back: it gets a name beside the path, PATH.relkit-saved.

// SavedSuffix is what such a name ends in, with a number behind it where it was taken.
const SavedSuffix = ".relkit-saved"

// aside is one thing that was given another name.
type aside struct{ from, to string }

// keep notes something for the journal and the user.
func (x *Tx) keep(path string) { x.kept = append(x.kept, manifest.Escape(path)) }

// setAside renames something that is in the way.
func (x *Tx) setAside(top int, path string) error {
	name, err := x.freeName(path, SavedSuffix)
	if err != nil {
		return err
	}
	return x.moveAside(top, path, name)
}

func (x *Tx) moveAside(top int, from, to string) error {
	info, err := x.Root.Lstat(from)
	if err != nil {
		return err
	}
	if err := x.moveTo(top, from, to); err != nil {
		return err
	}
	x.asides = append(x.asides, aside{from, to})
	x.keep(to)
	// A program that was put out of use does not keep its privileges.
	if info.Kind == manifest.File && info.Mode&0o6000 != 0 {
		return x.Root.Chmod(to, info.Mode&^0o6000)
	}
	return nil
}

// freeName is the first name beside path, with that suffix and a number, that
// nothing has. A name that is too long with those loses its end, a character at a
// time: some file systems take less than a manifest does, and only they can say.
func (x *Tx) freeName(path, suffix string) (string, error) {
	stem, base := path, strings.LastIndex(path, "/")+1
	for n := 1; n < 1000; {
		name := stem + suffix
		if n > 1 {
			name = fmt.Sprintf("%s.%d", name, n)
		}
		_, there, err := present(x.Root, name)
		_, last := utf8.DecodeLastRuneInString(stem)
		switch tooLong := !manifest.ValidPath(name) || fsys.IsNameTooLong(err); {
		case tooLong && len(stem)-last > base:
			stem = stem[:len(stem)-last]
		case err != nil || !there:
			return name, err
		default:
			n++
		}
	}
	return "", fmt.Errorf("%q and 998 more are there already", stem+suffix)
}

// saveDisplaced gives a name to what backward took out of step i's path, where
// it is not what the patch had put there: changed since, or another's.
//
// known are the paths that the patch made: a power cut may leave some of them in
// a folder that never got to its place, and they are nobody else's.
func (x *Tx) saveDisplaced(i int, known map[string]bool) error {
	step := &x.plan.Steps[i]
	if step.Do == journal.Take || x.decided.owners[i] {
		return nil // saveEdited does, once its metadata was read
	}
	for _, slot := range []string{x.slot(i), x.slot(i) + undoSuffix} {
		info, inSlot, err := present(x.Root, slot)
		if err != nil {
			return err
		}
		if !inSlot {
			continue
		}
		ours, err := x.isOurs(slot, info, step, known)
		ours = ours && !x.decided.saved[i] // which is known to be changed, however it looks
		if err != nil {
			return err
		}
		if ours {
			continue
		}
		name, err := x.freeName(step.Path(), SavedSuffix)
		if err != nil {
			return err
		}
		if err := x.moveAside(step.Top, slot, name); err != nil {
			return err
		}
	}
	return nil
}

// isOurs tells whether what lies in a slot is what the patch had put in place:
// the old side, or the new one unchanged and without anything of others in it.
func (x *Tx) isOurs(slot string, info fsys.Info, step *journal.Step, known map[string]bool) (bool, error) {
	e := step.New
	lasts := !x.plan.Tops[step.Top].Renumbers
	if step.Old != nil && lasts && info.Ino == step.OldInode && fits(info, step.Old) {
		return true, nil
	}
	switch {
	case info.Kind != e.Kind:
		return false, nil
	case info.Kind == manifest.Dir:
		strange, err := x.holdsStranger(slot, e.Path, known)
		return !strange, err
	case !lasts && step.Old != nil:
		is, err := x.identify(slot, info, step)
		return is != neither, err
	case info.Ino != step.NewInode || !lasts:
		return x.looksLike(slot, info, e)
	}
	// A link, pipe or device has no content to change.
	return info.Kind != manifest.File || info.Size == e.Size && info.ModTime == e.ModTime, nil
}

// holdsStranger tells whether a folder that stood at path holds, at any depth,
// what the patch did not make.
func (x *Tx) holdsStranger(dir, path string, known map[string]bool) (bool, error) {
	names, err := x.Root.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if !known[join(path, name)] {
			return true, nil
		}
		info, err := x.Root.Lstat(join(dir, name))
		if err != nil {
			return false, err
		}
		if info.Kind != manifest.Dir {
			continue
		}
		if strange, err := x.holdsStranger(join(dir, name), join(path, name), known); err != nil || strange {
			return strange, err
		}
	}
	return false, nil
}

func isSlotPath(path string) bool {
	return strings.HasPrefix(path, SlotsDir+"/") || strings.Contains(path, "/"+SlotsDir+"/")
}

// unsetAside gives things their old names again: those that were in slots before
// the steps go forward once more, those that were in the way afterwards.
func (x *Tx) unsetAside(inSlots bool) error {
	var rest []aside
	for i := len(x.asides) - 1; i >= 0; i-- {
		a := x.asides[i]
		if isSlotPath(a.from) != inSlots {
			rest = append([]aside{a}, rest...)
			continue
		}
		if err := x.renameExisting(a.to, a.from); err != nil {
			return err
		}
	}
	x.asides = rest
	return nil
}
