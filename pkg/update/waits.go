package update

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Waits tells whether a boot has anything to do about a machine's transactions:
// one was cut off, or waits for the boot or for its confirmation; and the top
// folders, below the root, of the file systems that those are about. It locks and
// writes nothing, so the root may be read-only.
func Waits(o Options) (waits bool, tops []string, err error) {
	path := o.State
	if path == "" {
		path = filepath.Join(o.Root, DefaultState)
	}
	f, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	defer f.Close()
	all, err := state.New(f).Transactions()
	for _, t := range all {
		if t.Closed() {
			continue
		}
		waits = true
		if len(t.Records) == 0 {
			continue
		}
		for _, top := range t.Records[0].Tops {
			place, err := manifest.Unescape(top.Path)
			if err != nil {
				return waits, nil, err
			}
			if !slices.Contains(tops, place) && place != "." {
				tops = append(tops, place)
			}
		}
	}
	return waits, tops, err
}
