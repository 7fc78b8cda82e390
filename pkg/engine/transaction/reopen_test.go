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
