package archive

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Bounds of what Unpack spends on a stream from outside: the window of
// `zstd --long=27` and ordinary levels, and the decoder's memory for it.
const (
	maxWindow = 128 << 20
	maxMemory = 256 << 20
)

// What Pack spends. A block coded beside others is four windows long, and with
// what it is coded into and the tables takes some twenty: 8 MiB windows, the
// level's own, take 150 MB a processor and pack an operating system 1.3 % smaller.
const (
	packWindow = 1 << 20
	maxPackers = 4
)

// Pack compresses what is written to it onto w, as one zstd frame with a
// checksum. jobs is how many blocks are coded at once, up to four: that is more
// than a disk reads. Close ends the frame; w stays open.
func Pack(w io.Writer, jobs int) (io.WriteCloser, error) {
	jobs = min(max(jobs, 1), maxPackers)
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(packWindow),
		zstd.WithEncoderConcurrency(jobs), zstd.WithConcurrentBlocks(jobs > 1), zstd.WithEncoderCRC(true))
}

// Unpack reads a stream that is packed by zstd or gzip, or not at all: its
// first bytes tell. The memory it takes is bounded.
func Unpack(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 256<<10)
	magic, err := b.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(b, zstd.WithDecoderMaxMemory(maxMemory), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return named{d.IOReadCloser(), "zstd"}, nil
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		d, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return named{d, "gzip"}, nil
	}
	return io.NopCloser(b), nil
}

// ErrChecksum is what packed data that do not fit their checksum answer.
var ErrChecksum = errors.New("checksum does not match")

// named puts the packing's name before its errors.
type named struct {
	io.ReadCloser
	name string
}

func (n named) Read(b []byte) (int, error) {
	k, err := n.ReadCloser.Read(b)
	switch {
	case errors.Is(err, zstd.ErrCRCMismatch) || errors.Is(err, gzip.ErrChecksum):
		err = fmt.Errorf("%s: %w", n.name, ErrChecksum)
	case err != nil && err != io.EOF:
		err = fmt.Errorf("%s: %w", n.name, err)
	}
	return k, err
}
