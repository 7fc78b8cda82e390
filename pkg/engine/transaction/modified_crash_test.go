package transaction

import (
	"context"
	"syscall"
	"testing"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// changedTree is a machine whose owner has changed config files in every way;
// an earlier new version lies beside one of them.
func changedTree() (older, newer, live spec) {
	older = spec{
		".": dir(0o755), "bin": file(0o755, "bin 1"), "etc": dir(0o755),
		"etc/both": file(0o644, "both 1"), "etc/again": file(0o644, "again 1"), "etc/mode": file(0o644, "mode 1"),
		"etc/gone": file(0o644, "gone 1"), "etc/removed": file(0o644, "removed 1"), "etc/plain": file(0o644, "plain 1"),
		"boot": dir(0o755), "boot/cmdline": file(0o644, "cmdline 1"),
	}.finish()
	newer = spec{
		".": dir(0o755), "bin": file(0o755, "bin 2"), "etc": dir(0o755),
		"etc/both": file(0o644, "both 2"), "etc/again": file(0o644, "again 2"), "etc/mode": file(0o644, "mode 2"),
		"etc/gone": file(0o644, "gone 2"), "etc/plain": file(0o644, "plain 2"), "etc/made": file(0o600, "made 2"),
		"boot": dir(0o755), "boot/cmdline": file(0o644, "cmdline 2"),
	}.finish()
	live = spec{
		".": dir(0o755), "bin": file(0o755, "bin 1"), "etc": dir(0o755),
		"etc/both": file(0o644, "mine"), "etc/again": file(0o600, "mine again"), "etc/again.relkit-new": file(0o644, "again 0"),
		"etc/mode": file(0o600, "mode 1").owner(5, 6), "etc/removed": file(0o644, "mine too"), "etc/plain": file(0o644, "plain 1"),
		"etc/made": symlink("elsewhere"), "boot": dir(0o755), "boot/cmdline": file(0o644, "cmdline mine"),
	}.finish()
	return older, newer, live
}

// TestCrashConfigFiles cuts the power at every step of applying a patch over
// config files that were changed, and of taking it back: with the decisions as
// dpkg makes them, and with everything replaced.
func TestCrashConfigFiles(t *testing.T) {
	older, newer, live := changedTree()
	for _, kind := range []fsKind{likeExt4, likeXFS, noExchange} {
		for _, on := range []OnModified{OnModifiedAbort, OnModifiedReplace} {
			if kind == likeXFS && on == OnModifiedReplace {
				continue // the steps are those of a patch without config files
			}
			run := func(t Target) error {
				entries, segments := older.diff(newer)
				r := begin(version1, version2)
				r.Deviations = []journal.Deviation{{Path: "etc/both", Outcome: journal.Kept, New: "etc/both.relkit-new", Patch: r.PatchID}}
				_, err := Run(context.Background(), t, entries, segments, r, Options{ConfigFiles: []string{"etc/**", "boot/cmdline"}, OnModified: on})
				return err
			}
			fresh := func(t *testing.T) *fsys.Mem { return machine(t, live) }
			applied := func(t *testing.T) *fsys.Mem {
				m := machine(t, live)
				kind.set(m)
				if err := run(target(m, &fsys.Meter{})); err != nil {
					t.Fatal(err)
				}
				m.SyncAll()
				return m
			}
			before, after := snapshot(t, fresh(t).FS()), snapshot(t, applied(t).FS())
			name := string(kind) + " " + string(on)
			crashEverywhere(t, &scenario{"apply " + name, kind, fresh, nil, run, before, after, journal.Version{}, version2}, checkDeviations)
			crashEverywhere(t, &scenario{"rollback " + name, kind, applied, nil, rollback, after, before, version2, version1}, checkDeviations)
		}
	}
}

// crashEverywhere cuts the power at every step of a scenario, and makes every step
// fail; more, where it is
// not nil, holds what else must hold once the machine is recovered.
func crashEverywhere(t *testing.T, s *scenario, more func(*testing.T, *fsys.Mem)) {
	t.Helper()
	t.Run(s.name, func(t *testing.T) {
		t.Parallel()
		if s.before == s.after {
			t.Fatal("before and after are the same")
		}
		steps, points := s.clean(t), 0
		for k := 1; k <= steps; k += stride() {
			points += s.crashAt(t, k)
			s.faultAt(t, k, []syscall.Errno{syscall.EIO, syscall.ENOSPC}[k%2])
			if more == nil {
				continue
			}
			m := s.fresh(t)
			s.kind.set(m)
			_ = s.run(target(m, &fsys.Meter{CrashAt: k})) // it ends in the cut
			cut := m.Crash(policies(k)[2])
			s.check(t, cut, "again")
			more(t, cut)
		}
		t.Logf("%d steps, %d crash points", steps, points)
	})
}

// checkDeviations holds that the state tells of the decisions exactly when their
// transaction stands.
func checkDeviations(t *testing.T, m *fsys.Mem) {
	t.Helper()
	s := target(m, &fsys.Meter{}).State
	v, err := s.Version()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(state.Deviations(transactions(t, s))); (n == 1) != (v == version2) {
		t.Fatalf("version %v and %d deviations", v, n)
	}
}
