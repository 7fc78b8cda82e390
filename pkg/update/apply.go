package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/signature"
)

// Source is one patch to apply.
type Source struct {
	// Name is for messages.
	Name string
	// Open opens it from its start.
	Open func(context.Context) (io.ReadCloser, error)
	// Once says that it can be opened only once: a pipe.
	Once bool
	// Beside are sign-offs that travel beside the patch.
	Beside []signature.SignedDoc

	// headOnly says that it ends where its hooks or entries begin.
	headOnly bool
}

// ApplyOptions are how patches are applied.
type ApplyOptions struct {
	Options
	// Policy is the roles that the command line asks for and, for a machine that
	// has no trust document, who may sign.
	Policy trust.Policy
	// NoSigners is why Policy does not say who may sign; it is returned where that
	// is needed. SignersGiven says that they were named on the command line.
	NoSigners    error
	SignersGiven bool
	// InsecureUnsigned applies patches whose sign-offs do not satisfy the
	// policy; it is written into the audit log.
	InsecureUnsigned bool
	AllowDowngrade   bool
	// Again applies what is kept of the patch that Again names (its id, its digest
	// or its transaction), which was taken back; "" with AgainLast for the one taken
	// back last. No sources are given then.
	Again     string
	AgainLast bool
	// OnModified says what to do about files that were changed on the machine and
	// are no config files; "" is abort.
	OnModified transaction.OnModified
	// Repair restores what differs from what is installed, out of its full patch.
	Repair bool
	// Check is a shell command that must succeed once the tree is new; it runs
	// on this machine with RELKIT_ROOT naming the tree.
	Check        string
	CheckTimeout time.Duration
	// Output takes what hooks and checks print.
	Output io.Writer
	Timing
}

// Status is how an apply ended.
type Status string

// The statuses.
const (
	Applied  Status = "applied"
	Already  Status = "already"  // the tree had all of it
	Planned  Status = "planned"  // a dry run
	Repaired Status = "repaired" // what differed is restored
	Staged   Status = "staged"   // Commit makes it visible
	Armed    Status = "armed"    // the next boot makes it visible
	Unstaged Status = "unstaged" // it was staged and is given up
	Awaiting Status = "awaiting" // it is visible since a boot, and awaits Confirm
	Stays    Status = "stays"    // its rollback at the next boot is given up
)

// Result is relkit.apply/v1: what became of one patch.
type Result struct {
	Schema      string           `json:"schema"`
	Status      Status           `json:"status"`
	Patch       string           `json:"patch"`
	Digest      digest.Digest    `json:"digest"`
	Product     string           `json:"product"`
	From        string           `json:"from,omitempty"`
	To          string           `json:"to,omitempty"`
	Transaction string           `json:"transaction,omitempty"`
	Signoffs    []trust.Accepted `json:"signoffs"`
	Changes     int              `json:"changes"`
	// Kept are folders that stay because they hold something the patch does not know.
	Kept []string `json:"kept,omitempty"`
	// Deviations are what its owner had changed and stays so.
	Deviations []journal.Deviation `json:"deviations,omitempty"`
	// Supersedes are applied patches whose place this one takes.
	Supersedes []string `json:"supersedes,omitempty"`
	// Replaced are files that were changed, and are replaced all the same, vis(3)-escaped.
	Replaced []string `json:"replaced,omitempty"`
	// Removed are what a full patch removes since the product manages it and the
	// patch does not have it; Repaired what a repair restores; vis(3)-escaped.
	Removed  []string `json:"removed,omitempty"`
	Repaired []string `json:"repaired,omitempty"`
	Plan     []string `json:"plan,omitempty"`
	// Insecure lists what was waived.
	Insecure []string `json:"insecure,omitempty"`
	// Reboot says that it takes a reboot for the patch to take effect.
	Reboot bool `json:"reboot,omitempty"`
	// VisibleSeconds is the time from the first change of the tree to the last.
	VisibleSeconds float64 `json:"visible_seconds,omitempty"`
}

// ApplySchema is the schema of Result.
const ApplySchema = "relkit.apply/v1"

// Apply applies patches in the order that their versions and requirements ask
// for, whatever the one they are given in, one transaction each, and stops at
// the first failure. All are verified, to their last byte, before the first is
// applied; a pipe, which must be the only one, is verified as it is read, each
// segment before it is unpacked and all before anything is visible.
func Apply(ctx context.Context, sources []Source, o ApplyOptions) (results []Result, err error) {
	if o.NoSigners != nil && !hasState(o.Options) {
		return nil, o.NoSigners // before anything is made
	}
	m, err := openMachine(o.Options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if m.confErr != nil {
		return nil, m.confErr
	}
	if err := m.recoverFirst(); err != nil {
		return nil, err
	}
	a := &applier{machine: m, o: o, given: words(sources)}
	if err := a.readAuthority(); err != nil {
		return nil, err
	}
	if o.Again != "" || o.AgainLast {
		s, err := a.keptSource(o.Again)
		if err != nil {
			return nil, m.refuse(err, journal.AuditLine{})
		}
		sources = []Source{s}
	}
	if err := a.timely(sources); err != nil {
		return nil, m.refuse(err, journal.AuditLine{})
	}
	if sources, err = a.ordered(ctx, sources); err != nil {
		return nil, err
	}
	if err := a.verifyAll(ctx, sources); err != nil {
		return nil, err
	}
	for _, s := range sources {
		r, err := a.apply(ctx, s)
		if err != nil {
			if slices.ContainsFunc(results, func(r Result) bool { return r.Status == Applied }) {
				err = failure.Changed(err)
			}
			return results, err
		}
		results = append(results, *r)
	}
	if slices.ContainsFunc(results, func(r Result) bool { return r.Status == Applied || r.Status == Repaired }) {
		m.retain()
	}
	needed := slices.ContainsFunc(results, func(r Result) bool { return r.Reboot && r.Status != Planned })
	if needed && !o.Stage {
		return results, a.reboot(ctx)
	}
	return results, nil
}

type applier struct {
	*machine
	o ApplyOptions
	authority
	// found are patches of this run of which the tree had all already: no journal
	// tells of them.
	found []*patch.Header
	// planned are the patches that a dry run would have applied by now.
	planned planned
	// opening and beside are the head of the patch at hand and its sign-offs beside it.
	opening []byte
	beside  []signature.SignedDoc
	// given are the operands, for hints.
	given string
}

// verifyAll reads every patch to its end and verifies trust, integrity and the
// chain of versions, before anything is touched.
func (a *applier) verifyAll(ctx context.Context, sources []Source) error {
	w, err := a.world()
	if err != nil {
		return err
	}
	for _, s := range sources {
		if s.Once && len(sources) == 1 {
			return nil
		}
		if s.Once {
			return failure.Errorf(failure.Usage, "%s can be the only patch", s.Name)
		}
		f, err := s.Open(ctx)
		if err != nil {
			return err
		}
		a.opt.Progress.Start(0, "verifying "+s.Name)
		p, _, err := a.openPatch(counter{f, a.opt.Progress}, s)
		if err == nil {
			h := p.Header()
			var stands bool
			if stands, err = a.stands(p); err == nil && !stands {
				if err = a.admit(h, w); err == nil {
					err = w.apply(h)
				}
			}
			if err == nil && !s.headOnly {
				err = p.Verify()
			}
			err = a.refuse(err, auditOf(p))
		}
		a.opt.Progress.Done()
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}

// counter shows what is read as progress.
type counter struct {
	r io.Reader
	p Progress
}

func (c counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.p.Add(int64(n))
	return n, err
}

// openPatch reads a patch's header and decides about trust. Not a byte of the
// rest has been parsed when it returns.
func (a *applier) openPatch(r io.Reader, s Source) (*patch.Reader, []trust.Accepted, error) {
	p, err := patch.Open(r)
	if p == nil {
		return nil, nil, a.refuse(err, journal.AuditLine{})
	}
	accepted, trusted := a.trust(p, s)
	if err != nil { // this relkit is too old for it, if it is what it says
		if trusted != nil {
			err = failure.As(failure.Untrusted, fmt.Errorf("%w; and %w", err, trusted))
		}
		return nil, nil, a.refuse(err, journal.AuditLine{Patch: p.ID()})
	}
	if trusted != nil {
		return nil, nil, a.refuse(trusted, auditOf(p))
	}
	return p, accepted, nil
}

func auditOf(p *patch.Reader) journal.AuditLine {
	h := p.Header()
	return journal.AuditLine{Patch: p.ID(), PatchID: h.ID, To: &journal.Version{Product: h.Product, Version: h.To.Version}}
}

// apply applies one patch.
func (a *applier) apply(ctx context.Context, s Source) (r *Result, err error) {
	f, err := s.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	rec := &recorder{r: f}
	p, accepted, err := a.openPatch(rec, s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	a.opening, a.beside = rec.stop(), s.Beside
	r, err = a.run(ctx, p, accepted, s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, a.refuse(err, auditOf(p)))
	}
	return r, nil
}

func (a *applier) run(ctx context.Context, p *patch.Reader, accepted []trust.Accepted, s Source) (*Result, error) {
	h := p.Header()
	recorded, err := a.target.State.Version()
	if err != nil {
		return nil, err
	}
	installed := recorded
	r := &Result{
		Schema: ApplySchema, Patch: h.ID, Digest: p.ID(), Product: h.Product, To: h.To.Version, Signoffs: accepted,
	}
	r.From = recorded.Version
	if n := len(a.planned.headers); n > 0 {
		r.From = a.planned.headers[n-1].To.Version
	}
	if h.From != nil && r.From == "" {
		r.From = h.From.Version
	}
	if installed == (journal.Version{}) && h.From != nil && h.From.Version != "" {
		// Nobody wrote down what is installed; if the files' digests say that it
		// is the patch's base, it is.
		installed = journal.Version{Product: h.Product, Version: h.From.Version}
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
	verify := p.Verify
	if s.headOnly {
		verify = func() error { return nil } // it was, when it was staged
	}
	if stands, err := a.stands(p); err != nil || stands {
		r.Status = Already
		return r, errors.Join(err, verify())
	}
	if waits, err := a.waits(p, r); err != nil || waits {
		return r, errors.Join(err, p.Verify())
	}
	w, err := a.worldNow()
	if err != nil {
		return nil, err
	}
	if err := a.admit(h, w); err != nil {
		return nil, err
	}
	r.Supersedes = w.superseded(h)
	t, err := a.takenBack(p)
	switch {
	case err != nil:
		return nil, err
	case t != nil:
		return a.again(ctx, p, t, r)
	case s.headOnly:
		return nil, failure.Errorf(failure.Refused, "patch %s is committed at boot, or was asked for otherwise than what is kept of it allows: give the patch itself", h.ID)
	}
	if err := a.dropTakenBack(); err != nil {
		return nil, err
	}
	hooks, err := p.Hooks()
	if err != nil {
		return nil, err
	}
	entries, err := p.Entries()
	if err != nil {
		return nil, err
	}
	if err := a.allowMounts(); err != nil {
		return nil, err
	}
	survey, err := a.look(ctx, h, hooks, entries)
	if err != nil {
		return nil, err
	}
	r.Changes = len(entries.Changes) - survey.Already + len(survey.Removed())
	if !a.planned.touches(entries) && a.nothingToDo(survey, len(entries.Changes)) {
		a.tell(r, survey)
		return a.already(p, r, recorded)
	}
	if a.planned.touches(entries) {
		return a.planOn(r, p, entries, survey)
	}
	if err := a.mismatchError(survey); err != nil {
		return nil, err
	}
	boot, err := a.admitPlaces(h, survey)
	if err != nil {
		return nil, err
	}
	if err := a.admitSpace(h, survey); err != nil {
		return nil, err
	}
	a.tell(r, survey)
	for _, path := range survey.Kept {
		r.Kept = append(r.Kept, manifest.Escape(path))
	}
	if a.opt.DryRun {
		r.Status, r.Plan = Planned, survey.Describe()
		a.planned.add(h, entries)
		return r, p.Verify()
	}
	r.Reboot = boot || h.Reboot == patch.RebootRequired
	return r, a.change(ctx, p, hooks, survey, r, installed, boot)
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

// change is the transaction: from here on the machine is worked on.
func (a *applier) change(ctx context.Context, p *patch.Reader, hooks map[string][]byte, s *transaction.Survey, r *Result, installed journal.Version, boot bool) error {
	h := p.Header()
	run, err := a.newRunner(h, hooks)
	if err != nil {
		return err
	}
	record := journal.Record{
		Patch: p.ID(), PatchID: h.ID, From: &installed, To: &journal.Version{Product: h.Product, Version: h.To.Version},
		Insecure: r.Insecure,
	}
	record.Supersedes, record.Provides, record.Floor = h.Supersedes, h.Provides, h.Floor
	if len(h.Restart)+len(h.Reload)+len(h.Stop) > 0 {
		record.Services = &journal.Services{Restart: h.Restart, Reload: h.Reload, Stop: h.Stop}
	}
	if record.Deviations, err = a.deviations(s, r); err != nil {
		return err
	}
	for _, s := range r.Signoffs {
		record.Signoffs = append(record.Signoffs, s.String())
	}
	if a.waived != "" {
		record.Reason = "waived: " + a.waived
	}
	if a.o.Repair {
		record.Reason = strings.TrimSuffix("repair; "+record.Reason, "; ")
	}
	tx, err := transaction.Begin(a.target, s, record)
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
	err = tx.Stage(ctx, p)
	a.opt.Progress.Done()
	if err != nil {
		return err
	}
	if boot || a.o.Stage || !a.inWindow() {
		return a.keep(tx, r, journal.Record{Boot: boot, Reboot: r.Reboot, Changes: r.Changes})
	}
	return a.commit(ctx, tx, run, r)
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
