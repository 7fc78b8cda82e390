package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/record"
)

const (
	// interruptedAfter is how long a commit or its undoing may go on before it
	// counts as cut off: they are renames, done in seconds.
	interruptedAfter = 10 * time.Minute
	// unconfirmedAfter is how long a committed change may wait for its checks.
	unconfirmedAfter = 24 * time.Hour
)

// collectPatches says what is installed: version.json, the journals and the
// audit log of the state folder.
func collectPatches(_ context.Context, in *input) (*output, error) {
	out := &output{release: &record.HealthRelease{Patches: []record.HealthPatch{}}, audit: new(record.HealthAudit)}
	c := record.HealthCheck{Name: "patches", Status: record.HealthOK, Values: map[string]any{
		"patches": nil, "transaction_age_seconds": nil, "audit_lines": nil, "reboot_required": nil,
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
		j.version(s, out)
		j.transactions(s, in.now, out)
		j.audit(s, out)
	}
	j.end()
	out.checks = []record.HealthCheck{c}
	return out, nil
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

// transactions fills in the patches that stand, and judges the one that has not ended.
func (j *judgement) transactions(s *state.State, now time.Time, out *output) {
	all, err := s.Transactions()
	if err != nil {
		out.fault("patches", "release.patches", err)
		j.found(record.HealthUnknown, clean(err.Error()))
		return
	}
	for _, t := range all {
		begin, applied := t.Find(journal.Begin), t.Find(journal.Applied)
		if begin == nil {
			continue
		}
		if applied != nil && t.Find(journal.Rollback) == nil {
			out.release.Patches = append(out.release.Patches, record.HealthPatch{
				ID: clean(begin.PatchID), Digest: begin.Patch.String(), Applied: applied.Time.UTC().Truncate(time.Second),
			})
		}
		if !t.Closed() {
			out.release.Transaction = &record.HealthTransaction{ID: t.ID, State: string(t.Status()), Patch: clean(begin.PatchID)}
			j.unfinished(t, now)
		}
	}
	j.check.Values["patches"] = len(out.release.Patches)
}

// unfinished judges a transaction that has not ended.
func (j *judgement) unfinished(t *state.Transaction, now time.Time) {
	age := now.Sub(t.Records[len(t.Records)-1].Time)
	j.check.Values["transaction_age_seconds"] = round(max(age, 0).Seconds())
	switch t.Status() {
	case journal.Committing, journal.Undoing, journal.Rollback:
		if age > interruptedAfter {
			j.found(record.HealthCrit, fmt.Sprintf("transaction %s stopped while %q: run relkit patch-apply --recover", t.ID, t.Status()))
		}
	case journal.Committed:
		if age > unconfirmedAfter {
			j.found(record.HealthWarn, fmt.Sprintf("transaction %s has been waiting for its checks or --confirm since %s", t.ID,
				t.Records[len(t.Records)-1].Time.UTC().Format(time.RFC3339)))
		}
	}
}

// audit fills in where the audit log stands; one that does not hold together
// was changed by something else than relkit.
func (j *judgement) audit(s *state.State, out *output) {
	_, head, err := s.Verify()
	if err != nil {
		out.fault("patches", "audit.head", err)
		j.found(record.HealthCrit, clean(err.Error()))
		return
	}
	out.audit.Count = ptr(uint64(head.Count))
	j.check.Values["audit_lines"] = head.Count
	if !head.Digest.IsZero() {
		out.audit.Head = ptr(head.Digest.String())
	}
}
