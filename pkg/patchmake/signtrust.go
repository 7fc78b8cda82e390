package patchmake

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/trustdoc"
)

// signTrust adds a root key's signature to those of a trust document.
func signTrust(f *os.File, s *Signed, o SignOptions) error {
	if o.Role != trustdoc.RoleRoot {
		return failure.WithHint(failure.Errorf(failure.Usage, "%q is a trust document, which its root keys sign, and none as %q", s.File, o.Role), "--as root")
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, trustdoc.MaxSize+1))
	if err != nil {
		return err
	}
	d, err := trustdoc.Parse(b)
	if err != nil {
		return failure.As(failure.Usage, fmt.Errorf("reading %q: %w", s.File, err))
	}
	sig, err := signature.Sign(o.Signer, signature.NamespaceTrust, bytes.NewReader(b))
	if err != nil {
		return err
	}
	name := s.File + sigSuffix
	others, err := othersSignatures(name, b, s.Key)
	if err != nil {
		return err
	}
	s.Digest, s.Role, s.Wrote = digest.Of(b), o.Role, []string{name}
	if roles := d.Signers().Roles(o.Signer.PublicKey(), signature.NamespaceTrust, o.At, o.At); !slices.Contains(roles, trustdoc.RoleRoot) {
		s.Note = fmt.Sprintf("key %s is no root key of this document: it counts only if it is one of the document before", s.Key)
	}
	return writeFile(o.Create, name, signature.Join(append(others, sig)))
}

// othersSignatures are the signatures in a file that are good for a document, and
// by other keys. Those of what the document was before an edit are none.
func othersSignatures(name string, doc []byte, key string) ([][]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, signature.MaxSeveralSize+1))
	if err != nil {
		return nil, err
	}
	all, err := signature.Split(b)
	if err != nil {
		return nil, failure.As(failure.Usage, fmt.Errorf("reading %q: %w", name, err))
	}
	return slices.DeleteFunc(all, func(sig []byte) bool {
		by, err := signature.Verify(bytes.NewReader(doc), sig, signature.NamespaceTrust)
		return err != nil || signature.Fingerprint(by) == key
	}), nil
}
