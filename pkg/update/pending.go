package update

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/window"
)

// Timing says when a patch becomes visible.
type Timing struct {
	// Stage stops before anything visible changes; Commit goes on from there.
	Stage bool
	// AtBoot has the commit made at the next boot, whatever the patch says.
	AtBoot bool
	// Window is when something visible may change; nil for any time.
	Window window.Windows
	// BootReady says why a commit at boot would not happen on this machine; nil
	// where nobody asks.
	BootReady func() error
	// Reboot reboots the machine; nil to never do so.
	Reboot func(context.Context) error
}

// inWindow tells whether something visible may change now.
func (a *applier) inWindow() bool { return a.o.Window == nil || a.o.Window.Open(a.now()) }

// reboot reboots where that was asked for, and the window is still open: what was
// done meanwhile took its time.
func (a *applier) reboot(ctx context.Context) error {
	if a.o.Reboot == nil {
		return nil
	}
	if !a.inWindow() {
		err := failure.As(failure.Failed, fmt.Errorf("the patch waits for a reboot: %w", a.outsideWindow()))
		return failure.WithHint(failure.Changed(err), "reboot  # inside the window")
	}
	return failure.Changed(a.o.Reboot(ctx))
}

func (a *applier) outsideWindow() error {
	return failure.Errorf(failure.Refused, "outside the window %q: it opens at %s", a.o.Window, a.o.Window.Next(a.now()).Format("Mon 2006-01-02 15:04 MST"))
}

// timely refuses what cannot be committed when it would be, before any patch is read.
func (a *applier) timely(sources []Source) error {
	switch {
	case a.o.Stage && len(sources) > 1:
		return failure.Errorf(failure.Usage, "one patch can be staged at a time: the next is verified against what it leaves")
	case !a.o.Stage && !a.opt.DryRun && !a.inWindow():
		return failure.WithHint(a.outsideWindow(), "relkit patch-apply%s --stage%s  # now, and --commit inside the window", a.opt.flags()+a.o.Given.Trust, a.given)
	}
	return nil
}

// pending is the transaction that waits for somebody or for the next boot, nil
// where none does.
func (m *machine) pending() (*state.Transaction, error) {
	all, err := m.target.State.Transactions()
	if err != nil {
		return nil, err
	}
	for _, t := range slices.Backward(all) {
		if t.Pending() {
			return t, nil
		}
	}
	return nil, nil
}

// waits tells whether the patch at hand is the one that waits already; another
// one that waits is in its way.
func (a *applier) waits(p *patch.Reader, r *Result) (bool, error) {
	t, err := a.pending()
	if err != nil || t == nil {
		return false, err
	}
	begin := t.Records[0]
	status := map[journal.Event]Status{journal.Ready: Staged, journal.Armed: Armed, journal.Awaiting: Awaiting, journal.Booted: Awaiting}[t.Status()]
	if begin.Patch != p.ID() || status == "" || status == Staged && !a.o.Stage {
		return false, a.pendingError(t)
	}
	r.Status, r.Transaction, r.atBoot = status, t.ID, status == Armed
	r.Reboot = status != Awaiting && t.Find(journal.Ready).Reboot // it has been rebooted
	return true, nil
}

// pendingError says what has to happen to t before anything else can.
func (m *machine) pendingError(t *state.Transaction) error {
	id, flags := t.Records[0].PatchID, m.opt.flags()
	switch t.Status() {
	case journal.Ready:
		return failure.WithHint(failure.Errorf(failure.Refused, "patch %s is staged and not committed", id),
			"relkit patch-apply%[1]s --commit  # or give it up: relkit patch-apply%[1]s --unstage", flags)
	case journal.Armed:
		return failure.WithHint(failure.Errorf(failure.Refused, "patch %s is committed at the next boot", id),
			"reboot  # or give it up: relkit patch-apply%s --unstage", flags)
	case journal.Withdrawn:
		err := failure.Errorf(failure.Refused, "patch %s is taken back at the next boot", id)
		if s := stuck(t); s != nil {
			return failure.WithHint(fmt.Errorf("%w, as an earlier one could not: %s", err, s.Reason),
				"relkit patch-apply%s --confirm %s  # keeps the patch, if its checks pass; or reboot, to try the rollback again", flags, failure.Word(id))
		}
		if !confirmed(t) {
			return failure.WithHint(err, "reboot")
		}
		return failure.WithHint(err, "reboot  # or keep the patch: relkit patch-apply%s --unstage", flags)
	}
	return failure.WithHint(failure.Errorf(failure.Refused, "patch %s was committed at boot and awaits confirmation", id),
		"relkit patch-apply%[1]s --confirm  # or take it back: relkit patch-rollback%[1]s", flags)
}

// keep leaves what is staged for a later commit, or for the next boot.
func (a *applier) keep(tx *transaction.Tx, r *Result, ready journal.Record) error {
	if err := tx.Keep(ready); err != nil {
		return err
	}
	r.Status = Staged
	switch {
	case a.o.Stage:
		return nil
	case !a.inWindow():
		return failure.WithHint(fmt.Errorf("the window closed while patch %s was staged, and it stays staged: %w", r.Patch, a.outsideWindow()),
			"relkit patch-apply%s --commit  # inside the window", a.opt.flags()+a.o.Given.Trust+a.o.Given.Checks)
	}
	return a.arm(tx.Journal, r)
}

// arm has a staged transaction committed at the next boot.
func (a *applier) arm(t *state.Transaction, r *Result) error {
	if err := a.leave(t, journal.Record{Event: journal.Armed}); err != nil {
		return err
	}
	r.Status = Armed
	a.tellReboot(r)
	return nil
}

// openApplier opens a machine for something other than a new patch.
func openApplier(o ApplyOptions) (*applier, error) {
	m, err := openMachine(o.Options)
	if err != nil {
		return nil, err
	}
	if err := m.recoverFirst(); err != nil {
		m.end(&err)
		return nil, err
	}
	return &applier{machine: m, o: o}, nil
}

// Commit makes the staged patch visible, or has the next boot do so.
func Commit(ctx context.Context, o ApplyOptions) (r *Result, err error) {
	a, err := openApplier(o)
	if err != nil {
		return nil, err
	}
	defer a.end(&err)
	t, err := a.pending()
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, a.refuse(failure.WithHint(failure.Errorf(failure.Refused, "nothing is staged"), "relkit patch-apply%s --stage PATCH", a.opt.flags()+a.o.Given.Trust), journal.AuditLine{})
	}
	if r, err = a.commitStaged(ctx, t); err != nil {
		begin := t.Records[0]
		return r, a.refuse(fmt.Errorf("committing patch %s: %w", begin.PatchID, err), journal.AuditLine{Patch: begin.Patch, PatchID: begin.PatchID, To: begin.To})
	}
	if r.Status == Applied {
		a.retain()
	}
	if r.Reboot && !o.DryRun {
		err = a.reboot(ctx)
	}
	return r, err
}

func (a *applier) commitStaged(ctx context.Context, t *state.Transaction) (*Result, error) {
	r := a.resultOf(t)
	switch t.Status() {
	case journal.Armed:
		r.Status = Armed
		return r, nil
	case journal.Ready:
	default:
		return nil, a.pendingError(t)
	}
	if err := a.admitAgain(ctx, t); err != nil {
		return nil, err
	}
	if !a.inWindow() {
		return nil, a.outsideWindow()
	}
	tx, modified, err := transaction.Reopen(ctx, a.target, t, a.opt.Jobs)
	if err != nil {
		return nil, err
	}
	if err := listMismatches(modified); err != nil {
		return nil, failure.WithHint(err, "relkit patch-apply%s --unstage; relkit patch-apply%s PATCH  # looks at the tree again", a.opt.flags(), a.flags())
	}
	if t.Find(journal.Ready).Boot {
		if err := a.bootReady("it was staged for that"); err != nil {
			return nil, err
		}
		if r.Status = Staged; a.opt.DryRun {
			return r, nil
		}
		return r, a.arm(t, r)
	}
	plan := tx.Describe()
	if r.Changes = len(plan); a.opt.DryRun {
		r.Status, r.Plan = Planned, plan
		return r, nil
	}
	err = a.commit(ctx, tx, a.runnerOf(t), r)
	if failure.Of(err) == failure.Restored && failure.Hint(err) == "" {
		err = failure.WithHint(err, "relkit patch-apply%s --stage PATCH  # what was staged is given up", a.opt.flags()+a.o.Given.Trust)
	}
	return r, err
}

// resultOf is what a transaction that was staged earlier says of itself.
func (m *machine) resultOf(t *state.Transaction) *Result {
	begin := t.Records[0]
	r := &Result{
		Schema: ApplySchema, Patch: begin.PatchID, Digest: begin.Patch, Product: begin.To.Product, To: begin.To.Version,
		Transaction: t.ID, Signoffs: acceptedOf(begin.Signoffs), Insecure: begin.Insecure, Deviations: begin.Deviations,
	}
	if begin.From != nil {
		r.From = begin.From.Version
	}
	if ready := t.This(journal.Ready); ready != nil {
		r.Reboot, r.Kept, r.Changes = ready.Reboot, ready.Kept, ready.Changes
	}
	return r
}

// acceptedOf reads the sign-offs back that a journal tells of.
func acceptedOf(signoffs []string) []trust.Accepted {
	all := []trust.Accepted{}
	for _, s := range signoffs {
		role, rest, _ := strings.Cut(s, " ")
		key, _, _ := strings.Cut(rest, ", ")
		all = append(all, trust.Accepted{Role: role, KeyFingerprint: key})
	}
	return all
}

// runnerOf is the runner of a transaction whose patch is no longer at hand.
func (a *applier) runnerOf(t *state.Transaction) *runner {
	r := a.resultOf(t)
	run := &runner{root: a.opt.Root, path: a.path, target: a.target, check: a.o.Check, timeout: a.o.CheckTimeout, output: a.o.Output}
	run.environment(r.Patch, r.Product, r.From, r.To)
	return run
}

// Unstage gives up the staged patch, or the rollback of an applied one that waits
// for the next boot: where the kernel for it never comes, nothing else would end
// that. Nothing visible changes.
func Unstage(ctx context.Context, o Options) (r *Result, err error) {
	a, err := openApplier(ApplyOptions{Options: o})
	if err != nil {
		return nil, err
	}
	defer a.end(&err)
	t, err := a.pending()
	if err != nil || t == nil {
		return nil, errors.Join(err, a.refuse(failure.Errorf(failure.Refused, "nothing is staged"), journal.AuditLine{}))
	}
	stays := t.Status() == journal.Withdrawn && confirmed(t)
	if s := t.Status(); s != journal.Ready && s != journal.Armed && !stays {
		return nil, a.refuse(a.pendingError(t), auditOfBegin(t))
	}
	r = a.resultOf(t)
	r.Reboot = false
	if r.Status = Planned; o.DryRun {
		return r, nil
	}
	if stays {
		r.Status, err = Stays, transaction.Note(a.target, t, journal.Record{Event: journal.Reapplied, Reason: "unstaged"})
	} else {
		r.Status, err = Unstaged, transaction.Drop(a.target, t, "unstaged")
	}
	if err != nil {
		return nil, err
	}
	// From the record on no kernel is to be tried for it: the boot loader is told
	// before anything else, whatever the hook then says. Cut before the hook has run,
	// the next run's recovery runs it.
	if o.Boot != nil {
		err = o.Boot.Cancel()
	}
	if stays {
		err = errors.Join(err, a.runnerOf(t).undoPreRollback(ctx, t))
	}
	return r, err
}

// Confirm keeps the patch that was committed at boot, if its check and the
// machine's pass; where one does not, the patch goes on waiting, and is taken
// back by the boots to come.
//
// One that a boot was to take back, and could not, is kept as well where id names it:
// by the patch's id, its digest or its transaction, "" for none. A unit that confirms
// after each boot names none, and so does not keep what is not wanted any more. The
// tree is as the commit left it, since "withdrawn" follows nothing that changes it but a rollback that
// put all of it back. Its post hook runs first, where the pre-rollback hook had undone
// it. Up to the record "applied" it is withdrawn: cut there, the next boot tries to take
// it back, and runs the pre-rollback hook again; from there on it stands.
func Confirm(ctx context.Context, o ApplyOptions, id string) (r *Result, err error) {
	a, err := openApplier(o)
	if err != nil {
		return nil, err
	}
	defer a.end(&err)
	return a.confirm(ctx, id)
}

func (a *applier) confirm(ctx context.Context, id string) (*Result, error) {
	t, err := a.pending()
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, a.refuse(failure.Errorf(failure.Refused, "no patch awaits confirmation"), journal.AuditLine{})
	}
	if !awaits(t) && (stuck(t) == nil || id == "") {
		return nil, a.refuse(a.pendingError(t), auditOfBegin(t))
	}
	if id != "" && !names(t, id) {
		return nil, a.refuse(failure.Errorf(failure.Refused, "patch %q does not await confirmation: %s does", id, t.Records[0].PatchID), auditOfBegin(t))
	}
	r := a.resultOf(t)
	r.Reboot = false
	if r.Status = Awaiting; a.opt.DryRun {
		return r, nil
	}
	if err := a.willWriteVersion(); err != nil {
		return nil, a.refuse(err, auditOfBegin(t))
	}
	if err := a.runnerOf(t).confirm(ctx, t); err != nil {
		err = a.refuse(failure.As(failure.No, fmt.Errorf("patch %s is not confirmed: %w", r.Patch, err)), auditOfBegin(t))
		if !awaits(t) {
			return nil, failure.WithHint(err, "reboot  # tries the rollback again")
		}
		return nil, failure.WithHint(err, "relkit patch-rollback%s  # takes it back at the next boot", a.opt.flags())
	}
	b := a.opt.Boot
	if b != nil {
		if err := b.Extend(); err != nil {
			return nil, err
		}
	}
	if err := transaction.Note(a.target, t, journal.Record{Event: journal.Applied}); err != nil {
		return nil, err
	}
	r.Status = Applied
	if b != nil {
		err = b.Settle(true)
	}
	a.retain()
	return r, err
}

// now is the local time, by whose clock windows are open.
func (m *machine) now() time.Time { return m.opt.Now().Local() }
