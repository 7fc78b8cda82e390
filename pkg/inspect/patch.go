package inspect

import (
	"io"
	"slices"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/delta"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
)

// File is one name in a patch or manifest.
type File struct {
	// Path is vis(3)-escaped.
	Path string `json:"path"`
	// Change is create, replace, delete or metadata; "" in a manifest.
	Change string `json:"change,omitempty"`
	Kind   string `json:"kind"`
	Size   int64  `json:"size"`
	// Method is how the content travels: raw, zstd, delta, copy (of an old
	// file) or kept; "" where there is none.
	Method string `json:"method,omitempty"`
	// Packed is its share of the payload, in bytes.
	Packed int64 `json:"packed,omitempty"`
	// From is the old file that is copied, vis(3)-escaped.
	From string `json:"from,omitempty"`
}

// patch reads a patch as far as it is wanted: to its end where it is verified.
func (res *Result) patch(r io.Reader, o Options) error {
	p, err := patch.Open(r)
	if err != nil {
		return err
	}
	res.Kind, res.Digest, res.Document = "patch", p.ID(), p.Header()
	signoffs := append(slices.Clone(p.Signoffs()), o.Beside...)
	for _, s := range signoffs {
		res.Signoffs = append(res.Signoffs, describeSignoff(p.ID(), s))
	}
	if o.Verify {
		if p.Header().Expired(o.Now) {
			return failure.Errorf(failure.Untrusted, "the patch expired on %s", p.Header().Expires)
		}
		if o.Trust != nil {
			if err := o.Trust.Valid(p.Header().Product, trust.Clock{Shown: o.Now}); err != nil {
				return err
			}
		}
		if res.Verified, err = trust.CheckSignoffs(o.Policy, p.ID(), signoffs, o.Now); err != nil {
			return err
		}
	}
	if o.Files {
		if err := res.files(p); err != nil {
			return err
		}
	}
	if o.Verify {
		return p.Verify()
	}
	return nil
}

// files lists the changes, with where the bytes of each go.
func (res *Result) files(p *patch.Reader) error {
	entries, err := p.EntryReader()
	if err != nil {
		return err
	}
	bases := map[int]string{}
	for _, b := range entries.Bases() {
		bases[b.Ordinal] = b.Path
	}
	var ends []int64 // of the segments' outputs
	end := int64(0)
	for _, s := range p.Header().Segments {
		end += s.Output
		ends = append(ends, end)
	}
	seen := map[int64]bool{}
	for {
		c, err := entries.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		f := describe(&c)
		switch {
		case c.Base >= 0:
			f.Method, f.From = "copy", manifest.Escape(bases[c.Base])
		case c.Content >= 0:
			f.Method, f.Packed = share(p.Header().Segments, ends, c.Content, c.New.Size)
			if seen[c.Content] { // carried once for all files that are equal
				f.Packed = 0
			}
			seen[c.Content] = true
		case c.New != nil && c.New.Size > 0:
			f.Method = "kept"
		}
		res.Files = append(res.Files, f)
	}
}

func describe(c *patch.Change) File {
	f := File{Path: manifest.Escape(c.Path())}
	switch {
	case c.Old == nil:
		f.Change = "create"
	case c.New == nil:
		f.Change, f.Kind = "delete", c.Old.Kind.String()
		return f
	case c.Old.Kind == c.New.Kind && c.Old.Size == c.New.Size && c.Old.Digest == c.New.Digest && c.Old.Target == c.New.Target:
		f.Change = "metadata"
	default:
		f.Change = "replace"
	}
	f.Kind, f.Size = c.New.Kind.String(), c.New.Size
	return f
}

// methodNames are the numbers of pkg/format/delta in words.
var methodNames = map[int]string{delta.Raw: "raw", delta.Zstd: "zstd", delta.Block: "delta"}

// share is the method of the first segment that makes a stretch of the output,
// and the stretch's part of the packed bytes.
func share(segments []patch.Segment, ends []int64, from, size int64) (method string, packed int64) {
	for i, s := range segments {
		start := ends[i] - s.Output
		overlap := min(ends[i], from+size) - max(start, from)
		if overlap <= 0 {
			continue
		}
		if method == "" {
			method = methodNames[s.Method]
		}
		packed += int64(float64(s.Length) * float64(overlap) / float64(s.Output))
	}
	return method, packed
}
