package update

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
)

// What was staged may become visible long after it was decided about: a key is
// revoked, a policy made stricter, the security floor raised, the patch expires.
// So it is decided about again just before, by its head, which is kept, in the
// same words as a patch that comes now. What the files are, transaction.Reopen
// looks at.

// admitAgain decides about the patch of t, which was staged earlier. What was
// waived then, as the audit log tells, is waived still.
func (a *applier) admitAgain(ctx context.Context, t *state.Transaction) (err error) {
	begin := &t.Records[0]
	w, err := a.world() // reads version.json, which the commit will write
	if err != nil {
		return err
	}
	s, named, err := a.sourceOf(t)
	if err != nil {
		return err
	}
	f, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	p, err := patch.Open(f)
	if err != nil {
		return fmt.Errorf("reading what is kept of patch %s: %w", begin.PatchID, err)
	}
	if p.ID() != begin.Patch {
		return failure.Errorf(failure.Untrusted, "what is kept of patch %s is of another, %s", begin.PatchID, p.ID())
	}
	if err := a.stillTrusted(*begin); err != nil {
		return err
	}
	b := *a
	waived := begin.Insecure
	if ready := t.This(journal.Ready); ready != nil {
		waived = slices.Concat(waived, ready.Insecure) // of what was taken back and is applied again
	}
	b.o.InsecureUnsigned = slices.Contains(waived, "insecure-unsigned")
	b.o.AllowDowngrade = slices.Contains(waived, "allow-downgrade")
	// Who had to sign then has to now, also where only the command line asked for it.
	var roles []string
	for _, s := range acceptedOf(begin.Signoffs) {
		roles = append(roles, s.Role)
	}
	b.o.Policy.Require = atLeast(a.o.Policy.Require, roles)
	if err := b.trustAgain(p, s, named); err != nil {
		return err
	}
	err = b.admit(p.Header(), w)
	if failure.Of(err) == failure.Refused {
		err = a.orGiveUp(err) // and not how to have a new one admitted
	}
	return err
}

// trustAgain holds the sign-offs of what was staged against whom the machine
// trusts now. Where it has no trust document, those who may sign are in a file; what
// that says now is known of the machine's own, or where it is named once more.
func (a *applier) trustAgain(p *patch.Reader, s Source, named bool) (err error) {
	if a.document, a.clock, err = a.readTrust(); err != nil {
		return err
	}
	if a.document == nil && !a.o.InsecureUnsigned {
		switch {
		case named && !a.o.SignersGiven:
			return nil
		case a.o.NoSigners != nil:
			return a.o.NoSigners
		}
	}
	if _, err := a.policy(p.Header().Product); err != nil && !a.o.InsecureUnsigned {
		return err // the hint is how to get a document that is good
	}
	_, err = a.trust(p, s)
	return a.orGiveUp(err)
}

// orGiveUp adds the hint that what is staged can be given up.
func (a *applier) orGiveUp(err error) error {
	return failure.WithHint(err, "relkit patch-apply%s --unstage  # gives it up", a.opt.flags())
}

// giveUp drops what cannot be committed at boot any more, and the machine starts as
// it was: nobody is there to ask. The reason is in the audit log, and what is
// dropped can be staged anew. A cut between the two lines has the next boot decide
// anew, on the same old tree.
func (a *applier) giveUp(t *state.Transaction, err error) error {
	err = a.refuse(err, auditOfBegin(t))
	return errors.Join(err, transaction.Drop(a.target, t, err.Error()))
}
