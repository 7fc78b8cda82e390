package patch

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/relkit/relkit/pkg/failure"
)

// Entries reads all entries, verified, into memory.
func (p *Reader) Entries() (*Entries, error) {
	er, err := p.EntryReader()
	if err != nil {
		return nil, err
	}
	all := &Entries{Bases: er.Bases()}
	for {
		c, err := er.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all.Changes = append(all.Changes, c)
	}
}

// VerifiedEntries reads the entries change by change, held to what the header
// says of them. It can be begun as often as needed: the member stays in memory, packed.
type VerifiedEntries struct {
	*EntryReader
	h              *Header
	limit          *io.LimitedReader
	changes, files int64
}

// EntryReader reads the entries' member, verifies it, and starts on its text.
func (p *Reader) EntryReader() (*VerifiedEntries, error) {
	if _, err := p.Hooks(); err != nil {
		return nil, err
	}
	if p.entries == nil {
		if p.err != nil {
			return nil, p.err
		}
		b, err := p.take()
		if err != nil {
			p.err = err
			return nil, err
		}
		p.entries = b
	}
	v, err := openEntries(p.h, p.entries)
	if err != nil {
		return nil, inEntries(err)
	}
	return v, nil
}

func openEntries(h *Header, packed []byte) (*VerifiedEntries, error) {
	dec, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	v := &VerifiedEntries{h: h, limit: &io.LimitedReader{R: dec, N: h.Sizes.EntriesBytes + 1}}
	if v.EntryReader, err = NewEntryReader(v.limit); err != nil {
		return nil, err
	}
	if h.Full && len(v.bases) > 0 {
		return nil, untrusted("a full patch has no bases")
	}
	return v, nil
}

// inEntries makes what is wrong with the entries untrusted, but for a patch that
// this relkit is too old for.
func inEntries(err error) error {
	err = fmt.Errorf("reading %s: %w", entriesName, err)
	if failure.Of(err) == failure.Refused {
		return err
	}
	return failure.As(failure.Untrusted, err)
}

// Next is the next change; io.EOF after the last, when all has been found as
// the header says.
func (v *VerifiedEntries) Next() (Change, error) {
	c, err := v.EntryReader.Next()
	if err == io.EOF {
		if err := v.end(); err != nil {
			return c, inEntries(err)
		}
		return c, io.EOF
	}
	if err != nil {
		return c, inEntries(err)
	}
	if v.h.Full && c.Old != nil {
		return c, inEntries(fmt.Errorf("entry %q: a full patch has no old side", c.Path()))
	}
	v.changes++
	if c.Content >= 0 {
		v.files++
	}
	return c, nil
}

func (v *VerifiedEntries) end() error {
	s := v.h.Sizes
	read := s.EntriesBytes + 1 - v.limit.N
	if v.changes != s.Entries || v.files != s.Files || v.Output() != s.NewBytes || read != s.EntriesBytes {
		return fmt.Errorf("%d entries, %d files, %d bytes of content, %d of text: the header has %d, %d, %d, %d",
			v.changes, v.files, v.Output(), read, s.Entries, s.Files, s.NewBytes, s.EntriesBytes)
	}
	return nil
}
