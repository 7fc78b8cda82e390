package transaction

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// ownerTree are three states of a machine: before a patch, after it, and after its
// owner has changed config files in every way.
func ownerTree() (older, newer, edited spec) {
	older = spec{
		".": dir(0o755), "bin": file(0o755, "bin 1"), "etc": dir(0o755), "boot": dir(0o755),
		"etc/both": file(0o640, "both 1"), "etc/back": file(0o644, "back 1"), "etc/mode": file(0o644, "mode 1"),
		"etc/gone": file(0o644, "gone 1"), "etc/same": file(0o644, "same"), "etc/link": symlink("1"),
		"etc/dropped": file(0o644, "dropped 1"), "etc/plain": file(0o644, "plain 1"), "boot/cmdline": file(0o644, "cmdline 1"),
		"etc/again": file(0o644, "again 1"),
	}.finish()
	newer = spec{
		".": dir(0o755), "bin": file(0o755, "bin 2"), "etc": dir(0o755), "boot": dir(0o755),
		"etc/both": file(0o644, "both 2"), "etc/back": file(0o644, "back 2"), "etc/mode": file(0o644, "mode 2"),
		"etc/gone": file(0o644, "gone 2"), "etc/same": file(0o600, "same"), "etc/link": symlink("2"),
		"etc/plain": file(0o644, "plain 2"), "boot/cmdline": file(0o644, "cmdline 2"),
		"etc/made": file(0o644, "made 2"), "etc/fresh": file(0o644, "fresh 2"), "etc/fw.d": dir(0o755), "etc/fw.d/a.conf": file(0o644, "a 2"),
	}.finish()
	edited = spec{
		".": newer["."], "bin": newer["bin"], "etc": newer["etc"], "boot": newer["boot"],
		"etc/both": file(0o600, "mine"), "etc/back": file(0o600, "back 1"), "etc/mode": file(0o600, "mode 2").owner(5, 6),
		"etc/same": file(0o600, "same but mine"), "etc/link": symlink("mine"),
		"etc/plain": newer["etc/plain"], "boot/cmdline": file(0o644, "cmdline mine"),
		"etc/made": file(0o644, "made mine"), "etc/fw.d": newer["etc/fw.d"], "etc/fw.d/a.conf": file(0o644, "a mine"),
		"etc/dropped": file(0o644, "dropped mine"), "etc/again": file(0o640, "again 1"),
	}.finish()
	return older, newer, edited
}

// wantRolledBack is what a rollback makes of edited.
func wantRolledBack(older, edited spec) spec {
	want := spec{}
	for _, path := range []string{".", "bin", "etc", "boot", "etc/plain"} {
		want[path] = older[path]
	}
	for _, path := range []string{"etc/both", "etc/back", "etc/same", "etc/link", "boot/cmdline", "etc/again", "etc/fw.d"} {
		want[path] = edited[path]
	}
	beside := func(path, suffix string, n *node) {
		moved := *n
		want[path+suffix] = &moved
	}
	for _, path := range []string{"etc/both", "etc/gone", "etc/link", "boot/cmdline"} {
		beside(path, OldSuffix, older[path])
	}
	for _, path := range []string{"etc/made", "etc/fw.d/a.conf", "etc/dropped"} {
		beside(path, SavedSuffix, edited[path])
	}
	want["etc/dropped"] = older["etc/dropped"]
	mode := *older["etc/mode"]
	mode.Mode, mode.UID, mode.GID = 0o600, 5, 6
	want["etc/mode"] = &mode
	return want.finish()
}

// edit brings a machine from one tree to another without relkit, as an editor does:
// what has other content is another inode.
func edit(t *testing.T, f fsys.FS, from, to spec) {
	t.Helper()
	for _, path := range from.paths() {
		a, b := from[path], to[path]
		if b == nil || a.content != b.content || a.Target != b.Target {
			if err := f.Unlink(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	to.build(t, f)
}

// owned is a machine on which the patch was applied, and its owner has changed files.
func owned(t *testing.T, kind fsKind) *fsys.Mem {
	t.Helper()
	older, newer, edited := ownerTree()
	m := machine(t, older)
	kind.set(m)
	entries, segments := older.diff(newer)
	_, err := Run(context.Background(), target(m, &fsys.Meter{}), entries, segments, begin(version1, version2), Options{ConfigFiles: []string{"etc/**", "boot/cmdline"}})
	if err != nil {
		t.Fatal(err)
	}
	edit(t, m.FS(), newer, edited)
	m.SyncAll()
	return m
}

// TestCrashRollbackOfConfigFiles: config files that were changed since do not stop a
// rollback, and nothing of what they were changed to is lost, whatever is cut or fails.
func TestCrashRollbackOfConfigFiles(t *testing.T) {
	older, _, edited := ownerTree()
	after := snapshot(t, machine(t, wantRolledBack(older, edited)).FS())
	for _, kind := range []fsKind{likeExt4, likeXFS, noExchange, oldVFAT} {
		fresh := func(t *testing.T) *fsys.Mem { return owned(t, kind) }
		s := &scenario{"rollback " + string(kind), kind, fresh, nil, rollback, snapshot(t, fresh(t).FS()), after, version2, version1}
		crashEverywhere(t, s, nil)
	}
}

// TestRollbackTellsOfConfigFiles: each decision is told, in the journal and the
// audit log too, and stands in the state until another patch has its own.
func TestRollbackTellsOfConfigFiles(t *testing.T) {
	m := owned(t, likeExt4)
	tg := target(m, &fsys.Meter{})
	j, err := newest(tg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenRollback(context.Background(), tg, j, RollbackOptions{Jobs: 2})
	if err != nil || len(r.Modified) != 0 {
		t.Fatalf("%v, modified %v", err, r.Modified)
	}
	want := []string{
		"boot/cmdline kept boot/cmdline.relkit-old  fw-1-2",
		"etc/again kept   fw-1-2",
		"etc/back kept   fw-1-2",
		"etc/both kept etc/both.relkit-old  fw-1-2",
		"etc/dropped saved  etc/dropped.relkit-saved fw-1-2",
		"etc/fw.d/a.conf saved  etc/fw.d/a.conf.relkit-saved fw-1-2",
		"etc/gone stays-deleted etc/gone.relkit-old  fw-1-2",
		"etc/link kept etc/link.relkit-old  fw-1-2",
		"etc/made saved  etc/made.relkit-saved fw-1-2",
		"etc/mode metadata-kept   fw-1-2",
		"etc/same kept   fw-1-2",
	}
	words := func(all []journal.Deviation) []string {
		var lines []string
		for _, d := range all {
			lines = append(lines, strings.Join([]string{d.Path, string(d.Outcome), d.Old, d.Saved, d.Patch}, " "))
		}
		slices.Sort(lines)
		return lines
	}
	if got := words(r.Deviations); !slices.Equal(got, want) {
		t.Errorf("decided\n%q\nwant\n%q", got, want)
	}
	if err := r.Commit(journal.Record{}, nil); err != nil {
		t.Fatal(err)
	}
	lines, _, err := tg.State.Verify()
	if err != nil {
		t.Fatal(err)
	}
	told, kept := []string(nil), []string(nil)
	for _, l := range lines {
		if l.Event == journal.Rollback {
			told = words(l.Deviations)
		}
		if l.Event == journal.RolledBack {
			kept = l.Kept
		}
	}
	if !slices.Equal(told, want) || len(kept) != 8 || !slices.Contains(kept, "etc/both.relkit-old") {
		t.Errorf("the audit log tells\n%q, kept %q", told, kept)
	}
}

// TestRollbackRefusesOthers: a file that is no config file still refuses, and so
// does a config file that became a folder.
func TestRollbackRefusesOthers(t *testing.T) {
	for _, change := range []func(f fsys.FS) error{
		func(f fsys.FS) error { return fsys.WriteFile(f, "bin", []byte("mine"), 0o755) },
		func(f fsys.FS) error { return errors.Join(f.Unlink("etc/both"), f.Mkdir("etc/both", 0o755)) },
	} {
		m := owned(t, likeExt4)
		if err := change(m.FS()); err != nil {
			t.Fatal(err)
		}
		tg := target(m, &fsys.Meter{})
		j, err := newest(tg)
		if err != nil {
			t.Fatal(err)
		}
		r, err := OpenRollback(context.Background(), tg, j, RollbackOptions{})
		if err != nil || !r.Refused() || len(r.Modified) != 1 {
			t.Fatalf("%v, modified %v", err, r.Modified)
		}
		if err := r.Commit(journal.Record{}, nil); err == nil {
			t.Error("it was taken back")
		}
	}
}
