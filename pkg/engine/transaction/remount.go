package transaction

import (
	"fmt"
	"slices"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// A file system that is mounted read-only is made writable for as long as a
// transaction works on it, where the machine's configuration names it. The journal
// says so before it is done, in the record that opens the work (Begin, Rollback,
// Freeing, Committing of what waited or was taken back), and it is undone before the record that closes it (Ready, Applied,
// Awaiting, Freed): so whoever finds an open journal knows what to put back. A cut
// of the power needs nothing put back, a remount does not outlive it; Recover makes
// the file system writable anew and leaves it as the record says.

// readOnly looks at the tops that are mounted read-only. Those below a mount point of
// allowed are to be remounted; the others are in the way.
func (p *places) readOnly(allowed []string) ([]*journal.Remount, error) {
	all := make([]*journal.Remount, len(p.tops.paths))
	for i, top := range p.tops.paths {
		m := p.tops.mounts[i]
		if !m.Any() {
			continue
		}
		at, found, err := p.tops.mountPoint(i)
		if err != nil {
			return nil, fmt.Errorf("looking at %q: %w", top, err)
		}
		switch {
		case found && slices.Contains(allowed, at):
			all[i] = &journal.Remount{At: manifest.Escape(at), Mount: m.ReadOnly.Mount, FileSystem: m.FileSystem}
		case found:
			p.blocked(at, "is mounted read-only, and machine.toml does not have it in mounts.remount")
			p.fix("mount -o remount,rw", at)
		default:
			p.blocked(top, "is mounted read-only")
		}
	}
	return all, nil
}

// remounts are the mounts that the work under way makes writable: of the record
// that opened it.
func (x *Tx) remounts() []journal.Remount {
	var all []journal.Remount
	for _, r := range slices.Backward(x.Journal.Records) {
		if len(r.Tops) == 0 {
			continue
		}
		for _, top := range r.Tops {
			if top.Remount != nil && !slices.Contains(all, *top.Remount) {
				all = append(all, *top.Remount)
			}
		}
		return all
	}
	return nil
}

// writable makes the mounts writable that the work under way needs so.
func (x *Tx) writable() error {
	for _, r := range x.remounts() {
		if err := x.remount(r, fsys.ReadOnly{}); err != nil {
			return failure.WithHint(err, "mount -o remount,rw %s", failure.Word("/"+r.At))
		}
	}
	return nil
}

// remount brings a mount into a state, where it is in another.
func (x *Tx) remount(r journal.Remount, to fsys.ReadOnly) error {
	at, err := manifest.Unescape(r.At)
	if err != nil {
		return err
	}
	is, err := x.Root.Mount(at)
	if err == nil && is.ReadOnly != to {
		err = x.Root.Remount(at, to)
	}
	return err
}

// A mount that something writes to is tried again, a second long in all.
const (
	remountTries = 5
	remountPause = 250 * time.Millisecond
)

// readOnlyAgain puts the mounts back that writable has changed. That it could not
// changes nothing about the tree, and is told.
func (x *Tx) readOnlyAgain() {
	for _, r := range x.remounts() {
		was := fsys.ReadOnly{Mount: r.Mount, FileSystem: r.FileSystem}
		err := x.remount(r, was)
		for try := 1; err != nil && try < remountTries; try++ {
			time.Sleep(remountPause) // what has a file open for writing may be about to end
			err = x.remount(r, was)
		}
		if err != nil {
			word := failure.Word("/" + r.At)
			x.Log.Warn("a file system that was mounted read-only stays writable", "path", r.At, "err", err,
				"hint", fmt.Sprintf("fuser -vm %s; mount -o remount,ro %s", word, word))
		}
	}
}

// checkPlaces looks whether a transaction can be committed, taken back (back is
// true then) or, with no plan, its copies given up where things are now, and
// answers its tops with how they are mounted.
func (x *Tx) checkPlaces(plan *journal.Plan, back bool) ([]journal.Top, error) {
	begin := x.Journal.Find(journal.Begin)
	tops, allowed := newTops(x.Root), slices.Clone(x.Remount)
	for _, top := range begin.Tops {
		path, err := manifest.Unescape(top.Path)
		if err != nil {
			return nil, err
		}
		if _, err := tops.add(path); err != nil {
			return nil, fmt.Errorf("looking at %q: %w", path, err)
		}
		if top.Remount != nil { // it was allowed when the patch was applied
			at, err := manifest.Unescape(top.Remount.At)
			if err != nil {
				return nil, err
			}
			allowed = append(allowed, at)
		}
	}
	p := newPlaces(tops)
	remounts, err := p.readOnly(allowed)
	if err == nil && plan != nil {
		err = p.check(plan, back)
	}
	if err == nil && plan != nil {
		err = p.within(plan)
	}
	if err == nil {
		err = p.refusal(x.Path)
	}
	now := slices.Clone(begin.Tops)
	for i := range remounts {
		now[i].Remount = remounts[i]
	}
	return now, err
}
