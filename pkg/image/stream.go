package image

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/archive"
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
			if g.notOfStream(path) {
				continue
			}
			if m.LinkTo != "" && g.notOfStream(m.LinkTo) {
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

// notOfStream tells whether a member of a stream is left out.
func (g *get) notOfStream(path string) bool {
	return g.leftOut(path) || path == tree.DefaultState || strings.HasPrefix(path, tree.DefaultState+"/")
}
