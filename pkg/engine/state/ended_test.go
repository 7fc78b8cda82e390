package state

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// opens counts the files that are opened for reading.
type opens struct {
	fsys.FS
	names []string
}

func (o *opens) Open(name string) (fsys.File, error) {
	o.names = append(o.names, name)
	return o.FS.Open(name)
}

// ending are the events of a transaction that was applied and freed.
var ending = []journal.Event{journal.Staged, journal.Committing, journal.Committed, journal.Applied, journal.Freeing, journal.Freed}

// patched writes the journals of n transactions, all but the newest of which
// have ended, and settles.
func patched(t *testing.T, f fsys.FS, n int) *State {
	t.Helper()
	if err := fsys.MkdirAll(f, transactionsDir, 0o700); err != nil {
		t.Fatal(err)
	}
	seq := int64(0)
	for i := 1; i <= n; i++ {
		tx := &Transaction{ID: fmt.Sprintf("%06d", i)}
		events := ending
		if i == n {
			events = ending[:4]
		}
		records := []journal.Record{{Event: journal.Begin, Patch: digest.Of([]byte(tx.ID)), PatchID: "fw-" + tx.ID, From: &v1, To: &v2, Slot: "s"}}
		for _, e := range events {
			records = append(records, journal.Record{Event: e})
		}
		var b []byte
		for r := range records {
			seq++
			records[r].Seq, records[r].Time = seq, at(r)
			var err error
			if b, err = journal.Append(b, &records[r]); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Mkdir(tx.dir(), 0o700); err != nil {
			t.Fatal(err)
		}
		w, err := f.Create(tx.dir()+"/"+journalFile, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := New(f)
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestThousand: on a machine with a thousand patches a run reads the list of
// those that have ended, the journals of the rest and the end of the log.
func TestThousand(t *testing.T) {
	f, err := fsys.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	patched(t, f, 1000)
	o := &opens{FS: f}
	s, start := New(o), time.Now()
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	want := "ended transactions/001000/journal audit.jsonl"
	if got := strings.Join(o.names, " "); got != want {
		t.Errorf("read %s; want %s", got, want)
	}
	start = time.Now()
	if _, err := s.Journals(); err != nil {
		t.Fatal(err)
	}
	t.Logf("settling takes %v, reading every journal %v", took, time.Since(start))
	all, err := s.Transactions()
	if err != nil || len(all) != 1000 || !all[0].Short || !all[0].Stands() || all[0].Find(journal.Begin).PatchID != "fw-000001" || all[999].Short || s.seq != 999*7+5 {
		t.Fatalf("%d transactions, seq %d, %v", len(all), s.seq, err)
	}
	whole, err := s.Whole(all[0])
	if err != nil || len(whole.Records) != 7 || whole.Slot() != "s" {
		t.Fatalf("%+v, %v", whole, err)
	}
}

// TestEndedDoesNotFit: a list that is torn, damaged, or names what is not there
// is not believed, and is made anew.
func TestEndedDoesNotFit(t *testing.T) {
	for what, spoil := range map[string]func(f fsys.FS, b []byte) error{
		"gone":    func(f fsys.FS, _ []byte) error { return f.Unlink(endedFile) },
		"torn":    func(f fsys.FS, b []byte) error { return f.Truncate(endedFile, int64(len(b)-3)) },
		"damaged": func(f fsys.FS, b []byte) error { b[40] ^= 1; return fsys.WriteFile(f, endedFile, b, 0o600) },
		"twice":   func(f fsys.FS, b []byte) error { return fsys.WriteFile(f, endedFile, append(b, b...), 0o600) },
		"of another": func(f fsys.FS, _ []byte) error {
			return fsys.RemoveAll(f, transactionsDir+"/000002")
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := fsys.NewMem().FS()
			s := patched(t, f, 5)
			b, err := fsys.ReadFile(f, endedFile, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if err := spoil(f, b); err != nil {
				t.Fatal(err)
			}
			all, err := s.Transactions()
			if err != nil || all[0].Short {
				t.Fatalf("%v is believed, %v", all[0], err)
			}
			if err := s.Settle(); err != nil {
				t.Fatal(err)
			}
			if all, err = s.Transactions(); err != nil || !all[0].Short {
				t.Fatalf("not made anew: %v", err)
			}
		})
	}
}

// TestEndedAfterLogIsGone: the log is derived again from whole journals.
func TestEndedAfterLogIsGone(t *testing.T) {
	f := fsys.NewMem().FS()
	s := patched(t, f, 5)
	if err := f.Unlink(auditFile); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Check(); err != nil || len(c.Wrong) > 0 || c.Told != 4*7+5 {
		t.Fatalf("%+v, %v", c, err)
	}
}

// TestCheck: what the journals and the log say of each other is held together.
func TestCheck(t *testing.T) {
	for what, c := range map[string]struct {
		change func(f fsys.FS) error
		want   string
	}{
		"a journal is gone": {func(f fsys.FS) error { return fsys.RemoveAll(f, transactionsDir+"/000002") }, "of transaction 000002, which no journal has"},
		"a journal was written anew": {func(f fsys.FS) error {
			s := New(f)
			t, err := s.load("000001")
			if err != nil {
				return err
			}
			var b []byte
			for i := range t.Records {
				t.Records[i].PatchID = ""
				if b, err = journal.Append(b, &t.Records[i]); err != nil {
					return err
				}
			}
			return fsys.WriteFile(f, t.dir()+"/"+journalFile, b, 0o600)
		}, `the journal of transaction 000001 says otherwise than the log about "begin" (record 1)`},
	} {
		t.Run(what, func(t *testing.T) {
			f := fsys.NewMem().FS()
			s := patched(t, f, 3)
			if err := c.change(f); err != nil {
				t.Fatal(err)
			}
			got, err := s.Check()
			if err != nil || !strings.Contains(strings.Join(got.Wrong, "\n"), c.want) {
				t.Fatalf("%q, %v; want %q", got.Wrong, err, c.want)
			}
		})
	}
	// A record that was written and not yet told of is no fault.
	f := fsys.NewMem().FS()
	s := patched(t, f, 3)
	all, err := s.Transactions()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(all[2], journal.Record{Event: journal.Rollback, Time: at(1)}); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Check(); err != nil || len(c.Wrong) > 0 || c.Untold != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
}
