package transaction

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/relkit/relkit/pkg/sys/fsys"
)

// TestCrashCommittedManyTimes cuts the power and makes a step fail at every step of
// the third commit of one transaction, directly and at a boot: each commit has a plan
// of its own, and that of whichever record counts is there. What is still taken back
// then can be committed again, and taken back.
func TestCrashCommittedManyTimes(t *testing.T) {
	older, newer := oldTree(), newTree()
	takenBackTwice := func(t *testing.T) *fsys.Mem {
		m := machine(t, older)
		tg := target(m, &fsys.Meter{})
		err := apply(tg, older, newer)
		for _, do := range []func(Target) error{rollback, again, rollback} {
			if err == nil {
				err = do(tg)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		m.SyncAll()
		return m
	}
	before, after := snapshot(t, machine(t, older).FS()), snapshot(t, machine(t, newer).FS())
	for name, run := range map[string]func(Target) error{"again": again, "at boot": againAtBoot} {
		s := &scenario{name, likeExt4, takenBackTwice, nil, run, before, after, version1, version2}
		t.Run(name, func(t *testing.T) {
			steps, tried := s.clean(t), 0
			for k := 1; k <= steps; k++ {
				if k > 20 && testing.Short() {
					break // the commit's records are among the first
				}
				for _, p := range policies(k) {
					m := s.fresh(t)
					_ = run(target(m, &fsys.Meter{CrashAt: k})) // it ends in the cut
					cut := m.Crash(p)
					where := fmt.Sprintf("step %d, kept %v", k, p)
					s.check(t, cut, where)
					tried += committable(t, cut, where)
				}
				for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO} {
					m := s.fresh(t)
					err := run(target(m, &fsys.Meter{FailAt: k, Err: errno, ShortWrite: k%2 == 0}))
					where := fmt.Sprintf("fault %v at step %d: %v", errno, k, err)
					s.check(t, m, where)
					tried += committable(t, m, where)
				}
			}
			if tried == 0 {
				t.Error("none was taken back afterwards")
			}
		})
	}
}

// committable holds that the plan of what is not freed is there, and that what is
// taken back can be committed and taken back; n is how many were.
func committable(t *testing.T, m *fsys.Mem, where string) (n int) {
	t.Helper()
	tg := target(m, &fsys.Meter{})
	j, err := newest(tg)
	if err != nil {
		t.Fatal(err)
	}
	if !j.Active() && !j.Pending() && !j.TakenBack() {
		return 0
	}
	if _, err := tg.State.ReadPlan(j); err != nil {
		t.Fatalf("%s: %s: %v", where, j.Status(), err)
	}
	if !j.TakenBack() {
		return 0
	}
	if err := again(tg); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	if err := rollback(tg); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	return 1
}
