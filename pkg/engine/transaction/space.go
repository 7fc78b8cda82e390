package transaction

import (
	"math"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// FreeAfter is how many bytes will be free on the file system of path once the
// plan is carried out: what is replaced is kept, so what is staged is what it
// takes; what can be spared goes once it stands. A path that does not exist is
// where the nearest folder above it is.
func (s *Survey) FreeAfter(path string) (int64, error) {
	at := path
	for {
		info, err := s.root.Lstat(at)
		if err == nil && info.Kind == manifest.Dir {
			break
		}
		if err != nil && !fsys.IsUnreachable(err) {
			return 0, err
		}
		at = manifest.Parent(at)
	}
	space, err := s.root.Space(at)
	if err != nil {
		return 0, err
	}
	free := int64(min(space.FreeBytes, math.MaxInt64))
	info, err := s.root.Lstat(at)
	if err != nil {
		return 0, err
	}
	for top, spare := range s.o.Spare {
		if t, there, err := present(s.root, top); err != nil {
			return 0, err
		} else if there && t.Dev == info.Dev {
			free += int64(spare.Bytes)
		}
	}
	for i, top := range s.tops.paths {
		t, err := s.root.Lstat(top)
		if err != nil {
			return 0, err
		}
		if t.Dev == info.Dev {
			free -= s.StageBytes[i]
		}
	}
	return free, nil
}
