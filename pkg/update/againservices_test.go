package update

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// keepingSystemctl keeps a file for each unit that runs; with the file "stuck" db.service
// cannot be stopped.
const keepingSystemctl = `#!/bin/sh
cd DIR
verb=$1
shift
test "$1" = -- && shift
case $verb in
is-system-running) echo running ;;
is-active) for u; do if test -e "$u"; then echo active; else echo inactive; fi; done; exit 3 ;;
stop) for u; do if test "$u" = db.service && test -e stuck; then exit 1; fi; rm -f "$u"; done ;;
start) for u; do : >"$u"; done ;;
esac
`

// units is a folder with that systemctl, by which two units run.
type units string

func newUnits(t *testing.T) units {
	t.Helper()
	dir := t.TempDir()
	u := units(dir)
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(strings.ReplaceAll(keepingSystemctl, "DIR", dir)), 0o755); err != nil {
		t.Fatal(err)
	}
	u.put(t, "app.service", "db.service")
	return u
}

func (u units) put(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(string(u), name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// run tells whether both units do.
func (u units) run() bool {
	for _, name := range []string{"app.service", "db.service"} {
		if _, err := os.Stat(filepath.Join(string(u), name)); err != nil {
			return false
		}
	}
	return true
}

// on is the machine with those units.
func (u units) on(m *fsys.Mem, meter *fsys.Meter) *applier {
	a := onMem(m, meter)
	a.path = string(u) + ":/usr/bin:/bin"
	return a
}

// takenBackWithServices is a linksMachine whose patch stops the units, was applied, and
// was taken back.
func takenBackWithServices(t *testing.T, u units) *fsys.Mem {
	t.Helper()
	m := linksMachine(t, journal.Record{Services: &journal.Services{Stop: []string{"app.service", "db.service"}}}, journal.Record{})
	a := u.on(m, &fsys.Meter{})
	if err := tryAgain(a, t); err != nil {
		t.Fatal(err)
	}
	rb, err := transaction.OpenRollback(context.Background(), a.target, a.only(t), transaction.RollbackOptions{})
	if err == nil {
		err = rb.Commit(journal.Record{Reason: "asked for"}, nil)
	}
	if err != nil || !a.only(t).TakenBack() || !u.run() {
		t.Fatalf("%v, %s, units run: %v", err, a.only(t).Status(), u.run())
	}
	m.SyncAll()
	return m
}

// tryAgain commits what is kept.
func tryAgain(a *applier, t *testing.T) error {
	t.Helper()
	j := a.only(t)
	tx, modified, err := transaction.Reopen(context.Background(), a.target, j, 1)
	if err != nil || len(modified) > 0 {
		t.Fatal(modified, err)
	}
	return a.commit(context.Background(), tx, a.runnerOf(j), &Result{})
}

// TestAgainServicesThatDoNotStop: one service cannot be stopped, so that what was taken
// back is not committed again: the others run as before, each time it is tried.
func TestAgainServicesThatDoNotStop(t *testing.T) {
	u := newUnits(t)
	m := takenBackWithServices(t, u)
	u.put(t, "stuck")
	for try := 1; try <= 2; try++ {
		a := u.on(m, &fsys.Meter{})
		if err := tryAgain(a, t); err == nil || !strings.Contains(err.Error(), "systemctl stop") {
			t.Fatalf("try %d: %v", try, err)
		}
		if !a.only(t).TakenBack() || !u.run() || links(t, m) != "old" {
			t.Fatalf("try %d: %s, units run: %v", try, a.only(t).Status(), u.run())
		}
	}
	if err := os.Remove(filepath.Join(string(u), "stuck")); err != nil {
		t.Fatal(err)
	}
	a := u.on(m, &fsys.Meter{})
	if err := tryAgain(a, t); err != nil || !a.only(t).Active() || !u.run() {
		t.Fatalf("%v, %s, units run: %v", err, a.only(t).Status(), u.run())
	}
}

// TestAgainServicesCut has each step fail, or the run killed at it, from where what was
// taken back is committed again to where that begins: the services that were stopped
// for it run once the next run has come.
func TestAgainServicesCut(t *testing.T) {
	u := newUnits(t)
	base := takenBackWithServices(t, u)
	keepAll := fsys.Policy{Keep: fsys.KeepAll}
	stopped := 0
	for k := 1; ; k++ {
		m := base.Crash(keepAll)
		_ = tryAgain(u.on(m, &fsys.Meter{CrashAt: k}), t) // it ends in the cut
		m = m.Crash(keepAll)
		if !u.on(m, &fsys.Meter{}).only(t).TakenBack() {
			break // it had begun
		}
		if !u.run() {
			stopped++
		}
		if _, err := u.on(m, &fsys.Meter{}).recover(); err != nil || !u.run() || links(t, m) != "old" {
			t.Fatalf("killed at step %d: %v, units run: %v", k, err, u.run())
		}
		m = base.Crash(keepAll)
		_ = tryAgain(u.on(m, &fsys.Meter{FailAt: k, Err: syscall.EIO}), t) // what is only derived may fail
		if _, err := u.on(m, &fsys.Meter{}).recover(); err != nil || !u.run() || links(t, m) == "mixed" {
			t.Fatalf("fault at step %d: %v, units run: %v", k, err, u.run())
		}
	}
	if stopped == 0 {
		t.Fatal("no cut came after the services were stopped")
	}
	t.Logf("%d cuts with the services stopped", stopped)
}
