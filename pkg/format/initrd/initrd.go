// Package initrd lists what an initramfs holds: one or more cpio archives of the
// "newc" format, each as it is or compressed, with zeros between them
// (Documentation/driver-api/early-userspace/buffer-format.rst of Linux).
package initrd

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// ErrCompression tells of an archive whose compression is not known here: xz,
// lzma, lzo and lz4 are not.
var ErrCompression = errors.New("unknown compression")

const (
	headerSize = 110
	maxName    = 4096
	maxWindow  = 128 << 20 // of zstd, bytes
	// maxSize bounds what is unpacked.
	maxSize = 4 << 30
)

// List calls visit for each name until it answers false. Archives that a later
// one of the same initramfs would overlay are listed too.
func List(r io.Reader, visit func(name string) bool) error {
	b := bufio.NewReaderSize(r, 64<<10)
	for {
		if err := skipZeros(b); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		head, err := b.Peek(6)
		if err != nil && err != io.EOF {
			return err
		}
		if bytes.HasPrefix(head, []byte("07070")) {
			more, err := archive(b, visit)
			if err != nil || !more {
				return err
			}
			continue
		}
		more, err := packed(b, head, visit)
		if err != nil || !more {
			return err
		}
	}
}

func skipZeros(b *bufio.Reader) error {
	for {
		c, err := b.ReadByte()
		if err != nil {
			return err
		}
		if c != 0 {
			return b.UnreadByte()
		}
	}
}

// packed reads a compressed segment. gzip tells its end to the byte; what follows
// the other kinds is not looked at.
func packed(b *bufio.Reader, head []byte, visit func(string) bool) (more bool, err error) {
	var r io.Reader
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		g, err := gzip.NewReader(b)
		if err != nil {
			return false, fmt.Errorf("reading initrd: %w", err)
		}
		g.Multistream(false)
		if more, err = segment(g, visit); err == nil && more {
			_, err = io.Copy(io.Discard, g)
		}
		return more, err
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return false, fmt.Errorf("reading initrd: %w", err)
		}
		defer z.Close()
		r = z
	case bytes.HasPrefix(head, []byte("BZh")):
		r = bzip2.NewReader(b)
	default:
		return false, fmt.Errorf("reading initrd: it begins with %x: %w", head, ErrCompression)
	}
	_, err = segment(r, visit)
	return false, err
}

// segment reads the archives that a compressed segment holds.
func segment(r io.Reader, visit func(string) bool) (more bool, err error) {
	b := bufio.NewReaderSize(io.LimitReader(r, maxSize), 64<<10)
	for {
		if err := skipZeros(b); err == io.EOF {
			return true, nil
		} else if err != nil {
			return false, fmt.Errorf("reading initrd: %w", err)
		}
		if more, err := archive(b, visit); err != nil || !more {
			return false, err
		}
	}
}

// archive reads one cpio archive, up to its trailer.
func archive(b *bufio.Reader, visit func(string) bool) (more bool, err error) {
	head := make([]byte, headerSize)
	for off := int64(0); ; {
		if _, err := io.ReadFull(b, head); err != nil {
			return false, fmt.Errorf("reading initrd: %w", err)
		}
		if string(head[:6]) != "070701" && string(head[:6]) != "070702" {
			return false, fmt.Errorf("reading initrd: got %q, want a cpio header", head[:6])
		}
		size, err1 := strconv.ParseUint(string(head[54:62]), 16, 32)
		length, err2 := strconv.ParseUint(string(head[94:102]), 16, 32)
		if err := errors.Join(err1, err2); err != nil {
			return false, fmt.Errorf("reading initrd: %w", err)
		}
		if length < 1 || length > maxName {
			return false, fmt.Errorf("reading initrd: a name of %d bytes", length)
		}
		name := make([]byte, length)
		if _, err := io.ReadFull(b, name); err != nil {
			return false, fmt.Errorf("reading initrd: %w", err)
		}
		name = bytes.TrimRight(name, "\x00")
		off += headerSize + int64(length)
		skip := -off&3 + int64(size)
		skip += -(off + skip) & 3
		trailer := string(name) == "TRAILER!!!"
		if !trailer && !visit(string(name)) {
			return false, nil
		}
		if n, err := io.CopyN(io.Discard, b, skip); err != nil && (err != io.EOF || !trailer) {
			return false, fmt.Errorf("reading initrd: after %d of %d bytes: %w", n, skip, err)
		}
		off += skip
		if trailer {
			return true, nil
		}
	}
}
