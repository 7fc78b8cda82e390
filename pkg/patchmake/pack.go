package patchmake

import (
	"context"
	"fmt"
	"io"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/delta"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// packer packs the segments of a layout, several at once and in their order.
type packer struct {
	old, new fsys.FS
	level    delta.Level
	jobs     int
	done     func(n int64) // hears of output bytes that are packed
}

// result is a segment on its way from its worker.
type result struct {
	packed delta.Packed
	err    error
}

// pack adds all segments to the payload. What comes out does not depend on the
// number of workers.
func (p *packer) pack(ctx context.Context, l *layout, payload *patch.Payload) error {
	ctx, cancel := context.WithCancel(ctx)
	workers := max(1, min(p.jobs, len(l.segments)))
	// A worker takes an encoder, and with it the right to hold a segment in memory.
	encoders := make(chan *delta.Encoder, workers)
	for range workers {
		e, err := delta.NewEncoder(p.level)
		if err != nil {
			cancel()
			return err
		}
		encoders <- e
	}
	defer func() {
		cancel()
		for range workers {
			(<-encoders).Close()
		}
	}()
	// The queue bounds how far workers may be ahead of what is written.
	queue := make(chan chan result, workers)
	go func() {
		defer close(queue)
		for _, s := range l.segments {
			out := make(chan result, 1)
			select {
			case queue <- out:
			case <-ctx.Done():
				return
			}
			select {
			case e := <-encoders:
				go func() {
					packed, err := p.segment(ctx, e, s)
					encoders <- e
					out <- result{packed, err}
				}()
			case <-ctx.Done():
				out <- result{err: context.Cause(ctx)}
				return
			}
		}
	}()
	n := 0
	for out := range queue {
		r := <-out
		if r.err != nil {
			return r.err
		}
		s := l.segments[n]
		if err := payload.Add(r.packed.Method, r.packed.Body, s.output); err != nil {
			return err
		}
		for _, ordinal := range r.packed.Used {
			l.wanted[ordinal] = true
		}
		p.done(s.output)
		n++
	}
	return context.Cause(ctx)
}

// segment reads and packs one segment.
func (p *packer) segment(ctx context.Context, e *delta.Encoder, s *segment) (delta.Packed, error) {
	target := make([]byte, s.output)
	at := int64(0)
	for _, piece := range s.pieces {
		if err := ctx.Err(); err != nil {
			return delta.Packed{}, context.Cause(ctx)
		}
		if err := readStretch(p.new, piece.path, piece.from, target[at:at+piece.size]); err != nil {
			return delta.Packed{}, err
		}
		at += piece.size
	}
	sources := make([]delta.Source, len(s.sources))
	for i, st := range s.sources {
		if err := ctx.Err(); err != nil {
			return delta.Packed{}, context.Cause(ctx)
		}
		data := make([]byte, st.size)
		if err := readStretch(p.old, st.Path, st.from, data); err != nil {
			return delta.Packed{}, err
		}
		sources[i] = delta.Source{Ordinal: st.ordinal, Offset: st.from, Data: data}
	}
	return e.Encode(target, sources), nil
}

// readStretch fills b from an offset of a file that was captured before.
func readStretch(root fsys.FS, path string, from int64, b []byte) error {
	f, err := root.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := f.ReadAt(b, from)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		return failure.Errorf(failure.Refused, "%q changed while it was read", path)
	}
	return fmt.Errorf("reading %q: %w", path, err)
}
