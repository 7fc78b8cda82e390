package transaction

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// policies are the power cuts each crash point is tried with.
func policies(k int) []fsys.Policy {
	n := uint64(k)
	return []fsys.Policy{
		{Keep: fsys.KeepNone}, {Keep: fsys.KeepAll},
		{Keep: fsys.KeepPrefix, Seed: n},
		{Keep: fsys.KeepSubset, Seed: n}, {Keep: fsys.KeepSubset, Seed: n + 1e6},
	}
}

// fresh is a machine in the state before, everything of it durable.
func (s *scenario) fresh(t *testing.T) *fsys.Mem {
	t.Helper()
	if s.base == nil {
		s.base = s.setUp(t)
	}
	return s.base.Crash(fsys.Policy{Keep: fsys.KeepAll})
}

// check recovers a machine after a cut and holds what must hold:
// one of the two trees, the version that goes with it, an audit log that says
// exactly what the journals say, and nothing left to recover.
func (s *scenario) check(t *testing.T, m *fsys.Mem, where string) {
	t.Helper()
	tg := target(m, &fsys.Meter{})
	if _, err := Recover(tg); err != nil {
		t.Fatalf("%s: recovering: %v", where, err)
	}
	got := snapshot(t, m.FS())
	v, err := tg.State.Version()
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	switch {
	case got == s.before && v == s.versionBefore:
	case got == s.after && v == s.versionAfter:
	case got == s.before || got == s.after:
		t.Fatalf("%s: version.json says %v of the other tree", where, v)
	default:
		t.Fatalf("%s: neither old nor new; against old: %s\nagainst new: %s", where, firstDifference(got, s.before), firstDifference(got, s.after))
	}
	checkAudit(t, tg.State, where)
	if mount, err := m.FS().Mount("boot"); err != nil || mount.Any() != (s.kind == readOnly) {
		t.Fatalf("%s: boot is mounted %+v, %v", where, mount, err)
	}
	again, err := Recover(tg)
	if err != nil || len(again) != 0 {
		t.Fatalf("%s: a second recovery does %v, %v", where, again, err)
	}
	if names, err := m.FS().ReadDir(SlotsDir); err == nil {
		kept := 0
		for _, tx := range transactions(t, tg.State) {
			if tx.Active() || tx.Pending() || tx.TakenBack() {
				kept++
			}
		}
		if len(names) != kept {
			t.Fatalf("%s: slots %q of %d transactions that are kept", where, names, kept)
		}
	}
}

func transactions(t *testing.T, s *state.State) []*state.Transaction {
	t.Helper()
	all, err := s.Transactions()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func checkAudit(t *testing.T, s *state.State, where string) {
	t.Helper()
	lines, _, err := s.Verify()
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	var logged, events []string
	for _, l := range lines {
		logged = append(logged, fmt.Sprint(l.Transaction, " ", l.Record, " ", l.Event))
	}
	journals, err := s.Journals()
	if err != nil {
		t.Fatal(err)
	}
	for _, tx := range journals {
		for i, r := range tx.Records {
			events = append(events, fmt.Sprint(tx.ID, " ", i+1, " ", r.Event))
		}
	}
	if strings.Join(logged, "\n") != strings.Join(events, "\n") {
		t.Fatalf("%s: the audit log is not the journal:\n%q\n%q", where, logged, events)
	}
}

// clean runs the scenario undisturbed and returns the number of its steps.
func (s *scenario) clean(t *testing.T) int {
	t.Helper()
	m := s.fresh(t)
	s.kind.set(m)
	meter := &fsys.Meter{}
	if err := s.run(target(m, meter)); err != nil {
		t.Fatal(err)
	}
	if got := snapshot(t, m.FS()); got != s.after {
		t.Fatalf("clean run: %s", firstDifference(got, s.after))
	}
	s.check(t, m, "clean run")
	return meter.Count()
}

// TestCrashAtEveryStep cuts the power at every step of apply, of undoing, of
// rollback, and again at every step of the recovery from that.
func TestCrashAtEveryStep(t *testing.T) {
	var points atomic.Int64
	t.Run("", func(t *testing.T) { // returns when its parallel parts have
		for _, s := range scenarios(t) {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				steps := s.clean(t)
				for k := 1; k <= steps; k += stride() {
					points.Add(int64(s.crashAt(t, k)))
				}
				t.Logf("%d steps", steps)
			})
		}
	})
	t.Logf("%d crash points", points.Load())
	if points.Load() < int64(2000/stride()) {
		t.Errorf("%d crash points, want 2000 or more", points.Load())
	}
}

// stride is 1; with -short, as under the race detector, most steps are left out.
func stride() int {
	if testing.Short() {
		return 9
	}
	return 1
}

func (s *scenario) crashAt(t *testing.T, k int) (points int) {
	t.Helper()
	m := s.fresh(t)
	s.kind.set(m)
	meter := &fsys.Meter{CrashAt: k}
	if err := s.run(target(m, meter)); !meter.Crashed() {
		t.Fatalf("step %d: not reached (%v)", k, err)
	}
	for i, p := range policies(k) {
		where := fmt.Sprintf("crash at step %d, kept %v", k, p)
		cut := m.Crash(p)
		if (k+i)%3 == 0 {
			points += s.crashAgain(t, cut, k, i, where)
		}
		s.check(t, cut, where)
		points++
	}
	return points
}

// crashAgain cuts the power a second time, in the recovery, at a step that moves
// with k and the policy, so that all steps get their turn.
func (s *scenario) crashAgain(t *testing.T, cut *fsys.Mem, k, i int, where string) (points int) {
	t.Helper()
	probe := &fsys.Meter{}
	if _, err := Recover(target(cut.Crash(fsys.Policy{Keep: fsys.KeepAll}), probe)); err != nil {
		t.Fatalf("%s: recovering: %v", where, err)
	}
	n := probe.Count()
	if n == 0 {
		return 0
	}
	second := cut.Crash(fsys.Policy{Keep: fsys.KeepAll})
	again := 1 + (k*7+i*13)%n
	meter := &fsys.Meter{CrashAt: again}
	if _, err := Recover(target(second, meter)); !meter.Crashed() {
		t.Fatalf("%s, again at step %d of the recovery: %v", where, again, err)
	}
	all := policies(k)
	for _, q := range []fsys.Policy{all[(i+k)%2], all[2+(i+k)%3]} {
		s.check(t, second.Crash(q), fmt.Sprintf("%s, again at step %d of the recovery, kept %v", where, again, q))
		points++
	}
	return points
}

// TestFaultAtEveryStep makes every step fail once. Before the commit the
// target is untouched; after it has begun it is restored; nothing is mixed.
func TestFaultAtEveryStep(t *testing.T) {
	for _, s := range scenarios(t) {
		if strings.HasPrefix(s.name, "failing check") {
			continue // a fault while undoing is a second failure; recovery from that is below
		}
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
			t.Run(fmt.Sprint(s.name, " ", errno), func(t *testing.T) {
				steps := s.clean(t)
				for k := 1; k <= steps; k += stride() {
					s.faultAt(t, k, errno)
				}
			})
		}
	}
}

func (s *scenario) faultAt(t *testing.T, k int, errno syscall.Errno) {
	t.Helper()
	m := s.fresh(t)
	s.kind.set(m)
	meter := &fsys.Meter{FailAt: k, Err: errno, ShortWrite: k%2 == 0, Record: true}
	err := s.run(target(m, meter))
	where := fmt.Sprintf("fault at step %d (%s): %v", k, meter.Trace()[k-1], err)
	got := snapshot(t, m.FS())
	switch kind := failure.Of(err); {
	case err == nil && got == s.after:
	case err != nil && (kind == failure.Failed || kind == failure.Restored) && got == s.before:
	case err != nil && kind == failure.Refused && strings.HasPrefix(meter.Trace()[k-1], "remount ") && got == s.before:
	default:
		t.Fatalf("%s: kind %d; against before: %s\nagainst after: %s", where, kind, firstDifference(got, s.before), firstDifference(got, s.after))
	}
	s.check(t, m, where)
}

// TestFaultWhileUndoing fails a step of the taking back. The tree may be mixed
// then, which is said so, and Recover mends it.
func TestFaultWhileUndoing(t *testing.T) {
	for _, s := range scenarios(t) {
		if !strings.HasPrefix(s.name, "failing check") {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			steps, mixed := s.clean(t), 0
			for k := 1; k <= steps; k++ {
				m := s.fresh(t)
				s.kind.set(m)
				err := s.run(target(m, &fsys.Meter{FailAt: k, Err: syscall.EIO}))
				if got := snapshot(t, m.FS()); got != s.before {
					if failure.Of(err) != failure.Mixed {
						t.Fatalf("step %d: mixed and told as %d: %v", k, failure.Of(err), err)
					}
					mixed++
				}
				s.check(t, m, fmt.Sprintf("fault at step %d", k))
			}
			if mixed == 0 {
				t.Error("no fault reached the undoing")
			}
		})
	}
}

// TestAnotherWriter lets something else write to a path of the patch at every
// step. What it wrote is never lost, and the tree ends old or new beside it.
func TestAnotherWriter(t *testing.T) {
	older, newer := oldTree(), newTree()
	s := scenarios(t)[0]
	steps := s.clean(t)
	for k := 1; k <= steps; k++ {
		m := s.fresh(t)
		inner := m.FS()
		const precious = "precious, written by another"
		wrote := false
		meter := &fsys.Meter{Before: func(step int, op, name string) {
			if step != k {
				return
			}
			// As an editor saves: a new file, renamed over the old.
			wrote = fsys.WriteFile(inner, "bin/fw", []byte(precious), 0o755) == nil
		}}
		err := apply(target(m, meter), older, newer)
		if !wrote {
			t.Fatalf("step %d: the other writer did not write (%v)", k, err)
		}
		if !holds(t, inner, precious) {
			t.Fatalf("step %d: what another wrote is gone (%v)", k, err)
		}
		if kind := failure.Of(err); err != nil && kind != failure.Failed && kind != failure.Restored && kind != failure.Refused {
			t.Fatalf("step %d: kind %d: %v", k, kind, err)
		}
		if _, err := Recover(target(m, &fsys.Meter{})); err != nil {
			t.Fatal(err)
		}
		if !holds(t, inner, precious) {
			t.Fatalf("step %d: what another wrote is gone after recovery", k)
		}
	}
}

// holds looks for content under any visible name.
func holds(t *testing.T, f fsys.FS, content string) bool {
	t.Helper()
	for _, name := range []string{"bin/fw", "bin/fw.relkit-saved"} {
		b, err := fsys.ReadFile(f, name, 1<<20)
		if err == nil && string(b) == content {
			return true
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return false
}
