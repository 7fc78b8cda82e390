package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/version"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// DefaultTries is how often a new kernel is booted before it is given up.
const DefaultTries = 3

// Switch has the next boot try a kernel, which lies at staged and will be called
// names in the new tree: both below the root. See the package's comment for what
// a power cut leaves. The state of the tree does not change.
func (s *Setup) Switch(staged, names Kernel, tries int) error {
	if s.loader == nil {
		return s.hint(failure.Errorf(failure.Refused, "no boot loader is set up to fall back from a new kernel"))
	}
	if tries < 1 || tries > maxTries {
		return failure.Errorf(failure.Usage, "got %d tries, want 1 to %d", tries, maxTries)
	}
	st, err := s.State()
	if err != nil {
		return err
	}
	if st.Chosen == Test || st.Chosen == Good {
		return failure.WithHint(failure.Errorf(failure.Refused, "another kernel is on trial (the boot loader is set to %q)", st.Chosen),
			"relkit patch-apply%s --confirm  # or reboot", s.o.Flags)
	}
	if err := s.hasHook(staged.Initrd); err != nil {
		return fmt.Errorf("%s: %w", names.Initrd, err)
	}
	old, err := s.running(staged)
	if err != nil {
		return err
	}
	oldNames := old
	if st.Running != Rest { // its files are a slot's, which the tree has by other names
		if oldNames, err = s.names(st.Running); err != nil {
			return err
		}
	}
	if err := s.fill(Good, old, oldNames); err != nil {
		return err
	}
	if st.Chosen == Keep {
		// The slot that is about to be filled is the one that boots: its copy does so
		// meanwhile.
		if err := s.settleThenChoose(Good, 0); err != nil {
			return err
		}
	}
	if err := s.fill(Test, staged, names); err != nil {
		return err
	}
	if err := s.noteSwitch(st); err != nil {
		return err
	}
	return s.settleThenChoose(Test, tries)
}

// switchedName is the file of relkit's boot folder with the boot in which Switch
// was called last by a kernel of the entry "test".
const switchedName = "switched"

// noteSwitch notes in which boot a switch is made, where the kernel that runs has
// the same entry as the one on trial will have: "test" is what keep boots, too.
func (s *Setup) noteSwitch(st State) error {
	if st.Running != Test {
		return nil
	}
	return fsys.WriteFile(s.root, s.file(switchedName), []byte(s.o.BootID+"\n"), 0o644)
}

// seen tells whether the kernel on trial has been booted: else the kernel that runs
// is the one from before.
func (s *Setup) seen(st State) (bool, error) {
	if st.Running != Test {
		return false, nil
	}
	b, err := fsys.ReadFile(s.root, s.file(switchedName), maxSetup)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return s.o.BootID == "" || strings.TrimSpace(string(b)) != s.o.BootID, err
}

// maxTries is what one digit of GRUB's environment counts.
const maxTries = 9

// settleThenChoose makes the boot loader see what it is told of next.
func (s *Setup) settleThenChoose(c Choice, tries int) error {
	if err := s.root.SettleFS(s.loader.Folder()); err != nil {
		return err
	}
	return s.loader.Choose(c, tries)
}

// Extend gives a kernel on trial all its tries again: it is about to be
// confirmed, and must not be given up between the record of that and Settle.
func (s *Setup) Extend() error {
	st, err := s.State()
	if err != nil || st.Chosen != Test || st.Running != Test {
		return err
	}
	return s.loader.Choose(Test, DefaultTries)
}

// Settle makes the kernel that runs the one that boots from now on, and ends a
// trial: the new one has been confirmed, or the old one has its tree again. In
// live mode (the whole system runs, not only an initramfs) the boot loader's menu
// is made anew first. With no trial it does nothing.
func (s *Setup) Settle(live bool) error {
	st, err := s.State()
	if err != nil || s.loader == nil || st.Chosen == Rest || st.Chosen == Keep && st.Running != Good {
		return err
	}
	if st.Running == Rest {
		// Somebody chose another entry by hand, or Switch was never followed by a
		// boot: what is to be said is only that there is no trial any more.
		return s.loader.Choose(Rest, 0)
	}
	names, err := s.names(st.Running)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if live && st.Running == Test {
		if err := s.loader.Refresh(); err != nil {
			s.o.Log.Warn("the boot loader's menu could not be made anew; its entry for this kernel stays relkit's", "err", err)
		}
	}
	return s.rest(st.Running, names)
}

// rest has the kernel in a slot, which the tree calls names, boot from now on: by
// the boot loader itself where that would, else by relkit's entry. Nothing boots the
// slot "test" meanwhile, unless it has this kernel.
func (s *Setup) rest(slot Choice, names Kernel) error {
	covered, err := s.covers(names)
	if err != nil {
		return err
	}
	if covered {
		return s.settleThenChoose(Rest, 0)
	}
	if slot == Good {
		if err := s.fill(Test, s.slot(Good), names); err != nil {
			return err
		}
	}
	return s.settleThenChoose(Keep, 0)
}

func (s *Setup) slot(c Choice) Kernel {
	dir := s.loader.Folder() + "/" + string(c)
	return Kernel{Image: dir + "/" + slotImage, Initrd: dir + "/" + slotInitrd}
}

// covers tells whether the boot loader, at rest, would boot this kernel: it is in
// the tree, none there has a higher version, and the boot loader knows it.
func (s *Setup) covers(k Kernel) (bool, error) {
	all, err := s.Installed()
	if err != nil {
		return false, err
	}
	first, ok := ChooseKernel(all)
	if !ok || first != k {
		a, _ := kernelVersion(first.Image, imagePrefixes, plainImages)
		b, _ := kernelVersion(k.Image, imagePrefixes, plainImages)
		if !ok || version.Compare(a, b) != 0 {
			return false, nil
		}
	}
	return s.loader.Covers(k)
}

// Cancel ends a trial that no boot has seen yet: what boots from now on is what
// would have before Switch. Where the new kernel runs it does nothing: Settle ends
// that.
//
// A kernel that the boot loader booted by itself, it boots so again. One that
// was booted by an entry of relkit's it may not find, and the entry has the new
// kernel by now; the copy of the old one is in "good". That is chosen first, and
// then what Settle would choose under it: cut anywhere in between, the machine boots
// "good" and Run calls Settle.
func (s *Setup) Cancel() error {
	st, err := s.State()
	if err != nil || st.Chosen != Test {
		return err
	}
	if st.Running == Rest {
		return s.loader.Choose(Rest, 0)
	}
	if seen, err := s.seen(st); err != nil || seen {
		return err
	}
	names, err := s.names(Good)
	if err == nil {
		err = s.loader.Choose(Good, 0)
	}
	if err != nil {
		return err
	}
	return s.rest(Good, names)
}

// GiveUp has the old kernel boot next, where a new one is on trial.
func (s *Setup) GiveUp() error {
	st, err := s.State()
	if err != nil || st.Chosen != Test {
		return err
	}
	return s.loader.Choose(Good, 0)
}
