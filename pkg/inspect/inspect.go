// Package inspect tells what a file of relkit's is and what it holds: patches,
// records, manifests, channel documents, audit logs, and the folders of builds
// and images.
package inspect

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/trustdoc"
)

// Options say how closely to look.
type Options struct {
	// Files lists each file of a patch or manifest.
	Files bool
	// Verify wants it whole and signed as Policy says.
	Verify bool
	Policy trust.Policy
	// Trust, where not nil, is the trust document that Policy is of.
	Trust *trust.Document
	Now   time.Time
	// Folder says that what lies beside the file is meant as well.
	Folder bool
	// Beside are the sign-offs that lie beside a patch.
	Beside []signature.SignedDoc
}

// Result is what was found.
type Result struct {
	Schema string `json:"schema"`
	File   string `json:"file"`
	// Kind is patch, manifest, audit, or the noun of a document's schema.
	Kind string `json:"kind"`
	// Digest is a patch's identity, a tree's digest, or that of the bytes.
	Digest digest.Digest `json:"digest"`
	// Document is the patch.json or the record itself.
	Document any `json:"document,omitempty"`
	// Signoffs are those inside a patch, and those beside it.
	Signoffs []Signoff `json:"signoffs,omitempty"`
	// Signatures are those beside a trust document.
	Signatures []Signature `json:"signatures,omitempty"`
	Files      []File      `json:"files,omitempty"`
	Tree       *Tree       `json:"tree,omitempty"`
	Audit      *Audit      `json:"audit,omitempty"`
	// Whole says what of a folder has been compared with the record.
	Whole string `json:"whole,omitempty"`
	// Verified is set with --verify: who vouches for it.
	Verified []trust.Accepted `json:"verified,omitempty"`
}

// Signoff is a sign-off as it says of itself. Without --verify nothing of it
// has been checked but that the signature is one over these words.
type Signoff struct {
	Name     string               `json:"name"`
	Role     string               `json:"role,omitempty"`
	Verdict  string               `json:"verdict,omitempty"`
	Time     time.Time            `json:"time,omitzero"`
	Key      string               `json:"key,omitempty"`
	Evidence []signature.Evidence `json:"evidence,omitempty"`
	// Problem says why it cannot count; "" where it may.
	Problem string `json:"problem,omitempty"`
}

// maxDocument bounds a JSON document that is looked at, in bytes.
const maxDocument = 64 << 20

// Look looks at what r holds; name is where it came from.
func Look(ctx context.Context, name string, r io.Reader, o Options) (*Result, error) {
	in := bufio.NewReaderSize(contextReader{ctx, r}, 64<<10)
	head, err := in.Peek(512)
	if err != nil && err != io.EOF {
		return nil, err
	}
	res := &Result{Schema: "relkit.inspect/v1", File: name}
	switch {
	case bytes.HasPrefix(head, []byte("patch.json\x00")):
		err = res.patch(in, o)
	case bytes.HasPrefix(head, []byte("#mtree\n")):
		err = res.manifest(in, o)
	case len(bytes.TrimLeft(head, " \t\r\n")) > 0 && bytes.TrimLeft(head, " \t\r\n")[0] == '{':
		err = res.document(ctx, in, o)
	case o.Verify && signed(name):
		err = res.file(in, o)
	case isArchive(head) && !o.Verify:
		err = res.archive(in, o)
	case isArchive(head):
		return nil, failure.WithHint(failure.Errorf(failure.Untrusted, "%q is not signed: there is no %q", name, name+trust.SigSuffix),
			"relkit sign %s --key KEYFILE", failure.Word(name))
	default:
		kind := failure.Refused
		if o.Verify {
			kind = failure.Untrusted
		}
		return nil, failure.Errorf(kind, "%q is nothing that relkit writes, or its beginning is damaged: it looks like %s", name, patch.Kind(head))
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return res, nil
}

// Dir finds the file that tells what a folder is, of a build or an image.
func Dir(dir string) (string, error) {
	for _, name := range []string{"build.json", "image.json", "version.json", "audit.jsonl"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", failure.Errorf(failure.Refused, "%q is the folder of no build and no image: it holds no build.json, image.json, version.json or audit.jsonl", dir)
}

// document reads a JSON document by its schema, or an audit log.
func (res *Result) document(ctx context.Context, r io.Reader, o Options) error {
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return err
	}
	if len(b) > maxDocument {
		return failure.Errorf(failure.Refused, "more than %d bytes", maxDocument)
	}
	var head struct {
		Schema string `json:"schema"`
	}
	// The first line decides: an audit log is one document a line.
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&head); err != nil {
		return failure.Errorf(failure.Untrusted, "not JSON: %w", err)
	}
	res.Digest = digest.Of(b)
	kind, err := decode(head.Schema, b, res)
	if err != nil {
		return failure.As(failure.Untrusted, err)
	}
	res.Kind = kind
	if _, ok := res.Document.(*trustdoc.Document); ok {
		return res.trust(b, o)
	}
	if !o.Verify || res.Audit != nil {
		return nil // of an audit log the chain has been verified
	}
	if o.Folder {
		if err := res.folder(ctx, o); err != nil {
			return err
		}
	}
	if doc, ok := res.Document.(*record.Build); ok && o.Folder && doc.Provenance != nil {
		if !signed(res.File) {
			return res.provenance(doc, o)
		}
		// Signed twice: the record as documents are, and the provenance by the builder.
		if err := res.verifySigned(b, head.Schema, o); err != nil {
			return err
		}
		o.Policy.Require = nil
		return res.provenance(doc, o)
	}
	return res.verifySigned(b, head.Schema, o)
}

// maxSigned bounds a file of no format of relkit's that is verified, in bytes.
const maxSigned = 1 << 30

// file verifies any file by the signature beside it.
func (res *Result) file(r io.Reader, o Options) error {
	b, err := io.ReadAll(io.LimitReader(r, maxSigned+1))
	if err != nil {
		return err
	}
	if len(b) > maxSigned {
		return failure.Errorf(failure.Refused, "more than %d bytes", maxSigned)
	}
	res.Kind, res.Digest = "file", digest.Of(b)
	return res.verifySigned(b, "", o)
}

// verifySigned checks the signature beside a document, FILE.sig.
func (res *Result) verifySigned(b []byte, schema string, o Options) error {
	sig, err := readSignature(res.File + trust.SigSuffix)
	if err != nil {
		if res.Whole != "" {
			err = fmt.Errorf("whole (%s), but %w", res.Whole, err)
		}
		return failure.WithHint(err, "relkit sign %s --key KEYFILE", failure.Word(res.File))
	}
	doc := signature.SignedDoc{Name: filepath.Base(res.File) + trust.SigSuffix, Doc: b, Sig: sig}
	res.Verified, err = trust.CheckDocument(o.Policy, namespaceOf(schema), b, []signature.SignedDoc{doc}, o.Now)
	return err
}

func readSignature(name string) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, failure.Errorf(failure.Untrusted, "not signed: there is no %q", name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, signature.MaxSeveralSize+1))
}

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}
