package transaction

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// OnModified says what a rollback does about a path that something else has
// changed since.
type OnModified string

// Abort refuses the rollback; Keep leaves the path as it is; Replace restores
// it and keeps what stood there as PATH.relkit-saved.
const (
	OnModifiedAbort   OnModified = "abort"
	OnModifiedKeep    OnModified = "keep"
	OnModifiedReplace OnModified = "replace"
)

// Rollback is a rollback of one applied transaction, verified and not begun.
type Rollback struct {
	x  *Tx
	on OnModified
	// Modified are paths that are not as the transaction left them, but for what
	// Deviations tell of.
	Modified []Mismatch
	// Deviations are the config files that were changed since, and what becomes of
	// each; where all that was changed is replaced there are none.
	Deviations []journal.Deviation
	// skip are the steps of Modified.
	skip []int
	// decided is what the record of the rollback says about single steps.
	decided journal.Record
	// tops are the transaction's, with how they are mounted now.
	tops []journal.Top
	// looks are the inodes that stood at the paths when they were verified, lives
	// the same as entries, or what others that come first will put there; nil for nothing.
	looks []fsys.Info
	lives []*manifest.Entry
	// ahead says that others come before it, as they were looked at.
	ahead *ahead
	// Visible is how long Commit took from the first change of the tree to the last.
	Visible time.Duration
}

// RollbackOptions are what a look at an applied transaction needs to know.
type RollbackOptions struct {
	// OnModified says what to do about paths that something else has changed since,
	// and, where it is replace, about config files too; "" is abort.
	OnModified OnModified
	// Jobs is how many files are read at a time; 0 means 1.
	Jobs int
	// After are the rollbacks that come before this one, in their order: looked at
	// and not made. It is looked at as if they were, and cannot be made itself.
	After []*Rollback
}

// OpenRollback verifies that an applied transaction can be taken back: every
// old inode in the slots is whole, by digest, and the live paths are as the
// transaction left them. It changes nothing.
func OpenRollback(ctx context.Context, t Target, j *state.Transaction, o RollbackOptions) (*Rollback, error) {
	switch j.Status() {
	case journal.Applied, journal.Reapplied, journal.Withdrawn, journal.Awaiting, journal.Booted: // the last two to be looked at only
	default:
		return nil, failure.Errorf(failure.Refused, "transaction %s is not applied (%s)", j.ID, j.Status())
	}
	x := &Tx{Target: t, Journal: j}
	if err := x.readPlan(); err != nil {
		return nil, err
	}
	if err := x.checkSlots(); err != nil {
		return nil, failure.As(failure.Refused, err)
	}
	x.skip = map[int]bool{}
	tops, err := x.checkPlaces(x.plan, true)
	if err != nil {
		return nil, err
	}
	a, err := aheadOf(o.After)
	if err != nil {
		return nil, err
	}
	n := len(x.plan.Steps)
	r := &Rollback{x: x, on: o.OnModified, tops: tops, looks: make([]fsys.Info, n), lives: make([]*manifest.Entry, n), ahead: a}
	v := verifier{x: x, known: x.newNames(), found: make([]finding, n), ahead: r.ahead}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, o.Jobs))
	for i := range x.plan.Steps {
		g.Go(func() (err error) {
			v.found[i], err = v.step(ctx, i)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return r, r.judge(v.found)
}

// judge sorts what was found into what is modified and what is decided.
func (r *Rollback) judge(found []finding) error {
	d, err := newDecider(r)
	if err != nil {
		return err
	}
	for i, f := range found {
		r.looks[i], r.lives[i] = f.info, f.live
		if f.stayed {
			r.x.skip[i] = true
		}
		if f.why == "" {
			continue
		}
		done := false
		if r.on != OnModifiedReplace {
			if done, err = d.decide(i, f.live); err != nil {
				return err
			}
		}
		if !done {
			r.Modified = append(r.Modified, Mismatch{Path: r.x.plan.Steps[i].Path(), Why: f.why})
			r.skip = append(r.skip, i)
		}
	}
	return nil
}

// Refused tells whether Commit refuses the rollback for what was modified.
func (r *Rollback) Refused() bool {
	return len(r.Modified) > 0 && r.on != OnModifiedKeep && r.on != OnModifiedReplace
}

// Commit takes the transaction back. On an error the tree is again as the
// transaction had left it (failure.Restored), or neither (failure.Mixed).
//
// A power cut before the record "rollback" is durable changes nothing; after
// it, Recover completes the rollback by asking the slots, with the decisions that
// the record holds.
//
// after, where not nil, is called once the old tree is back and durable, while
// the transaction's scripts are still there.
func (r *Rollback) Commit(record journal.Record, after func()) error {
	x := r.x
	switch {
	case r.ahead != nil:
		return failure.Errorf(failure.Refused, "transaction %s was looked at as it will be once others are taken back", x.Journal.ID)
	case r.Refused():
		return failure.Errorf(failure.Refused, "%q %s since the patch was applied", r.Modified[0].Path, r.Modified[0].Why)
	case r.on == OnModifiedKeep:
		for _, i := range r.skip {
			x.skip[i] = true
		}
	case r.on == OnModifiedReplace:
		r.replaceModified()
	}
	if err := r.lookAgain(); err != nil {
		return err
	}
	record.Event, record.Time = journal.Rollback, x.Now()
	record.Tops, record.Deviations = r.tops, r.Deviations
	record.Beside, record.Saved, record.Owners = r.decided.Beside, r.decided.Saved, r.decided.Owners
	for i := range x.plan.Steps {
		if x.skip[i] {
			record.Skip = append(record.Skip, i)
		}
	}
	x.decided = decisionsOf(&record)
	if err := x.State.Append(x.Journal, record); err != nil {
		// The record may be there although its writing failed; it must not stay,
		// or the next run would complete a rollback that was told as refused.
		if repair := x.State.Repair(x.Journal); repair != nil {
			return x.mixed(errors.Join(err, repair))
		}
		return err
	}
	start := time.Now()
	err := x.writable()
	if err == nil {
		err = x.renameBack()
	}
	r.Visible = time.Since(start)
	if err == nil {
		err = x.syncTops()
	}
	if err == nil {
		err = x.checkOld()
	}
	if err != nil {
		return r.redo(err)
	}
	if after != nil {
		after()
	}
	if r.again() && x.putBack() == nil {
		x.closeKept(journal.RolledBack)
	} else {
		x.close(journal.RolledBack)
	}
	return nil
}

// lookAgain holds that nothing was changed between the verification and now.
func (r *Rollback) lookAgain() error {
	for i := range r.x.plan.Steps {
		step := &r.x.plan.Steps[i]
		if step.Do == journal.Meta || r.x.skip[i] {
			continue
		}
		info, _, err := present(r.x.Root, step.Path())
		if err != nil {
			return err
		}
		was := r.looks[i]
		if r.x.plan.Tops[step.Top].Renumbers && info.Kind == was.Kind && info.Size == was.Size && info.ModTime == was.ModTime {
			continue
		}
		if info.Ino != was.Ino || info.ChangeTime != was.ChangeTime && !isDir(step.New) && !isDir(step.Old) {
			return changedError(step.Path())
		}
	}
	return nil
}

// redo makes the tree again what it was before a rollback that failed.
func (r *Rollback) redo(cause error) error {
	x := r.x
	err := x.openFolders()
	if err == nil {
		err = x.unsetAside(true)
	}
	for i := range x.plan.Steps {
		if err != nil {
			break
		}
		if x.plan.Steps[i].Do == journal.Meta || x.skip[i] {
			continue
		}
		if err = x.forward(i); err != nil {
			err = fmt.Errorf("%q: %w", x.plan.Steps[i].Path(), err)
		}
	}
	if err == nil {
		err = x.unsetAside(false)
	}
	if err == nil {
		err = x.unsetOwners()
	}
	if err == nil {
		err = x.setMetas(true)
	}
	if err == nil {
		err = x.syncTops()
	}
	if err == nil {
		x.readOnlyAgain()
		err = x.State.Append(x.Journal, journal.Record{Event: journal.Reapplied, Time: x.Now(), Reason: cause.Error()})
	}
	if err != nil {
		return x.mixed(errors.Join(cause, fmt.Errorf("restoring: %w", err)))
	}
	x.settle()
	return failure.As(failure.Restored, cause)
}

// settle derives what follows from the journals; what fails the next run does.
func (x *Tx) settle() {
	if err := x.State.Settle(); err != nil {
		x.Log.Warn("writing version.json or the audit log failed; the next run does", "err", err)
	}
}

// Kept are the files that were left or set aside, vis(3)-escaped.
func (r *Rollback) Kept() []string { return r.x.kept }

// Free gives up the rollback copies of an applied transaction, which can no
// longer be taken back, or what is kept of one that was taken back. A cut on the way leaves "freeing", which Recover completes.
// reason says why.
func Free(t Target, j *state.Transaction, reason string) error {
	if !j.Active() && !j.TakenBack() {
		return failure.Errorf(failure.Refused, "transaction %s is not applied (%s)", j.ID, j.Status())
	}
	x := &Tx{Target: t, Journal: j}
	tops, err := x.checkPlaces(nil, true)
	if err != nil {
		return err
	}
	if err := t.State.Append(j, journal.Record{Event: journal.Freeing, Time: t.Now(), Tops: tops, Reason: reason}); err != nil {
		// Told as failed, it must not be completed by the next run.
		return errors.Join(err, t.State.Repair(j))
	}
	if err := x.writable(); err != nil {
		return err
	}
	return errors.Join(x.free(), t.State.Settle())
}
