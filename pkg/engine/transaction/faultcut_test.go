package transaction

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// TestFaultThenCut has each write of a journal fail, and cuts the power at each
// step of what is done about that: the record that was told as not written may be
// on the disk all the same.
func TestFaultThenCut(t *testing.T) {
	for _, s := range scenarios(t) {
		if s.kind != likeExt4 || !strings.HasPrefix(s.name, "apply") && !strings.HasPrefix(s.name, "staged") && !strings.HasPrefix(s.name, "rollback") {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			meter := &fsys.Meter{Record: true}
			if err := s.run(s.fault(t, meter)); err != nil {
				t.Fatal(err)
			}
			points := 0
			for k, step := range meter.Trace() {
				if strings.HasPrefix(step, "fsync ") && strings.HasSuffix(step, "/journal") {
					points += s.cutAfter(t, k+1)
				}
			}
			if points == 0 {
				t.Fatal("no journal was written")
			}
		})
	}
}

func (s *scenario) fault(t *testing.T, meter *fsys.Meter) Target {
	m := s.fresh(t)
	s.kind.set(m)
	return target(m, meter)
}

// cutAfter makes step k fail, and cuts the power at each step after it.
func (s *scenario) cutAfter(t *testing.T, k int) (points int) {
	t.Helper()
	for at := k + 1; ; at += stride() {
		m := s.fresh(t)
		s.kind.set(m)
		meter := &fsys.Meter{FailAt: k, Err: syscall.EIO, CrashAt: at, Record: true}
		_ = s.run(target(m, meter)) // it fails, or ends in the cut
		if !meter.Crashed() {
			return points
		}
		// All that was written is kept: what was not is cut elsewhere.
		s.check(t, m.Crash(fsys.Policy{Keep: fsys.KeepAll}), fmt.Sprintf("fault at step %d (%s), crash at step %d", k, meter.Trace()[k-1], at))
		points++
	}
}

// TestNoteFails: a record that was told as not written does not count afterwards.
func TestNoteFails(t *testing.T) {
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
		err = x.Keep(journal.Record{Boot: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	for k := 1; ; k++ {
		c := m.Crash(fsys.Policy{Keep: fsys.KeepAll})
		meter := &fsys.Meter{FailAt: k, Err: syscall.EIO}
		now := target(c, meter)
		j, err := newest(now)
		if err != nil {
			t.Fatal(err)
		}
		told := Note(now, j, journal.Record{Event: journal.Armed})
		if meter.Count() < k {
			return
		}
		j, err = newest(target(c, &fsys.Meter{}))
		if err != nil {
			t.Fatal(err)
		}
		if is := j.Status(); (told == nil) != (is == journal.Armed) {
			t.Errorf("fault at step %d: told as %v, and it is %s", k, told, is)
		}
	}
}
