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
	x *Tx
	// Modified are paths that are not as the transaction left them.
	Modified []Mismatch
	skip     []int
	// Visible is how long Commit took from the first change of the tree to the last.
	Visible time.Duration
}

// OpenRollback verifies that an applied transaction can be taken back: every
// old inode in the slots is whole, by digest, and the live paths are as the
// transaction left them. It changes nothing.
func OpenRollback(ctx context.Context, t Target, j *state.Transaction, jobs int) (*Rollback, error) {
	if !j.Active() {
		return nil, failure.Errorf(failure.Refused, "transaction %s is not applied (%s)", j.ID, j.Status())
	}
	x := &Tx{Target: t, Journal: j}
	if err := x.readPlan(); err != nil {
		return nil, err
	}
	x.skip = map[int]bool{}
	r := &Rollback{x: x}
	why, stayed := make([]string, len(x.plan.Steps)), make([]bool, len(x.plan.Steps))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, jobs))
	for i := range x.plan.Steps {
		if x.plan.Steps[i].Do == journal.Meta {
			continue
		}
		g.Go(func() (err error) {
			why[i], stayed[i], err = x.verifyStep(ctx, i)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, w := range why {
		if stayed[i] {
			x.skip[i] = true
		}
		if w != "" {
			r.Modified = append(r.Modified, Mismatch{Path: x.plan.Steps[i].Path(), Why: w})
			r.skip = append(r.skip, i)
		}
	}
	return r, nil
}

// verifyStep verifies the old side of step i by digest, and says how the live
// side is not as it was left, "" where it is. stayed tells of a folder that the
// commit put back since it was not empty.
func (x *Tx) verifyStep(ctx context.Context, i int) (why string, stayed bool, err error) {
	step := &x.plan.Steps[i]
	if step.Do != journal.Place {
		slot := x.slot(i)
		if step.Do == journal.Swap && !x.plan.Tops[step.Top].Exchange {
			slot += oldSuffix
		}
		if stayed, err := x.stayed(step, slot); err != nil || stayed {
			return "", stayed, err
		}
		if err := x.verifyOld(ctx, step, slot); err != nil {
			return "", false, failure.As(failure.Refused, fmt.Errorf("the rollback copy of %q: %w", step.Path(), err))
		}
	}
	why, err = x.changedSince(ctx, step)
	return why, false, err
}

func (x *Tx) changedSince(ctx context.Context, step *journal.Step) (string, error) {
	info, there, err := exists(x.Root, step.Path())
	switch {
	case err != nil:
		return "", err
	case step.New == nil && there:
		return "exists again", nil
	case step.New == nil:
		return "", nil
	case !there:
		return "was removed", nil
	case info.Kind != step.New.Kind:
		return fmt.Sprintf("is a %s now", info.Kind), nil
	}
	e, err := live(x.Root, step.Path(), info)
	if err != nil {
		return "", err
	}
	if e.Kind == manifest.File && e.Size == step.New.Size {
		if e.Digest, err = hashFile(ctx, x.Root, e.Path, info); err != nil {
			return "", err
		}
	}
	return differs(e, step.New, false), nil
}

func (x *Tx) verifyOld(ctx context.Context, step *journal.Step, slot string) error {
	info, err := x.Root.Lstat(slot)
	if err != nil {
		return err
	}
	if info.Ino != step.OldInode || info.Kind != step.Old.Kind {
		return errors.New("is not what was put there")
	}
	if info.Kind != manifest.File {
		return nil
	}
	got, err := hashFile(ctx, x.Root, slot, info)
	if err == nil && got != step.Old.Digest {
		err = fmt.Errorf("content is %s, want %s", got, step.Old.Digest)
	}
	return err
}

// stayed tells whether step took a folder that was put back since it was not empty.
func (x *Tx) stayed(step *journal.Step, slot string) (bool, error) {
	if step.Do != journal.Take || !isDir(step.Old) {
		return false, nil
	}
	_, inSlot, err := exists(x.Root, slot)
	if err != nil || inSlot {
		return false, err
	}
	info, there, err := exists(x.Root, step.Path())
	return there && info.Ino == step.OldInode, err
}

// Commit takes the transaction back. On an error the tree is again as the
// transaction had left it (failure.Restored), or neither (failure.Mixed).
//
// A power cut before the record "rollback" is durable changes nothing; after
// it, Recover completes the rollback by asking the slots.
//
// after, where not nil, is called once the old tree is back and durable, while
// the transaction's scripts are still there; its error is returned.
func (r *Rollback) Commit(on OnModified, record journal.Record, after func() error) error {
	x := r.x
	if len(r.Modified) > 0 {
		switch on {
		case OnModifiedKeep:
			for _, i := range r.skip {
				x.skip[i] = true
			}
		case OnModifiedReplace:
		default:
			return failure.Errorf(failure.Refused, "%q %s since the patch was applied", r.Modified[0].Path, r.Modified[0].Why)
		}
	}
	record.Event, record.Time = journal.Rollback, x.Now()
	for i := range x.plan.Steps {
		if x.skip[i] {
			record.Skip = append(record.Skip, i)
		}
	}
	if err := x.State.Append(x.Journal, record); err != nil {
		// The record may be there although its writing failed; it must not stay.
		return errors.Join(err, x.State.Repair(x.Journal))
	}
	start := time.Now()
	err := x.renameBack()
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
		err = after()
	}
	if err := x.close(journal.RolledBack); err != nil {
		x.Log.Warn("the old tree is back, writing it down failed; the next run does", "err", err)
	}
	return err
}

// redo makes the tree again what it was before a rollback that failed.
func (r *Rollback) redo(cause error) error {
	x := r.x
	if err := x.openFolders(); err != nil {
		return mixed(errors.Join(cause, err))
	}
	for i := range x.plan.Steps {
		if x.plan.Steps[i].Do == journal.Meta || x.skip[i] {
			continue
		}
		if err := x.forward(i); err != nil {
			return mixed(errors.Join(cause, fmt.Errorf("restoring %q: %w", x.plan.Steps[i].Path(), err)))
		}
	}
	err := x.setMetas(true)
	if err == nil {
		err = x.syncTops()
	}
	if err == nil {
		err = x.State.Append(x.Journal, journal.Record{Event: journal.Reapplied, Time: x.Now(), Reason: cause.Error()})
	}
	if err != nil {
		return mixed(errors.Join(cause, fmt.Errorf("restoring: %w", err)))
	}
	return errors.Join(failure.As(failure.Restored, cause), x.State.Settle())
}

// Kept are the files that were set aside, vis(3)-escaped.
func (r *Rollback) Kept() []string { return r.x.kept }

// Free gives up the rollback copies of an applied transaction: it can no longer
// be taken back.
func Free(t Target, j *state.Transaction) error {
	if !j.Active() {
		return failure.Errorf(failure.Refused, "transaction %s is not applied (%s)", j.ID, j.Status())
	}
	x := &Tx{Target: t, Journal: j}
	return errors.Join(x.free(), t.State.Settle())
}
