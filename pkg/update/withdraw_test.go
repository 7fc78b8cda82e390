package update

import (
	"context"
	"syscall"
	"testing"

	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// unconfirmed is a linksMachine whose patch was committed at boot, is not confirmed and
// is to be taken back.
func unconfirmed(t *testing.T) *fsys.Mem {
	t.Helper()
	m := linksMachine(t, journal.Record{}, journal.Record{Boot: true, Reboot: true})
	a := onMem(m, &fsys.Meter{})
	a.notes(t, journal.Record{Event: journal.Armed})
	tx, modified, err := transaction.Reopen(context.Background(), a.target, a.only(t), 1)
	if err != nil || len(modified) > 0 {
		t.Fatal(modified, err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := tx.Await(); err != nil {
		t.Fatal(err)
	}
	a.notes(t, journal.Record{Event: journal.Withdrawn, Reason: "not confirmed after 3 boots", OnModified: "replace"})
	m.SyncAll()
	return m
}

// TestUnconfirmedNeverStands has each step of the rollback at boot fail, and cuts the
// power at each step after that: a patch that nobody has confirmed is taken back, or
// waits for the next boot to be, which takes it back; it never stands.
func TestUnconfirmedNeverStands(t *testing.T) {
	base := unconfirmed(t)
	keepAll := fsys.Policy{Keep: fsys.KeepAll}
	midway, cuts := 0, 0
	back := func(m *fsys.Mem, what string, k, at int) {
		t.Helper()
		a := onMem(m, &fsys.Meter{})
		if _, err := a.recover(); err != nil {
			t.Fatalf("%s at step %d, cut at %d: %v", what, k, at, err)
		}
		j := a.only(t)
		if j.Status() == journal.Withdrawn {
			if w := j.Find(journal.Withdrawn); w.Reason != "not confirmed after 3 boots" || w.OnModified != "replace" {
				t.Fatalf("%s at step %d, cut at %d: withdrawn for %q, on modified %q", what, k, at, w.Reason, w.OnModified)
			}
			if err := a.rollbackAtBoot(context.Background(), j); err != nil {
				t.Fatalf("%s at step %d, cut at %d: the next boot: %v", what, k, at, err)
			}
		}
		if j.Find(journal.RolledBack) == nil || links(t, m) != "old" {
			t.Fatalf("%s at step %d, cut at %d: %s, the tree is %s", what, k, at, j.Status(), links(t, m))
		}
	}
	for k := 1; ; k++ {
		m := base.Crash(keepAll)
		meter := &fsys.Meter{FailAt: k, Err: syscall.EIO}
		a := onMem(m, meter)
		j := a.only(t)
		err := a.rollbackAtBoot(context.Background(), j)
		steps := meter.Count()
		if steps < k {
			break
		}
		if failure.Of(err) != failure.Mixed && j.Active() {
			t.Fatalf("fault at step %d: %v, and it is %s", k, err, j.Status())
		}
		again := j.Find(journal.Reapplied) != nil
		back(m, "fault", k, 0)
		if !again {
			continue
		}
		midway++
		for at := k + 1; at <= steps; at++ {
			m := base.Crash(keepAll)
			a := onMem(m, &fsys.Meter{FailAt: k, Err: syscall.EIO, CrashAt: at})
			_ = a.rollbackAtBoot(context.Background(), a.only(t)) // it ends in the cut
			back(m.Crash(keepAll), "fault", k, at)
			cuts++
		}
	}
	if midway == 0 || cuts == 0 {
		t.Fatalf("%d faults midway, %d cuts", midway, cuts)
	}
	t.Logf("%d faults midway, %d cuts", midway, cuts)
}

// TestStuckIsKept has a rollback copy lost of a patch that a boot is to take back, and
// cuts the power at each step of that boot and of the confirmation after it: the tree
// stays the new one, and the patch stands only once it was confirmed by name, after a
// boot that has failed; before that it is withdrawn, whatever was cut.
func TestStuckIsKept(t *testing.T) {
	base := unconfirmed(t)
	j := onMem(base, &fsys.Meter{}).only(t)
	f, slot := base.FS(), transaction.SlotDir(".", j.Slot())
	names, err := f.ReadDir(slot)
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if to, err := f.Readlink(slot + "/" + name); err == nil && to == "old" {
			if err := f.Unlink(slot + "/" + name); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	base.SyncAll()
	id := j.Records[0].PatchID
	keepAll := fsys.Policy{Keep: fsys.KeepAll}
	// bootAndConfirm is a boot, and then who keeps the patch.
	bootAndConfirm := func(a *applier) error {
		if err := a.rollbackAtBoot(context.Background(), a.only(t)); err == nil || failure.Of(err) == failure.Mixed {
			t.Fatalf("the boot: %v", err)
		}
		if err := a.withdrawAllAgain(); err != nil {
			return err
		}
		_, err := a.confirm(context.Background(), id)
		return err
	}
	a := onMem(base.Crash(keepAll), &fsys.Meter{})
	if _, err := a.confirm(context.Background(), id); failure.Of(err) != failure.Refused || a.only(t).Status() != journal.Withdrawn {
		t.Fatalf("before any boot: %v, %s", err, a.only(t).Status())
	}
	stood, waited := 0, 0
	for k := 1; ; k++ {
		m := base.Crash(keepAll)
		meter := &fsys.Meter{CrashAt: k}
		_ = bootAndConfirm(onMem(m, meter)) // it ends in the cut
		cut := meter.Count() >= k
		m = m.Crash(keepAll)
		a := onMem(m, &fsys.Meter{})
		if _, err := a.recover(); err != nil {
			t.Fatalf("cut at %d: %v", k, err)
		}
		switch s := a.only(t).Status(); s {
		case journal.Withdrawn:
			waited++
			if _, err := a.confirm(context.Background(), ""); failure.Of(err) != failure.Refused {
				t.Fatalf("cut at %d: kept by nobody: %v", k, err)
			}
			if err := bootAndConfirm(a); err != nil {
				t.Fatalf("cut at %d: %v", k, err)
			}
		case journal.Applied:
			stood++
		default:
			t.Fatalf("cut at %d: %s", k, s)
		}
		if s := a.only(t).Status(); s != journal.Applied || links(t, m) != "new" {
			t.Fatalf("cut at %d: %s, the tree is %s", k, s, links(t, m))
		}
		if !cut {
			break
		}
	}
	if waited < 3 || stood < 2 {
		t.Fatalf("waited after %d cuts, stood after %d", waited, stood)
	}
	t.Logf("waited after %d cuts, stood after %d", waited, stood)
}
