package transaction

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// realTarget is a tree and a state in folders of this machine.
func realTarget(t *testing.T) Target {
	t.Helper()
	open := func() fsys.FS {
		f, err := fsys.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	return Target{Root: open(), State: state.New(open()), Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

// TestReal takes the trees of the crash tests through the real file system:
// apply, apply a second patch on top, and both back, exactly.
func TestReal(t *testing.T) {
	relkittest.NeedRoot(t) // the trees have owners
	older, newer := oldTree(), newTree()
	newest := newTree()
	newest["bin/fw"] = file(0o755, "a third firmware")
	for _, path := range []string{"unturn/g", "unturn/n/o", "unturn/n"} {
		delete(newest, path)
	}
	delete(newest, "unturn")
	newest.finish()
	tg := realTarget(t)
	older.build(t, tg.Root)
	var snapshots []string
	keep := func() { snapshots = append(snapshots, snapshot(t, tg.Root)) }
	keep()
	if err := apply(tg, older, newer); err != nil {
		t.Fatal(err)
	}
	keep()
	if err := apply(tg, newer, newest); err != nil {
		t.Fatal(err)
	}
	keep()
	for i, want := range []spec{older, newer, newest} {
		fresh := realTarget(t)
		want.build(t, fresh.Root)
		if got := snapshot(t, fresh.Root); got != snapshots[i] {
			t.Fatalf("tree %d: %s", i, firstDifference(snapshots[i], got))
		}
	}
	for i := 1; i >= 0; i-- {
		if err := Revert(context.Background(), tg, transactions(t, tg.State)[i], 1); err != nil {
			t.Fatal(err)
		}
		if got := snapshot(t, tg.Root); got != snapshots[i] {
			t.Fatalf("back to tree %d: %s", i, firstDifference(got, snapshots[i]))
		}
	}
}

// TestLookMismatch names each way in which a tree can be other than expected,
// and changes nothing.
func TestLookMismatch(t *testing.T) {
	older, newer := oldTree(), newTree()
	for _, c := range []struct {
		name    string
		meddle  func(f fsys.FS) error
		path    string
		whyHas  string
		refused bool // by an error, not in the list
	}{
		{"content", func(f fsys.FS) error { return fsys.WriteFile(f, "bin/fw", []byte("x"), 0o4755) }, "bin/fw", "content", false},
		{"mode", func(f fsys.FS) error { return f.Chmod("etc/conf", 0o600) }, "etc/conf", "mode is 0600", false},
		{"owner", func(f fsys.FS) error { return f.Chown("bin/touched", 9, 9) }, "bin/touched", "owner is 9:9", false},
		{"xattr", func(f fsys.FS) error { return f.SetXattr("etc/conf", "user.note", []byte("!")) }, "etc/conf", "extended attributes", false},
		{"missing", func(f fsys.FS) error { return f.Unlink("lib/so") }, "lib/so", "does not exist", false},
		{"in the way", func(f fsys.FS) error { return f.Mkdir("new", 0o755) }, "new", "exists", false},
		{"kind", func(f fsys.FS) error {
			if err := f.Unlink("lib/c"); err != nil {
				return err
			}
			return f.Symlink("x", "lib/c")
		}, "lib/c", "is a link, not a file", false},
		{"link outside", func(f fsys.FS) error { return f.Link("lib/a", "zdir/other") }, "lib/a", "3 names", false},
		{"link of a single file", func(f fsys.FS) error { return f.Link("bin/fw", "zdir/other") }, "bin/fw", "2 names", false},
		{"stranger in a folder that becomes a file", func(f fsys.FS) error { return f.Mkdir("turn/mine", 0o755) }, "turn", "mine", true},
		{"parent is a link", func(f fsys.FS) error {
			if err := f.Rename("gone/sub", "elsewhere", fsys.NoReplace); err != nil {
				return err
			}
			return f.Symlink("../elsewhere", "gone/sub")
		}, "gone/sub/b", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := machine(t, older)
			if err := c.meddle(m.FS()); err != nil {
				t.Fatal(err)
			}
			before := snapshot(t, m.FS())
			meter := &fsys.Meter{}
			entries, _ := older.diff(newer)
			s, err := Look(context.Background(), target(m, meter).Root, entries, Options{Jobs: 2})
			if c.refused {
				if failure.Of(err) != failure.Refused || !strings.Contains(err.Error(), c.path) || !strings.Contains(err.Error(), c.whyHas) {
					t.Fatalf("got %v", err)
				}
			} else {
				found := false
				for _, mm := range s.Mismatches {
					found = found || mm.Path == c.path && strings.Contains(mm.Why, c.whyHas)
				}
				if err != nil || !found {
					t.Fatalf("got %v, %v", s.Mismatches, err)
				}
			}
			if meter.Count() != 0 || snapshot(t, m.FS()) != before {
				t.Fatalf("looking changed something: %d steps", meter.Count())
			}
		})
	}
}

// TestKeepsStrangers: a folder that is to go and holds something unknown stays,
// and a rollback brings everything back beside it.
func TestKeepsStrangers(t *testing.T) {
	older, newer := oldTree(), newTree()
	m := machine(t, older)
	if err := fsys.WriteFile(m.FS(), "gone/sub/mine", []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	tg := target(m, &fsys.Meter{})
	if err := apply(tg, older, newer); err != nil {
		t.Fatal(err)
	}
	if b, err := fsys.ReadFile(m.FS(), "gone/sub/mine", 10); err != nil || string(b) != "mine" {
		t.Fatalf("%q, %v", b, err)
	}
	if _, err := m.FS().Lstat("gone/a"); !fsys.IsAbsent(err) {
		t.Fatalf("gone/a: %v", err)
	}
	tx := transactions(t, tg.State)[0]
	if kept := tx.Find(journal.Committed).Kept; strings.Join(kept, " ") != "gone/sub gone" {
		t.Errorf("journal says %q was kept", kept)
	}
	if err := rollback(tg); err != nil {
		t.Fatal(err)
	}
	if err := m.FS().Unlink("gone/sub/mine"); err != nil {
		t.Fatal(err)
	}
	if err := m.FS().SetModTime("gone/sub", manifest.Time{Sec: 77, Nsec: 5}); err != nil {
		t.Fatal(err)
	}
	if got, want := snapshot(t, m.FS()), snapshot(t, machine(t, older).FS()); got != want {
		t.Error(firstDifference(got, want))
	}
}

// TestRollbackOfModified: what was changed since is refused, kept, or restored
// with the change saved beside it.
func TestRollbackOfModified(t *testing.T) {
	older, newer := oldTree(), newTree()
	for _, on := range []OnModified{OnModifiedAbort, OnModifiedKeep, OnModifiedReplace} {
		for _, noExchange := range []bool{false, true} {
			m := machine(t, older)
			m.SetNoExchange(noExchange)
			tg := target(m, &fsys.Meter{})
			if err := apply(tg, older, newer); err != nil {
				t.Fatal(err)
			}
			if err := fsys.WriteFile(m.FS(), "bin/fw", []byte("edited"), 0o4755); err != nil {
				t.Fatal(err)
			}
			if err := fsys.WriteFile(m.FS(), "gone", []byte("again"), 0o644); err != nil {
				t.Fatal(err)
			}
			r, err := OpenRollback(context.Background(), tg, transactions(t, tg.State)[0], RollbackOptions{OnModified: on, Jobs: 2})
			if err != nil {
				t.Fatal(err)
			}
			err = r.Commit(journal.Record{}, nil)
			read := func(name string) string {
				b, err := fsys.ReadFile(m.FS(), name, 1<<20)
				if err != nil {
					return err.Error()
				}
				return string(b)
			}
			switch on {
			case OnModifiedAbort:
				if failure.Of(err) != failure.Refused || read("bin/fw") != "edited" {
					t.Fatalf("%v: %v, %q", on, err, read("bin/fw"))
				}
			case OnModifiedKeep:
				// "gone" is in the way of what was below it: that one rollback cannot keep it.
				if failure.Of(err) != failure.Restored || read("bin/fw") != "edited" {
					t.Fatalf("%v: %v, %q", on, err, read("bin/fw"))
				}
			case OnModifiedReplace:
				if err != nil || read("bin/fw") != older["bin/fw"].content || read("bin/fw.relkit-saved") != "edited" || read("gone.relkit-saved") != "again" || read("gone/a") != "gone a" {
					t.Fatalf("%v: %v, %q, saved %q", on, err, read("bin/fw"), read("bin/fw.relkit-saved"))
				}
			}
		}
	}
}

// TestFree: rollback copies that were given up are gone, and the patch stays.
func TestFree(t *testing.T) {
	older, newer := oldTree(), newTree()
	m := machine(t, older)
	tg := target(m, &fsys.Meter{})
	if err := apply(tg, older, newer); err != nil {
		t.Fatal(err)
	}
	after := snapshot(t, m.FS())
	if err := Free(tg, transactions(t, tg.State)[0], "asked for"); err != nil {
		t.Fatal(err)
	}
	if names, err := m.FS().ReadDir(SlotsDir); err != nil || len(names) != 0 {
		t.Fatalf("slots left: %q, %v", names, err)
	}
	if got := snapshot(t, m.FS()); got != after {
		t.Error(firstDifference(got, after))
	}
	if _, err := OpenRollback(context.Background(), tg, transactions(t, tg.State)[0], RollbackOptions{}); failure.Of(err) != failure.Refused {
		t.Errorf("rolling back without copies: %v", err)
	}
	checkAudit(t, tg.State, "freed")
}

// TestProtected: a patch may name neither the slots nor the state.
func TestProtected(t *testing.T) {
	for _, path := range []string{".relkit", ".relkit/000001/1", "boot/.relkit/x", "state", "state/version.json"} {
		older := oldTree()
		newer := oldTree()
		for p := manifest.Parent(path); p != "." && newer[p] == nil; p = manifest.Parent(p) {
			newer[p] = dir(0o755)
		}
		newer[path] = file(0o644, "evil")
		newer.finish()
		m := machine(t, older)
		entries, _ := older.diff(newer)
		_, err := Look(context.Background(), m.FS(), entries, Options{Protected: []string{"state"}})
		if failure.Of(err) != failure.Refused {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestForeignSlots: a folder that somebody else has put where the slots go, or
// could write to, is not used.
func TestForeignSlots(t *testing.T) {
	older, newer := oldTree(), newTree()
	for name, plant := range map[string]func(f fsys.FS) error{
		"other owner": func(f fsys.FS) error { return f.Chown("boot/.relkit", 1000, 1000) },
		"open mode":   func(f fsys.FS) error { return f.Chmod("boot/.relkit", 0o770) },
		"a link": func(f fsys.FS) error {
			if err := f.Rmdir("boot/.relkit"); err != nil {
				return err
			}
			return f.Symlink("../zdir", "boot/.relkit")
		},
	} {
		m := machine(t, older)
		if err := m.FS().Mkdir("boot/.relkit", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := plant(m.FS()); err != nil {
			t.Fatal(err)
		}
		tg := target(m, &fsys.Meter{})
		if err := apply(tg, older, newer); failure.Of(err) != failure.Refused || !strings.Contains(err.Error(), `"boot/.relkit"`) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := m.FS().Lstat("new"); !fsys.IsAbsent(err) {
			t.Errorf("%s: something became visible: %v", name, err)
		}
	}
}

// TestFull: a patch without an old side puts a damaged tree right, keeps what
// it replaces, and is taken back like any other.
func TestFull(t *testing.T) {
	damaged, want := oldTree(), newTree()
	// A folder that becomes something else must be empty.
	for _, path := range []string{"turn/y/z", "turn/y", "turn/x", "dirsym/d/f", "dirsym/d"} {
		delete(damaged, path)
	}
	damaged["zdir/stranger"] = file(0o644, "not of the product")
	damaged["etc/twin"] = file(0o644, "linked").linked(1)
	damaged.finish()
	entries, segments := spec{}.diff(want)
	m := machine(t, damaged)
	tg := target(m, &fsys.Meter{})
	_, err := Run(context.Background(), tg, entries, segments, begin(version1, version2), Options{Full: true})
	if failure.Of(err) != failure.Refused || !strings.Contains(err.Error(), "lib/") {
		t.Fatalf("a link from outside the patch: %v", err)
	}
	if err := m.FS().Unlink("etc/twin"); err != nil {
		t.Fatal(err)
	}
	if err := m.FS().SetModTime("etc", damaged["etc"].ModTime); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, m.FS())
	segments.given = 0
	j, err := Run(context.Background(), tg, entries, segments, begin(version1, version2), Options{Full: true})
	if err != nil {
		t.Fatal(err)
	}
	for path, n := range want {
		if n.Kind != manifest.File {
			continue
		}
		if b, err := fsys.ReadFile(m.FS(), path, 1<<20); err != nil || string(b) != n.content {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	if _, err := m.FS().Lstat("zdir/stranger"); err != nil {
		t.Error(err)
	}
	if err := Revert(context.Background(), tg, j, 1); err != nil {
		t.Fatal(err)
	}
	if got := snapshot(t, m.FS()); got != before {
		t.Error(firstDifference(got, before))
	}
}
