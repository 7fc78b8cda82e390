// Package compare finds where two files that should be one and the same begin to
// differ, and what stands there: the section of a program, the member of an archive.
package compare

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

// Difference is where two files first differ.
type Difference struct {
	// Offset is that of the first byte that differs; where one file is the
	// beginning of the other, that one's size.
	Offset int64
	// Inside says what stands there: `section ".rodata"`, `member "x": time`; ""
	// where the format is not known.
	Inside string
	// First and Second are what stands there, fit to print; at most maxShown characters.
	First, Second string
}

const (
	// maxShown bounds what is shown of a file, in characters.
	maxShown = 48
	// before is how much of that stands before the first byte that differs.
	before = 12
	// maxDepth is how many archives within each other are looked into.
	maxDepth = 4
	// maxLooked bounds what is unpacked of an archive, in bytes.
	maxLooked = 4 << 30
)

// File is a file of a known size.
type File struct {
	io.ReaderAt
	Size int64
}

func (f File) reader() *io.SectionReader { return io.NewSectionReader(f, 0, f.Size) }

// Files compares two files; nil where they are equal.
func Files(a, b File) (*Difference, error) { return files(a, b, 0) }

func files(a, b File, depth int) (*Difference, error) {
	p, err := firstDifference(a.reader(), b.reader())
	if err != nil || p == nil {
		return nil, err
	}
	d := &Difference{Offset: p.at, First: p.first, Second: p.second}
	if depth < maxDepth {
		if in := inside(a, b, p, depth); in.what != "" {
			d.Inside = in.what
			if in.first != "" || in.second != "" { // it says more than what is packed
				d.First, d.Second = in.first, in.second
			}
		}
	}
	return d, nil
}

// place is where two streams begin to differ, and what stands there.
type place struct {
	at            int64
	first, second string
}

// firstDifference is the place of the first byte that differs; nil for none.
func firstDifference(a, b io.Reader) (*place, error) {
	ra, rb := bufio.NewReaderSize(a, 64<<10), bufio.NewReaderSize(b, 64<<10)
	for at := int64(0); ; {
		pa, erra := ra.Peek(32 << 10)
		pb, errb := rb.Peek(32 << 10)
		for _, err := range []error{erra, errb} {
			if err != nil && err != io.EOF {
				return nil, err
			}
		}
		n := min(len(pa), len(pb))
		i := 0
		for i < n && pa[i] == pb[i] {
			i++
		}
		if i < n || n < max(len(pa), len(pb)) {
			return &place{at + int64(i), shown(pa, i), shown(pb, i)}, nil
		}
		if n == 0 {
			return nil, nil
		}
		at += int64(n)
		if err := errors.Join(discard(ra, n), discard(rb, n)); err != nil {
			return nil, err
		}
	}
}

func discard(r *bufio.Reader, n int) error {
	_, err := r.Discard(n)
	return err
}

// shown is what stands around a place, as text.
func shown(b []byte, at int) string {
	from := max(0, at-before)
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '.'
		}
		return r
	}, latin1(b[from:min(len(b), from+maxShown)]))
}

// latin1 makes a rune of each byte.
func latin1(b []byte) string {
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	return string(runes)
}
