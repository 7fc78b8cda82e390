package fsys

import (
	"io"
	"math"

	"golang.org/x/sys/unix"
)

// sparseFrom is the least size of a file that is asked for its holes.
const sparseFrom = 1 << 20

// sparse tells whether a file may have holes that are worth asking for: it takes
// less room on the disk than its size.
func sparse(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size >= sparseFrom && st.Blocks*512 < st.Size
}

// holes reads a file whose holes are answered as zeros without the kernel
// filling its cache with them (lseek(2), SEEK_DATA). Where the file system
// knows of none, all is data.
type holes struct {
	fd int
	at int64
	// The data found last is from data to end; before it, from at on, is a hole.
	data, end int64
}

func (h *holes) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if h.at >= h.end {
		if err := h.seek(); err != nil {
			return 0, err
		}
	}
	if h.at < h.data {
		n := int(min(int64(len(b)), h.data-h.at))
		clear(b[:n])
		h.at += int64(n)
		return n, nil
	}
	if left := h.end - h.at; int64(len(b)) > left {
		b = b[:left]
	}
	n, err := retry(func() (int, error) { return unix.Pread(h.fd, b, h.at) })
	if err == nil && n == 0 {
		err = io.EOF
	}
	h.at += int64(max(n, 0))
	return max(n, 0), err
}

// seek finds the next data; io.EOF at the end of the file.
func (h *holes) seek() error {
	h.data, h.end = nextData(h.fd, h.at)
	if h.data < math.MaxInt64 {
		return nil
	}
	size, err := unix.Seek(h.fd, 0, io.SeekEnd) // a hole up to the end, or the end
	if err == nil && size <= h.at {
		err = io.EOF
	}
	h.data, h.end = size, size
	return err
}

// nextData is NextData of a descriptor, whose place it moves.
func nextData(fd int, off int64) (from, to int64) {
	from, err := unix.Seek(fd, off, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return math.MaxInt64, math.MaxInt64
	}
	if err != nil {
		return off, math.MaxInt64
	}
	to, err = unix.Seek(fd, from, unix.SEEK_HOLE)
	if err != nil || to <= from {
		to = math.MaxInt64
	}
	return from, to
}
