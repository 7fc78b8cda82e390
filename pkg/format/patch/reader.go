// Package patch reads and writes patches (.rkp): what turns one tree into
// another, with what is known about it in front.
//
// A patch is an uncompressed tar with the members patch.json, signoffs/*,
// hooks/*, entries and payload, in this order. patch.json names the size and
// digest of every member but the sign-offs and of every segment of the
// payload, so the digest of patch.json is the identity of the patch, and a
// signature over that digest covers everything. The page is relkit-patch(5).
//
// A reader goes through the file once, so a pipe serves: Open stops after the
// sign-offs, for the caller to decide about trust; what follows is handed out
// only after its digest has been found right.
package patch

import (
	"fmt"
	"io"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/signature"
)

// MaxSignoffs bounds the sign-offs of a patch.
const MaxSignoffs = 64

// maxWindow is the largest zstd window of entries and segments, and so what a
// decoder needs of memory.
const maxWindow = 16 << 20

// Reader reads a patch from its start to its end.
type Reader struct {
	f        framing
	h        *Header
	raw      []byte
	signoffs []signature.SignedDoc
	// ahead is the member whose header has been read; member counts Header.Members.
	aheadName string
	aheadSize int64
	member    int
	hooks     map[string][]byte
	entries   []byte // the member, packed; nil before it was read
	segment   int
	output    int64
	payload   digest.Hash
	err       error // what every later call answers
}

// Open reads patch.json and the sign-offs, and stops there.
//
// Every error of this package about the bytes of a patch is of the kind
// failure.Untrusted and names the member and the offset; a patch that this
// relkit is too old for is failure.Refused. With that error comes a Reader that
// serves ID and Signoffs alone: whether the patch is newer, or only damaged or
// forged to look so, is a question of trust.
func Open(r io.Reader) (*Reader, error) {
	p := &Reader{f: framing{r: r}, payload: digest.New()}
	err := p.readHeader()
	if p.raw != nil && failure.Of(err) == failure.Refused {
		if sErr := p.readSignoffs(); sErr != nil {
			p.signoffs = nil // a layout of its own: nothing speaks for it
		}
		p.err = err
		return p, err
	}
	if err != nil {
		return nil, err
	}
	if err := p.readSignoffs(); err != nil {
		return nil, err
	}
	return p, p.expect()
}

// ReadHeader reads patch.json alone, from the start of a patch, with the
// identity of the patch.
func ReadHeader(r io.Reader) (*Header, digest.Digest, error) {
	p := &Reader{f: framing{r: r}}
	if err := p.readHeader(); err != nil {
		return nil, digest.Digest{}, err
	}
	return p.h, p.ID(), nil
}

func (p *Reader) readHeader() error {
	if err := p.f.own(); err != nil {
		return err
	}
	name, size, err := p.f.next()
	if err != nil {
		return fmt.Errorf("reading %s: %w", headerName, err)
	}
	if name != headerName {
		return p.f.notFirst(name)
	}
	if p.raw, err = p.f.body(name, size, MaxHeader); err != nil {
		return err
	}
	p.h, err = ParseHeader(p.raw)
	return err
}

// readSignoffs reads pairs NAME.json, NAME.json.sig and the header after them.
func (p *Reader) readSignoffs() error {
	seen := map[string]bool{}
	for {
		at := p.f.off
		name, size, err := p.f.next()
		if err != nil {
			return err
		}
		base, ok := strings.CutPrefix(name, signoffsPart)
		if !ok {
			p.aheadName, p.aheadSize = name, size
			return nil
		}
		if !strings.HasSuffix(base, ".json") || !validMember(base) || seen[name] || len(seen) == MaxSignoffs {
			return untrusted("member %q at offset %d: not a sign-off, or one too many", name, at)
		}
		seen[name] = true
		doc, err := p.f.body(name, size, signature.MaxSignoff)
		if err != nil {
			return err
		}
		at = p.f.off
		sigName, size, err := p.f.next()
		if err != nil {
			return err
		}
		if sigName != name+".sig" {
			return untrusted("member %q at offset %d: want %q", sigName, at, name+".sig")
		}
		sig, err := p.f.body(sigName, size, signature.MaxSize)
		if err != nil {
			return err
		}
		p.signoffs = append(p.signoffs, signature.SignedDoc{Name: name, Doc: doc, Sig: sig})
	}
}

// Header is what patch.json says.
func (p *Reader) Header() *Header { return p.h }

// Raw is the bytes of patch.json.
func (p *Reader) Raw() []byte { return p.raw }

// ID is the identity of the patch: the digest of patch.json.
func (p *Reader) ID() digest.Digest { return digest.Of(p.raw) }

// Signoffs are the sign-offs that travel inside the patch, unverified.
func (p *Reader) Signoffs() []signature.SignedDoc { return p.signoffs }

// expect holds that the member ahead is the next one listed.
func (p *Reader) expect() error {
	want := p.h.Members[p.member]
	switch {
	case p.aheadName == "":
		return untrusted("member %q is missing at offset %d", want.Name, p.f.off)
	case p.aheadName != want.Name:
		return untrusted("member %q before offset %d: want %q", p.aheadName, p.f.off, want.Name)
	case p.aheadSize != want.Size:
		return untrusted("member %q before offset %d: %d bytes, want %d", want.Name, p.f.off, p.aheadSize, want.Size)
	}
	return nil
}

// take reads the member ahead whole, verifies it, and reads the next header.
func (p *Reader) take() ([]byte, error) {
	m := p.h.Members[p.member]
	at := p.f.off
	b, err := p.f.body(m.Name, m.Size, m.Size)
	if err != nil {
		return nil, err
	}
	if got := digest.Of(b); got != m.Digest {
		return nil, untrusted("member %q at offset %d: digest %s, want %s", m.Name, at, got, m.Digest)
	}
	p.member++
	if p.aheadName, p.aheadSize, err = p.f.next(); err != nil {
		return nil, err
	}
	return b, p.expect()
}

// Hooks reads the hooks: verified scripts by member name.
func (p *Reader) Hooks() (map[string][]byte, error) {
	if p.hooks == nil && p.err == nil {
		p.err = p.readHooks()
	}
	if p.hooks == nil {
		return nil, p.err
	}
	return p.hooks, nil
}

func (p *Reader) readHooks() error {
	hooks := map[string][]byte{}
	for p.aheadName != entriesName {
		name := p.aheadName
		b, err := p.take()
		if err != nil {
			return err
		}
		hooks[name] = b
	}
	p.hooks = hooks
	return nil
}

// NextSegment is the next segment and its bytes, verified; io.EOF after the
// last, when the file has been found to end there. The offset is that of its
// output in the stream that entries point into.
func (p *Reader) NextSegment() (s Segment, offset int64, body []byte, err error) {
	if p.entries == nil {
		if _, err := p.EntryReader(); err != nil {
			return Segment{}, 0, nil, err
		}
	}
	if p.err != nil {
		return Segment{}, 0, nil, p.err
	}
	if p.segment == len(p.h.Segments) {
		if p.err = p.finish(); p.err == nil {
			p.err = io.EOF
		}
		return Segment{}, 0, nil, p.err
	}
	s, offset = p.h.Segments[p.segment], p.output
	if body, err = p.readSegment(s); err != nil {
		p.err = fmt.Errorf("segment %d: %w", p.segment, err)
		return Segment{}, 0, nil, p.err
	}
	p.segment++
	p.output += s.Output
	return s, offset, body, nil
}

func (p *Reader) readSegment(s Segment) ([]byte, error) {
	at := p.f.off
	b := make([]byte, s.Length) // at most MaxSegment
	if err := p.f.read(b, payloadName); err != nil {
		return nil, err
	}
	if got := digest.Of(b); got != s.Digest {
		return nil, untrusted("%s at offset %d: digest %s, want %s", payloadName, at, got, s.Digest)
	}
	p.payload.Write(b)
	return b, nil
}

// finish verifies what stands after the last segment: nothing.
func (p *Reader) finish() error {
	m := p.h.Members[p.member]
	if got := p.payload.Digest(); got != m.Digest {
		return untrusted("member %q: digest %s, want %s", m.Name, got, m.Digest)
	}
	if err := p.f.pad(m.Name, m.Size); err != nil {
		return err
	}
	name, _, err := p.f.next()
	if err != nil {
		return err
	}
	if name != "" {
		return untrusted("member %q before offset %d: not listed in %s", name, p.f.off, headerName)
	}
	return nil
}

// Verify reads what is left of the patch and tells whether it is whole and as
// patch.json says. It unpacks no segment.
func (p *Reader) Verify() error {
	er, err := p.EntryReader()
	for err == nil {
		_, err = er.Next()
	}
	if err != io.EOF {
		return err
	}
	for {
		if _, _, _, err := p.NextSegment(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
