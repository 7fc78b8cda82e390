package state

import (
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

var (
	v1 = journal.Version{Product: "fw", Version: "1"}
	v2 = journal.Version{Product: "fw", Version: "2"}
)

func at(sec int) time.Time { return time.Date(2026, 1, 1, 0, 0, sec, 0, time.UTC) }

// applied writes the journal of one transaction from v1 to v2.
func applied(t *testing.T, s *State) *Transaction {
	t.Helper()
	tx, err := s.Begin(journal.Record{Time: at(1), PatchID: "fw-1-2", From: &v1, To: &v2})
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range []journal.Event{journal.Staged, journal.Committing, journal.Committed, journal.Applied} {
		if err := s.Append(tx, journal.Record{Event: e, Time: at(2 + i)}); err != nil {
			t.Fatal(err)
		}
	}
	return tx
}

func TestVersion(t *testing.T) {
	s := New(fsys.NewMem().FS())
	if v, err := s.Version(); err != nil || v != (journal.Version{}) {
		t.Fatalf("nothing installed: %v, %v", v, err)
	}
	if err := s.SetVersion(v1); err != nil {
		t.Fatal(err)
	}
	b, err := fsys.ReadFile(s.FS(), "version.json", 1<<10)
	if err != nil || string(b) != `{"schema":"relkit.version/v1","product":"fw","version":"1"}`+"\n" {
		t.Fatalf("%s, %v", b, err)
	}
	if v, err := s.Version(); err != nil || v != v1 {
		t.Fatalf("%v, %v", v, err)
	}
	for _, bad := range []string{`{"schema":"relkit.version/v2","product":"fw","version":"1"}`, `{"schema":"relkit.version/v1","x":1}`, `{`, `{}{}`} {
		if err := fsys.WriteFile(s.FS(), "version.json", []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Version(); err == nil || !strings.Contains(err.Error(), "version.json") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Settle derives version and audit log, and does nothing the second time.
func TestSettle(t *testing.T) {
	s := New(fsys.NewMem().FS())
	tx := applied(t, s)
	for range 2 {
		if err := s.Settle(); err != nil {
			t.Fatal(err)
		}
	}
	lines, head, err := s.Verify()
	if err != nil || len(lines) != 5 || head.Count != 5 {
		t.Fatalf("%d lines, head %v, %v", len(lines), head, err)
	}
	if v, err := s.Version(); err != nil || v != v2 {
		t.Fatalf("%v, %v", v, err)
	}
	for _, e := range []journal.Event{journal.Rollback, journal.RolledBack} {
		if err := s.Append(tx, journal.Record{Event: e, Time: at(9)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Version(); err != nil || v != v1 {
		t.Fatalf("after the rollback: %v, %v", v, err)
	}
	// A version that was set by other means afterwards is not written over.
	if err := s.SetVersion(journal.Version{Product: "fw", Version: "7"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	if v, _ := s.Version(); v.Version != "7" {
		t.Fatalf("Settle went back to %v", v)
	}
}

// A line torn by a power cut is set aside, and the next line tells of it.
func TestTornAudit(t *testing.T) {
	s := New(fsys.NewMem().FS())
	if err := s.Note(journal.AuditLine{Event: journal.Refused, Time: at(1), Reason: "no"}); err != nil {
		t.Fatal(err)
	}
	b, err := fsys.ReadFile(s.FS(), "audit.jsonl", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := fsys.WriteFile(s.FS(), "audit.jsonl", append(b, `{"schema":"relk`...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Note(journal.AuditLine{Event: journal.Refused, Time: at(2), Reason: "again"}); err != nil {
		t.Fatal(err)
	}
	lines, _, err := s.Verify()
	if err != nil || len(lines) != 2 || lines[1].TornTail != 15 {
		t.Fatalf("%+v, %v", lines, err)
	}
	kept, err := fsys.ReadFile(s.FS(), "audit.torn-2", 100)
	if err != nil || string(kept) != `{"schema":"relk` {
		t.Fatalf("%q, %v", kept, err)
	}
	if _, err := s.FS().Lstat("audit.torn"); !fsys.IsAbsent(err) {
		t.Fatalf("audit.torn: %v", err)
	}
}

// A log that was tampered with shows it for ever, and goes on all the same.
func TestTamperedAudit(t *testing.T) {
	s := New(fsys.NewMem().FS())
	for i := range 3 {
		if err := s.Note(journal.AuditLine{Event: journal.Refused, Time: at(i), Reason: "because"}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := fsys.ReadFile(s.FS(), "audit.jsonl", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := fsys.WriteFile(s.FS(), "audit.jsonl", []byte(strings.Replace(string(b), "because", "excuses", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Note(journal.AuditLine{Event: journal.Refused, Time: at(9)}); err != nil {
		t.Fatal(err)
	}
	lines, _, err := s.Verify()
	if err == nil || !strings.Contains(err.Error(), "line 2") || len(lines) != 1 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
}

// A record whose writing failed does not count, even where its bytes arrived.
func TestRepair(t *testing.T) {
	m := fsys.NewMem()
	s := New(m.FS())
	tx := applied(t, s)
	// Steps of an append: write, sync: the second fails with the bytes in the file.
	failing := &fsys.Meter{FailAt: 2, Record: true}
	broken := New(fsys.Watch(m.FS(), failing))
	if err := broken.Append(tx, journal.Record{Event: journal.Rollback, Time: at(9)}); err == nil {
		t.Fatalf("append did not fail: %q", failing.Trace())
	}
	if err := s.Repair(tx); err != nil {
		t.Fatal(err)
	}
	again, err := s.load(tx.ID)
	if err != nil || again.Status() != journal.Applied {
		t.Fatalf("%v, %v", again.Status(), err)
	}
}

// Ensure makes the folder and leaves no trace in the times above it.
func TestEnsure(t *testing.T) {
	f := fsys.NewMem().FS()
	if err := f.Mkdir("var", 0o755); err != nil {
		t.Fatal(err)
	}
	before, err := f.Lstat("var")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Ensure(f, "var/lib/relkit"); err != nil {
			t.Fatal(err)
		}
	}
	after, err := f.Lstat("var")
	if err != nil || after.ModTime != before.ModTime {
		t.Fatalf("%v became %v, %v", before.ModTime, after.ModTime, err)
	}
	if _, err := f.ReadDir("var/lib/relkit"); err != nil {
		t.Fatal(err)
	}
}

// The version follows the order in which things were done, whatever is missing
// of the audit log and whichever transaction is older.
func TestVersionFollowsTheOrderOfRecords(t *testing.T) {
	s := New(fsys.NewMem().FS())
	first := applied(t, s)
	v3 := journal.Version{Product: "fw", Version: "3"}
	second, err := s.Begin(journal.Record{Time: at(1), From: &v2, To: &v3})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []journal.Event{journal.Staged, journal.Committing, journal.Committed, journal.Applied, journal.Rollback, journal.RolledBack} {
		if err := s.Append(second, journal.Record{Event: e, Time: at(1)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range []journal.Event{journal.Rollback, journal.RolledBack} {
		if err := s.Append(first, journal.Record{Event: e, Time: at(1)}); err != nil {
			t.Fatal(err)
		}
	}
	// Nothing was settled on the way, as when that disk was full.
	if err := New(s.FS()).Settle(); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Version(); err != nil || v != v1 {
		t.Fatalf("%v, %v", v, err)
	}
	lines, _, err := s.Verify()
	if err != nil || len(lines) != 14 || lines[13].Transaction != "000001" || lines[13].Event != journal.RolledBack {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
}

// A record that the audit log tells of was whole: damage to it is no torn tail.
func TestDamagedRecord(t *testing.T) {
	s := New(fsys.NewMem().FS())
	tx := applied(t, s)
	name := tx.dir() + "/journal"
	b, err := fsys.ReadFile(s.FS(), name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte{}, b...)
	damaged[len(damaged)-5] ^= 1
	if err := fsys.WriteFile(s.FS(), name, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := s.Transactions()
	if err != nil || all[0].Status() != journal.Committed {
		t.Fatalf("nothing tells of the record yet: %v", err)
	}
	if err := fsys.WriteFile(s.FS(), name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	if err := fsys.WriteFile(s.FS(), name, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Transactions(); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("got %v", err)
	}
}
