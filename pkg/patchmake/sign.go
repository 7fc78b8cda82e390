package patchmake

import (
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

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/trustdoc"
)

const (
	// namespaceFile is what a signature over any other file is good for: to
	// tell who vouched for these bytes, and nothing that relkit acts on.
	namespaceFile = "relkit-file"
	sigSuffix     = ".sig"
)

// signoff makes and signs a role's word on a patch.
func signoff(key ssh.Signer, patch digest.Digest, role string, at time.Time, verdict string, evidence []signature.Evidence) (doc, sig []byte, err error) {
	d := signature.Signoff{Schema: signature.SignoffSchema, Patch: patch, Role: role, Time: at, Verdict: verdict, Evidence: evidence}
	if doc, err = d.Encode(); err != nil {
		return nil, nil, failure.As(failure.Usage, fmt.Errorf("making the sign-off: %w", err))
	}
	sig, err = signature.Sign(key, signature.NamespaceSignoff, bytes.NewReader(doc))
	return doc, sig, err
}

// SignOptions say how a file is signed. Signer, Role, At and Create must be set.
type SignOptions struct {
	Signer ssh.Signer
	Role   string
	At     time.Time
	// Verdict is signature.VerdictPass where it is "".
	Verdict string
	// Evidence are files that the verdict rests on.
	Evidence []string
	// Detached leaves a patch as it is and puts the sign-off beside it.
	Detached bool
	Create   func(name string, mode fs.FileMode) (Output, error)
}

// Signed is what was signed.
type Signed struct {
	Schema string `json:"schema"`
	File   string `json:"file"`
	// Digest is what was signed: a patch's identity, or a file's bytes.
	Digest    digest.Digest `json:"digest"`
	Namespace string        `json:"namespace"`
	Role      string        `json:"role,omitempty"`
	Verdict   string        `json:"verdict,omitempty"`
	Key       string        `json:"key"`
	// Note is what whoever signed should know; "" for nothing.
	Note string `json:"note,omitempty"`
	// Wrote are the files that were written.
	Wrote []string `json:"wrote"`
}

// Sign signs a file. To a patch it adds a sign-off, in place; any other file
// gets FILE.sig, of the namespace that its schema has; a trust document's holds
// the signatures of several keys.
func Sign(ctx context.Context, name string, o SignOptions) (*Signed, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, failure.As(failure.Usage, err)
	}
	defer f.Close()
	s := &Signed{Schema: "relkit.signed/v1", File: name, Key: signature.Fingerprint(o.Signer.PublicKey())}
	if isPatch(f) {
		return s, signPatch(ctx, f, s, o)
	}
	if len(o.Evidence) > 0 || o.Verdict != "" {
		return nil, failure.Errorf(failure.Usage, "%q is no patch: only a sign-off on a patch has a verdict and evidence", name)
	}
	return s, signFile(f, s, o)
}

// isPatch tells a patch by its first member's name.
func isPatch(f io.ReaderAt) bool {
	b := make([]byte, 265)
	if _, err := f.ReadAt(b, 0); err != nil {
		return false
	}
	return bytes.HasPrefix(b, []byte("patch.json\x00")) && string(b[257:262]) == "ustar"
}

// signPatch verifies that the patch is whole before vouching for it.
func signPatch(ctx context.Context, f *os.File, s *Signed, o SignOptions) error {
	p, err := patch.Open(contextReader{ctx, f})
	if err == nil {
		err = p.Verify()
	}
	if err != nil {
		return fmt.Errorf("%q: %w", s.File, err)
	}
	if o.Role == "" {
		return failure.Errorf(failure.Usage, "missing flag: --as ROLE says whose word on the patch this is")
	}
	s.Digest, s.Namespace, s.Role, s.Verdict = p.ID(), signature.NamespaceSignoff, o.Role, o.Verdict
	if s.Verdict == "" {
		s.Verdict = signature.VerdictPass
	}
	var evidence []signature.Evidence
	for _, name := range o.Evidence {
		d, err := digestFile(name)
		if err != nil {
			return failure.As(failure.Usage, fmt.Errorf("reading the evidence: %w", err))
		}
		evidence = append(evidence, signature.Evidence{Name: filepath.Base(name), Digest: d})
	}
	doc, sig, err := signoff(o.Signer, s.Digest, s.Role, o.At, s.Verdict, evidence)
	if err != nil {
		return err
	}
	if o.Detached {
		name := s.File + "." + s.Role + ".json"
		s.Wrote = []string{name, name + sigSuffix}
		return errors.Join(writeFile(o.Create, name, doc), writeFile(o.Create, name+sigSuffix, sig))
	}
	s.Wrote = []string{s.File}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	out, err := o.Create(s.File, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer out.Abort()
	if err := patch.AddSignoff(out, contextReader{ctx, f}, s.Role, doc, sig); err != nil {
		return err
	}
	return out.Commit()
}

// signFile makes the detached signature of a file that is no patch.
func signFile(f *os.File, s *Signed, o SignOptions) (err error) {
	s.Namespace = namespaceOf(f)
	if s.Namespace == signature.NamespaceTrust {
		return signTrust(f, s, o)
	}
	if s.Digest, _, err = digest.OfReader(io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return err
	}
	sig, err := signature.Sign(o.Signer, s.Namespace, io.NewSectionReader(f, 0, 1<<62))
	if err != nil {
		return err
	}
	if o.Role != "" {
		s.Note = fmt.Sprintf("%s is signed, and the role %q is not in that: it is no patch", s.File, o.Role)
	}
	s.Wrote = []string{s.File + sigSuffix}
	return writeFile(o.Create, s.Wrote[0], sig)
}

// namespaceOf is the namespace for a document, by its schema.
func namespaceOf(f io.ReaderAt) string {
	var head struct {
		Schema string `json:"schema"`
	}
	if json.NewDecoder(io.NewSectionReader(f, 0, channel.MaxReleases)).Decode(&head) != nil {
		return namespaceFile
	}
	switch head.Schema {
	case channel.ReleasesSchema, channel.StatusSchema:
		return signature.NamespaceChannel
	case trustdoc.Schema:
		return signature.NamespaceTrust
	}
	return namespaceFile
}

func digestFile(name string) (digest.Digest, error) {
	f, err := os.Open(name)
	if err != nil {
		return digest.Digest{}, err
	}
	defer f.Close()
	d, _, err := digest.OfReader(f)
	return d, err
}

func writeFile(create func(string, fs.FileMode) (Output, error), name string, b []byte) error {
	out, err := create(name, 0o644)
	if err != nil {
		return err
	}
	defer out.Abort()
	if _, err := out.Write(b); err != nil {
		return err
	}
	return out.Commit()
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
