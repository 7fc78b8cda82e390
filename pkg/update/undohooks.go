package update

import (
	"context"
	"fmt"
	"slices"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
)

// envOf is the environment of a hook: RELKIT_FROM is the version that is left, RELKIT_TO
// the one that comes, whoever runs it and why.
func (r *runner) envOf(hook string) []string {
	from, to := r.old, r.new
	if hook == hookPreRollback || hook == hookPostRollback {
		from, to = to, from
	}
	return append(slices.Clone(r.env), "RELKIT_FROM="+from, "RELKIT_TO="+to)
}

// preRollback runs the hook that comes before a rollback, unless it is waived. What it
// fails with refuses the rollback.
func (r *runner) preRollback(ctx context.Context, j *state.Transaction, o RollbackOptions) error {
	if o.NoPreRollbackHook {
		return nil
	}
	err := r.script(ctx, j, hookPreRollback)
	last := lastHook(j.Records, hookPreRollback)
	if err == nil || ctx.Err() != nil || last == nil || last.Result == "" || last.Result == hookOK {
		return err
	}
	o.NoPreRollbackHook = true
	return failure.WithHint(failure.As(failure.Refused, err), "relkit patch-rollback%s%s  # without that hook", o.flags(), o.same())
}

// preRollbackAtBoot runs the pre-rollback hook at boot, in the new tree, of a patch
// that is taken back unasked: what the post hook has done is undone before the files
// go. Of one that somebody asked to take back it ran then. The tree that is left may
// be why the machine does not come up, so nothing that the hook does stops the way
// back: it has a deadline, one that fails is told, and one that was cut off twice, as
// where it stops the machine, is not begun again. It tells whether the hook was run.
//
// The record that it begins comes first, and the transaction is withdrawn meanwhile: a
// cut has the next boot come here again.
func (r *runner) preRollbackAtBoot(ctx context.Context, j *state.Transaction) (ran bool) {
	const most = 2
	w := j.This(journal.Withdrawn)
	if slices.Contains(w.Insecure, noPreRollbackHook) || ctx.Err() != nil {
		return false
	}
	cut := 0
	for _, record := range slices.Backward(sinceCommit(j)) {
		if record.Event != journal.Hook || record.Hook != hookPost && record.Hook != hookPreRollback {
			continue
		}
		if record.Hook == hookPost {
			break
		}
		if record.Result != "" {
			return false
		}
		cut++
	}
	if cut >= most {
		return false
	}
	if err := r.script(ctx, j, hookPreRollback); err != nil {
		r.target.Log.Warn("the patch is taken back all the same", "patch", j.Records[0].PatchID, "err", err)
	}
	return lastHook(sinceCommit(j), hookPreRollback) != nil
}

// undoHooks are for a patch that is taken back by itself, or given up: what its
// hooks have done is undone by its rollback hooks, around the files, and the
// services run on the old tree again.
type undoHooks struct{ m *machine }

// BeforeUndo undoes what came after the files, in the opposite order.
func (u undoHooks) BeforeUndo(j *state.Transaction) {
	run := (&applier{machine: u.m}).runnerOf(j)
	u.script(run, j, hookPreRollback)
	if begun, _ := j.HookRuns(hookStart); begun > 0 {
		u.told(j, run.stopServices(context.Background(), j))
	}
}

// AfterUndo comes once the old tree is back, or was never left.
func (u undoHooks) AfterUndo(j *state.Transaction) {
	run := (&applier{machine: u.m}).runnerOf(j)
	u.script(run, j, hookPostRollback)
	stops, _ := j.HookRuns(hookStop)
	starts, _ := j.HookRuns(hookStart)
	if stops+starts > 0 {
		u.told(j, run.startServices(context.Background(), j))
	}
}

// script runs a rollback hook where the post hook had begun or the patch stood, once.
func (u undoHooks) script(run *runner, j *state.Transaction, name string) {
	since := sinceCommit(j)
	post, back := lastHook(since, hookPost), slices.ContainsFunc(since, func(r journal.Record) bool { return r.Event == journal.Rollback })
	if post == nil && !back {
		return
	}
	if last := lastHook(since, name, hookPost); last != nil && last.Hook == name && last.Result == hookOK {
		return // before the cut
	}
	u.told(j, run.script(context.Background(), j, name))
}

// sinceCommit are the records of a transaction since it began to be committed last,
// none once that was taken back: it can be committed again, and what its hooks did
// before that is done with.
func sinceCommit(j *state.Transaction) []journal.Record {
	for i := len(j.Records) - 1; i >= 0; i-- {
		switch j.Records[i].Event {
		case journal.Committing:
			return j.Records[i:]
		case journal.RolledBack:
			return nil
		}
	}
	return nil
}

// lastHook is the last record of one of the hooks, nil for none.
func lastHook(records []journal.Record, names ...string) *journal.Record {
	for i := len(records) - 1; i >= 0; i-- {
		if r := &records[i]; r.Event == journal.Hook && slices.Contains(names, r.Hook) {
			return r
		}
	}
	return nil
}

// undoPreRollback undoes what a pre-rollback hook has done for a rollback that is not
// made after all, the patch standing as before: the post hook runs again, as the
// pre-rollback hook is what undoes it. It is asked for by whoever gives the
// rollback up, after the record of that, and by every recovery: so a cut before it,
// or during it, has the next run do it. A hook that fails is not tried again.
func (r *runner) undoPreRollback(ctx context.Context, j *state.Transaction) error {
	if !leftByPreRollback(j) {
		return nil
	}
	if err := r.script(ctx, j, hookPost); err != nil {
		return fmt.Errorf("undoing what the pre-rollback hook did: %w", err)
	}
	return nil
}

// leftByPreRollback tells whether a patch stands, and is not to be taken back, as its
// pre-rollback hook has left it.
func leftByPreRollback(j *state.Transaction) bool {
	return (j.Active() || awaits(j)) && undonePost(j)
}

// undonePost tells whether what the post hook did is undone by the pre-rollback hook,
// or may be half done.
func undonePost(j *state.Transaction) bool {
	last := lastHook(sinceCommit(j), hookPost, hookPreRollback)
	return last != nil && (last.Hook == hookPreRollback || last.Result == "")
}

// confirm runs what says whether the new tree works, as the hooks of the patch have
// left it.
func (r *runner) confirm(ctx context.Context, j *state.Transaction) error {
	if undonePost(j) {
		if err := r.script(ctx, j, hookPost); err != nil {
			return err
		}
	}
	return r.checks(ctx, j)
}

// undoPreRollbacks does so for every patch that stands. What fails is told.
func (m *machine) undoPreRollbacks() error {
	all, err := m.target.State.Transactions()
	if err != nil {
		return err
	}
	for _, t := range all {
		if t.Short || !leftByPreRollback(t) {
			continue // a short one is freed, and its scripts are with its slots
		}
		if err := (&applier{machine: m}).runnerOf(t).undoPreRollback(context.Background(), t); err != nil {
			m.opt.Log.Warn("the patch stays", "patch", t.Records[0].PatchID, "err", err)
		}
	}
	return nil
}

func (u undoHooks) told(j *state.Transaction, err error) {
	if err != nil {
		u.m.opt.Log.Warn("the patch is taken back all the same", "patch", j.Records[0].PatchID, "err", err)
	}
}
