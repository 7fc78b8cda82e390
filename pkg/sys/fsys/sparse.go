package fsys

import (
	"bytes"
	"errors"
	"math"
)

const (
	// ZeroBlock is what is looked at at a time: a page, and the block of most file systems.
	ZeroBlock = 4 << 10
	// MinHole is the shortest run of zeros that SparseWriter leaves out, in bytes.
	// A hole costs some calls and an extent more; few files have any this long.
	MinHole = 64 << 10
)

var zeros [MinHole]byte

// ZeroRun is how many bytes b begins with that are zeros, or that are not, seen
// in blocks of 4 KiB of the file; at is where b begins in it.
func ZeroRun(at int64, b []byte) (n int, zero bool) {
	for n < len(b) {
		k := int(min(ZeroBlock-(at+int64(n))%ZeroBlock, int64(len(b)-n)))
		z := bytes.Equal(b[n:n+k], zeros[:k])
		if n > 0 && z != zero {
			break
		}
		zero = z
		n += k
	}
	return n, zero
}

// SparseWriter writes a new file and leaves out runs of at least MinHole zeros,
// from block to block: there the file gets holes, which read as zeros and take
// no room, as of cp --sparse=always. What the zeros were before, blocks or a
// hole, is not known of a patch or an archive; nobody who reads can tell.
//
// One kind of file must not have holes, a swap area (swapon(8)): its zeros are
// written.
type SparseWriter struct {
	fs   FS
	name string
	w    Writer
	at   int64 // bytes given to Write
	held int64 // of them, the zeros at the end that are not in the file
	swap swapMark
}

// CreateSparse starts a new file; EEXIST where the name exists. Until Close the
// name must stay where it is.
func CreateSparse(f FS, name string, mode uint32) (*SparseWriter, error) {
	w, err := f.Create(name, mode)
	if err != nil {
		return nil, err
	}
	return &SparseWriter{fs: f, name: name, w: w}, nil
}

func (s *SparseWriter) Write(b []byte) (int, error) {
	s.swap.look(s.at, b)
	done := 0
	for done < len(b) {
		n, zero := ZeroRun(s.at, b[done:])
		if zero {
			s.held += int64(n)
		} else {
			if err := s.flush(); err != nil {
				return done, err
			}
			if _, err := s.w.Write(b[done : done+n]); err != nil {
				return done, err
			}
		}
		s.at += int64(n)
		done += n
	}
	return done, nil
}

// flush puts the zeros that were held back into the file, as a hole if they are many.
func (s *SparseWriter) flush() error {
	if s.held >= MinHole && !s.swap.found {
		return s.skip()
	}
	for s.held > 0 {
		n := min(s.held, int64(len(zeros)))
		if _, err := s.w.Write(zeros[:n]); err != nil {
			return err
		}
		s.held -= n
	}
	return nil
}

// skip makes a hole up to where the next byte goes.
func (s *SparseWriter) skip() error {
	s.held = 0
	err := s.w.Close()
	s.w = nil
	if err == nil {
		err = s.fs.Truncate(s.name, s.at)
	}
	if err == nil {
		s.w, err = s.fs.Append(s.name)
	}
	return err
}

// Close completes the file. It is not durable yet.
func (s *SparseWriter) Close() error {
	var err error
	if s.w != nil { // nil after a failure
		err = s.flush()
	}
	if s.w == nil {
		return err
	}
	return errors.Join(err, s.w.Close())
}

// swapMark looks for what mkswap(8) writes at the end of a file's first page,
// which is 4, 16 or 64 KiB long. No hole can be made before the mark has passed.
type swapMark struct {
	found bool
	tail  [3][len(swapSign)]byte
}

const swapSign = "SWAPSPACE2"

func (m *swapMark) look(at int64, b []byte) {
	for i := range m.tail {
		begin := int64(ZeroBlock)<<(2*i) - int64(len(swapSign))
		end := begin + int64(len(swapSign))
		if at >= end || at+int64(len(b)) <= begin {
			continue
		}
		from := max(begin, at)
		copy(m.tail[i][from-begin:], b[from-at:])
		m.found = m.found || string(m.tail[i][:]) == swapSign
	}
}

// NextData is the next stretch of f, at off or after it, that may hold anything
// but zeros; math.MaxInt64 twice where only a hole is left. Of a file that has
// no holes, or does not tell, all is data.
func NextData(f File, off int64) (from, to int64) {
	if d, ok := f.(interface {
		nextData(off int64) (from, to int64)
	}); ok {
		return d.nextData(off)
	}
	return off, math.MaxInt64
}
