package update

import (
	"context"
	"errors"
	"strings"

	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/format/journal"
)

// change is the transaction: from here on the machine is worked on.
func (a *applier) change(ctx context.Context, l *inspected, r *Result) error {
	h := l.p.Header()
	run, err := a.newRunner(h, l.hooks)
	if err != nil {
		return err
	}
	record, err := a.beginning(l, r)
	if err != nil {
		return err
	}
	if l.survey.NeedsSpare {
		// The patch is admitted, and there is no other room for it.
		if _, err := a.freeTakenBack("its room is needed"); err != nil {
			return err
		}
	}
	tx, err := transaction.Begin(a.target, l.survey, record)
	if err != nil {
		return err
	}
	r.Transaction = tx.Journal.ID
	if err := a.keepGiven(tx.Journal); err != nil {
		return errors.Join(err, tx.Abort(err.Error()))
	}
	tx.Scripts(run.scripts)
	tx.Progress = a.opt.Progress.Add
	a.opt.Progress.Start(h.Sizes.NewBytes, "staging "+h.ID)
	err = tx.Stage(ctx, l.p)
	a.opt.Progress.Done()
	if err != nil {
		return err
	}
	if l.boot || a.o.Stage || !a.inWindow() {
		return a.keep(tx, r, journal.Record{Boot: l.boot, Reboot: r.Reboot, Changes: r.Changes})
	}
	return a.commit(ctx, tx, run, r)
}

// beginning is the first record of the transaction.
func (a *applier) beginning(l *inspected, r *Result) (record journal.Record, err error) {
	h := l.p.Header()
	record = journal.Record{
		Patch: l.p.ID(), PatchID: h.ID, From: &l.installed, To: &journal.Version{Product: h.Product, Version: h.To.Version},
		Insecure: r.Insecure,
	}
	record.Supersedes, record.Provides, record.Floor = h.Supersedes, h.Provides, h.Floor
	if len(h.Restart)+len(h.Reload)+len(h.Stop) > 0 {
		record.Services = &journal.Services{Restart: h.Restart, Reload: h.Reload, Stop: h.Stop}
	}
	if record.Deviations, err = a.deviations(l.survey, r); err != nil {
		return record, err
	}
	for _, s := range r.Signoffs {
		record.Signoffs = append(record.Signoffs, s.String())
	}
	record.Reason = a.waivedReason()
	if a.o.Repair {
		record.Reason = strings.TrimSuffix("repair; "+record.Reason, "; ")
	}
	return record, nil
}

// waivedReason is what was waived of the patch at hand, for the audit log; "" for nothing.
func (a *applier) waivedReason() string {
	if a.waived == "" {
		return ""
	}
	return "waived: " + a.waived
}

// commit makes what is staged visible, and takes it back unless it stands its checks.
func (a *applier) commit(ctx context.Context, tx *transaction.Tx, run *runner, r *Result) error {
	if err := run.before(ctx, tx); err != nil {
		return errors.Join(err, tx.Abort(err.Error()))
	}
	defer a.opt.hold()()
	if err := tx.Commit(); err != nil {
		return err
	}
	r.VisibleSeconds = tx.Visible.Seconds()
	if err := run.after(ctx, tx); err != nil {
		return tx.Undo(err.Error(), err)
	}
	if err := tx.Finish(); err != nil {
		return err
	}
	r.Status = Applied
	if a.o.Repair {
		r.Status = Repaired
	}
	if r.Reboot {
		a.tellReboot(r)
	}
	return nil
}
