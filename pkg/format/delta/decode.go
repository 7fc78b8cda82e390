// Package delta packs the content of files, as a whole or as its difference
// from files that are already there.
//
// Content is packed in independent segments. Decode reads the old files by
// offset and writes the new bytes forward only: its memory is a zstd window and
// a buffer, whatever the sizes of the files.
package delta

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"

	"github.com/relkit/relkit/pkg/failure"
)

// MaxWindow is the largest zstd window a segment uses, in bytes.
const MaxWindow = 16 << 20

// Bases finds an old file by its ordinal, with its size. It is asked for every
// copy, and what it answers is used only until it is asked again: so it may
// keep as few files open as it likes.
type Bases func(ordinal int) (io.ReaderAt, int64, error)

// Decoder unpacks segments, one after the other, and keeps its memory from one
// to the next. The zero Decoder is ready.
type Decoder struct {
	zstd *zstd.Decoder
	in   *bufio.Reader
	buf  []byte
}

// Close frees what the decoder holds.
func (d *Decoder) Close() {
	if d.zstd != nil {
		d.zstd.Close()
	}
}

// Decode unpacks a segment to w. It writes exactly output bytes or fails; a
// hostile segment or base costs no more than output bytes of work. What is
// wrong with the segment is of the kind failure.Untrusted; what fails about w
// or a base stays as it is.
func (d *Decoder) Decode(method int, segment []byte, output int64, bases Bases, w io.Writer) error {
	switch method {
	case Raw:
		if int64(len(segment)) != output {
			return bad("%d raw bytes, want %d", len(segment), output)
		}
		_, err := w.Write(segment)
		return err
	case Zstd, Block:
		if err := d.open(segment); err != nil {
			return bad("%w", err)
		}
		b := blockDecoder{in: d.in, w: w, left: output, bases: bases, buf: d.buf}
		run := b.run
		if method == Zstd {
			run = func() error { return b.add(output) }
		}
		if err := run(); err != nil {
			return err
		}
		return b.ended(output)
	}
	return bad("unknown method %d", method)
}

// open starts on a packed segment.
func (d *Decoder) open(segment []byte) (err error) {
	if d.zstd != nil {
		err = d.zstd.Reset(bytes.NewReader(segment))
	} else {
		d.zstd, err = zstd.NewReader(bytes.NewReader(segment), zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(MaxWindow))
		d.in, d.buf = bufio.NewReaderSize(nil, 64<<10), make([]byte, 64<<10)
	}
	if err == nil {
		d.in.Reset(d.zstd)
	}
	return err
}

// bad is an error about the segment itself.
func bad(format string, args ...any) error {
	return failure.Errorf(failure.Untrusted, format, args...)
}

// blockDecoder follows the instructions of method Block:
//
//	uvarint n<<1    then n bytes: they are the output
//	uvarint n<<1|1  uvarint ordinal  varint move: n bytes of a base, from
//	                where the last copy of that base ended plus move
//
// until the output is complete. n is never 0.
type blockDecoder struct {
	in    *bufio.Reader
	w     io.Writer
	left  int64
	bases Bases
	ends  map[int]int64 // where the last copy of each base ended
	buf   []byte
}

func (d *blockDecoder) run() error {
	d.ends = map[int]int64{}
	for d.left > 0 {
		op, err := d.uvarint()
		if err != nil {
			return err
		}
		n := int64(op >> 1)
		if n <= 0 || n > d.left {
			return bad("bad length %d: %d bytes of output are left", n, d.left)
		}
		if op&1 == 0 {
			err = d.add(n)
		} else {
			err = d.copy(n)
		}
		if err != nil {
			return err
		}
		d.left -= n
	}
	return nil
}

// ended holds that nothing follows what made n bytes.
func (d *blockDecoder) ended(n int64) error {
	switch _, err := d.in.ReadByte(); err {
	case io.EOF:
		return nil
	case nil:
		return bad("more than %d bytes of output", n)
	default:
		return bad("%w", err)
	}
}

// add passes on n bytes that stand in the segment.
func (d *blockDecoder) add(n int64) error {
	for n > 0 {
		b := d.buf[:min(n, int64(len(d.buf)))]
		if _, err := io.ReadFull(d.in, b); err != nil {
			return truncated(err)
		}
		if _, err := d.w.Write(b); err != nil {
			return err
		}
		n -= int64(len(b))
	}
	return nil
}

// copy passes on n bytes of a base.
func (d *blockDecoder) copy(n int64) error {
	ordinal, err := d.uvarint()
	if err != nil {
		return err
	}
	move, err := binary.ReadVarint(d.in)
	if err != nil {
		return truncated(err)
	}
	if ordinal > math.MaxInt32 {
		return bad("base %d: no such number", ordinal)
	}
	number := int(ordinal)
	from, size, err := d.bases(number)
	if err != nil {
		return fmt.Errorf("base %d: %w", number, err)
	}
	off := d.ends[number] + move
	if off < 0 || off > size-n {
		return bad("base %d: bytes %d to %d of a file of %d", number, off, off+n, size)
	}
	d.ends[number] = off + n
	for n > 0 {
		b := d.buf[:min(n, int64(len(d.buf)))]
		if got, err := from.ReadAt(b, off); got < len(b) {
			return fmt.Errorf("base %d: reading at %d: %w", number, off, err)
		}
		if _, err := d.w.Write(b); err != nil {
			return err
		}
		n -= int64(len(b))
		off += int64(len(b))
	}
	return nil
}

func (d *blockDecoder) uvarint() (uint64, error) {
	n, err := binary.ReadUvarint(d.in)
	if err != nil {
		return 0, truncated(err)
	}
	return n, nil
}

// truncated calls an early end what it is.
func truncated(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return bad("the segment ends early")
	}
	return bad("%w", err)
}
