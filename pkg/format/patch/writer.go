package patch

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/signature"
)

// Payload collects the segments of a patch, written end to end to w.
type Payload struct {
	w        io.Writer
	hash     digest.Hash
	segments []Segment
	size     int64
	output   int64
}

// NewPayload starts a payload; w keeps the bytes until Sealed.Write wants them.
func NewPayload(w io.Writer) *Payload { return &Payload{w: w, hash: digest.New()} }

// Add appends a segment that unpacks to output bytes.
func (p *Payload) Add(method int, body []byte, output int64) error {
	if _, err := p.w.Write(body); err != nil {
		return fmt.Errorf("writing segment %d: %w", len(p.segments), err)
	}
	p.hash.Write(body)
	p.segments = append(p.segments, Segment{Length: int64(len(body)), Digest: digest.Of(body), Method: method, Output: output})
	p.size += int64(len(body))
	p.output += output
	return nil
}

// Segments are those added so far.
func (p *Payload) Segments() []Segment { return p.segments }

// Sealed is a patch that is complete but for its sign-offs.
type Sealed struct {
	Header *Header
	// Raw is patch.json.
	Raw     []byte
	hooks   [][]byte
	entries []byte
}

// Seal completes h, whose Schema, Sizes, Members and Segments it sets, and
// holds the whole to the rules that a reader has. hooks are scripts by the
// member names that h.Hooks uses.
func Seal(h Header, hooks map[string][]byte, e *Entries, p *Payload) (*Sealed, error) {
	text, err := e.Encode()
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", entriesName, err)
	}
	s := &Sealed{Header: &h}
	if s.entries, err = pack(text); err != nil {
		return nil, fmt.Errorf("writing %s: %w", entriesName, err)
	}
	h.Schema = Schema
	h.Members = nil
	for _, name := range h.Hooks.Names() {
		script := hooks[name]
		s.hooks = append(s.hooks, script)
		h.Members = append(h.Members, Member{Name: name, Size: int64(len(script)), Digest: digest.Of(script)})
	}
	h.Members = append(h.Members,
		Member{Name: entriesName, Size: int64(len(s.entries)), Digest: digest.Of(s.entries)},
		Member{Name: payloadName, Size: p.size, Digest: p.hash.Digest()})
	h.Segments = p.segments
	h.Sizes = Sizes{Entries: int64(len(e.Changes)), EntriesBytes: int64(len(text)), NewBytes: p.output, PayloadBytes: p.size}
	for i := range e.Changes {
		if e.Changes[i].Content >= 0 {
			h.Sizes.Files++
		}
	}
	if s.Raw, err = h.Encode(); err != nil {
		return nil, err
	}
	return s, s.check()
}

// check reads back what was made, as a reader would.
func (s *Sealed) check() error {
	h, err := ParseHeader(s.Raw)
	if err != nil {
		return err
	}
	v, err := openEntries(h, s.entries)
	for err == nil {
		_, err = v.Next()
	}
	if err != io.EOF {
		return fmt.Errorf("writing %s: %w", entriesName, err)
	}
	return nil
}

// ID is the identity of the patch.
func (s *Sealed) ID() digest.Digest { return digest.Of(s.Raw) }

// Write writes the patch; payload reads what was written to the Payload's w.
func (s *Sealed) Write(w io.Writer, signoffs []signature.SignedDoc, payload io.Reader) error {
	if err := writeHead(w, s.Raw, signoffs); err != nil {
		return err
	}
	last := len(s.Header.Members) - 1
	for i, m := range s.Header.Members[:last] {
		body := s.entries
		if i < len(s.hooks) {
			body = s.hooks[i]
		}
		if err := writeMember(w, m.Name, body); err != nil {
			return err
		}
	}
	m := s.Header.Members[last]
	if _, err := w.Write(tarHeader(m.Name, m.Size)); err != nil {
		return err
	}
	hash := digest.New()
	n, err := io.Copy(io.MultiWriter(w, hash), payload)
	if err != nil {
		return fmt.Errorf("writing %s: %w", payloadName, err)
	}
	if n != m.Size || hash.Digest() != m.Digest {
		return fmt.Errorf("writing %s: %d bytes of %s, want %d of %s", payloadName, n, hash.Digest(), m.Size, m.Digest)
	}
	_, err = w.Write(make([]byte, padding(m.Size)+trailer))
	return err
}

// writeHead writes patch.json and the sign-offs.
func writeHead(w io.Writer, raw []byte, signoffs []signature.SignedDoc) error {
	if len(signoffs) > MaxSignoffs {
		return fmt.Errorf("%d sign-offs: at most %d", len(signoffs), MaxSignoffs)
	}
	if err := writeMember(w, headerName, raw); err != nil {
		return err
	}
	for _, s := range signoffs {
		if len(s.Doc) > signature.MaxSignoff || len(s.Sig) > signature.MaxSize {
			return fmt.Errorf("sign-off %q is too long", s.Name)
		}
		if err := writeMember(w, s.Name, s.Doc); err != nil {
			return err
		}
		if err := writeMember(w, s.Name+".sig", s.Sig); err != nil {
			return err
		}
	}
	return nil
}

func writeMember(w io.Writer, name string, body []byte) error {
	b := tarHeader(name, int64(len(body)))
	b = append(b, body...)
	b = append(b, make([]byte, padding(int64(len(body))))...)
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("writing member %q: %w", name, err)
	}
	return nil
}

// SignoffName is the member name for another sign-off of a role: a role may
// sign more than once.
func SignoffName(role string, have []signature.SignedDoc) string {
	taken := map[string]bool{}
	for _, s := range have {
		taken[s.Name] = true
	}
	role = strings.TrimLeft(role[:min(len(role), 64)], ".-") // the document itself says the role
	for n := 1; ; n++ {
		name := signoffsPart + role + ".json"
		if n > 1 {
			name = fmt.Sprintf("%s%s-%d.json", signoffsPart, role, n)
		}
		if !taken[name] {
			return name
		}
	}
}

// AddSignoff copies the patch src to dst with one more sign-off of a role, the
// rest byte for byte. One that is there already is not added again.
func AddSignoff(dst io.Writer, src io.Reader, role string, doc, sig []byte) error {
	p, err := Open(src)
	if err != nil {
		return err
	}
	all := p.signoffs
	same := func(s signature.SignedDoc) bool { return bytes.Equal(s.Doc, doc) && bytes.Equal(s.Sig, sig) }
	if !slices.ContainsFunc(all, same) {
		all = append(all, signature.SignedDoc{Name: SignoffName(role, all), Doc: doc, Sig: sig})
	}
	return p.copy(dst, all)
}

// copy writes the patch with other sign-offs; p has just been opened.
func (p *Reader) copy(dst io.Writer, signoffs []signature.SignedDoc) error {
	if err := writeHead(dst, p.raw, signoffs); err != nil {
		return err
	}
	if _, err := dst.Write(tarHeader(p.aheadName, p.aheadSize)); err != nil {
		return err
	}
	_, err := io.Copy(dst, p.f.r)
	return err
}

// pack compresses in one zstd frame, with one thread: the same bytes each time.
func pack(b []byte) ([]byte, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBestCompression),
		zstd.WithWindowSize(maxWindow), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	return enc.EncodeAll(b, nil), nil
}
