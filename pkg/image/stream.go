package image

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/archive"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// interruptible is r until ctx is over, and then ctx's cause: a pipe that says
// nothing would hold up the end of the run. stop lets go of r, but for a read
// that is under way.
func interruptible(ctx context.Context, r io.Reader) (_ io.Reader, stop func()) {
	out, in := io.Pipe()
	forget := context.AfterFunc(ctx, func() { in.CloseWithError(context.Cause(ctx)) })
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{in}, struct{ io.Reader }{r}, make([]byte, 256<<10))
		in.CloseWithError(err) // nil: io.EOF
	}()
	return out, func() {
		forget()
		out.Close()
	}
}

// items is an archive's members as what is to be restored, without what is left
// out. The content of a hard-linked file is with its first name: where that one
// is left out and another is not, there is nothing to restore it from. A file
// larger than free, in bytes, is refused: holes would let any size fit.
func (g *get) items(members archive.Members, free int64) tree.Items {
	return func(yield func(*tree.Item, error) bool) {
		dropped := map[string]bool{}
		for {
			m, err := members.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf("reading the stream: %w", err))
				return
			}
			path := m.Entry.Path
			if g.leftOut(path) || path == tree.DefaultState || strings.HasPrefix(path, tree.DefaultState+"/") {
				dropped[path] = true
				continue
			}
			if dropped[m.LinkTo] {
				yield(nil, failure.Errorf(failure.Refused, "%q is left out, but %q is a hard link to it", m.LinkTo, path))
				return
			}
			if m.Entry.Size > free {
				yield(nil, failure.WithHint(failure.Errorf(failure.Refused, "%q is %d bytes long, and the store has %d free", path, m.Entry.Size, free),
					"--exclude %q leaves it out", path))
				return
			}
			it := &tree.Item{Entry: &m.Entry, LinkTo: m.LinkTo}
			if m.Content != nil {
				it.Content = func() (io.ReadCloser, error) { return io.NopCloser(m.Content), nil }
			}
			if !yield(it, nil) {
				return
			}
		}
	}
}

// names collects the entries of a tree that is being written in any order.
type names struct {
	all []manifest.Entry
	// first[i] is the path whose inode all[i] is: its own, or an earlier one's.
	first []string
	at    map[string]int
}

func (n *names) add(it *tree.Item) error {
	if n.at == nil {
		n.at = map[string]int{}
	}
	e, first := *it.Entry, it.Path
	e.Link = 0
	if it.LinkTo != "" {
		i, ok := n.at[it.LinkTo]
		if !ok {
			return fmt.Errorf("%q is a hard link to %q, which is not in the tree", it.Path, it.LinkTo)
		}
		e, first = n.all[i], n.first[i]
		e.Path = it.Path
	}
	if i, again := n.at[e.Path]; again { // a folder that an archive names twice
		n.all[i] = e
		return nil
	}
	n.at[e.Path] = len(n.all)
	n.all = append(n.all, e)
	n.first = append(n.first, first)
	return nil
}

// entries are all of them in canonical order, hard-link groups numbered.
func (n *names) entries() []manifest.Entry {
	sizes := map[string]int{}
	for _, f := range n.first {
		sizes[f]++
	}
	order := make([]int, len(n.all))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return manifest.Compare(n.all[a].Path, n.all[b].Path) })
	ordinals := map[string]int{}
	sorted := make([]manifest.Entry, 0, len(n.all))
	for _, i := range order {
		e := n.all[i]
		if f := n.first[i]; sizes[f] > 1 {
			if ordinals[f] == 0 {
				ordinals[f] = len(ordinals) + 1
			}
			e.Link = ordinals[f]
		}
		sorted = append(sorted, e)
	}
	return sorted
}
