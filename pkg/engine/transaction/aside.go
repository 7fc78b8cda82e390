package transaction

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
)

// What somebody else has put where the old side belongs is never lost on the
// way back: it gets a name beside the path, PATH.relkit-saved.

// aside is one thing that was given another name.
type aside struct{ from, to string }

// keep notes something for the journal and the user.
func (x *Tx) keep(path string) { x.kept = append(x.kept, manifest.Escape(path)) }

// setAside renames something that is in the way.
func (x *Tx) setAside(top int, path string) error {
	name, err := x.savedName(path)
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

func (x *Tx) savedName(path string) (string, error) {
	for n := 1; n < 1000; n++ {
		name := path + ".relkit-saved"
		if n > 1 {
			name = fmt.Sprintf("%s.%d", name, n)
		}
		_, there, err := present(x.Root, name)
		if err != nil || !there {
			return name, err
		}
	}
	return "", errors.New("too many saved copies beside " + path)
}

// saveDisplaced gives a name to what backward took out of step i's path, where
// it is not what the patch had put there: changed since, or another's.
//
// known are the paths that the patch made: a power cut may leave some of them in
// a folder that never got to its place, and they are nobody else's.
func (x *Tx) saveDisplaced(i int, known map[string]bool) error {
	step, slot := &x.plan.Steps[i], x.slot(i)
	if step.Do == journal.Take {
		return nil
	}
	if step.Do == journal.Swap && !x.plan.Tops[step.Top].Exchange && !isDir(step.Old) {
		slot += undoSuffix
	}
	info, inSlot, err := present(x.Root, slot)
	if err != nil || !inSlot {
		return err
	}
	e := step.New
	if info.Ino == step.NewInode && info.Kind == e.Kind {
		switch info.Kind {
		case manifest.File:
			if info.Size == e.Size && info.ModTime == e.ModTime {
				return nil
			}
		case manifest.Dir:
			names, err := x.Root.ReadDir(slot)
			if err != nil || !slices.ContainsFunc(names, func(n string) bool { return !known[join(e.Path, n)] }) {
				return err
			}
		default:
			return nil // a link, pipe or device has no content to change
		}
	}
	name, err := x.savedName(step.Path())
	if err != nil {
		return err
	}
	return x.moveAside(step.Top, slot, name)
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
