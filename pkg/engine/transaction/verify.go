package transaction

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// verifier looks at each step of an applied transaction before it is taken back.
type verifier struct {
	x *Tx
	// known are the paths that the transaction has made.
	known map[string]bool
	found []finding
}

// finding is what stands at a step's path.
type finding struct {
	info fsys.Info
	// why says how it is not as it was left, "" where it is.
	why string
	// stayed tells of a folder that the commit put back since it was not empty.
	stayed bool
}

func (x *Tx) newNames() map[string]bool {
	names := map[string]bool{}
	for i := range x.plan.Steps {
		if e := x.plan.Steps[i].New; e != nil {
			names[e.Path] = true
		}
	}
	return names
}

// step verifies the old side of step i by digest, and the live side.
func (v *verifier) step(ctx context.Context, i int) (f finding, err error) {
	x, step := v.x, &v.x.plan.Steps[i]
	if step.Do == journal.Meta {
		f.why, err = x.folderChanged(step)
		return f, err
	}
	if step.Do != journal.Place {
		slot := x.slot(i)
		if step.Do == journal.Swap && !x.exchanges(step) {
			slot += oldSuffix
		}
		if f.stayed, err = x.stayed(step, slot); err != nil || f.stayed {
			return f, err
		}
		if err := x.verifyOld(ctx, step, slot); err != nil {
			return f, failure.As(failure.Refused, fmt.Errorf("the rollback copy of %q: %w", step.Path(), err))
		}
	}
	info, there, err := present(x.Root, step.Path())
	if err != nil {
		return f, err
	}
	f.info = info
	if strings.HasSuffix(step.Path(), NewSuffix) {
		return f, nil // for its owner to merge and remove; what is there goes, or is set aside
	}
	f.why, err = v.changed(ctx, step, info, there)
	return f, err
}

// changed says how the live side is not as the transaction left it.
func (v *verifier) changed(ctx context.Context, step *journal.Step, info fsys.Info, there bool) (string, error) {
	switch {
	case step.New == nil && there:
		return "exists again", nil
	case step.New == nil:
		return "", nil
	case !there:
		return "was removed", nil
	case info.Kind != step.New.Kind:
		return fmt.Sprintf("is a %s now", info.Kind), nil
	}
	e, err := live(v.x.Root, step.Path(), info)
	if err != nil {
		return "", err
	}
	switch {
	case e.Kind == manifest.File && e.Size == step.New.Size:
		if e.Digest, err = hashFile(ctx, v.x.Root, e.Path, info); err != nil {
			return "", err
		}
	case e.Kind == manifest.Dir:
		names, err := v.x.Root.ReadDir(e.Path)
		if err != nil {
			return "", err
		}
		if k := slices.IndexFunc(names, func(name string) bool { return !v.known[join(e.Path, name)] }); k >= 0 {
			return fmt.Sprintf("holds %q, which the patch did not put there", names[k]), nil
		}
	}
	return differs(e, step.New, false), nil
}

// folderChanged says how a folder that was there before and still is has other
// metadata than the transaction gave it. What it did not change is not looked at.
func (x *Tx) folderChanged(step *journal.Step) (string, error) {
	if step.Old == nil || step.New == nil || differs(step.Old, step.New, false) == "" {
		return "", nil
	}
	info, there, err := present(x.Root, step.Path())
	if err != nil || !there {
		return "", err
	}
	e, err := live(x.Root, step.Path(), info)
	if err != nil {
		return "", err
	}
	return differs(e, step.New, false), nil
}

func (x *Tx) verifyOld(ctx context.Context, step *journal.Step, slot string) error {
	info, err := x.Root.Lstat(slot)
	if err != nil {
		return err
	}
	if info.Kind != step.Old.Kind || info.Kind == manifest.File && info.Size != step.Old.Size {
		return errors.New("is not what was put there")
	}
	if info.Kind != manifest.File {
		return nil
	}
	got, err := hashFile(ctx, x.Root, slot, info)
	if err == nil && got != step.Old.Digest {
		err = fmt.Errorf("content is %s, want %s", got, step.Old.Digest)
	}
	return err
}

// stayed tells whether step took a folder that was put back since it was not empty.
func (x *Tx) stayed(step *journal.Step, slot string) (bool, error) {
	if step.Do != journal.Take || !isDir(step.Old) {
		return false, nil
	}
	_, inSlot, err := present(x.Root, slot)
	if err != nil || inSlot {
		return false, err
	}
	info, there, err := present(x.Root, step.Path())
	return there && info.Kind == manifest.Dir, err
}
