package transaction

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// managedTree is a machine with more on it than the full patch has, of every
// kind and in every place, and what is left when the patch is applied.
func managedTree() (newer, live, after spec, o Options) {
	newer = spec{
		".": dir(0o755), "usr": dir(0o755), "usr/bin": dir(0o755), "usr/bin/fw": file(0o755, "fw 2"), "usr/bin/same": file(0o755, "same"),
		"usr/lib": dir(0o755), "usr/lib/now": file(0o644, "a file now"), "etc": dir(0o755), "etc/conf": file(0o644, "conf"),
		"boot": dir(0o755), "boot/kernel": file(0o644, "kernel 2"), "data": dir(0o755),
	}.finish()
	live = spec{
		".": dir(0o755), "usr": dir(0o755), "usr/bin": dir(0o755), "usr/bin/fw": file(0o755, "fw 1"), "usr/bin/same": file(0o755, "same"),
		"usr/bin/gone": file(0o4755, "gone"), "usr/bin/link": symlink("gone"), "usr/bin/pipe": fifo(),
		"usr/bin/l1": file(0o644, "linked").linked(1), "usr/bin/l2": file(0o644, "linked").linked(1),
		"usr/lib": dir(0o755), "usr/lib/now": dir(0o755), "usr/lib/now/in": file(0o644, "in a folder that becomes a file"),
		"usr/lib/old": dir(0o700), "usr/lib/old/deep": dir(0o555), "usr/lib/old/deep/f": file(0o600, "deep"),
		"usr/lib/mixed": dir(0o755), "usr/lib/mixed/a": file(0o600, "a"), "usr/lib/mixed/keep.db": file(0o600, "never the product's"),
		"usr/bin/fw.relkit-saved": file(0o644, "set aside"), "usr/bin/fw.relkit-saved.2": file(0o644, "set aside too"),
		"etc": dir(0o755), "etc/conf": file(0o644, "conf"), "etc/local.conf": file(0o644, "the owner's"), "etc/old": file(0o644, "the product's"),
		"etc/machine-id": file(0o444, "0123"), "etc/ssh": dir(0o755), "etc/ssh/ssh_host_rsa_key": file(0o600, "this machine's"),
		"home": dir(0o755), "home/me": file(0o644, "not managed"),
		"boot": dir(0o755), "boot/kernel": file(0o644, "kernel 1"), "boot/old": file(0o644, "old kernel"),
		"data": dir(0o755), "data/db": file(0o644, "another file system, on which the patch puts nothing"),
	}.finish()
	after = spec{}
	for path, n := range newer {
		after[path] = n
	}
	for _, path := range []string{"usr/lib/mixed", "usr/lib/mixed/keep.db", "usr/bin/fw.relkit-saved", "usr/bin/fw.relkit-saved.2", "etc/local.conf", "etc/machine-id", "etc/ssh", "etc/ssh/ssh_host_rsa_key", "home", "home/me", "data/db"} {
		after[path] = live[path]
	}
	o = Options{Full: true, Managed: []string{"usr", "etc", "boot/*", "data/**"}, Never: []string{"**/*.db"}, ConfigFiles: []string{"etc/*conf"}}
	return newer, live, after, o
}

// managedMachine has boot and data on file systems of their own.
func managedMachine(t *testing.T, live spec) *fsys.Mem {
	m := fsys.NewMem()
	m.Mount("boot")
	m.Mount("data")
	m.Sub(stateDir)
	live.build(t, m.FS())
	m.SyncAll()
	return m
}

func TestFullRemoves(t *testing.T) {
	newer, live, after, o := managedTree()
	entries, segments := spec{}.diff(newer)
	m := managedMachine(t, live)
	before := snapshot(t, m.FS())
	tg := target(m, &fsys.Meter{})
	s, err := Look(context.Background(), tg.Root, entries, o)
	if err != nil || len(s.Mismatches) > 0 {
		t.Fatal(err, s.Mismatches)
	}
	want := "boot/old etc/old usr/bin/gone usr/bin/l1 usr/bin/l2 usr/bin/link usr/bin/pipe usr/lib/mixed/a usr/lib/now/in usr/lib/old usr/lib/old/deep usr/lib/old/deep/f"
	if got := strings.Join(s.Removed(), " "); got != want {
		t.Errorf("removed %s\nwant %s", got, want)
	}
	if !slices.Equal(s.Kept, []string{"usr/lib/mixed", "etc/ssh"}) {
		t.Errorf("kept %q", s.Kept)
	}
	if _, err := Run(context.Background(), tg, entries, segments, begin(version1, version2), o); err != nil {
		t.Fatal(err)
	}
	if got, want := snapshot(t, m.FS()), snapshot(t, managedMachine(t, after).FS()); got != want {
		t.Errorf("after applying: %s", firstDifference(got, want))
	}
	if err := rollback(tg); err != nil {
		t.Fatal(err)
	}
	if got := snapshot(t, m.FS()); got != before {
		t.Errorf("after rolling back: %s", firstDifference(got, before))
	}
	// Without managed globs, and in a repair, nothing is removed.
	for _, c := range []Options{{Full: true}, {Full: true, Managed: o.Managed, Repair: true}} {
		// What becomes a file must be empty where nothing is removed.
		if err := fsys.RemoveAll(m.FS(), "usr/lib/now"); err != nil {
			t.Fatal(err)
		}
		s, err := Look(context.Background(), m.FS(), entries, c)
		if err != nil || len(s.Mismatches) > 0 || len(s.Removed()) > 0 {
			t.Errorf("%+v: %v, %v, removed %q", c, err, s.Mismatches, s.Removed())
		}
	}
}

// TestCrashFull cuts the power at every step of a full patch that removes, and of
// taking it back.
func TestCrashFull(t *testing.T) {
	newer, live, _, o := managedTree()
	for _, kind := range []fsKind{likeExt4, likeXFS, noExchange} {
		run := func(t Target) error {
			entries, segments := spec{}.diff(newer)
			_, err := Run(context.Background(), t, entries, segments, begin(version1, version2), o)
			return err
		}
		fresh := func(t *testing.T) *fsys.Mem { return managedMachine(t, live) }
		applied := func(t *testing.T) *fsys.Mem {
			m := managedMachine(t, live)
			kind.set(m)
			if err := run(target(m, &fsys.Meter{})); err != nil {
				t.Fatal(err)
			}
			m.SyncAll()
			return m
		}
		before, after := snapshot(t, fresh(t).FS()), snapshot(t, applied(t).FS())
		crashEverywhere(t, &scenario{"apply " + string(kind), kind, fresh, nil, run, before, after, journal.Version{}, version2}, nil)
		crashEverywhere(t, &scenario{"rollback " + string(kind), kind, applied, nil, rollback, after, before, version2, version1}, nil)
	}
}

// A repair restores what differs, not what was only touched, and leaves config
// files and whatever it does not name.
func TestRepairLook(t *testing.T) {
	newer, live, _, o := managedTree()
	entries, _ := spec{}.diff(newer)
	live["usr/bin/same"] = file(0o755, "same").at(7)
	live["etc/conf"] = file(0o600, "mine")
	delete(live, "usr/lib/now/in")
	live["usr/lib/now"] = file(0o644, "a file now")
	live["usr/bin"] = dir(0o700)
	live["boot/kernel"] = newer["boot/kernel"]
	o.Repair = true
	m := managedMachine(t, live.finish())
	s, err := Look(context.Background(), m.FS(), entries, o)
	if err != nil || len(s.Mismatches) > 0 {
		t.Fatal(err, s.Mismatches)
	}
	if got := strings.Join(s.Differing, " "); got != "usr/bin usr/bin/fw" {
		t.Errorf("differing %s", got)
	}
	if len(s.Deviations) != 1 || s.Deviations[0].Path != manifest.Escape("etc/conf") || s.Deviations[0].New != "" {
		t.Errorf("deviations %v", s.Deviations)
	}
}
