package transaction

import (
	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
)

// Waiting tells what a change that waits for the boot will make of the regular
// files whose paths are wanted: staged are the names, below the root, at which
// the content of those to come lies now, by path; gone are paths that will not be
// there. The change is the commit of j, or its rollback where it is committed.
// It decides nothing: what is there is verified when the change is made.
func Waiting(t Target, j *state.Transaction, want func(path string) bool) (staged map[string]string, gone []string, err error) {
	x := &Tx{Target: t, Journal: j}
	if err := x.readPlan(); err != nil {
		return nil, nil, err
	}
	back := j.This(journal.Committed) != nil
	staged = map[string]string{}
	for i := range x.plan.Steps {
		step := &x.plan.Steps[i]
		if step.Do == journal.Meta || !want(step.Path()) {
			continue
		}
		coming := step.New
		if back {
			coming = step.Old
		}
		if coming == nil || coming.Kind != manifest.File {
			gone = append(gone, step.Path())
			continue
		}
		slot := x.slot(i)
		if back && step.Do == journal.Swap {
			if _, hasOld, err := present(x.Root, slot+oldSuffix); err != nil {
				return nil, nil, err
			} else if hasOld {
				slot += oldSuffix
			}
		}
		staged[step.Path()] = slot
	}
	return staged, gone, nil
}
