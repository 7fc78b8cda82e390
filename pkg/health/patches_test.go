package health

import (
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/fsys"
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

func TestPatches(t *testing.T) {
	for _, c := range []struct {
		what         string
		age          time.Duration
		transactions []string
		status       record.HealthStatus
		summary      string
		version      string
		patches      string
		state        string
	}{
		{"two patches", time.Hour, []string{appliedEvents, appliedEvents}, "ok", "r3000 4.2", "4.2", "p-1 p-2", ""},
		{"one rolled back", time.Hour, []string{appliedEvents, appliedEvents + " rollback rolled-back freed"}, "ok", "r3000 4.1", "4.1", "p-1", ""},
		{"one whose slots were freed", time.Hour, []string{appliedEvents + " freed", appliedEvents}, "ok", "r3000 4.2", "4.2", "p-1 p-2", ""},
		{"one undone", time.Hour, []string{appliedEvents, "staged committing undoing undone freed"}, "ok", "r3000 4.1", "4.1", "p-1", ""},
		{"one staged", time.Hour, []string{appliedEvents, "staged"}, "ok", "r3000 4.1", "4.1", "p-1", "000002 staged p-2"},
		{"one under way", time.Minute, []string{appliedEvents, "staged committing"}, "ok", "r3000 4.1", "4.1", "p-1", "000002 committing p-2"},
		{"one cut off", time.Hour, []string{appliedEvents, "staged committing"}, "crit",
			`transaction 000002 stopped while "committing": run relkit patch-apply --recover`, "4.1", "p-1", "000002 committing p-2"},
		{"a rollback cut off", time.Hour, []string{appliedEvents, appliedEvents + " rollback"}, "crit",
			`transaction 000002 stopped while "rollback": run relkit patch-apply --recover`, "4.2", "p-1", "000002 rollback p-2"},
		{"one awaiting its checks", time.Hour, []string{appliedEvents, "staged committing committed"}, "ok", "r3000 4.1", "4.1", "p-1", "000002 committed p-2"},
		{"one forgotten", 48 * time.Hour, []string{appliedEvents, "staged committing committed"}, "warn",
			"transaction 000002 has been waiting for its checks or --confirm since 2026-11-20T02:13:09Z", "4.1", "p-1", "000002 committed p-2"},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := patched(t, c.age, c.transactions...).report(t)
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
