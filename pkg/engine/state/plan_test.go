package state

import (
	"slices"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// TestPlanOfEachCommit: the plan of a commit counts from its record on and until
// another commit has one; a plan that no record names is removed by the next.
func TestPlanOfEachCommit(t *testing.T) {
	s := New(fsys.NewMem().FS())
	tx, err := s.Begin(journal.Record{Time: at(1), PatchID: "fw-1-2", From: &v1, To: &v2})
	if err != nil {
		t.Fatal(err)
	}
	write := func(top string) digest.Digest {
		t.Helper()
		d, err := s.WritePlan(tx, &journal.Plan{Tops: []journal.PlanTop{{Path: top}}})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	add := func(e journal.Event, d digest.Digest) {
		t.Helper()
		if err := s.Append(tx, journal.Record{Event: e, Time: at(2), Plan: d}); err != nil {
			t.Fatal(err)
		}
	}
	counts := func(top string, files int) {
		t.Helper()
		p, err := s.ReadPlan(tx)
		if err != nil || p.Tops[0].Path != top {
			t.Fatalf("%v, %v, want the plan of %q", p, err, top)
		}
		names, err := s.FS().ReadDir(tx.dir())
		names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, planFile) })
		if err != nil || len(names) != files {
			t.Fatalf("%q, %v, want %d plans", names, err, files)
		}
	}
	takeBack := func() {
		for _, e := range []journal.Event{journal.Committed, journal.Applied, journal.Rollback, journal.RolledBack} {
			add(e, digest.Digest{})
		}
	}
	add(journal.Staged, write("staged"))
	add(journal.Committing, digest.Digest{})
	takeBack()
	second := write("second")
	counts("staged", 2)
	add(journal.Committing, second)
	takeBack()
	write("never began")
	counts("second", 3)
	third := write("third")
	counts("second", 3)
	add(journal.Committing, third)
	counts("third", 3)
	takeBack()
	add(journal.Committing, digest.Digest{}) // by the plan of the one before
	counts("third", 3)
	takeBack()
	if err := s.DropPlan(tx); err != nil {
		t.Fatal(err)
	}
	if names, err := s.FS().ReadDir(tx.dir()); err != nil || !slices.Equal(names, []string{journalFile}) {
		t.Fatalf("%q, %v", names, err)
	}
}
