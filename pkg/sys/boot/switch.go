package boot

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/version"
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
			"relkit patch-apply --confirm, or reboot")
	}
	if err := s.hasHook(staged.Initrd); err != nil {
		return fmt.Errorf("%s: %w", names.Initrd, err)
	}
	old, err := s.running(staged)
	if err != nil {
		return err
	}
	oldNames := old
	if st.Chosen == Keep {
		if oldNames, err = s.names(Test); err != nil {
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
	return s.settleThenChoose(Test, tries)
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
	covered, err := s.covers(names)
	if err != nil {
		return err
	}
	if covered {
		return s.settleThenChoose(Rest, 0)
	}
	if st.Running == Good {
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

// Cancel ends a trial that no boot has seen yet. Where the new kernel runs it
// does nothing: Settle ends that.
func (s *Setup) Cancel() error {
	st, err := s.State()
	if err != nil || st.Chosen != Test || st.Running == Test {
		return err
	}
	return s.loader.Choose(Rest, 0)
}

// GiveUp has the old kernel boot next, where a new one is on trial.
func (s *Setup) GiveUp() error {
	st, err := s.State()
	if err != nil || st.Chosen != Test {
		return err
	}
	return s.loader.Choose(Good, 0)
}
