package boot

import (
	"fmt"
	"slices"
	"testing"

	"github.com/relkit/relkit/pkg/sys/fsys"
)

// thirdKernel is staged while newKernel runs.
var (
	thirdKernel = Kernel{"boot/vmlinuz-3", "boot/initrd.img-3"}
	thirdStaged = Kernel{".relkit/2/1", ".relkit/2/2"}
)

// keepMachine is a machine whose kernel was confirmed, and is booted by relkit's
// entry, since the boot loader would not find it; a third one is staged.
func keepMachine(t testing.TB, c Config) *fsys.Mem {
	t.Helper()
	m := machineOf(t, c)
	f := m.FS()
	check(t, open(t, m, cmdline).Switch(staged, newKernel, 3))
	for from, to := range map[string]string{staged.Image: newKernel.Image, staged.Initrd: newKernel.Initrd} {
		put(t, f, to, content(t, f, from))
	}
	check(t, open(t, m, cmdline+" relkit.boot=test").Settle(false))
	put(t, f, thirdStaged.Image, "third kernel")
	put(t, f, thirdStaged.Initrd, hooked("third"))
	check(t, f.SyncFS("."))
	return m
}

// TestCancel: a trial that no boot has seen ends in what was chosen before it, by
// whichever entry the kernel that runs was booted.
func TestCancel(t *testing.T) {
	for _, c := range loaders {
		t.Run(c.Loader, func(t *testing.T) {
			m := machineOf(t, c)
			s := open(t, m, cmdline)
			check(t, s.Switch(staged, newKernel, 3), s.Cancel())
			if st, err := s.State(); err != nil || st.Chosen != Rest {
				t.Errorf("of a kernel that the boot loader found: got %+v, %v", st, err)
			}
			for _, entry := range []Choice{Test, Good} {
				m := keepMachine(t, c)
				s := open(t, m, cmdline+" relkit.boot="+string(entry))
				if entry == Good { // as after a trial that failed
					check(t, s.fill(Good, s.slot(Test), newKernel))
				}
				check(t, s.Switch(thirdStaged, thirdKernel, 3))
				if names, err := s.names(Good); err != nil || names != newKernel {
					t.Errorf("%s: what was kept is called %v, %v", entry, names, err)
				}
				check(t, s.Cancel())
				st, err := s.State()
				if got := content(t, m.FS(), s.slot(Test).Image); err != nil || st.Chosen != Keep || got != "new kernel" {
					t.Errorf("of a kernel that %s booted: got %+v, %v, and it boots the %s", entry, st, err, got)
				}
			}
			// Where its menu has it by now, it is left to that.
			m = keepMachine(t, c)
			s = open(t, m, cmdline+" relkit.boot=test")
			check(t, s.Switch(thirdStaged, thirdKernel, 3))
			put(t, m.FS(), "boot/grub/grub.cfg", "linux /boot/vmlinuz-2 ro\ninitrd /boot/initrd.img-2\nsource $prefix/relkit.cfg\n")
			check(t, s.Cancel())
			if st, err := s.State(); c.Loader == "grub" && (err != nil || st.Chosen != Rest) {
				t.Errorf("covered: got %+v, %v", st, err)
			}
			// The new kernel runs: not for Cancel to end.
			m = keepMachine(t, c)
			s = open(t, m, cmdline+" relkit.boot=test")
			check(t, s.Switch(thirdStaged, thirdKernel, 3))
			s.o.BootID = "2"
			check(t, s.Cancel())
			if st, err := s.State(); err != nil || st.Chosen != Test {
				t.Errorf("under the new kernel: got %+v, %v", st, err)
			}
		})
	}
}

// TestCancelCrash cuts the power at every step of Cancel: what the boot loader then
// chooses is whole, and a boot by "good" ends as Cancel would have.
func TestCancelCrash(t *testing.T) {
	for _, c := range loaders {
		if c.Loader == "systemd-boot" {
			continue // its ESP is vfat, which Mem is not
		}
		t.Run(c.Loader, func(t *testing.T) {
			m := keepMachine(t, c)
			running := cmdline + " relkit.boot=test"
			check(t, open(t, m, running).Switch(thirdStaged, thirdKernel, 3))
			check(t, m.FS().SyncFS("."))
			points := 0
			for k := 1; ; k++ {
				machine := m.Crash(fsys.Policy{Keep: fsys.KeepAll})
				meter := &fsys.Meter{CrashAt: k}
				err := openFS(t, fsys.Watch(machine.FS(), meter), running).Cancel()
				if !meter.Crashed() {
					check(t, err)
					break
				}
				for _, keep := range []fsys.Keep{fsys.KeepNone, fsys.KeepAll, fsys.KeepPrefix, fsys.KeepSubset} {
					for seed := range uint64(4) {
						p := fsys.Policy{Keep: keep, Seed: seed}
						afterCancel(t, machine.Crash(p), fmt.Sprintf("step %d, %v", k, p))
						points++
					}
				}
			}
			if points < 50 {
				t.Errorf("only %d points", points)
			}
			t.Logf("%d points", points)
		})
	}
}

// afterCancel boots a machine that was cut during Cancel.
func afterCancel(t *testing.T, m *fsys.Mem, where string) {
	t.Helper()
	s := open(t, m, cmdline)
	st, err := s.State()
	if err != nil || !slices.Contains([]Choice{Test, Good, Keep}, st.Chosen) {
		t.Fatalf("%s: %+v, %v", where, st, err)
	}
	slot, want := st.Chosen, "new kernel"
	switch st.Chosen {
	case Test:
		want = "third kernel"
	case Keep:
		slot = Test
	}
	k := s.slot(slot)
	if got := content(t, m.FS(), k.Image); got != want || content(t, m.FS(), k.Initrd) != hooked(want[:len(want)-len(" kernel")]) {
		t.Fatalf("%s: %s boots the %s", where, st.Chosen, got)
	}
	if st.Chosen != Good {
		return
	}
	s = open(t, m, cmdline+" relkit.boot=good")
	reboot, err := s.afterwards(State{Chosen: Good, Running: Good}, &applied{})
	if err != nil || reboot {
		t.Fatalf("%s: %v, reboot %v", where, err, reboot)
	}
	if st, err := s.State(); err != nil || st.Chosen != Keep || content(t, m.FS(), s.slot(Test).Image) != "new kernel" {
		t.Fatalf("%s: after the boot %+v, %v", where, st, err)
	}
}
