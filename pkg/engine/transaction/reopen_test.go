package transaction

import (
	"context"
	"testing"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// TestReopenFolderChanged: a folder whose mode the patch changes, and which its
// owner has changed since it was staged, is told.
func TestReopenFolderChanged(t *testing.T) {
	older, newer := oldTree(), newTree()
	m := machine(t, older)
	entries, segments := older.diff(newer)
	tg := target(m, &fsys.Meter{})
	survey, err := Look(context.Background(), tg.Root, entries, Options{Remount: tg.Remount})
	if err != nil {
		t.Fatal(err)
	}
	x, err := Begin(tg, survey, begin(version1, version2))
	if err == nil {
		err = x.Stage(context.Background(), segments)
	}
	if err == nil {
		err = x.Keep(journal.Record{})
	}
	for _, mode := range []uint32{0o755, 0o700} { // as it was, and changed
		if err == nil {
			err = m.FS().Chmod("etc", mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		var changed []Mismatch
		_, changed, err = Reopen(context.Background(), tg, x.Journal, 2)
		if want := mode != 0o755; err != nil || (len(changed) == 1 && changed[0].Path == "etc") != want || len(changed) > 1 {
			t.Errorf("mode %04o: %v, %v", mode, changed, err)
		}
	}
}

// TestAgainReadOnlyFolder: a folder that the patch makes read-only is whole in its
// slot with either mode, that of the staging and that of the tree it was taken from.
func TestAgainReadOnlyFolder(t *testing.T) {
	older := spec{".": dir(0o755)}.finish()
	newer := spec{".": dir(0o755), "ro": dir(0o555), "ro/in": dir(0o500), "ro/in/f": file(0o444, "f")}.finish()
	for _, unprivileged := range []bool{false, true} {
		m := fsys.NewMem()
		m.Sub(stateDir)
		older.build(t, m.FS())
		tg := target(m, &fsys.Meter{})
		tg.Unprivileged, tg.Remount = unprivileged, nil
		err := apply(tg, older, newer)
		for _, do := range []func(Target) error{rollback, again, rollback, againAtBoot} {
			if err == nil {
				err = do(tg)
			}
		}
		if err != nil {
			t.Fatalf("unprivileged %t: %v", unprivileged, err)
		}
		want := fsys.NewMem()
		newer.build(t, want.FS())
		if got, want := snapshot(t, m.FS()), snapshot(t, want.FS()); got != want {
			t.Error(firstDifference(got, want))
		}
	}
}
