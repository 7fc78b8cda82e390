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
	"github.com/relkit/relkit/pkg/format/journal"
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
	// Given are the flags of the command line, for hints.
	Given Given
}

// Given are flags as they were given, as a shell takes them, each with a blank in
// front, so that a hint to do it again asks for the same.
type Given struct {
	// Trust say who may sign and what is waived; Checks what has to succeed; Timing
	// when something becomes visible.
	Trust, Checks, Timing string
}

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
	defer m.end(&err)
	if m.confErr != nil {
		return nil, m.confErr
	}
	if err := m.recoverFirst(); err != nil {
		return nil, err
	}
	a := &applier{machine: m, o: o, given: words(sources)}
	if o.Again != "" || o.AgainLast {
		a.given = strings.TrimSuffix(" --again "+o.Again, " ")
	}
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
	for i, s := range sources {
		r, err := a.apply(ctx, s)
		if err == nil {
			results = append(results, *r)
			if err = a.goOn(r, sources[i+1:]); err != nil {
				err = errors.Join(err, a.reboot(ctx))
			}
		}
		if err != nil {
			if slices.ContainsFunc(results, func(r Result) bool { return r.Status == Applied || r.Status == Repaired || r.Status == Armed }) {
				err = failure.Changed(err)
			}
			return results, err
		}
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

// goOn tells whether the patches that are left can be begun after one that ended as
// r says. One that waits for a boot leaves the tree that they were verified to
// follow for after that boot.
func (a *applier) goOn(r *Result, left []Source) error {
	if len(left) == 0 || !r.atBoot {
		return nil
	}
	var names []string
	for _, s := range left {
		names = append(names, s.Name)
	}
	is := "is"
	if a.opt.DryRun {
		is = "would be"
	}
	err := failure.Errorf(failure.Refused, "not begun: %s: patch %s %s committed at the next boot, and what comes after it builds on that", strings.Join(names, ", "), r.Patch, is)
	flags := a.flags()
	if a.o.modifies() {
		flags += " --on-modified " + string(a.o.OnModified)
	}
	return a.refuse(failure.WithHint(err, "reboot  # then: relkit patch-apply%s%s --confirm && relkit patch-apply%s%s",
		a.opt.flags(), a.o.Given.Checks, flags, words(left)), journal.AuditLine{})
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
