package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// longAfter is how long a change may be under way before somebody should look.
const longAfter = time.Hour

// collectPatches says what is installed: version.json, the journals and the
// audit log of the state folder.
func collectPatches(_ context.Context, in *input) (*output, error) {
	out := &output{audit: new(record.HealthAudit)}
	release := emptyRelease()
	out.release = &release
	c := record.HealthCheck{Name: "patches", Status: record.HealthOK, Values: map[string]any{
		"patches": nil, "transaction_age_seconds": nil, "audit_lines": nil, "reboot_required": nil,
		"deviations": nil, "trust_expires_seconds": nil,
	}}
	j := &judgement{check: &c}
	j.rebootRequired(in.sys.Tree, out)
	dir, err := in.sys.OpenState()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		j.found(record.HealthUnknown, "no version.json says what is installed")
	case err != nil:
		return nil, fmt.Errorf("opening the state folder: %w", err)
	default:
		defer dir.Close()
		s := state.New(dir)
		ended := j.transactions(s, in, out)
		j.version(s, out)
		j.audit(s, ended, out)
		j.trust(dir, in.now, out)
	}
	j.end()
	out.checks = []record.HealthCheck{c}
	return out, nil
}

// emptyRelease is what is said of a machine of which nothing is known.
func emptyRelease() record.HealthRelease {
	return record.HealthRelease{Patches: []record.HealthPatch{}, Deviations: []record.HealthDeviation{}}
}

// rebootRequired looks for the file that says so, here and on Debian.
func (j *judgement) rebootRequired(tree fs.FS, out *output) {
	_, err := fs.Stat(tree, "run/reboot-required")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		out.fault("patches", "release.reboot_required", err)
		return
	}
	required := err == nil
	out.release.RebootRequired = &required
	j.check.Values["reboot_required"] = required
	if required {
		j.found(record.HealthWarn, "a reboot is required")
	}
}

// version fills in what is installed.
func (j *judgement) version(s *state.State, out *output) {
	v, err := s.Version()
	switch {
	case err != nil:
		out.fault("patches", "release.version", err)
		j.found(record.HealthUnknown, clean(err.Error()))
	case v == journal.Version{}:
		j.found(record.HealthUnknown, "no version.json says what is installed")
	default:
		out.release.Product, out.release.Version = ptr(clean(v.Product)), ptr(clean(v.Version))
		j.say("%s %s", clean(v.Product), clean(v.Version))
	}
}

// transactions fills in the patches that stand, and judges the one that has not
// ended. It tells whether any has.
func (j *judgement) transactions(s *state.State, in *input, out *output) (ended bool) {
	all, working, err := readTransactions(s, in.sys)
	if err != nil {
		out.fault("patches", "release.patches", err)
		j.found(record.HealthUnknown, clean(err.Error()))
		return false
	}
	for _, t := range all {
		begin, applied := t.Find(journal.Begin), t.Find(journal.Applied)
		if begin == nil {
			continue
		}
		if applied != nil && t.Stands() {
			out.release.Patches = append(out.release.Patches, record.HealthPatch{
				ID: clean(begin.PatchID), Digest: begin.Patch.String(), Applied: applied.Time.UTC().Truncate(time.Second),
			})
		}
		if t.Closed() {
			ended = true
			continue
		}
		out.release.Transaction = &record.HealthTransaction{ID: t.ID, State: string(t.Status()), Patch: clean(begin.PatchID)}
		j.unfinished(t, working, in.now)
	}
	j.check.Values["patches"] = len(out.release.Patches)
	deviations := state.Deviations(all)
	j.check.Values["deviations"] = len(deviations)
	for _, d := range deviations[:min(len(deviations), record.MaxHealthDeviations)] {
		out.release.Deviations = append(out.release.Deviations, record.HealthDeviation{
			Path: clean(d.Path), Outcome: string(d.Outcome), New: clean(d.New), Patch: clean(d.Patch),
		})
	}
	return ended
}

// work tells whether a relkit works on the machine.
type work struct {
	held bool
	err  error // why that cannot be told
}

// readTransactions reads the journals and, where a transaction has not ended,
// whether somebody is at it. A relkit holds the lock for as long as its
// transaction is open, so one that reads the same before and after the lock was
// found free was cut off; one that does not has gone on meanwhile.
func readTransactions(s *state.State, sys *System) ([]*state.Transaction, work, error) {
	all, err := s.Transactions()
	open := openTransaction(all)
	if err != nil || open == nil {
		return all, work{}, err
	}
	var w work
	if w.held, w.err = sys.Working(); w.held || w.err != nil {
		return all, w, nil
	}
	all, err = s.Transactions()
	now := openTransaction(all)
	w.held = now != nil && (now.ID != open.ID || len(now.Records) != len(open.Records))
	return all, w, err
}

// openTransaction is the transaction that has not ended, nil for none.
func openTransaction(all []*state.Transaction) *state.Transaction {
	for _, t := range slices.Backward(all) {
		if len(t.Records) > 0 && !t.Closed() {
			return t
		}
	}
	return nil
}

// unfinished judges a transaction that has not ended.
func (j *judgement) unfinished(t *state.Transaction, w work, now time.Time) {
	last := t.Records[len(t.Records)-1].Time
	age := now.Sub(last)
	j.check.Values["transaction_age_seconds"] = round(max(age, 0).Seconds())
	what := fmt.Sprintf("transaction %s, %s", t.ID, t.Status())
	switch {
	case w.err != nil:
		j.found(record.HealthUnknown, fmt.Sprintf("a change to the machine is under way or was cut off (%s): %s", what, clean(w.err.Error())))
	case w.held && age > longAfter:
		j.found(record.HealthWarn, fmt.Sprintf("a change to the machine has been under way since %s (%s)", last.UTC().Format(time.RFC3339), what))
	case w.held:
		j.found(record.HealthOK, fmt.Sprintf("a change to the machine is under way (%s)", what))
	case t.Pending():
		j.waits(t, last, age)
	default:
		j.found(cutOff(t.Status()), fmt.Sprintf("a change to the machine was cut off (%s): run relkit patch-apply --recover", what))
	}
}

// waits judges a patch that waits: for its window or for a boot, as long as its
// owner likes; for its confirmation, not long.
func (j *judgement) waits(t *state.Transaction, last time.Time, age time.Duration) {
	patch := clean(t.Records[0].PatchID)
	switch t.Status() {
	case journal.Awaiting, journal.Booted:
		if age > longAfter {
			j.found(record.HealthWarn, fmt.Sprintf("patch %s has awaited its confirmation since %s", patch, last.UTC().Format(time.RFC3339)))
			return
		}
	}
	j.found(record.HealthOK, fmt.Sprintf("patch %s waits (transaction %s, %s)", patch, t.ID, t.Status()))
}

// cutOff is how bad it is that a transaction stopped there: after some events the
// tree is whole, and only what it left behind is still to be removed.
func cutOff(e journal.Event) record.HealthStatus {
	switch e {
	case journal.Aborted, journal.Undone, journal.Freeing:
		return record.HealthWarn
	}
	return record.HealthCrit
}

// expiresSoon is how long before its end a trust document is to be renewed: the
// next one takes the root keys, which are not at hand every day.
const expiresSoon = 30 * 24 * time.Hour

// trust fills in the trust document, and judges how long it is good for.
func (j *judgement) trust(dir fsys.FS, now time.Time, out *output) {
	d, err := trust.Load(dir)
	switch {
	case err != nil:
		status := record.HealthCrit
		if errors.Is(err, fs.ErrPermission) {
			status = record.HealthUnknown
		}
		out.fault("patches", "release.trust", err)
		j.found(status, clean(err.Error()))
		return
	case d == nil:
		return
	}
	out.release.Trust = &record.HealthTrust{Version: d.Version, Digest: d.Digest.String(), Expires: d.Expires.UTC().Truncate(time.Second)}
	left := d.Expires.Sub(now)
	j.check.Values["trust_expires_seconds"] = round(left.Seconds())
	text := fmt.Sprintf("trust document %d", d.Version)
	switch at := d.Expires.UTC().Format(time.RFC3339); {
	case d.Expired(now):
		j.found(record.HealthCrit, fmt.Sprintf("%s expired at %s: no patch is trusted until relkit trust --update FILE", text, at))
	case left < expiresSoon:
		j.found(record.HealthWarn, fmt.Sprintf("%s expires at %s: relkit trust --update FILE renews it", text, at))
	}
}

// audit fills in where the audit log stands; one that does not hold together, or
// is missing although transactions have ended, was changed by something else
// than relkit.
func (j *judgement) audit(s *state.State, ended bool, out *output) {
	head, err := s.VerifyNewest()
	switch {
	case err != nil:
		status := record.HealthCrit
		if errors.Is(err, fs.ErrPermission) {
			status = record.HealthUnknown
		}
		out.fault("patches", "audit.head", err)
		j.found(status, clean(err.Error()))
		return
	case head.Count == 0 && ended:
		j.found(record.HealthCrit, "the audit log is gone")
	}
	out.audit.Count = ptr(uint64(head.Count))
	j.check.Values["audit_lines"] = head.Count
	if !head.Digest.IsZero() {
		out.audit.Head = ptr(head.Digest.String())
	}
}
