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
	// ahead is what rollbacks that come first will have made of the tree.
	ahead *ahead
}

// finding is what stands at a step's path.
type finding struct {
	info fsys.Info
	// live is that as an entry, nil for nothing; a file has its digest where it has
	// the size of one of the step's sides.
	live *manifest.Entry
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
		f.why, err = v.folderChanged(step)
		return f, err
	}
	if step.Do != journal.Place {
		slot := x.oldName(i)
		if f.stayed, err = v.stayed(step, slot); err != nil || f.stayed {
			return f, err
		}
		if err := x.verifyOld(ctx, step, slot); err != nil {
			return f, failure.As(failure.Refused, fmt.Errorf("the rollback copy of %q: %w", step.Path(), err))
		}
	}
	if err := v.look(ctx, step, &f); err != nil {
		return f, err
	}
	if strings.HasSuffix(step.Path(), NewSuffix) {
		return f, nil // for its owner to merge and remove; what is there goes, or is set aside
	}
	f.why, err = v.changed(step, f.live)
	return f, err
}

// look finds what stands at a step's path, or will.
func (v *verifier) look(ctx context.Context, step *journal.Step, f *finding) (err error) {
	root, path, there := v.x.Root, step.Path(), false
	if e, known := v.ahead.at(path); known {
		f.live = e
		return nil
	}
	if f.info, there, err = present(root, path); err != nil || !there {
		return err
	}
	if f.info.Kind == manifest.Socket || f.info.Kind == manifest.Unknown {
		f.live = &manifest.Entry{Path: path, Kind: f.info.Kind}
		return nil
	}
	if f.live, err = live(root, path, f.info); err != nil || f.live.Kind != manifest.File {
		return err
	}
	for _, e := range []*manifest.Entry{step.New, step.Old} {
		if e != nil && e.Kind == manifest.File && e.Size == f.live.Size && f.live.Digest.IsZero() {
			if f.live.Digest, err = hashFile(ctx, root, path, f.info); err != nil {
				return err
			}
		}
	}
	return nil
}

// changed says how the live side is not as the transaction left it.
func (v *verifier) changed(step *journal.Step, live *manifest.Entry) (string, error) {
	switch {
	case step.New == nil && live != nil:
		return "exists again", nil
	case step.New == nil:
		return "", nil
	case live == nil:
		return "was removed", nil
	case live.Kind != step.New.Kind:
		return fmt.Sprintf("is a %s now", live.Kind), nil
	}
	if live.Kind == manifest.Dir {
		names, err := v.ahead.names(v.x.Root, step.Path())
		if err != nil {
			return "", err
		}
		// What relkit has put beside a file is no reason: the folder stays with it.
		strange := func(name string) bool { path := join(step.Path(), name); return !v.known[path] && !isAside(path) }
		if k := slices.IndexFunc(names, strange); k >= 0 {
			return fmt.Sprintf("holds %q, which the patch did not put there", names[k]), nil
		}
	}
	return differs(live, step.New, false), nil
}

// folderChanged says how a folder that was there before and still is has other
// metadata than the transaction gave it. What it did not change is not looked at.
func (v *verifier) folderChanged(step *journal.Step) (string, error) {
	if step.Old == nil || step.New == nil || differs(step.Old, step.New, false) == "" {
		return "", nil
	}
	if e := v.ahead.meta(step.Path()); e != nil {
		return differs(e, step.New, false), nil
	}
	info, there, err := present(v.x.Root, step.Path())
	if err != nil || !there {
		return "", err
	}
	e, err := live(v.x.Root, step.Path(), info)
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
func (v *verifier) stayed(step *journal.Step, slot string) (bool, error) {
	if step.Do != journal.Take || !isDir(step.Old) {
		return false, nil
	}
	_, inSlot, err := present(v.x.Root, slot)
	if err != nil || inSlot {
		return false, err
	}
	if e, known := v.ahead.at(step.Path()); known {
		return isDir(e), nil
	}
	info, there, err := present(v.x.Root, step.Path())
	return there && info.Kind == manifest.Dir, err
}
