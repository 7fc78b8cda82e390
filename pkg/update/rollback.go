package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
)

// RollbackOptions say how far back to go.
type RollbackOptions struct {
	Options
	// Last is how many applied patches to take back; 0 where To or Patch says it.
	Last int
	// To is the version to go back to.
	To string
	// Patch is the id, the digest or the transaction of a patch that is to be
	// taken back, with all that came after it.
	Patch      string
	OnModified transaction.OnModified
	// AtBoot has the rollback made at the next boot, whatever the patch was.
	AtBoot bool
	// BelowFloor goes back below the security floor; it is written into the audit log.
	BelowFloor bool
	// NoPreRollbackHook takes a patch back without its pre-rollback hook, as one that
	// always fails would bar that for good; it is written into the audit log.
	NoPreRollbackHook bool
	// HookTimeout bounds each rollback hook.
	HookTimeout time.Duration
	// Output takes what hooks print.
	Output io.Writer
}

// RollbackSchema is the schema of RollbackResult.
const RollbackSchema = "relkit.rollback/v1"

// RollbackResult is relkit.rollback/v1: what became of one transaction.
type RollbackResult struct {
	Schema      string `json:"schema"`
	Status      string `json:"status"` // rolled-back, planned, or withdrawn: the next boot takes it back
	Transaction string `json:"transaction"`
	Patch       string `json:"patch"`
	Product     string `json:"product"`
	From        string `json:"from"`
	To          string `json:"to"`
	// Modified are paths that something else had changed since, vis(3)-escaped, but
	// for the config files of Deviations.
	Modified []string `json:"modified,omitempty"`
	// Deviations are config files that were changed since, and what becomes of each.
	Deviations []journal.Deviation `json:"deviations,omitempty"`
	// Again says that what the patch brought is kept, to apply it again without the patch.
	Again bool `json:"again,omitempty"`
	// HookFailed is what the post-rollback hook failed with; the old tree is back all the same.
	HookFailed string `json:"hook_failed,omitempty"`
	// Kept are what was left, and the names under which what stood there was kept, vis(3)-escaped.
	Kept           []string `json:"kept,omitempty"`
	VisibleSeconds float64  `json:"visible_seconds,omitempty"`
}

// Rollback takes back applied patches, newest first, one transaction each. Of
// several each is looked at before the first is taken back.
func Rollback(ctx context.Context, o RollbackOptions) (results []RollbackResult, err error) {
	m, err := openMachine(o.Options)
	if err != nil {
		return nil, err
	}
	defer m.end(&err)
	err = m.recoverFirst()
	if o.To == "" { // what is written down does not decide
		err = m.allTheSame(err)
	}
	if err != nil {
		return nil, err
	}
	todo, err := m.chooseRollback(o)
	if err == nil {
		err = m.willWriteVersion()
	}
	if err == nil {
		err = m.oneAtBoot(todo, o)
	}
	below := false
	if err == nil {
		below, err = m.belowFloor(todo, o)
	}
	if err != nil {
		return nil, m.refuse(err, journal.AuditLine{})
	}
	o.BelowFloor = below // what was not needed is not told
	if len(todo) > 1 || o.DryRun {
		if results, err = m.lookAtAll(ctx, todo, o); err != nil || o.DryRun {
			return results, err
		}
		results = nil
	}
	for i, t := range todo {
		o.Last = len(todo) - i // for hints: what is left to do
		r, err := m.rollback(ctx, t, o)
		if err != nil {
			if err = m.refuseRollback(t, err); len(results) > 0 {
				err = failure.Changed(err)
			}
			return results, err
		}
		results = append(results, *r)
	}
	return results, nil
}

// refuseRollback names the patch in what went wrong, in the audit log too.
func (m *machine) refuseRollback(t *state.Transaction, err error) error {
	begin := t.Find(journal.Begin)
	return m.refuse(fmt.Errorf("rolling back patch %s: %w", begin.PatchID, err),
		journal.AuditLine{Patch: begin.Patch, PatchID: begin.PatchID, To: begin.From})
}

// willWriteVersion tells that version.json is damaged before it is written anew, out
// of the journal: what brings a machine back is not kept from that by it. One of
// a newer relkit is left alone.
func (m *machine) willWriteVersion() error {
	_, err := m.target.State.Version()
	if failure.Of(err) == failure.Refused {
		return err
	}
	if err != nil {
		m.opt.Log.Warn("what is installed cannot be read, and is written anew", "err", err)
	}
	return nil
}

// noPreRollbackHook is RollbackOptions.NoPreRollbackHook in the journal.
const noPreRollbackHook = "no-pre-rollback-hook"

// waived are the flags that lower safety and were used.
func (o *RollbackOptions) waived() []string {
	var all []string
	if o.OnModified != "" && o.OnModified != transaction.OnModifiedAbort {
		all = append(all, "on-modified="+string(o.OnModified))
	}
	if o.BelowFloor {
		all = append(all, "below-floor")
	}
	if o.NoPreRollbackHook {
		all = append(all, noPreRollbackHook)
	}
	return all
}

// chooseRollback picks the transactions to take back, newest first.
func (m *machine) chooseRollback(o RollbackOptions) ([]*state.Transaction, error) {
	t, err := m.pending()
	if err != nil {
		return nil, err
	}
	if t != nil && !awaits(t) && !m.withdrawnForNothing(t, o) {
		return nil, m.pendingError(t)
	}
	all, err := m.target.State.Transactions()
	if err != nil {
		return nil, err
	}
	var active []*state.Transaction
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Active() || awaits(all[i]) || all[i].Status() == journal.Withdrawn {
			active = append(active, all[i])
		}
	}
	if o.Patch != "" {
		return m.backTo(o.Patch, all, active)
	}
	if o.To == "" {
		// Whoever asks for the last one sees what was interrupted: its cleaning up
		// was what is asked for, and the one before it stays.
		last := max(o.Last-m.takenBack, 0)
		if last < o.Last {
			m.opt.Log.Warn("a patch that was interrupted is taken back by the cleaning up, and counts as one of those asked for")
		}
		if last > len(active) {
			return nil, failure.Errorf(failure.Refused, "%d applied patches can be taken back, %d were asked for", len(active), last)
		}
		return active[:last], nil
	}
	installed, err := m.target.State.Version()
	if err != nil {
		return nil, err
	}
	if installed.Version == o.To {
		return nil, nil
	}
	for i, t := range active {
		if from := t.Find(journal.Begin).From; from != nil && from.Version == o.To {
			return active[:i+1], nil
		}
	}
	return nil, failure.WithHint(failure.Errorf(failure.Refused, "version %q is not kept", o.To), "relkit patch-rollback%s --list", m.opt.flags())
}

// backTo picks a patch and all that came after it out of active, newest first.
func (m *machine) backTo(patch string, all, active []*state.Transaction) ([]*state.Transaction, error) {
	is := func(t *state.Transaction) bool { return names(t, patch) }
	if i := slices.IndexFunc(active, is); i >= 0 {
		return active[:i+1], nil
	}
	why := "was never applied"
	for _, t := range all {
		switch {
		case !is(t):
		case t.Stands():
			why = "is applied, and its rollback copies were given up"
		case t.Find(journal.RolledBack) != nil:
			why = "was taken back already"
		default:
			why = "did not get to stand (" + string(outcome(t)) + ")"
		}
	}
	return nil, failure.WithHint(failure.Errorf(failure.Refused, "patch %q %s", patch, why), "relkit patch-rollback%s --list", m.opt.flags())
}

// rollback takes one transaction back, or has the next boot do so.
func (m *machine) rollback(ctx context.Context, t *state.Transaction, o RollbackOptions) (*RollbackResult, error) {
	rb, r, err := m.lookBack(ctx, t, o, nil)
	if err != nil {
		return nil, err
	}
	run := &runner{root: m.opt.Root, path: m.path, target: m.target, timeout: o.HookTimeout, output: o.Output}
	run.environment(r.Patch, r.Product, r.To, r.From) // as of the patch: what is left is its new side
	if m.takesBoot(t, o) {
		return r, m.withdraw(ctx, t, o, run, r)
	}
	if err := run.preRollback(ctx, t, o); err != nil {
		return nil, run.notBack(ctx, t, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, run.notBack(ctx, t, context.Cause(ctx))
	}
	if err := run.stopServices(ctx, t); err != nil {
		return nil, errors.Join(run.notBack(ctx, t, err), run.startServices(context.WithoutCancel(ctx), t))
	}
	record := journal.Record{Reason: "asked for", Insecure: o.waived()}
	defer m.opt.hold()()
	if awaits(t) {
		if err := transaction.Note(m.target, t, journal.Record{Event: journal.Withdrawn, Reason: "asked for", OnModified: string(o.OnModified), Insecure: o.waived()}); err != nil {
			return nil, err
		}
	}
	err = rb.Commit(record, func() {
		// The old tree is back whatever this hook says, and a signal does not
		// change that: it runs to its end or its deadline.
		ctx := context.WithoutCancel(ctx)
		if err := errors.Join(run.script(ctx, t, hookPostRollback), run.startServices(ctx, t)); err != nil {
			r.HookFailed = err.Error()
		}
	})
	if err != nil {
		if failure.Of(err) != failure.Mixed {
			err = errors.Join(err, m.withdrawAgain(t)) // before the post hook would be run for what stands
			err = errors.Join(run.notBack(ctx, t, err), run.startServices(context.WithoutCancel(ctx), t))
		}
		return nil, err
	}
	r.VisibleSeconds = rb.Visible.Seconds()
	r.Status, r.Kept, r.Again = "rolled-back", rb.Kept(), t.TakenBack()
	return r, nil
}

// same are the flags that ask for what is left of a rollback in the same way.
func (o *RollbackOptions) same() string {
	if o.OnModified != "" && o.OnModified != transaction.OnModifiedAbort {
		return " --on-modified " + string(o.OnModified) + o.rest()
	}
	return o.rest()
}

// rest are those flags but for what is done about modified files.
func (o *RollbackOptions) rest() string {
	text := ""
	if o.AtBoot {
		text += " --at-boot"
	}
	if o.BelowFloor {
		text += " --below-floor"
	}
	if o.NoPreRollbackHook {
		text += " --" + noPreRollbackHook
	}
	if o.Last > 1 {
		text += fmt.Sprintf(" --last %d", o.Last)
	}
	return text
}
