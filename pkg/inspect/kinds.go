package inspect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/machine"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/trustdoc"
)

// Tree is what a manifest says in numbers.
type Tree struct {
	Entries int64            `json:"entries"`
	Kinds   map[string]int64 `json:"kinds"`
	// Bytes is the size of all files, each hard-link group once.
	Bytes int64 `json:"bytes"`
}

// Audit is an audit log, whose chain has been verified.
type Audit struct {
	Head  journal.Head        `json:"head"`
	Lines []journal.AuditLine `json:"lines"`
	// TornBytes is a half-written line at the end.
	TornBytes int `json:"torn_bytes,omitempty"`
}

var schemaPattern = regexp.MustCompile(`^relkit\.([a-z][a-z0-9-]*)/v[1-9][0-9]*$`)

// decode reads a document strictly where its schema is known, and tells its kind.
func decode(schema string, b []byte, res *Result) (kind string, err error) {
	m := schemaPattern.FindStringSubmatch(schema)
	if m == nil {
		return "", fmt.Errorf("schema %q is none of relkit's", schema)
	}
	switch schema {
	case record.BuildSchema:
		res.Document, err = record.DecodeBuild(b)
	case channel.ReleasesSchema:
		res.Document, err = channel.ParseReleases(b)
	case channel.StatusSchema:
		res.Document, err = channel.ParseStatus(b)
	case machine.Schema:
		res.Document, err = machine.Decode(b)
	case trustdoc.Schema:
		res.Document, err = trustdoc.Parse(b)
	case signature.SignoffSchema:
		res.Document, err = signature.ParseSignoff(b)
	case journal.AuditSchema:
		err = res.audit(b)
	default:
		var any json.RawMessage
		if err = json.Unmarshal(b, &any); err == nil {
			res.Document = any
		}
	}
	return m[1], err
}

func (res *Result) audit(b []byte) error {
	lines, head, whole, err := journal.ParseAudit(b)
	if err != nil {
		return err
	}
	res.Audit = &Audit{Head: head, Lines: lines, TornBytes: len(b) - whole}
	res.Digest = head.Digest
	return nil
}

// manifest counts a tree, and lists it where files are wanted.
func (res *Result) manifest(r io.Reader, o Options) error {
	var kept bytes.Buffer
	if o.Verify {
		r = io.TeeReader(io.LimitReader(r, manifest.MaxDecode+1), &kept)
	}
	m := manifest.NewReader(r)
	t := &Tree{Kinds: map[string]int64{}}
	groups := map[int]bool{}
	for {
		e, err := m.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return failure.As(failure.Untrusted, err)
		}
		t.Entries++
		t.Kinds[e.Kind.String()]++
		if e.Link == 0 || !groups[e.Link] {
			t.Bytes += e.Size
		}
		if e.Link != 0 {
			groups[e.Link] = true
		}
		if o.Files {
			res.Files = append(res.Files, File{Path: manifest.Escape(e.Path), Kind: e.Kind.String(), Size: e.Size})
		}
	}
	res.Kind, res.Digest, res.Tree = "manifest", m.Digest(), t
	if o.Verify {
		return res.verifySigned(kept.Bytes(), "", o)
	}
	return nil
}

// namespaceOf is the namespace that a document is signed in, by its schema; it
// is what relkit sign does.
func namespaceOf(schema string) string {
	switch schema {
	case channel.ReleasesSchema, channel.StatusSchema:
		return signature.NamespaceChannel
	case trustdoc.Schema:
		return signature.NamespaceTrust
	}
	return "relkit-file"
}

// describeSignoff reads what a sign-off says of itself.
func describeSignoff(patch digest.Digest, s signature.SignedDoc) Signoff {
	out := Signoff{Name: s.Name}
	key, err := signature.Verify(bytes.NewReader(s.Doc), s.Sig, signature.NamespaceSignoff)
	if err != nil {
		out.Problem = err.Error()
		return out
	}
	out.Key = signature.Fingerprint(key)
	doc, err := signature.ParseSignoff(s.Doc)
	if err != nil {
		out.Problem = err.Error()
		return out
	}
	out.Role, out.Verdict, out.Time, out.Evidence = doc.Role, doc.Verdict, doc.Time.UTC().Truncate(time.Second), doc.Evidence
	if doc.Patch != patch {
		out.Problem = "it is about patch " + doc.Patch.String()
	}
	return out
}
