package transaction

import (
	"context"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// TestReopenPlaces: what came in the way of a commit after the staging is refused
// before the commit, with nothing changed, and a commit at boot likewise; once it
// is out of the way the commit goes.
func TestReopenPlaces(t *testing.T) {
	for _, c := range []struct {
		name     string
		set      func(*fsys.Mem)
		unset    func(*fsys.Mem)
		want, by string
	}{
		{"immutable file", func(m *fsys.Mem) { m.SetFlags("boot/kernel", true, false) }, func(m *fsys.Mem) { m.SetFlags("boot/kernel", false, false) },
			"boot/kernel: is immutable", "chattr -i -- /boot/kernel"},
		{"append-only folder", func(m *fsys.Mem) { m.SetFlags("boot/EFI", false, true) }, func(m *fsys.Mem) { m.SetFlags("boot/EFI", false, false) },
			"boot/EFI: is append-only", "chattr -a -- /boot/EFI"},
		{"swap", func(m *fsys.Mem) { m.SetSwap("boot/kernel") }, nil, "boot/kernel: is a swap file in use", "swapoff -- /boot/kernel"},
		{"mounted above, of the same content", func(m *fsys.Mem) { m.Bind("bin", "bin") }, nil,
			`bin: was mounted or unmounted since the patch was staged: "bin/fw" lies elsewhere now`, "umount -- /bin"},
		{"read-only", func(m *fsys.Mem) { m.SetBootReadOnly("boot") }, nil, "boot: is mounted read-only", "mount -o remount,rw /boot"},
	} {
		for _, boot := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				older, newer := bootOld(), bootNew()
				m := placed(t, older, "")
				tg := target(m, &fsys.Meter{})
				tg.Remount = nil
				j := kept(t, tg, older, newer, boot)
				c.set(m)
				before, meter := snapshot(t, m.FS()), &fsys.Meter{}
				again := target(m, meter)
				again.Remount = nil
				_, _, err := Reopen(context.Background(), again, j, 2)
				if failure.Of(err) != failure.Refused || !strings.Contains(err.Error(), c.want) || !strings.Contains(failure.Hint(err), c.by) {
					t.Fatalf("%v, hint %q; want %q, %q", err, failure.Hint(err), c.want, c.by)
				}
				if meter.Count() != 0 || snapshot(t, m.FS()) != before {
					t.Fatalf("looking changed something: %d steps", meter.Count())
				}
				if c.unset == nil {
					return
				}
				c.unset(m)
				x, modified, err := Reopen(context.Background(), tg, j, 2)
				if err != nil || len(modified) > 0 {
					t.Fatal(err, modified)
				}
				if err := x.Commit(); err != nil {
					t.Fatal(err)
				}
				if got, want := snapshot(t, m.FS()), snapshot(t, placed(t, newer, "").FS()); got != want {
					t.Fatal(firstDifference(got, want))
				}
			})
		}
	}
}

// TestRollbackMounted: what something was mounted above since the patch came is
// not taken back halfway.
func TestRollbackMounted(t *testing.T) {
	older, newer := bootOld(), bootNew()
	m := placed(t, older, "")
	tg := target(m, &fsys.Meter{})
	if err := apply(tg, older, newer); err != nil {
		t.Fatal(err)
	}
	m.Bind("bin", "bin")
	err := rollback(tg)
	if failure.Of(err) != failure.Refused || !strings.Contains(err.Error(), `"bin/fw" lies elsewhere now`) {
		t.Fatal(err)
	}
}

// kept stages, and leaves it for a commit, at boot or by hand.
func kept(t *testing.T, tg Target, from, to spec, boot bool) *state.Transaction {
	t.Helper()
	entries, segments := from.diff(to)
	s, err := Look(context.Background(), tg.Root, entries, Options{Remount: tg.Remount})
	if err != nil {
		t.Fatal(err)
	}
	x, err := Begin(tg, s, begin(version1, version2))
	if err == nil {
		err = x.Stage(context.Background(), segments)
	}
	if err == nil {
		err = x.Keep(journal.Record{Boot: boot})
	}
	if err == nil && boot {
		err = Note(tg, x.Journal, journal.Record{Event: journal.Armed})
	}
	if err != nil {
		t.Fatal(err)
	}
	return x.Journal
}
