package update

import (
	"path/filepath"

	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/version"
)

// A repair restores what differs from what is installed, out of the full patch
// of exactly that version. It is a transaction like any other, so that what it
// displaces is its rollback copy. It removes nothing, and leaves config files
// alone unless they are gone or --on-modified replace asks for them.

// admitRepair refuses a repair out of anything but the full patch of what is installed.
func (a *applier) admitRepair(h *patch.Header, w *world) error {
	switch is := w.installed; {
	case !a.o.Repair:
		return nil
	case !h.Full:
		return failure.WithHint(failure.Errorf(failure.Refused, "patch %s is no full patch, and a repair needs one", h.ID),
			"relkit patch-apply%s --repair FULL.rkp  # FULL.rkp: made by relkit patch-make --full NEW", a.opt.flags()+a.o.Given.Trust)
	case is.Version == "":
		return failure.WithHint(failure.Errorf(failure.Refused, "nothing was written down of what is installed, and a repair needs the full patch of that"),
			`echo '{"schema":"relkit.version/v1","product":"%s","version":"%s"}' >%s  # where that is what is installed`, h.Product, h.To.Version, a.versionFile())
	case is.Product != h.Product || version.Compare(is.Version, h.To.Version) != 0:
		return failure.WithHint(failure.Errorf(failure.Refused, "patch %s is of %s %s, installed is %s %s", h.ID, h.Product, h.To.Version, is.Product, is.Version),
			"relkit patch-apply%s --repair FULL.rkp  # FULL.rkp: the full patch of %s %s", a.opt.flags()+a.o.Given.Trust, is.Product, is.Version)
	}
	return nil
}

// versionFile is where version.json is, as a shell takes it.
func (a *applier) versionFile() string {
	dir := a.opt.State
	if dir == "" {
		dir = filepath.Join(a.opt.Root, DefaultState)
	}
	return failure.Word(filepath.Join(dir, "version.json"))
}

// nothingToDo tells whether the tree has all of the patch; a repair does not
// mind what its owner has made of config files.
func (a *applier) nothingToDo(s *transaction.Survey, changes int) bool {
	if a.o.Repair {
		return len(s.Differing) == 0 && len(s.Mismatches) == 0
	}
	return changes > 0 && s.Already == changes && len(s.Differing) == 0
}
