package transaction

import (
	"fmt"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
)

// setMetas gives every folder of the plan the metadata of its new or old side.
// It comes after all renames, which move folders' times, deepest folders first.
func (x *Tx) setMetas(toNew bool) error {
	for i := range x.plan.Steps {
		step := &x.plan.Steps[i]
		e := step.Old
		if toNew || e == nil {
			e = step.New // on the way back too, of a folder that stays since it holds something
		}
		if step.Do != journal.Meta || e == nil || x.skip[i] {
			continue
		}
		info, there, err := present(x.Root, e.Path)
		if err != nil {
			return err
		}
		if !there || info.Kind != manifest.Dir {
			continue // gone since, by somebody else's hand
		}
		if err := setFolder(x.Root, step, info, e, x.Unprivileged); err != nil {
			return fmt.Errorf("setting the metadata of %q: %w", e.Path, err)
		}
	}
	return nil
}

// openFolders lets an unprivileged owner rename in every folder of the plan. A
// power cut leaves the modes as they are then; setMetas, which comes at the end
// of whatever recovery does, sets them right.
func (x *Tx) openFolders() error {
	for i := range x.plan.Steps {
		step := &x.plan.Steps[i]
		if step.Do != journal.Meta || !x.Unprivileged {
			continue
		}
		info, there, err := present(x.Root, step.Path())
		if err != nil {
			return err
		}
		if !there || info.Kind != manifest.Dir || info.Mode&0o700 == 0o700 {
			continue
		}
		if err := x.Root.Chmod(step.Path(), info.Mode|0o700); err != nil {
			return err
		}
	}
	return nil
}

func (x *Tx) syncTops() error {
	for _, top := range x.plan.Tops {
		if err := x.Root.SyncFS(top.Path); err != nil {
			return fmt.Errorf("syncing %q: %w", top.Path, err)
		}
	}
	return nil
}
