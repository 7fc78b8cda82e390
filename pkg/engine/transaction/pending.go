package transaction

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// A transaction may wait between its staging and its commit, and between its
// commit and its confirmation:
//
//	staged ─ ready ─┬───────── committing ─ committed ─ applied
//	                └─ armed ─ committing ─ committed ─ awaiting ─ booted… ─ applied
//	awaiting, booted, applied ─ withdrawn ─ rollback ─ rolled-back
//	withdrawn ─ applied, of one that could not be taken back and is confirmed
//	rolled-back ─┬─ committing …
//	             └─ ready …
//
// Every record is durable before what it announces, and none of the waiting
// states has the tree half changed: a power cut in one of them changes nothing.
// What is armed or withdrawn is carried out at the next boot, before a file of
// the tree runs; cut there, Recover takes it back, or completes the rollback,
// as it does on a running system.

// Keep leaves what is staged for a later commit; r says how that is to be done. Of
// what was taken back it tells how the file systems are mounted by now.
func (x *Tx) Keep(r journal.Record) error {
	r.Event, r.Time, r.Kept, r.Tops = journal.Ready, x.Now(), x.stays, x.tops
	x.readOnlyAgain()
	if err := x.State.Append(x.Journal, r); err != nil {
		if repair := x.State.Repair(x.Journal); repair != nil {
			return fmt.Errorf("%w; and %w", err, repair)
		}
		return fmt.Errorf("%w; and %w", err, x.Abort(err.Error()))
	}
	x.settle()
	return nil
}

// Note adds a record that announces or says something without a change to the
// tree: Armed, Booted, Withdrawn, Reapplied, or Applied for one that awaits it.
// After an error it does not say so: the record may have come to the disk
// although its writing failed, and is cut off again.
func Note(t Target, j *state.Transaction, r journal.Record) error {
	r.Time = t.Now()
	if err := t.State.Append(j, r); err != nil {
		return errors.Join(err, t.State.Repair(j))
	}
	(&Tx{Target: t, Journal: j}).settle()
	return nil
}

// Touches tells whether a transaction that is staged changes something that one
// of the globs matches, or that lies below one.
func Touches(t Target, j *state.Transaction, globs []string) (bool, error) {
	plan, err := t.State.ReadPlan(j)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(plan.Steps, func(s journal.Step) bool {
		return s.Do != journal.Meta && patch.MatchAny(globs, s.Path())
	}), nil
}

// Drop gives up what is kept for a later commit. Nothing visible changes.
func Drop(t Target, j *state.Transaction, reason string) error {
	if s := j.Status(); s != journal.Ready && s != journal.Armed {
		return failure.Errorf(failure.Refused, "transaction %s is not staged (%s)", j.ID, s)
	}
	return (&Tx{Target: t, Journal: j}).Abort(reason)
}

// Reopen opens a transaction that is kept for a later commit, or that was taken
// back and is to be committed again: after a rollback its slots hold what was
// staged, and the tree is what it was. From there on it goes as any other; one
// that fails or is cut is undone, and is then not kept any more. Reopen looks at the
// places anew, as they may have become immutable or another mount since, verifies by
// digest that what is staged is whole, and that the tree is still what it was
// when it was looked at; where it is not, the places are returned. A file whose
// inode or change time moved, as a backup or another boot moves them, is the
// same when its content and metadata are. Nothing is changed.
func Reopen(ctx context.Context, t Target, j *state.Transaction, jobs int) (*Tx, []Mismatch, error) {
	x := &Tx{Target: t, Journal: j}
	switch s := j.Status(); {
	case s == journal.Ready || s == journal.Armed:
		x.stays = j.Find(journal.Ready).Kept
	case j.TakenBack():
	default:
		return nil, nil, failure.Errorf(failure.Refused, "transaction %s is not staged (%s)", j.ID, s)
	}
	if err := x.readPlan(); err != nil {
		return nil, nil, err
	}
	if err := x.checkSlots(); err != nil {
		return nil, nil, failure.As(failure.Refused, err)
	}
	var err error
	if x.tops, err = x.checkPlaces(x.plan, false); err != nil {
		return nil, nil, err
	}
	why, moved := make([]string, len(x.plan.Steps)), make([]bool, len(x.plan.Steps))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, jobs))
	for i := range x.plan.Steps {
		g.Go(func() (err error) {
			if err = x.verifyStaged(ctx, i); err == nil {
				why[i], moved[i], err = x.stillOld(i)
			}
			if err != nil {
				err = fmt.Errorf("looking at %q: %w", x.plan.Steps[i].Path(), err)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	var all []Mismatch
	for i := range x.plan.Steps {
		x.replanned = x.replanned || moved[i]
		if why[i] != "" {
			all = append(all, Mismatch{Path: x.plan.Steps[i].Path(), Why: why[i]})
		}
	}
	return x, all, nil
}

// Changes counts the places that the transaction changes, besides folders that
// only get other metadata.
func (x *Tx) Changes() int {
	n := 0
	for i := range x.plan.Steps {
		if x.plan.Steps[i].Do != journal.Meta {
			n++
		}
	}
	return n
}

// verifyStaged holds that the slot of step i has what was staged there.
func (x *Tx) verifyStaged(ctx context.Context, i int) error {
	step := &x.plan.Steps[i]
	if step.Do == journal.Meta || step.New == nil {
		return nil
	}
	slot := x.slot(i)
	info, err := x.Root.Lstat(slot)
	if err != nil {
		return failure.As(failure.Refused, fmt.Errorf("what was staged: %w", err))
	}
	is, err := live(x.Root, slot, info)
	if err != nil {
		return err
	}
	if info.Kind == manifest.File {
		if is.Digest, err = hashFile(ctx, x.Root, slot, info); err != nil {
			return err
		}
	}
	want := *step.New
	if info.Kind == manifest.Dir {
		// Staged it is open until it is filled; taken back it has the mode it had in the tree.
		want.Mode |= 0o700
		is.Mode |= 0o700
	}
	if d := differs(is, &want, false); d != "" {
		return failure.Errorf(failure.Refused, "what was staged is no longer whole: %s", d)
	}
	return nil
}

// stillOld says how the path of step i is not what was looked at, "" where it
// is. What has moved without being another is noted in the plan.
func (x *Tx) stillOld(i int) (why string, moved bool, err error) {
	step := &x.plan.Steps[i]
	info, there, err := present(x.Root, step.Path())
	switch {
	case err != nil:
		return "", false, err
	case step.Do == journal.Meta:
		if there && step.Old != nil && step.New != nil && differs(step.Old, step.New, false) != "" {
			is, err := live(x.Root, step.Path(), info)
			if err != nil {
				return "", false, err
			}
			if differs(is, step.Old, false) != "" {
				return "was changed since the patch was staged", false, nil
			}
		}
		return "", there && x.refreshTimes(step, info), nil
	case step.Do == journal.Place && there:
		return "exists since the patch was staged", false, nil
	case step.Do == journal.Place:
		return "", false, nil
	case !there:
		return "was removed since the patch was staged", false, nil
	case info.Kind == manifest.Dir && isDir(step.Old):
		moved = info.Ino != step.OldInode
	case info.Ino == step.OldInode && info.ChangeTime == step.OldChange && info.Size == step.Old.Size && info.Links == step.OldLinks:
		return "", false, nil
	default:
		same, err := x.looksLike(step.Path(), info, step.Old)
		if err != nil {
			return "", false, err
		}
		if !same || info.Links != step.OldLinks {
			return "was changed since the patch was staged", false, nil
		}
		moved = true
	}
	step.OldInode, step.OldChange = info.Ino, info.ChangeTime
	return "", moved, nil
}

// refreshTimes has a folder that is only renamed in get back the time it has
// now, not the one it had when the patch was staged.
func (x *Tx) refreshTimes(step *journal.Step, info fsys.Info) bool {
	if step.Old == nil || info.Kind != manifest.Dir || info.ModTime == step.Old.ModTime {
		return false
	}
	o := *step.Old
	if step.New != nil && step.New.ModTime == o.ModTime {
		n := *step.New
		n.ModTime = info.ModTime
		step.New = &n
	}
	o.ModTime = info.ModTime
	step.Old = &o
	return true
}

// replan writes the plan where it is another than the one that was staged. It
// counts from the record r on: a cut before that leaves the old one.
func (x *Tx) replan(r *journal.Record) (err error) {
	if !x.replanned {
		return nil
	}
	r.Plan, err = x.State.WritePlan(x.Journal, x.plan)
	return err
}
