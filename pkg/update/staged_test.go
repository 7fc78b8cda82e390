package update

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// linked are the links in the tree of a linksMachine, each to "old", or to "new" once
// its patch is applied.
var linked = []string{"one", "two", "three"}

// linksMachine is a machine in memory, root /, with a patch for its links that is
// staged and ready.
func linksMachine(t *testing.T, begin, ready journal.Record) *fsys.Mem {
	t.Helper()
	m := fsys.NewMem()
	f := m.FS()
	if err := fsys.MkdirAll(f, "var/lib/relkit", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := fsys.MkdirAll(f, "run/systemd/system", 0o755); err != nil {
		t.Fatal(err)
	}
	entries := &patch.Entries{}
	for _, name := range linked {
		if err := f.Symlink("old", name); err != nil {
			t.Fatal(err)
		}
		info, err := f.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		was := manifest.Entry{Path: name, Kind: info.Kind, Mode: info.Mode, UID: info.UID, GID: info.GID, ModTime: info.ModTime, Target: "old"}
		is := was
		is.Target = "new"
		entries.Changes = append(entries.Changes, patch.Change{Old: &was, New: &is, Content: -1, Base: -1})
	}
	a := onMem(m, &fsys.Meter{})
	survey, err := transaction.Look(context.Background(), a.target.Root, entries, transaction.Options{})
	if err != nil {
		t.Fatal(err)
	}
	begin.PatchID, begin.To = "links", &journal.Version{Product: "fw", Version: "2"}
	begin.From = &journal.Version{Product: "fw", Version: "1"}
	tx, err := transaction.Begin(a.target, survey, begin)
	if err == nil {
		err = tx.Stage(context.Background(), none{})
	}
	if err == nil {
		err = tx.Keep(ready)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.SyncAll()
	return m
}

// none are the segments of a patch that brings no content.
type none struct{}

func (none) NextSegment() (patch.Segment, int64, []byte, error) {
	return patch.Segment{}, 0, nil, io.EOF
}

// onMem is that machine, opened by another run.
func onMem(m *fsys.Mem, meter *fsys.Meter) *applier {
	clock := now
	o := Options{Root: "/", Jobs: 1, Now: func() time.Time { clock = clock.Add(time.Second); return clock }, Log: slog.New(slog.DiscardHandler), Progress: silent{}}
	mm := &machine{opt: o, root: m.FS(), target: transaction.Target{
		Root: fsys.Watch(m.FS(), meter), State: state.New(fsys.Watch(m.Sub("var/lib/relkit"), meter)), Now: o.Now, Log: o.Log,
	}}
	mm.target.Hooks = undoHooks{mm}
	return &applier{machine: mm}
}

// only is the machine's one transaction.
func (a *applier) only(t *testing.T) *state.Transaction {
	t.Helper()
	all, err := a.target.State.Transactions()
	if err != nil || len(all) != 1 {
		t.Fatalf("%d transactions, %v", len(all), err)
	}
	return all[0]
}

// notes adds records to the one transaction of a machine.
func (a *applier) notes(t *testing.T, records ...journal.Record) {
	t.Helper()
	j := a.only(t)
	for _, r := range records {
		if err := transaction.Note(a.target, j, r); err != nil {
			t.Fatal(err)
		}
	}
}

// links tells to what all links lead, "mixed" where not to one and the same.
func links(t *testing.T, m *fsys.Mem) string {
	t.Helper()
	is := ""
	for _, name := range linked {
		to, err := m.FS().Readlink(name)
		if err != nil {
			t.Fatal(err)
		}
		if is != "" && is != to {
			return "mixed"
		}
		is = to
	}
	return is
}
