package image

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"io"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// mergeBuffer is what is read of each run at a time.
const mergeBuffer = 32 << 10

// noted is a record of a spool that was read.
type noted struct {
	path  string
	flags byte
	lines []byte
	size  int64 // of the whole record, in bytes
}

// readNoted reads the next record; io.EOF at the end.
func readNoted(r *bufio.Reader) (n noted, err error) {
	body, err := binary.ReadUvarint(r)
	if err != nil {
		return n, err
	}
	b := make([]byte, body)
	if _, err := io.ReadFull(r, b); err != nil {
		return n, err
	}
	length, k := binary.Uvarint(b)
	if k <= 0 || length >= body-uint64(k) {
		return n, errors.New("a record that does not fit")
	}
	rest := b[k:]
	n.path, n.flags, n.lines = string(rest[:length]), rest[length], rest[length+1:]
	n.size = int64(uvarintSize(int(body))) + int64(body)
	return n, nil
}

// merge reads sorted runs as one.
type merge struct{ runs runs }

// run is a run and the record it is at.
type run struct {
	r    *bufio.Reader
	nth  int
	head noted
}

// runs is a heap: the smallest path first and, of one path, the run written first.
type runs []*run

func (h runs) Len() int      { return len(h) }
func (h runs) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *runs) Push(x any)   { *h = append(*h, x.(*run)) }
func (h *runs) Pop() any     { last := (*h)[len(*h)-1]; *h = (*h)[:len(*h)-1]; return last }

func (h runs) Less(i, j int) bool {
	if c := manifest.Compare(h[i].head.path, h[j].head.path); c != 0 {
		return c < 0
	}
	return h[i].nth < h[j].nth
}

// newMerge reads the runs of f, one ending where the next begins.
func newMerge(f io.ReaderAt, ends []int64) (*merge, error) {
	m := &merge{}
	start := int64(0)
	for i, end := range ends {
		one := &run{nth: i, r: bufio.NewReaderSize(io.NewSectionReader(f, start, end-start), mergeBuffer)}
		start = end
		var err error
		switch one.head, err = readNoted(one.r); {
		case err == nil:
			m.runs = append(m.runs, one)
		case err != io.EOF:
			return nil, err
		}
	}
	heap.Init(&m.runs)
	return m, nil
}

// next is the next record, the last one of its path; io.EOF at the end.
func (m *merge) next() (noted, error) {
	for {
		if len(m.runs) == 0 {
			return noted{}, io.EOF
		}
		n := m.runs[0].head
		if err := m.step(); err != nil {
			return n, err
		}
		if len(m.runs) == 0 || m.runs[0].head.path != n.path {
			return n, nil
		}
	}
}

// step goes on in the first run.
func (m *merge) step() (err error) {
	first := m.runs[0]
	switch first.head, err = readNoted(first.r); {
	case err == io.EOF:
		heap.Pop(&m.runs)
		return nil
	case err == nil:
		heap.Fix(&m.runs, 0)
	}
	return err
}
