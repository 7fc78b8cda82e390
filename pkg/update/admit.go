package update

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/version"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// MachineFile says what machine this is, in the tree.
const MachineFile = "etc/relkit/machine.toml"

// admit decides by the header alone whether the patch is for this machine as it
// is, or as w says that it will be.
func (a *applier) admit(h *patch.Header, w *world) error {
	if h.Expired(a.trustedNow()) {
		return failure.Errorf(failure.Refused, "patch %s expired at %s", h.ID, h.Expires.Format("2006-01-02 15:04:05Z07:00"))
	}
	if err := a.admitRepair(h, w); err != nil {
		return err
	}
	if by, ok := w.by[h.ID]; ok {
		return failure.Errorf(failure.Refused, "patch %s was superseded by %s, which is applied", h.ID, by)
	}
	if err := a.admitVersion(h, w); err != nil {
		return err
	}
	if err := a.admitModel(h); err != nil {
		return err
	}
	if err := a.admitNeeds(h); err != nil {
		return err
	}
	if err := a.admitHooks(h); err != nil {
		return err
	}
	err := w.admitDependencies(h)
	if lacking := (*lacking)(nil); errors.As(err, &lacking) {
		return a.missing(err, "what brings "+lacking.what)
	}
	return err
}

// bootGlobs are what a machine boots and loads programs with. Exchanged under a
// running system, a power cut could leave a mixture that does not boot far
// enough to be recovered.
var bootGlobs = []string{
	"boot", "efi", "lib/modules", "usr/lib/modules", "sbin/init", "usr/sbin/init", "init",
	"lib/systemd/systemd", "usr/lib/systemd/systemd",
	"lib*/ld-*.so*", "usr/lib*/ld-*.so*", "lib/*/ld-*.so*", "usr/lib/*/ld-*.so*",
	"lib*/libc.so*", "usr/lib*/libc.so*", "lib/*/libc.so*", "usr/lib/*/libc.so*",
	"lib*/libc-*.so", "usr/lib*/libc-*.so", "lib/*/libc-*.so", "usr/lib/*/libc-*.so",
}

// admitPlaces tells whether the patch has to be committed at boot, before a file
// of the tree runs, and refuses it where the machine is not set up for that. A
// tree that does not run can be changed at any time.
//
// What counts is what would be changed: a full patch names all there is.
func (a *applier) admitPlaces(h *patch.Header, s *transaction.Survey) (boot bool, err error) {
	if a.o.AtBoot {
		return true, a.bootReady("it was asked for")
	}
	if a.opt.Root != "/" {
		return false, nil
	}
	if h.Reboot == patch.RebootRequired {
		return true, a.bootReady("patch " + h.ID + " asks for it")
	}
	for i := range s.Plan.Steps {
		step := &s.Plan.Steps[i]
		if step.Do != journal.Meta && patch.MatchAny(bootGlobs, step.Path()) {
			return true, a.bootReady(fmt.Sprintf("patch %s changes %q of the running system", h.ID, step.Path()))
		}
	}
	return false, nil
}

// bootReady refuses a commit at boot where nothing would make it.
func (a *applier) bootReady(why string) error {
	if a.o.BootReady == nil {
		return nil
	}
	if err := a.o.BootReady(); err != nil {
		return failure.As(failure.Refused, fmt.Errorf("the patch has to be committed at boot (%s): %w", why, err))
	}
	return nil
}

// admitVersion holds product and version against what is installed, where that
// is known; where it is not, the digests of the files decide.
func (a *applier) admitVersion(h *patch.Header, w *world) error {
	if err := a.admitFloor(h, w); err != nil {
		return err
	}
	installed := w.installed
	if installed == (journal.Version{}) {
		return nil
	}
	if h.Product != installed.Product {
		return failure.Errorf(failure.Refused, "patch %s is for product %q, installed is %q", h.ID, h.Product, installed.Product)
	}
	to := h.To.Version
	if to == "" || installed.Version == "" || to == installed.Version {
		return nil // the files tell whether it is installed already
	}
	if h.From != nil && h.From.Version != "" && h.From.Version != installed.Version {
		return a.gapError(h, installed)
	}
	if version.Compare(to, installed.Version) < 0 && !a.o.AllowDowngrade {
		return failure.WithHint(failure.Errorf(failure.Refused, "patch %s would downgrade %s from %s to %s", h.ID, h.Product, installed.Version, to),
			"relkit patch-apply%s --allow-downgrade%s  # or take back what was applied: relkit patch-rollback%s", a.flags(), a.given, a.opt.flags())
	}
	return nil
}

// gapError refuses a patch that begins elsewhere than the machine is, and says
// which patches lead from here to there.
func (a *applier) gapError(h *patch.Header, installed journal.Version) error {
	from, to, is := h.From.Version, h.To.Version, installed.Version
	err := failure.Errorf(failure.Refused, "patch %s goes from version %s to %s, installed is %s", h.ID, from, to, is)
	switch {
	case version.Compare(is, from) < 0:
		return a.missing(err, fmt.Sprintf("the patches of %s from %s to %s", h.Product, is, from))
	case version.Compare(is, to) < 0:
		return failure.WithHint(err, "relkit patch-apply%s OTHER.rkp  # OTHER.rkp: the patch of %s from %s on", a.flags(), h.Product, is)
	}
	return failure.WithHint(err, "relkit patch-rollback%s --list  # what is installed is newer: tells to which versions it can be taken back", a.opt.flags())
}

// missing adds the hint to give what is missing together with the rest.
func (a *applier) missing(err error, what string) error {
	return failure.WithHint(err, "relkit patch-apply%s MISSING.rkp%s  # MISSING.rkp: %s", a.flags(), a.given, what)
}

// readMachine reads the machine.toml of a tree; found is false where there is none.
func (m *machine) readMachine() (c config.Machine, found bool, err error) {
	name := filepath.Join(m.opt.Root, MachineFile)
	b, err := fsys.ReadFile(m.target.Root, MachineFile, 1<<20)
	if fsys.IsAbsent(err) {
		return c, false, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("reading %s: %w", name, err)
	}
	c, err = config.DecodeMachine(name, b)
	return c, true, err
}

func (a *applier) admitModel(h *patch.Header) error {
	if len(h.Model) == 0 {
		return nil
	}
	c, found, err := a.readMachine()
	if err != nil {
		return err
	}
	if !found {
		return failure.Errorf(failure.Refused, "patch %s is for model %q, and /%s does not say what this machine is", h.ID, h.Model, MachineFile)
	}
	for _, model := range c.Compatible {
		if patch.MatchAny(h.Model, model) {
			return nil
		}
	}
	return failure.Errorf(failure.Refused, "patch %s is for model %q, this machine is %q", h.ID, h.Model, c.Compatible)
}
