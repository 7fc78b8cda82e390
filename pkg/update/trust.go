package update

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/trustdoc"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// authority is who may decide about patches on a machine, at this time.
type authority struct {
	// document is nil where only the allowed signers of the command line say it.
	document *trust.Document
	clock    trust.Clock
	// waived says why the sign-offs of the patch at hand do not suffice, where that
	// is let pass; "" where they do.
	waived string
}

// readAuthority reads it before any patch is looked at.
func (a *applier) readAuthority() (err error) {
	if a.document, a.clock, err = a.readTrust(); err != nil {
		return a.refuse(err, journal.AuditLine{})
	}
	switch {
	case a.document == nil && a.o.NoSigners != nil:
		return a.o.NoSigners
	case a.document != nil && a.o.SignersGiven:
		a.opt.Log.Warn(fmt.Sprintf("trust document %d of this machine says who may sign, --allowed-signers does not", a.document.Version))
	}
	if a.clock.Wrong() {
		a.opt.Log.Warn("the clock is wrong", "clock", a.clock.Shown.UTC().Format(time.RFC3339), "at_least", a.clock.Floor.UTC().Format(time.RFC3339))
	}
	return a.remember(nil)
}

// readTrust is the machine's trust document, nil for none, and what it knows of
// the time.
func (m *machine) readTrust() (*trust.Document, trust.Clock, error) {
	state := m.target.State.FS()
	d, err := trust.Load(state)
	if err != nil {
		return nil, trust.Clock{}, failure.WithHint(err, "rm -r %s; relkit trust%s --install FILE  # on your own word, once it is known who damaged it",
			failure.Word(filepath.Join(m.opt.statePath(), "trust")), m.opt.flags())
	}
	clock, err := trust.ReadClock(state, m.opt.Now(), m.opt.Built)
	if failure.Of(err) == failure.Untrusted {
		err = failure.WithHint(err, "relkit trust%s --insecure-reset-time  # has this machine begin anew from what is signed", m.opt.flags())
	}
	return d, clock, err
}

// statePath is the state folder.
func (o *Options) statePath() string {
	if o.State != "" {
		return o.State
	}
	return filepath.Join(o.Root, DefaultState)
}

// hasState tells whether relkit has been on the machine before.
func hasState(o Options) bool {
	f, err := fsys.Open(o.statePath())
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return f.Close() == nil
}

// trustedNow is the time that expiry is held against.
func (a *applier) trustedNow() time.Time { return trustdoc.Later(a.opt.Now(), a.clock.Floor) }

// remember keeps what a patch's sign-offs say of the time: the earliest of them,
// since all who had to sign stand for that, and one alone could say anything.
func (a *applier) remember(accepted []trust.Accepted) error {
	if a.opt.DryRun {
		return nil
	}
	var signed time.Time
	for i, s := range accepted {
		if i == 0 || s.Time.Before(signed) {
			signed = s.Time
		}
	}
	if err := a.clock.Remember(a.target.State.FS(), signed); err != nil {
		return err
	}
	a.clock.Floor = trustdoc.Later(a.clock.Floor, signed)
	return nil
}

// policy is what a patch for a product, "" where that is not known, has to have:
// what the machine asks for, and what the command line asks for besides.
func (a *applier) policy(product string) (trust.Policy, error) {
	p := a.o.Policy
	p.ClockWrong = a.clock.Wrong()
	if a.document != nil {
		if err := a.document.Valid(product, a.clock); err != nil {
			if failure.Hint(err) != "" {
				err = failure.WithHint(err, "relkit trust%s --update FILE  # with a newer one, signed by the root keys of this one", a.opt.flags())
			}
			return p, err
		}
		p = a.document.Policy(a.clock)
		p.Subject = a.o.Policy.Subject
	}
	wanted := a.conf.Policy.For(product, a.conf.Channel)
	if len(a.conf.Policy.Require) == 0 && len(wanted.Require) > 0 {
		wanted.Require = append([]string{trust.DefaultRequire}, wanted.Require...)
	}
	p.Require = atLeast(wanted.Require, a.o.Policy.Require)
	thresholds := map[string]int{}
	for role, n := range p.Thresholds {
		thresholds[role] = n
	}
	for role, r := range wanted.Roles {
		thresholds[role] = max(thresholds[role], r.Threshold)
		if r.Evidence {
			p.Evidence = append(p.Evidence, role)
		}
	}
	p.Thresholds = thresholds
	return p, nil
}

// atLeast is roles, each at least as often as in more too.
func atLeast(roles, more []string) []string {
	roles = slices.Clone(roles)
	for i, r := range more {
		if count(more[:i+1], r) > count(roles, r) {
			roles = append(roles, r)
		}
	}
	return roles
}

func count(roles []string, role string) (n int) {
	for _, r := range roles {
		if r == role {
			n++
		}
	}
	return n
}

// trust tells whether the sign-offs suffice, or that they need not.
func (a *applier) trust(p *patch.Reader, s Source) (accepted []trust.Accepted, err error) {
	product := ""
	if h := p.Header(); h != nil {
		product = h.Product
	}
	policy, err := a.policy(product)
	if err == nil && policy.Allowed == nil {
		err = failure.Errorf(failure.Untrusted, "no allowed signers are known on this machine")
	}
	if err == nil {
		if !s.Once {
			policy.Subject = failure.Word(s.Name)
		}
		if s.headOnly { // what is kept is no file that could be signed
			policy.Subject = failure.Word(s.Name + ".rkp")
		}
		accepted, err = trust.CheckSignoffs(policy, p.ID(), append(p.Signoffs(), s.Beside...), a.trustedNow())
	}
	a.waived = ""
	if err != nil && a.o.InsecureUnsigned {
		a.waived = err.Error()
		return nil, nil
	}
	if sign := failure.Hint(err); sign != "" && s.headOnly {
		err = failure.WithHint(err, "%s && relkit patch-apply%s %s  # the patch itself", sign, a.flags(), policy.Subject)
	}
	if err != nil {
		return nil, err
	}
	return accepted, a.remember(accepted)
}

// stillTrusted refuses to make visible what was staged on the word of a key, or of
// an authority's, that has been revoked since.
func (a *applier) stillTrusted(begin journal.Record) error {
	document, _, err := a.readTrust()
	if err != nil || document == nil {
		return err
	}
	for _, s := range begin.Signoffs {
		for _, r := range document.Revoked {
			if strings.Contains(s, r.Key) {
				return failure.WithHint(failure.Errorf(failure.Untrusted, "patch %s was staged on the word of %q: %w", begin.PatchID, s, document.Revokes(r.Key)),
					"relkit patch-apply%s --unstage", a.opt.flags())
			}
		}
	}
	return nil
}

// TrustSchema is the schema of TrustState.
const TrustSchema = "relkit.trust-state/v1"

// TrustState is relkit.trust-state/v1: whom a machine goes by, and what became of it.
type TrustState struct {
	Schema string `json:"schema"`
	// Status is none or there, or what was done: installed, updated, planned.
	Status   string             `json:"status"`
	Document *trustdoc.Document `json:"document,omitempty"`
	Digest   string             `json:"digest,omitempty"`
	// Before is the version that was there, 0 for none.
	Before int64 `json:"before,omitempty"`
	// Root are the keys that signed a document that was taken.
	Root []trust.Accepted `json:"root,omitempty"`
	// NotBefore is a time that has passed for certain; ClockWrong, that the clock
	// of the machine shows one that is a day or more before it.
	NotBefore  time.Time `json:"not_before"`
	ClockWrong bool      `json:"clock_wrong"`
}

func trustState(status string, d *trust.Document, clock trust.Clock) *TrustState {
	s := &TrustState{Schema: TrustSchema, Status: status, NotBefore: clock.Floor.UTC(), ClockWrong: clock.Wrong()}
	if d != nil {
		s.Document, s.Digest = d.Document, d.Digest.String()
	}
	return s
}

// ShowTrust tells whom a machine goes by.
func ShowTrust(_ context.Context, o Options) (s *TrustState, err error) {
	o.DryRun, o.reading = true, true
	m, err := openMachine(o)
	if err != nil {
		return nil, err
	}
	defer m.end(&err)
	d, clock, err := m.readTrust()
	if err != nil {
		return nil, err
	}
	if d == nil {
		return trustState("none", nil, clock), nil
	}
	return trustState("there", d, clock), nil
}

// UpdateTrust gives a machine its first trust document, or a newer one by way of
// those in between.
func UpdateTrust(_ context.Context, docs []*trust.Document, first bool, o Options) (s *TrustState, err error) {
	m, err := openMachine(o)
	if err != nil {
		return nil, err
	}
	defer m.end(&err)
	_, clock, err := m.readTrust()
	if err != nil {
		return nil, m.refuse(err, journal.AuditLine{})
	}
	defer o.hold()()
	u, err := trust.Update(m.target.State, docs, trust.UpdateOptions{First: first, Clock: clock, DryRun: o.DryRun, Flags: m.opt.flags()})
	if err != nil {
		return nil, m.refuse(err, journal.AuditLine{})
	}
	if _, clock, err = m.readTrust(); err != nil {
		return nil, err
	}
	s = trustState("there", u.After, clock)
	switch {
	case u.After == u.Before:
	case o.DryRun:
		s.Status = "planned"
	case first:
		s.Status = "installed"
	default:
		s.Status = "updated"
	}
	s.Root = u.Accepted
	if u.Before != nil {
		s.Before = u.Before.Version
	}
	return s, nil
}

// ResetTime has a machine forget what it remembers of time, for one whose clock
// was once ahead. It is written into the audit log first.
func ResetTime(_ context.Context, o Options) (s *TrustState, err error) {
	m, err := openMachine(o)
	if err != nil {
		return nil, err
	}
	defer m.end(&err)
	if o.DryRun {
		return ShowTrust(context.Background(), o)
	}
	state := m.target.State
	if err := state.Note(journal.AuditLine{Event: journal.TimeReset, Time: o.Now(), Insecure: []string{"insecure-reset-time"}}); err != nil {
		return nil, err
	}
	if err := trust.Forget(state.FS()); err != nil {
		return nil, err
	}
	d, clock, err := m.readTrust()
	return trustState("there", d, clock), err
}
