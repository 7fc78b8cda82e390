package health

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/trustdoc"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// patched is a machine on which the events happened, a transaction a line, each
// the age before fixtureTime.
func patched(t *testing.T, age time.Duration, transactions ...string) *fixture {
	t.Helper()
	f := newFixture(t)
	f.opt.Only = []string{"patches"}
	s := state.New(f.state.FS())
	for n, events := range transactions {
		at := fixtureTime.Add(-age)
		from, to := version(n), version(n+1)
		tx, err := s.Begin(journal.Record{
			Time: at, Patch: digest.Of([]byte{byte(n)}), PatchID: "p-" + string(rune('1'+n)), From: &from, To: &to,
		})
		if err != nil {
			t.Fatal(err)
		}
		for event := range strings.FieldsSeq(events) {
			if err := s.Append(tx, journal.Record{Event: journal.Event(event), Time: at}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	return f
}

func version(n int) journal.Version {
	return journal.Version{Product: "r3000", Version: "4." + string(rune('0'+n))}
}

const appliedEvents = "staged committing committed applied"

func cutOffSummary(state string) string {
	return "a change to the machine was cut off (transaction 000002, " + state + "): run relkit patch-apply --recover"
}

func TestPatches(t *testing.T) {
	for _, c := range []struct {
		what         string
		working      bool
		age          time.Duration
		transactions []string
		status       record.HealthStatus
		summary      string
		version      string
		patches      string
		state        string
	}{
		{"two patches", false, time.Hour, []string{appliedEvents, appliedEvents}, "ok", "r3000 4.2", "4.2", "p-1 p-2", ""},
		{"one rolled back", false, time.Hour, []string{appliedEvents, appliedEvents + " rollback rolled-back freed"}, "ok", "r3000 4.1", "4.1", "p-1", ""},
		{"one whose slots were freed", false, time.Hour, []string{appliedEvents + " freeing freed", appliedEvents}, "ok", "r3000 4.2", "4.2", "p-1 p-2", ""},
		{"one undone", false, time.Hour, []string{appliedEvents, "staged committing undoing undone freed"}, "ok", "r3000 4.1", "4.1", "p-1", ""},
		{"one under way", true, time.Minute, []string{appliedEvents, "staged committing"}, "ok",
			"a change to the machine is under way (transaction 000002, committing)", "4.1", "p-1", "000002 committing p-2"},
		{"one under way too long", true, 2 * time.Hour, []string{appliedEvents, "staged committing committed"}, "warn",
			"a change to the machine has been under way since 2026-11-22T00:13:09Z (transaction 000002, committed)", "4.1", "p-1", "000002 committed p-2"},
		{"one cut off at its begin", false, 0, []string{appliedEvents, ""}, "crit", cutOffSummary("begin"), "4.1", "p-1", "000002 begin p-2"},
		{"one cut off when staged", false, 0, []string{appliedEvents, "staged"}, "crit", cutOffSummary("staged"), "4.1", "p-1", "000002 staged p-2"},
		{"one cut off", false, time.Second, []string{appliedEvents, "staged committing"}, "crit", cutOffSummary("committing"), "4.1", "p-1", "000002 committing p-2"},
		{"one cut off before its checks", false, time.Second, []string{appliedEvents, "staged committing committed"}, "crit", cutOffSummary("committed"), "4.1", "p-1", "000002 committed p-2"},
		{"one cut off being undone", false, time.Second, []string{appliedEvents, "staged committing undoing"}, "crit", cutOffSummary("undoing"), "4.1", "p-1", "000002 undoing p-2"},
		{"a rollback cut off", false, time.Hour, []string{appliedEvents, appliedEvents + " rollback"}, "crit", cutOffSummary("rollback"), "4.2", "p-1", "000002 rollback p-2"},
		{"one whose slots are left", false, time.Hour, []string{appliedEvents, "staged committing undoing undone"}, "warn", cutOffSummary("undone"), "4.1", "p-1", "000002 undone p-2"},
		{"one staged", false, 100 * time.Hour, []string{appliedEvents, "staged ready"}, "ok", "patch p-2 waits (transaction 000002, ready)", "4.1", "p-1", "000002 ready p-2"},
		{"one to be committed at boot", false, 100 * time.Hour, []string{appliedEvents, "staged ready armed"}, "ok", "patch p-2 waits (transaction 000002, armed)", "4.1", "p-1", "000002 armed p-2"},
		{"one to be taken back at boot", false, 100 * time.Hour, []string{appliedEvents, "staged ready armed committing committed awaiting withdrawn"}, "ok", "patch p-2 waits (transaction 000002, withdrawn)", "4.2", "p-1", "000002 withdrawn p-2"},
		{"one to be confirmed", false, time.Minute, []string{appliedEvents, "staged ready armed committing committed awaiting"}, "ok", "patch p-2 waits (transaction 000002, awaiting)", "4.2", "p-1", "000002 awaiting p-2"},
		{"one not confirmed", false, 2 * time.Hour, []string{appliedEvents, "staged ready armed committing committed awaiting booted"}, "warn",
			"patch p-2 has awaited its confirmation since 2026-11-22T00:13:09Z", "4.2", "p-1", "000002 booted p-2"},
		{"one staged, and somebody at it", true, time.Minute, []string{appliedEvents, "staged ready"}, "ok", "a change to the machine is under way (transaction 000002, ready)", "4.1", "p-1", "000002 ready p-2"},
	} {
		t.Run(c.what, func(t *testing.T) {
			f := patched(t, c.age, c.transactions...)
			f.working = c.working
			h := f.report(t)
			got := check(t, h, "patches", "")
			if got.Status != c.status || got.Summary != c.summary {
				t.Errorf("got %s: %s; want %s: %s", got.Status, got.Summary, c.status, c.summary)
			}
			if h.Release.Version == nil || *h.Release.Version != c.version {
				t.Errorf("version is %v, want %s", h.Release.Version, c.version)
			}
			var ids []string
			for _, p := range h.Release.Patches {
				ids = append(ids, p.ID)
			}
			if strings.Join(ids, " ") != c.patches {
				t.Errorf("patches are %v, want %s", ids, c.patches)
			}
			tx := ""
			if x := h.Release.Transaction; x != nil {
				tx = x.ID + " " + x.State + " " + x.Patch
			}
			if tx != c.state {
				t.Errorf("transaction is %q, want %q", tx, c.state)
			}
		})
	}
}

// TestAuditHead shows that the head is the log's, and that a log that was
// changed is a fault.
func TestAuditHead(t *testing.T) {
	f := patched(t, time.Hour, appliedEvents)
	b, err := fsys.ReadFile(f.state.FS(), "audit.jsonl", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	h := f.report(t)
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if h.Audit.Count == nil || *h.Audit.Count != uint64(len(lines)) {
		t.Errorf("count is %v, want %d", h.Audit.Count, len(lines))
	}
	if want := digest.Of([]byte(lines[len(lines)-1])).String(); h.Audit.Head == nil || *h.Audit.Head != want {
		t.Errorf("head is %v, want %s", h.Audit.Head, want)
	}
	if err := fsys.WriteFile(f.state.FS(), "audit.jsonl", []byte(strings.Replace(string(b), "p-1", "p-9", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	h = f.report(t)
	c := check(t, h, "patches", "")
	if c.Status != record.HealthCrit || !strings.Contains(c.Summary, "audit.jsonl: line 2") || h.Audit.Head != nil {
		t.Errorf("a changed log: %s: %s, head %v", c.Status, c.Summary, h.Audit.Head)
	}
}

// TestDeviations shows files that were changed here and stay so, by the newest
// patch that stands, and that a long list is cut.
func TestDeviations(t *testing.T) {
	f := newFixture(t)
	f.opt.Only = []string{"patches"}
	s := state.New(f.state.FS())
	var all []journal.Deviation
	for i := range record.MaxHealthDeviations + 5 {
		all = append(all, journal.Deviation{Path: fmt.Sprintf("etc/%03d", i), Outcome: journal.Kept, New: fmt.Sprintf("etc/%03d.relkit-new", i), Patch: "p-1"})
	}
	from, to := version(0), version(1)
	tx, err := s.Begin(journal.Record{Time: fixtureTime, Patch: digest.Of(nil), PatchID: "p-1", From: &from, To: &to, Deviations: all})
	for event := range strings.FieldsSeq(appliedEvents) {
		if err == nil {
			err = s.Append(tx, journal.Record{Event: journal.Event(event), Time: fixtureTime})
		}
	}
	if err == nil {
		err = s.Settle()
	}
	if err != nil {
		t.Fatal(err)
	}
	h := f.report(t)
	if c := check(t, h, "patches", ""); c.Status != record.HealthOK || c.Values["deviations"] != len(all) {
		t.Errorf("got %s: %s, %v", c.Status, c.Summary, c.Values)
	}
	want := record.HealthDeviation{Path: "etc/000", Outcome: "kept", New: "etc/000.relkit-new", Patch: "p-1"}
	if got := h.Release.Deviations; len(got) != record.MaxHealthDeviations || got[0] != want {
		t.Errorf("%d deviations, the first %+v", len(got), got)
	}
}

// TestTrust shows the trust document, and warns before it expires.
func TestTrust(t *testing.T) {
	day := 24 * time.Hour
	for left, want := range map[time.Duration]struct {
		status  record.HealthStatus
		summary string
	}{
		90 * day:  {record.HealthOK, "r3000 4.1"},
		29 * day:  {record.HealthWarn, "trust document 1 expires at 2026-12-21T02:13:09Z: relkit trust --update FILE renews it"},
		-1 * day:  {record.HealthCrit, "trust document 1 expired at 2026-11-21T02:13:09Z: no patch is trusted until relkit trust --update FILE"},
		-60 * day: {record.HealthCrit, "trust document 1 expired at 2026-09-23T02:13:09Z: no patch is trusted until relkit trust --update FILE"},
	} {
		f := patched(t, time.Hour, appliedEvents)
		d := trustDocument(t, fixtureTime.Add(left))
		if _, err := trust.Update(state.New(f.state.FS()), []*trust.Document{d}, trust.UpdateOptions{First: true, Clock: trust.Clock{Shown: d.Issued}}); err != nil {
			t.Fatal(err)
		}
		h := f.report(t)
		c := check(t, h, "patches", "")
		if c.Status != want.status || c.Summary != want.summary || c.Values["trust_expires_seconds"] != left.Seconds() {
			t.Errorf("%v left: got %s: %s, %v", left, c.Status, c.Summary, c.Values)
		}
		if got := h.Release.Trust; got == nil || got.Version != 1 || got.Digest != d.Digest.String() || !got.Expires.Equal(d.Expires) {
			t.Errorf("got %+v", got)
		}
		if err := fsys.WriteFile(f.state.FS(), "trust/1.json", []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if h = f.report(t); check(t, h, "patches", "").Status != record.HealthCrit || h.Release.Trust != nil {
			t.Errorf("damaged: %+v", h.Release.Trust)
		}
	}
}

// trustDocument is one of a single root key.
func trustDocument(t *testing.T, expires time.Time) *trust.Document {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	d := &trustdoc.Document{
		Schema: trustdoc.Schema, Product: "r3000", Version: 1, Issued: expires.AddDate(-1, 0, 0), Expires: expires, Thresholds: map[string]int{"root": 1},
		AllowedSigners: "root " + string(ssh.MarshalAuthorizedKey(signer.PublicKey())),
	}
	raw, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signature.Sign(signer, signature.NamespaceTrust, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	out, err := trust.NewDocument("trust.json", raw, sig)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestVersionUnreadable shows that rubbish is no version.
func TestVersionUnreadable(t *testing.T) {
	f := patched(t, time.Hour)
	f.writeState(t, "version.json", []byte(`{"schema":"relkit.version/v1","product":"r3000"} trailing`))
	h := f.report(t)
	if c := check(t, h, "patches", ""); c.Status != record.HealthUnknown || !strings.HasPrefix(c.Summary, "reading version.json:") {
		t.Errorf("got %s: %s", c.Status, c.Summary)
	}
	if h.Release.Version != nil {
		t.Errorf("version is %s", *h.Release.Version)
	}
}

// TestCutOffWithoutVersion: the first patch ever, cut off, on a machine that does
// not say what it runs.
func TestCutOffWithoutVersion(t *testing.T) {
	f := patched(t, 0, "staged committing")
	if err := f.state.FS().Unlink("version.json"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	c := check(t, f.report(t), "patches", "")
	want := "a change to the machine was cut off (transaction 000001, committing): run relkit patch-apply --recover; no version.json says what is installed"
	if c.Status != record.HealthCrit || c.Summary != want {
		t.Errorf("got %s: %s; want crit: %s", c.Status, c.Summary, want)
	}
}

// TestWorkEndsMeanwhile: what was under way when the journals were read and has
// ended, or gone on, when the lock is looked at, was not cut off.
func TestWorkEndsMeanwhile(t *testing.T) {
	for events, want := range map[string]string{"committed applied": "r3000 4.2", "committed": "a change to the machine is under way (transaction 000002, committed)"} {
		f := patched(t, 0, appliedEvents, "staged committing")
		f.sys.Working = func() (bool, error) {
			s := state.New(f.state.FS())
			all, err := s.Transactions()
			if err != nil {
				t.Fatal(err)
			}
			for event := range strings.FieldsSeq(events) {
				if err := s.Append(all[1], journal.Record{Event: journal.Event(event), Time: fixtureTime}); err != nil {
					t.Fatal(err)
				}
			}
			return false, s.Settle()
		}
		if c := check(t, f.report(t), "patches", ""); c.Status != record.HealthOK || c.Summary != want {
			t.Errorf("%s: got %s: %s; want ok: %s", events, c.Status, c.Summary, want)
		}
	}
}

// TestNotAllowed: what may not be looked at is unknown, whatever it is.
func TestNotAllowed(t *testing.T) {
	f := patched(t, 0, "staged committing")
	f.sys.Working = func() (bool, error) { return false, &fs.PathError{Op: "open", Path: "lock", Err: fs.ErrPermission} }
	if c := check(t, f.report(t), "patches", ""); c.Status != record.HealthUnknown || !strings.Contains(c.Summary, "is under way or was cut off") {
		t.Errorf("a lock that may not be read: %s: %s", c.Status, c.Summary)
	}
	for _, name := range []string{"audit.jsonl", "version.json", "transactions"} {
		f := patched(t, 0, appliedEvents)
		f.sys.OpenState = func() (fsys.FS, error) { return unreadable{f.state.FS(), name}, nil }
		if c := check(t, f.report(t), "patches", ""); c.Status != record.HealthUnknown || !strings.Contains(c.Summary, "permission denied") {
			t.Errorf("%s: %s: %s", name, c.Status, c.Summary)
		}
	}
}

// unreadable is a folder with one thing in it that may not be read.
type unreadable struct {
	fsys.FS
	name string
}

func (u unreadable) Open(name string) (fsys.File, error) {
	if name == u.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EACCES}
	}
	return u.FS.Open(name)
}

func (u unreadable) ReadDir(name string) ([]string, error) {
	if name == u.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EACCES}
	}
	return u.FS.ReadDir(name)
}

// TestAuditGone: the journals tell that there was a log.
func TestAuditGone(t *testing.T) {
	f := patched(t, time.Hour, appliedEvents)
	if err := f.state.FS().Unlink("audit.jsonl"); err != nil {
		t.Fatal(err)
	}
	if c := check(t, f.report(t), "patches", ""); c.Status != record.HealthCrit || c.Summary != "the audit log is gone" {
		t.Errorf("got %s: %s", c.Status, c.Summary)
	}
}

// TestHostSeesTheLock: on a real folder, with the lock that relkit takes.
func TestHostSeesTheLock(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "var/lib/relkit")
	files, err := fsys.OpenMake(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	from, to := version(0), version(1)
	if _, err := state.New(files).Begin(journal.Record{Time: time.Now(), Patch: digest.Of(nil), PatchID: "p", From: &from, To: &to}); err != nil {
		t.Fatal(err)
	}
	patches := func() record.HealthCheck {
		t.Helper()
		sys, closer, err := Host(root, "", "1")
		if err != nil {
			t.Fatal(err)
		}
		defer closer.Close()
		h, err := Run(t.Context(), sys, Options{Only: []string{"patches"}})
		if err != nil {
			t.Fatal(err)
		}
		return h.Checks[0]
	}
	if c := patches(); c.Status != record.HealthCrit || !strings.Contains(c.Summary, "cut off") {
		t.Errorf("nobody works: %s: %s", c.Status, c.Summary)
	}
	l, err := lock.Try(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if c := patches(); c.Status == record.HealthCrit || !strings.Contains(c.Summary, "under way") {
		t.Errorf("somebody works: %s: %s", c.Status, c.Summary)
	}
}
