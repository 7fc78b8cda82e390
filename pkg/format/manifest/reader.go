package manifest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/relkit/relkit/pkg/format/digest"
)

// maxBlock bounds an entry's lines together: the longest path and target, every
// byte escaped, and the largest set of xattrs in base64.
const maxBlock = 4 << 20

// MaxDecode bounds the manifest that Decode reads: some 1.5 million entries.
const MaxDecode = 256 << 20

// Reader reads a manifest entry by entry. It is strict: it accepts what Writer
// writes, byte for byte, and nothing else.
type Reader struct {
	r     *bufio.Reader
	hash  digest.Hash
	check checker
	block []byte // the lines of the entry being read
	line  int    // lines read so far
	end   int64  // where the entry at hand ends
	err   error
}

// NewReader reads a manifest from r, to its end.
func NewReader(r io.Reader) *Reader {
	m := &Reader{hash: digest.New()}
	m.r = bufio.NewReaderSize(io.TeeReader(r, m.hash), 64<<10)
	return m
}

// Next is the next entry; io.EOF after the last, when the whole has been
// checked. Other errors name the line.
func (m *Reader) Next() (*Entry, error) {
	if m.err != nil {
		return nil, m.err
	}
	e, err := m.next()
	switch {
	case err == io.EOF:
		m.err = err
	case err != nil:
		m.err = fmt.Errorf("line %d: %w", m.line, err)
	}
	return e, m.err
}

// Digest is the tree's digest. It stands after Next has answered io.EOF.
func (m *Reader) Digest() digest.Digest { return m.hash.Digest() }

// Offsets tells where in the manifest the lines of the last entry begin and end, in bytes.
func (m *Reader) Offsets() (start, end int64) { return m.end - int64(len(m.block)), m.end }

func (m *Reader) next() (*Entry, error) {
	if m.line == 0 {
		if err := m.readLine(); err != nil && err != io.EOF {
			return nil, err
		}
		if string(m.block) != signature {
			return nil, errors.New("not a manifest: want #mtree alone in the first line")
		}
		m.end = int64(len(m.block))
	}
	m.block = m.block[:0]
	for {
		start := len(m.block)
		err := m.readLine()
		if err == io.EOF && start == 0 {
			if err := m.check.end(); err != nil {
				return nil, err
			}
			return nil, io.EOF
		}
		if err == io.EOF {
			return nil, errors.New("notes without their entry")
		}
		if err != nil {
			return nil, err
		}
		if !bytes.HasPrefix(m.block[start:], []byte(notePrefix)) {
			break
		}
	}
	m.end += int64(len(m.block))
	e, _, err := ParseEntry(m.block)
	if err == nil {
		err = m.check.next(&e)
	}
	if err != nil {
		return nil, err
	}
	return &e, nil
}

// readLine appends the next line with its newline to m.block; io.EOF at the end.
func (m *Reader) readLine() error {
	m.line++
	start := len(m.block)
	for {
		part, err := m.r.ReadSlice('\n')
		m.block = append(m.block, part...)
		if len(m.block) > maxBlock {
			return fmt.Errorf("more than %d bytes in one entry", maxBlock)
		}
		switch {
		case err == nil:
			return nil
		case err == io.EOF && len(m.block) > start:
			return errors.New("line without its end")
		case err != bufio.ErrBufferFull:
			return err
		}
	}
}

// Decode reads a whole manifest of at most MaxDecode bytes.
func Decode(r io.Reader) ([]Entry, error) {
	limited := &io.LimitedReader{R: r, N: MaxDecode + 1}
	m := NewReader(limited)
	var all []Entry
	for {
		e, err := m.Next()
		if limited.N <= 0 {
			return nil, fmt.Errorf("manifest of more than %d bytes", MaxDecode)
		}
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, *e)
	}
}
