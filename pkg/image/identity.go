package image

import (
	"bytes"
	"io"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/identity"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// identity takes the machine's identity out of what is restored, where that was
// asked for. Folders stay.
func (g *get) identity(items tree.Items) tree.Items {
	if !g.opts.ResetIdentity {
		return items
	}
	emptied, dropped := identity.Emptied(), identity.Dropped()
	return func(yield func(*tree.Item, error) bool) {
		for it, err := range items {
			if err == nil && it.Kind != manifest.Dir {
				switch {
				case dropped.Match(it.Path):
					g.rec.Reset = append(g.rec.Reset, manifest.Escape(it.Path))
					continue
				case emptied.Match(it.Path) && it.Kind != manifest.Symlink:
					g.rec.Reset = append(g.rec.Reset, manifest.Escape(it.Path))
					it = empty(it)
				}
			}
			if !yield(it, err) {
				return
			}
		}
	}
}

// empty is the item without its content, a file of its own.
func empty(it *tree.Item) *tree.Item {
	e := *it.Entry
	e.Kind, e.Size, e.Digest, e.Link = manifest.File, 0, digest.Of(nil), 0
	return &tree.Item{Entry: &e, Content: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(nil)), nil }}
}
