package update

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/window"
)

// TestRebootInWindow: a reboot comes only while the window is open, whatever the
// patch still waits for.
func TestRebootInWindow(t *testing.T) {
	w, err := window.Parse("Sun 02:00-04:00")
	if err != nil {
		t.Fatal(err)
	}
	for hour, want := range map[int]bool{1: false, 2: true, 3: true, 4: false} {
		rebooted := false
		a := newApplier(t)
		a.opt.Now = func() time.Time { return time.Date(2026, 11, 22, hour, 30, 0, 0, time.Local) } // a Sunday
		a.o.Window = w
		if err := a.reboot(context.Background()); err != nil {
			t.Fatalf("nobody asked for a reboot: %v", err)
		}
		a.o.Reboot = func(context.Context) error { rebooted = true; return nil }
		err := a.reboot(context.Background())
		if rebooted != want || (err == nil) != want {
			t.Errorf("at %d:30: rebooted %v, %v", hour, rebooted, err)
		}
		if err != nil && (!failure.IsChanged(err) || failure.Of(err) != failure.Failed || failure.Hint(err) == "") {
			t.Errorf("%v: kind %d", err, failure.Of(err))
		}
		a.o.Window, a.o.Reboot = nil, func(context.Context) error { return errors.New("no") }
		if err := a.reboot(context.Background()); !failure.IsChanged(err) {
			t.Errorf("a reboot that fails: %v", err)
		}
	}
}

// TestRollbackHint: what a hint says asks for what is left, and can be pasted.
func TestRollbackHint(t *testing.T) {
	o := RollbackOptions{Options: Options{Root: "/srv/my root", State: "/st"}, Last: 3, AtBoot: true, BelowFloor: true}
	err := modifiedError([]transaction.Mismatch{{Path: "fw", Why: "was removed"}}, o)
	want := "relkit patch-rollback --root '/srv/my root' --state /st --on-modified replace --at-boot --below-floor --last 3"
	if got := failure.Hint(err); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
