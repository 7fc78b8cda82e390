package state

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// small has the log rotated after some lines.
var small = AuditOptions{MaxSize: 1 << 10, KeepFiles: 2}

func open(m *fsys.Mem, meter *fsys.Meter, o AuditOptions) *State {
	s := New(fsys.Watch(m.FS(), meter))
	s.SetAudit(o)
	return s
}

// refuse notes n refusals, numbered from the first.
func refuse(s *State, first, n int) error {
	for i := range n {
		if err := s.Note(journal.AuditLine{Event: journal.Refused, Time: at(i % 60), Reason: fmt.Sprintf("refusal %d", first+i)}); err != nil {
			return err
		}
	}
	return nil
}

// reasons are those of all refusals in the log, which must be whole.
func reasons(t *testing.T, s *State) (all []string, c Chain) {
	t.Helper()
	c, err := s.Audit(func(l *journal.AuditLine) error {
		if l.Event == journal.Refused {
			all = append(all, l.Reason)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, c
}

// TestRotate: the chain goes on over all files; what is too old goes, and the
// chain says where it begins.
func TestRotate(t *testing.T) {
	m := fsys.NewMem()
	s := open(m, &fsys.Meter{}, AuditOptions{MaxSize: 1 << 10, KeepFiles: 100})
	if err := refuse(s, 0, 50); err != nil {
		t.Fatal(err)
	}
	all, c := reasons(t, s)
	if len(all) != 50 || c.First != 1 || c.Files < 5 || c.Head.Count != int64(50+2*(c.Files-1)) {
		t.Fatalf("%d refusals, %+v", len(all), c)
	}
	early := c.Head.Digest
	s.SetAudit(small)
	if err := refuse(s, 50, 50); err != nil {
		t.Fatal(err)
	}
	all, c = reasons(t, s)
	if c.Files != 3 || c.First == 1 || all[len(all)-1] != "refusal 99" || all[0] == "refusal 0" {
		t.Fatalf("%d refusals from %q on, %+v", len(all), all[0], c)
	}
	for i, want := 0, len(all); i < want; i++ {
		if all[i] != fmt.Sprintf("refusal %d", 100-want+i) {
			t.Fatalf("%q is number %d of %d", all[i], i, want)
		}
	}
	for digest, want := range map[string]bool{c.Head.Digest.String(): true, c.Start.Digest.String(): true, early.String(): false} {
		for _, d := range []journal.Head{c.Head, c.Start, {Digest: early}} {
			if d.Digest.String() != digest {
				continue
			}
			if got, err := s.AuditHolds(d.Digest); err != nil || got != want {
				t.Errorf("holds %s: %v, %v; want %v", digest, got, err, want)
			}
		}
	}
	if head, err := s.VerifyNewest(); err != nil || head != c.Head {
		t.Errorf("newest file: %v, %v; want %v", head, err, c.Head)
	}
}

// TestRotateTampered: no file can be taken away, put in another's place or be
// changed without the chain's saying so.
func TestRotateTampered(t *testing.T) {
	for what, c := range map[string]struct {
		spoil func(f fsys.FS, closed []int64) error
		want  string
	}{
		"the newest file is gone":   {func(f fsys.FS, _ []int64) error { return f.Unlink(auditFile) }, "audit.jsonl: it is gone"},
		"one in between is gone":    {func(f fsys.FS, n []int64) error { return f.Unlink(closedName(n[1])) }, "does not continue the file before"},
		"the oldest is gone":        {func(f fsys.FS, n []int64) error { return f.Unlink(closedName(n[0])) }, "of the audit log are gone"},
		"one has another's content": {func(f fsys.FS, n []int64) error { return copyFile(f, closedName(n[0]), closedName(n[1])) }, "does not continue the file before"},
		"one is cut":                {func(f fsys.FS, n []int64) error { return f.Truncate(closedName(n[0]), 40) }, closedName(1)},
		"the newest is written anew": {func(f fsys.FS, _ []int64) error {
			b, _, err := encodeLines(journal.Head{}, []journal.AuditLine{{Event: journal.Refused}})
			return errors.Join(err, fsys.WriteFile(f, auditFile, b, 0o600))
		}, "audit.jsonl: line 1: number 1, after"},
	} {
		t.Run(what, func(t *testing.T) {
			m := fsys.NewMem()
			s := open(m, &fsys.Meter{}, AuditOptions{MaxSize: 1 << 10, KeepFiles: 3})
			if err := refuse(s, 0, 18); err != nil {
				t.Fatal(err)
			}
			closed, err := s.closedFiles()
			if err != nil || len(closed) < 3 {
				t.Fatalf("%v, %v", closed, err)
			}
			if err := c.spoil(m.FS(), closed); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.Verify(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			// It goes on all the same, or a machine could not be patched any more.
			if err := refuse(s, 100, 1); err != nil && what != "one is cut" {
				t.Fatal(err)
			}
		})
	}
}

func copyFile(f fsys.FS, from, to string) error {
	b, err := fsys.ReadFile(f, from, 1<<20)
	if err != nil {
		return err
	}
	return fsys.WriteFile(f, to, b, 0o600)
}

// TestRotateGone: a log whose newest file was removed goes on with a line that
// says so, and tells again what the journals hold.
func TestRotateGone(t *testing.T) {
	m := fsys.NewMem()
	s := open(m, &fsys.Meter{}, small)
	if err := refuse(s, 0, 8); err != nil {
		t.Fatal(err)
	}
	applied(t, s)
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	if err := m.FS().Unlink(auditFile); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	lines, _, err := s.Verify()
	said, told := false, 0
	for _, l := range lines {
		said = said || l.Event == journal.LogContinued && strings.Contains(l.Reason, "was gone")
		if l.Transaction != "" {
			told++
		}
	}
	if err != nil || !said || told != 5 {
		t.Fatalf("said: %v, %d events told, %v", said, told, err)
	}
}

// TestRotateCrash cuts the power at every step of runs that rotate the log. All
// that was told before is there, nothing twice, and the chain holds, at once and
// after the next run.
func TestRotateCrash(t *testing.T) {
	base := fsys.NewMem()
	if err := refuse(open(base, &fsys.Meter{}, small), 0, 20); err != nil {
		t.Fatal(err)
	}
	base.SyncAll()
	run := func(s *State) error { return refuse(s, 20, 8) }
	keepAll := fsys.Policy{Keep: fsys.KeepAll}
	meter := &fsys.Meter{Record: true}
	if err := run(open(base.Crash(keepAll), meter, small)); err != nil {
		t.Fatal(err)
	}
	trace := strings.Join(meter.Trace(), "\n")
	if strings.Count(trace, "unlink audit-0000") < 2 {
		t.Fatalf("too few rotations:\n%s", trace)
	}
	for k := 1; k <= meter.Count(); k++ {
		m := base.Crash(keepAll)
		if err := run(open(m, &fsys.Meter{CrashAt: k}, small)); !errors.Is(err, fsys.ErrCrashed) {
			t.Fatalf("step %d: %v", k, err)
		}
		done := 20
		for n := uint64(0); n < 6; n++ {
			policy := fsys.Policy{Keep: []fsys.Keep{fsys.KeepNone, fsys.KeepAll, fsys.KeepPrefix, fsys.KeepSubset}[min(n, 3)], Seed: n + uint64(k)}
			cut := m.Crash(policy)
			s := open(cut, &fsys.Meter{}, small)
			before, _ := reasons(t, s)
			done = 0
			if _, err := fmt.Sscanf(before[len(before)-1], "refusal %d", &done); err != nil {
				t.Fatal(err)
			}
			if err := refuse(s, done+1, 5); err != nil {
				t.Fatalf("step %d, %v: %v", k, policy, err)
			}
			all, _ := reasons(t, s)
			for i, r := range all {
				if want := fmt.Sprintf("refusal %d", done+5-len(all)+1+i); r != want {
					t.Fatalf("step %d, %v: %q, want %q", k, policy, r, want)
				}
			}
		}
	}
	t.Logf("%d steps", meter.Count())
}

// TestSettleOverRotation: what the journals say is told once, whichever file has it.
func TestSettleOverRotation(t *testing.T) {
	m := fsys.NewMem()
	for i := range 30 {
		s := open(m, &fsys.Meter{}, AuditOptions{MaxSize: 1 << 10, KeepFiles: 100})
		tx := applied(t, s)
		if i%2 == 0 {
			for _, e := range []journal.Event{journal.Freeing, journal.Freed} {
				if err := s.Append(tx, journal.Record{Event: e, Time: at(9)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.Settle(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(m, &fsys.Meter{}, small)
	if problems, err := s.Check(); err != nil || len(problems.Wrong) > 0 || problems.Untold != 0 || problems.Told != 30*5+15*2 {
		t.Fatalf("%+v, %v", problems, err)
	}
}

// TestForgedTail: a last line that says of records that they were told which
// nobody has written keeps nothing from being told.
func TestForgedTail(t *testing.T) {
	m := fsys.NewMem()
	s := New(m.FS())
	applied(t, s)
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	b, err := fsys.ReadFile(m.FS(), auditFile, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := fsys.WriteFile(m.FS(), auditFile, []byte(strings.Replace(string(b), `"journal_seq":5`, `"journal_seq":5000`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	s = New(m.FS())
	applied(t, s)
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	last, err := s.lastRecords()
	if err != nil || last["000002"] != 5 {
		t.Fatalf("told %v, %v", last, err)
	}
}
