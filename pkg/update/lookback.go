package update

import (
	"context"
	"errors"
	"fmt"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
)

// lookAtAll looks at each rollback as the ones before it will leave the tree, and
// refuses all where one would be: met midway, it would leave the machine at a
// version that nobody asked for. Nothing is changed.
func (m *machine) lookAtAll(ctx context.Context, todo []*state.Transaction, o RollbackOptions) ([]RollbackResult, error) {
	o.Last = len(todo) // for hints
	var first []*transaction.Rollback
	var results []RollbackResult
	for i, t := range todo {
		rb, r, err := m.lookBack(ctx, t, o, first)
		if err != nil && i > 0 {
			later := o
			later.Last = 0 // told here
			hint := fmt.Sprintf("relkit patch-rollback%s%s --last %d", o.flags(), later.same(), i)
			if first := failure.Hint(err); first != "" {
				hint = first + "  # or only those that came later: " + hint
			}
			err = failure.WithHint(fmt.Errorf("%w\nnone was taken back", err), "%s", hint)
		}
		if err != nil {
			return nil, m.refuseRollback(t, err)
		}
		first, results = append(first, rb), append(results, *r)
	}
	return results, nil
}

// lookBack verifies that a transaction can be taken back, once those of first are,
// and says what that makes of the machine.
func (m *machine) lookBack(ctx context.Context, t *state.Transaction, o RollbackOptions, first []*transaction.Rollback) (*transaction.Rollback, *RollbackResult, error) {
	begin := t.Find(journal.Begin)
	r := &RollbackResult{Schema: RollbackSchema, Status: "planned", Transaction: t.ID, Patch: begin.PatchID, Product: begin.To.Product, From: begin.To.Version}
	if begin.From != nil {
		r.To = begin.From.Version
	}
	if err := m.allowMounts(); err != nil {
		return nil, nil, err
	}
	on := o.OnModified
	if m.takesBoot(t, o) {
		on = modifiedAtBoot(t, on)
		if m.opt.Boot != nil {
			if err := m.opt.Boot.Ready(); err != nil {
				return nil, nil, failure.As(failure.Refused, fmt.Errorf("the patch has to be taken back at boot: %w", err))
			}
		}
	}
	var damaged []error
	for _, name := range []string{hookPreRollback, hookPostRollback} {
		if name == hookPreRollback && o.NoPreRollbackHook {
			continue
		}
		_, err := transaction.Script(m.target, t, name)
		damaged = append(damaged, err)
	}
	if err := errors.Join(damaged...); err != nil {
		return nil, nil, err
	}
	rb, err := transaction.OpenRollback(ctx, m.target, t, transaction.RollbackOptions{OnModified: on, Jobs: m.opt.Jobs, After: first})
	if err != nil {
		if stuck(t) != nil {
			err = failure.WithHint(err, "relkit patch-apply%s --confirm %s  # keeps the patch, if its checks pass", m.opt.flags(), failure.Word(begin.PatchID))
		}
		return nil, nil, err
	}
	r.Deviations = rb.Deviations
	for _, mm := range rb.Modified {
		r.Modified = append(r.Modified, manifest.Escape(mm.Path))
	}
	if rb.Refused() {
		return nil, nil, modifiedError(rb.Modified, o)
	}
	return rb, r, nil
}

// modifiedAtBoot is what a rollback at boot does about what was changed since. Of a patch
// that was never confirmed that is replaced and kept beside, config files too,
// unless it is to be left: what was changed may be why the machine does not come
// up, the old tree is the one known to work, and there is nobody to ask.
func modifiedAtBoot(t *state.Transaction, on transaction.OnModified) transaction.OnModified {
	if !confirmed(t) && on != transaction.OnModifiedKeep {
		return transaction.OnModifiedReplace
	}
	return on
}

func modifiedError(all []transaction.Mismatch, o RollbackOptions) error {
	text := "files were changed since the patch was applied"
	for i, mm := range all {
		if i == 20 {
			text += fmt.Sprintf("\n  … and %d more", len(all)-i)
			break
		}
		text += fmt.Sprintf("\n  %s: %s", manifest.Escape(mm.Path), mm.Why)
	}
	return failure.WithHint(failure.Errorf(failure.Refused, "%s", text),
		"relkit patch-rollback%s --on-modified replace%s", o.flags(), o.rest())
}
