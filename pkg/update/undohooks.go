package update

import (
	"context"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/format/journal"
)

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
	if posts, _ := j.HookRuns(hookPost); posts == 0 && j.This(journal.Rollback) == nil {
		return
	}
	if _, result := j.HookRuns(name); result == hookOK {
		return // before the cut
	}
	u.told(j, run.script(context.Background(), j, name))
}

func (u undoHooks) told(j *state.Transaction, err error) {
	if err != nil {
		u.m.opt.Log.Warn("the patch is taken back all the same", "patch", j.Records[0].PatchID, "err", err)
	}
}
