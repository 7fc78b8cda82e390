package update

import (
	"context"
	"errors"

	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
)

// run decides about one patch, first by its header and then by what the tree is,
// and has it staged where it is admitted.
func (a *applier) run(ctx context.Context, p *patch.Reader, accepted []trust.Accepted, s Source) (*Result, error) {
	recorded, err := a.target.State.Version()
	if err != nil {
		return nil, err
	}
	r := a.newResult(p, accepted, recorded)
	if done, err := a.known(ctx, p, s, r); err != nil || done {
		return r, err
	}
	w, err := a.worldNow()
	if err != nil {
		return nil, err
	}
	h := p.Header()
	if err := a.admit(h, w); err != nil {
		return nil, err
	}
	r.Supersedes = w.superseded(h)
	t, boot, err := a.takenBack(p, s.headOnly)
	switch {
	case err != nil:
		return nil, err
	case t != nil:
		if done, err := a.again(ctx, p, t, boot, s, r); done != nil || err != nil {
			return done, err
		}
	case s.headOnly:
		return nil, failure.Errorf(failure.Refused, "patch %s cannot be applied again with these options: give the patch itself", h.ID)
	}
	l, err := a.inspect(ctx, p)
	if err != nil {
		return nil, err
	}
	r.Changes = len(l.entries.Changes) - l.survey.Already + len(l.survey.Removed())
	switch touched := a.planned.touches(l.entries); {
	case touched:
		return a.planOn(r, p, l.entries, l.survey)
	case a.nothingToDo(l.survey, len(l.entries.Changes)):
		a.tell(r, l.survey)
		return a.already(p, r, recorded)
	}
	if err := a.admitTree(h, l); err != nil {
		return nil, err
	}
	a.tell(r, l.survey)
	for _, path := range l.survey.Kept {
		r.Kept = append(r.Kept, manifest.Escape(path))
	}
	r.atBoot = l.boot
	if a.opt.DryRun {
		r.Status, r.Plan = Planned, l.survey.Describe()
		a.planned.add(h, l.entries)
		return r, p.Verify()
	}
	l.installed = based(recorded, h)
	r.Reboot = l.boot || h.Reboot == patch.RebootRequired
	return r, a.change(ctx, l, r)
}

// newResult is the result of a patch that nothing was decided about yet.
func (a *applier) newResult(p *patch.Reader, accepted []trust.Accepted, recorded journal.Version) *Result {
	h := p.Header()
	r := &Result{
		Schema: ApplySchema, Patch: h.ID, Digest: p.ID(), Product: h.Product, To: h.To.Version, Signoffs: accepted, Full: h.Full,
	}
	r.From = recorded.Version
	if n := len(a.planned.headers); n > 0 {
		r.From = a.planned.headers[n-1].To.Version
	}
	if h.From != nil && r.From == "" {
		r.From = h.From.Version
	}
	if len(accepted) == 0 {
		r.Insecure = append(r.Insecure, "insecure-unsigned")
		r.Signoffs = []trust.Accepted{}
	}
	if a.o.AllowDowngrade {
		r.Insecure = append(r.Insecure, "allow-downgrade")
	}
	if a.o.modifies() {
		r.Insecure = append(r.Insecure, "on-modified="+string(a.o.OnModified))
	}
	return r
}

// known tells whether the patch stands or waits already: r says so.
func (a *applier) known(ctx context.Context, p *patch.Reader, s Source, r *Result) (bool, error) {
	stands, err := a.stands(p)
	switch {
	case err != nil:
		return false, err
	case stands && s.headOnly:
		r.Status = Already
		return true, nil // it was verified when it was staged
	case stands:
		r.Status = Already
		return true, errors.Join(a.lookAfter(ctx, p, r), p.Verify())
	}
	if waits, err := a.waits(p, r); err != nil || waits {
		return true, errors.Join(err, p.Verify())
	}
	return false, nil
}

// based is what is installed as h takes it. Where nobody wrote that down, and the
// files' digests say that it is the patch's base, it is.
func based(recorded journal.Version, h *patch.Header) journal.Version {
	if recorded == (journal.Version{}) && h.From != nil && h.From.Version != "" {
		return journal.Version{Product: h.Product, Version: h.From.Version}
	}
	return recorded
}

// inspected is a patch, read to where its payload begins, and what a look at the
// tree found.
type inspected struct {
	p       *patch.Reader
	hooks   map[string][]byte
	entries *patch.Entries
	survey  *transaction.Survey
	// boot says that it has to be committed at boot; installed is what it replaces.
	boot      bool
	installed journal.Version
}

// inspect reads what the patch changes and looks at the tree.
func (a *applier) inspect(ctx context.Context, p *patch.Reader) (l *inspected, err error) {
	l = &inspected{p: p}
	if l.hooks, err = p.Hooks(); err != nil {
		return nil, err
	}
	if l.entries, err = p.Entries(); err != nil {
		return nil, err
	}
	if err := a.allowMounts(); err != nil {
		return nil, err
	}
	l.survey, err = a.look(ctx, p.Header(), l.hooks, l.entries)
	return l, err
}

// admitTree decides by what the look at the tree found.
func (a *applier) admitTree(h *patch.Header, l *inspected) (err error) {
	if err := a.mismatchError(l.survey); err != nil {
		if a.opt.DryRun && a.machine.takenBack > 0 { // a run would look at another tree
			err = failure.WithHint(err, "relkit patch-apply%s --recover  # takes back what was cut off; then look again", a.opt.flags())
		}
		return err
	}
	if err := a.admitScripts(h, l); err != nil {
		return err
	}
	if l.boot, err = a.admitPlaces(h, l.survey); err != nil {
		return err
	}
	return a.admitSpace(h, l.survey)
}

// already is for a tree that has all of the patch.
func (a *applier) already(p *patch.Reader, r *Result, recorded journal.Version) (*Result, error) {
	r.Status = Already
	a.found = append(a.found, p.Header())
	if err := p.Verify(); err != nil || a.opt.DryRun {
		return r, err
	}
	to := journal.Version{Product: r.Product, Version: r.To}
	if recorded == to || to.Version == "" {
		return r, nil
	}
	if err := a.target.State.SetVersion(to); err != nil {
		return r, err
	}
	line := auditOf(p)
	line.Event, line.Time, line.From = journal.Found, a.opt.Now(), &recorded
	return r, a.target.State.Note(line)
}
