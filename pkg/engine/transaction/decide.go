package transaction

import (
	"context"
	"fmt"
	"slices"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/glob"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
)

// What somebody has changed of a config file since the patch was applied is never
// lost by a rollback, and does not stop it. L is what stands there, N what the
// patch had put there, O the rollback copy; a side that is not there is written -.
//
//	L = N but for its metadata    O comes back, with the mode, owner and attributes that were given since;
//	                              where somebody has written L since it was looked at, it becomes PATH.relkit-saved
//	L = O                         L stays
//	L -,  N,    O                 it stays deleted, and O is put beside it as PATH.relkit-old
//	else, N,    O                 L stays, and O is put beside it as PATH.relkit-old, unless O = N
//	L,    N -,  O                 O comes back, and L becomes PATH.relkit-saved
//	L,    N,    O -               nothing is there again, and L becomes PATH.relkit-saved
//	L -,  N,    O -               nothing to do
//
// A file that both versions have as a config file is its owner's in both, so that
// a rollback treats it as dpkg(1) does a conffile when an older package is
// installed over a newer one: what was set since (an address, a password) goes on
// being so. A file that only one of the two versions knows says nothing to the
// other: left in place, an old program would read the new one's conf.d, so there
// the old tree comes back as it was.
//
// O has no other copy on this machine, whence it is put beside even where an apply
// would put nothing. It is moved there out of its slot once the old tree is back,
// so a cut leaves it in one of the two places, and whoever completes the rollback
// moves what is still in the slot. A redo moves it back.

// OldSuffix is what the name of the version from before a patch ends in, which a
// rollback puts beside a config file that stays as its owner has changed it; with a
// number behind it where it was taken.
const OldSuffix = ".relkit-old"

// decider decides what a rollback does about config files.
type decider struct {
	r      *Rollback
	config glob.Set
}

func newDecider(r *Rollback) (*decider, error) {
	set, err := glob.ParseSet(r.x.Journal.Find(journal.Begin).ConfigFiles)
	if err != nil {
		return nil, fmt.Errorf("config files of transaction %s: %w", r.x.Journal.ID, err)
	}
	return &decider{r, set}, nil
}

// covers tells whether a step is about a config file: see Survey.isConfig.
func (d *decider) covers(step *journal.Step) bool {
	if step.Do == journal.Meta || !d.config.Covers(step.Path()) {
		return false
	}
	for _, e := range []*manifest.Entry{step.Old, step.New} {
		if e != nil && (e.Kind == manifest.Dir || e.Link != 0) {
			return false
		}
	}
	return true
}

// decide settles step i, at whose path live stands, nil for nothing, which is not as
// the transaction left it. done is false where that is not for it to decide.
func (d *decider) decide(i int, live *manifest.Entry) (done bool, err error) {
	x := d.r.x
	step := &x.plan.Steps[i]
	if !d.covers(step) || live != nil && live.Kind == manifest.Dir {
		return false, nil
	}
	switch {
	case step.Old == nil && live == nil:
		return true, nil
	case step.Do == journal.Take && sameContent(live, step.Old):
		return true, d.stays(i, journal.Kept, false)
	case step.Do != journal.Swap:
		return true, d.saves(i)
	case live == nil:
		if _, there, err := present(x.Root, manifest.Parent(step.Path())); err != nil || !there {
			return false, err // nothing can be put beside it
		}
		return true, d.stays(i, journal.StaysDeleted, !sameContent(step.Old, step.New))
	case sameBytes(live, step.New) && step.Old.Kind == manifest.File:
		return true, d.owners(i)
	}
	return true, d.stays(i, journal.Kept, !sameContent(live, step.Old) && !sameContent(step.Old, step.New))
}

// sameContent tells whether two entries are files with the same content, or links
// to the same place.
func sameContent(a, b *manifest.Entry) bool {
	link := a != nil && b != nil && a.Kind == manifest.Symlink && b.Kind == manifest.Symlink && a.Target == b.Target
	return link || sameBytes(a, b)
}

func (d *decider) met(i int, outcome journal.Outcome) *journal.Deviation {
	x := d.r.x
	d.r.Deviations = append(d.r.Deviations, journal.Deviation{
		Path: manifest.Escape(x.plan.Steps[i].Path()), Outcome: outcome, Patch: x.Journal.Find(journal.Begin).PatchID,
	})
	return &d.r.Deviations[len(d.r.Deviations)-1]
}

// stays leaves what is at the path, with the old side beside it where beside says so.
func (d *decider) stays(i int, outcome journal.Outcome, beside bool) error {
	x := d.r.x
	m := d.met(i, outcome)
	x.skip[i] = true
	if !beside {
		return nil
	}
	name, err := x.freeName(x.plan.Steps[i].Path(), OldSuffix)
	m.Old = manifest.Escape(name)
	d.r.decided.Beside = append(d.r.decided.Beside, i)
	return err
}

// saves has the old tree come back, and what stands at the path set aside.
func (d *decider) saves(i int) error {
	x := d.r.x
	name, err := x.freeName(x.plan.Steps[i].Path(), SavedSuffix)
	d.met(i, journal.Saved).Saved = manifest.Escape(name)
	d.r.decided.Saved = append(d.r.decided.Saved, i)
	return err
}

// owners has the old side come back with the metadata that the new one was given.
// What a FAT file system shows of that is its mount's.
func (d *decider) owners(i int) error {
	x := d.r.x
	m, err := x.Root.Mount(x.plan.Tops[x.plan.Steps[i].Top].Path)
	if err != nil || isFAT(m.Type) {
		return err
	}
	d.met(i, journal.MetadataKept)
	d.r.decided.Owners = append(d.r.decided.Owners, i)
	return nil
}

// replaceModified has files that were changed, and are replaced, set aside.
func (r *Rollback) replaceModified() {
	for _, i := range r.skip {
		if r.replaces(i) {
			r.decided.Saved = append(r.decided.Saved, i)
		}
	}
	slices.Sort(r.decided.Saved)
}

// replaces tells whether what stands at the path of step i is set aside by
// OnModifiedReplace.
func (r *Rollback) replaces(i int) bool {
	step := &r.x.plan.Steps[i]
	return step.Do != journal.Meta && !isDir(step.New) && r.lives[i] != nil && !isDir(r.lives[i])
}

// decisions are what the record of a rollback says about single steps.
type decisions struct{ beside, saved, owners map[int]bool }

func decisionsOf(r *journal.Record) decisions {
	set := func(all []int) map[int]bool {
		m := map[int]bool{}
		for _, i := range all {
			m[i] = true
		}
		return m
	}
	return decisions{set(r.Beside), set(r.Saved), set(r.Owners)}
}

// check holds that the record speaks of steps of the plan only.
func (x *Tx) checkDecisions(r *journal.Record) error {
	for _, all := range [][]int{r.Skip, r.Beside, r.Saved, r.Owners} {
		for _, i := range all {
			if i < 0 || i >= len(x.plan.Steps) {
				return failure.Errorf(failure.Mixed, "the journal of transaction %s speaks of step %d of %d", x.Journal.ID, i, len(x.plan.Steps))
			}
		}
	}
	return nil
}

// oldName is where the old side of step i lies while the transaction stands.
func (x *Tx) oldName(i int) string {
	if step := &x.plan.Steps[i]; step.Do == journal.Swap && !x.exchanges(step) {
		return x.slot(i) + oldSuffix
	}
	return x.slot(i)
}

// putBeside moves the old side of step i out of its slot to a name beside its path,
// which stays as it is.
func (x *Tx) putBeside(i int) error {
	from, path := x.oldName(i), x.plan.Steps[i].Path()
	_, there, err := present(x.Root, from)
	if err != nil || !there {
		return err // a run before this one has
	}
	name, err := x.freeName(path, OldSuffix)
	if err != nil {
		return err
	}
	return x.moveAside(x.plan.Steps[i].Top, from, name)
}

// displaced is what a rollback took from the path of step i; there is false for nothing.
func (x *Tx) displaced(i int) (name string, there bool, err error) {
	for _, name = range []string{x.slot(i) + undoSuffix, x.slot(i)} {
		if _, there, err = present(x.Root, name); err != nil || there {
			return name, there, err
		}
	}
	return name, false, nil
}

// setOwners gives the old side of step i, which is back, what was given to the new
// one since: that lies in its slot until the transaction is freed, so whoever
// completes a rollback finds it there.
func (x *Tx) setOwners(i int) error {
	step := &x.plan.Steps[i]
	name, there, err := x.displaced(i)
	if err != nil || !there {
		return err
	}
	info, err := x.Root.Lstat(name)
	if err != nil || info.Kind != step.New.Kind {
		return err
	}
	was, err := live(x.Root, name, info)
	if err != nil {
		return err
	}
	if info, err = x.Root.Lstat(step.Path()); err != nil || info.Kind != step.Old.Kind {
		return err
	}
	want := ownersOf(was, step.New, step.Old)
	return setMetadata(x.Root, step.Path(), info, &want, false)
}

// saveEdited gives a name to what was taken from the path of step i, and whose
// metadata the old side has, where its content is not the one that was verified:
// somebody wrote it after that, be it in the instant before the exchange or between
// a cut and the run that completes the rollback.
//
// Out of its slot it says nothing of the metadata any more, so the old side's is
// durable before: a cut leaves the edit in the slot, and both are done again, or
// beside the path, and nothing is left to be done.
func (x *Tx) saveEdited(i int) error {
	step := &x.plan.Steps[i]
	name, there, err := x.displaced(i)
	if err != nil || !there {
		return err
	}
	info, err := x.Root.Lstat(name)
	if err != nil {
		return err
	}
	if info.Kind == manifest.File && info.Size == step.New.Size {
		is, err := hashFile(context.Background(), x.Root, name, info)
		if err != nil || is == step.New.Digest {
			return err
		}
	}
	if info, there, err = present(x.Root, step.Path()); err == nil && there && info.Kind == manifest.File {
		err = x.Root.SyncFile(step.Path())
	}
	if err != nil {
		return err
	}
	to, err := x.freeName(step.Path(), SavedSuffix)
	if err != nil {
		return err
	}
	return x.moveAside(step.Top, name, to)
}

// ownersOf is e with the mode, owner and attributes in which is differs from was.
func ownersOf(is, was, e *manifest.Entry) manifest.Entry {
	done := *e
	if is.Mode != was.Mode {
		done.Mode = is.Mode
	}
	if is.UID != was.UID || is.GID != was.GID {
		done.UID, done.GID = is.UID, is.GID
	}
	if !sameXattrs(is.Xattrs, was.Xattrs) {
		done.Xattrs = is.Xattrs
	}
	return done
}

// unsetOwners gives the old sides, which are in their slots again, what they had.
func (x *Tx) unsetOwners() error {
	for i := range x.plan.Steps {
		if !x.decided.owners[i] {
			continue
		}
		name := x.oldName(i)
		info, there, err := present(x.Root, name)
		if err == nil && there {
			err = setMetadata(x.Root, name, info, x.plan.Steps[i].Old, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
