package update

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Waits tells whether a boot has anything to do about a machine's transactions:
// one was cut off, or waits for the boot or for its confirmation. It locks and
// writes nothing, so the root may be read-only.
func Waits(o Options) (bool, error) {
	path := o.State
	if path == "" {
		path = filepath.Join(o.Root, DefaultState)
	}
	f, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	all, err := state.New(f).Transactions()
	return slices.ContainsFunc(all, func(t *state.Transaction) bool { return !t.Closed() }), err
}
