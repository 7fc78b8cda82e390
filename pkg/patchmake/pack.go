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
	holes  []int64 // of each piece, the bytes that are long runs of zeros
	err    error
}

// bench is what a worker works with, kept from segment to segment.
type bench struct {
	encoder         *delta.Encoder
	target, sources []byte
}

// pack adds all segments to the payload. What comes out does not depend on the
// number of workers.
func (p *packer) pack(ctx context.Context, l *layout, payload *patch.Payload) error {
	ctx, cancel := context.WithCancel(ctx)
	workers := max(1, min(p.jobs, len(l.segments)))
	// A worker takes a bench, and with it the right to hold a segment in memory.
	benches := make(chan *bench, workers)
	for range workers {
		e, err := delta.NewEncoder(p.level)
		if err != nil {
			cancel()
			return err
		}
		benches <- &bench{encoder: e}
	}
	defer func() {
		cancel()
		for range workers {
			(<-benches).encoder.Close()
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
			case b := <-benches:
				go func() {
					r := p.segment(ctx, b, s)
					benches <- b
					out <- r
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
		for i := range s.pieces {
			s.pieces[i].holes += r.holes[i]
		}
		p.done(s.output)
		n++
	}
	return context.Cause(ctx)
}

// segment reads and packs one segment.
func (p *packer) segment(ctx context.Context, b *bench, s *segment) (r result) {
	b.target = resize(b.target, s.output)
	at := int64(0)
	for _, piece := range s.pieces {
		if err := context.Cause(ctx); err != nil {
			return result{err: err}
		}
		part := b.target[at : at+piece.size]
		if r.err = p.readTarget(piece, part); r.err != nil {
			return r
		}
		r.holes = append(r.holes, longZeros(piece.from, part))
		at += piece.size
	}
	var sources []delta.Source
	if n, zero := fsys.ZeroRun(0, b.target); !zero || n < len(b.target) { // zeros need no old file
		sources, r.err = p.readSources(ctx, b, s)
	}
	if r.err == nil {
		r.packed = b.encoder.Encode(b.target, sources)
	}
	return r
}

// resize is b with n bytes of any value.
func resize(b []byte, n int64) []byte {
	if int64(cap(b)) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// longZeros counts the bytes of b that staging makes holes of, whatever stands
// before and behind them; at is where b begins in its file.
func longZeros(at int64, b []byte) (sum int64) {
	if part := at % fsys.ZeroBlock; part > 0 { // what is before it may be data
		b = b[min(fsys.ZeroBlock-part, int64(len(b))):]
	}
	b = b[:len(b)-len(b)%fsys.ZeroBlock]
	for len(b) > 0 {
		n, zero := fsys.ZeroRun(0, b)
		if zero && n >= fsys.MinHole {
			sum += int64(n)
		}
		b = b[n:]
	}
	return sum
}

// readTarget fills b with a piece of a new file.
func (p *packer) readTarget(piece piece, b []byte) error {
	return withFile(p.new, piece.path, piece.from+piece.size, func(f fsys.File) error {
		done := int64(0)
		for done < piece.size {
			from, to := dataIn(f, piece.from+done, piece.from+piece.size)
			clear(b[done : from-piece.from])
			done = to - piece.from
			if err := readFull(f, piece.path, b[from-piece.from:done], from); err != nil {
				return err
			}
		}
		return nil
	})
}

// readSources reads what a segment is compared with, without the holes.
func (p *packer) readSources(ctx context.Context, b *bench, s *segment) (sources []delta.Source, err error) {
	b.sources = resize(b.sources, s.held)
	room := b.sources
	for _, st := range s.sources {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		err := withFile(p.old, st.Path, st.from+st.size, func(f fsys.File) error {
			for at := st.from; at < st.from+st.size; {
				from, to := dataIn(f, at, st.from+st.size)
				data := room[:to-from]
				if err := readFull(f, st.Path, data, from); err != nil {
					return err
				}
				if len(data) > 0 {
					sources = append(sources, delta.Source{Ordinal: st.ordinal, Offset: from, Data: data})
				}
				room, at = room[len(data):], to
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return sources, nil
}

// dataIn is the first stretch of data of f between at and end; before it is a
// hole. Both are end where nothing else follows.
func dataIn(f fsys.File, at, end int64) (from, to int64) {
	from, to = fsys.NextData(f, at)
	return min(from, end), min(to, end)
}

// withFile runs do on a file that was captured before and has at least size bytes.
func withFile(root fsys.FS, path string, size int64, do func(fsys.File) error) error {
	f, err := root.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size < size {
		return changed(path)
	}
	return do(f)
}

func changed(path string) error {
	return failure.Errorf(failure.Refused, "%q changed while it was read", path)
}

// readFull fills b from an offset of a file.
func readFull(f fsys.File, path string, b []byte, from int64) error {
	n, err := f.ReadAt(b, from)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		return changed(path)
	}
	return fmt.Errorf("reading %q: %w", path, err)
}
