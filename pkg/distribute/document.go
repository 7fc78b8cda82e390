package distribute

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/artifact"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/transport/fetch"
	"github.com/relkit/relkit/pkg/transport/static"
)

// maxSignatures bounds how many signatures of one document are read.
const maxSignatures = 32

// document is one of a channel's two documents as a repository holds it.
type document struct {
	body     []byte
	sigs     []signature.SignedDoc
	manifest digest.Digest
}

// kind is what tells the two documents apart.
type kind struct {
	mediaType string
	file      string
	limit     int64
}

var (
	kindReleases = kind{artifact.TypeReleases, "releases.json", channel.MaxReleases}
	kindStatus   = kind{artifact.TypeStatus, "status.json", channel.MaxStatus}
)

// readDocument reads a document and its signatures; nothing has been verified
// but that the bytes are those that the manifest names.
func readDocument(ctx context.Context, repo repository, r Ref, k kind, opt fetch.Options) (*document, error) {
	m, d, err := readArtifact(ctx, repo, r)
	if err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) error {
		return failure.Errorf(failure.Untrusted, "%s: "+format, append([]any{r}, args...)...)
	}
	if m.Type != k.mediaType {
		return nil, bad("it is %q, want %q", m.Type, k.mediaType)
	}
	if len(m.Layers) == 0 || len(m.Layers) > 1+maxSignatures || m.Layers[0].MediaType != k.mediaType {
		return nil, bad("want the document and up to %d signatures, got %d layers", maxSignatures, len(m.Layers))
	}
	doc := &document{manifest: d}
	for i, l := range m.Layers {
		limit := int64(signature.MaxSize)
		if i == 0 {
			limit = k.limit
		}
		b, err := fetch.Small(ctx, repo.Source(l.Digest, l.Size), fetch.Blob{Digest: l.Digest, Size: l.Size}, limit, opt)
		if err != nil {
			return nil, fmt.Errorf("reading %s of %s: %w", k.file, r, err)
		}
		switch {
		case i == 0:
			doc.body = b
		case l.MediaType == artifact.TypeSSHSIG:
			doc.sigs = append(doc.sigs, signature.SignedDoc{Name: l.Title, Sig: b})
		default:
			return nil, bad("layer %d is %q, want a signature", i, l.MediaType)
		}
	}
	return doc, nil
}

// verify checks the signatures against a policy.
func (d *document) verify(policy trust.Policy, k kind, now time.Time) error {
	_, err := trust.CheckDocument(policy, signature.NamespaceChannel, d.body, d.sigs, now)
	if err != nil {
		return fmt.Errorf("verifying %s: %w", k.file, err)
	}
	return nil
}

// signedBy tells whether one of the signatures is key's, by whatever certificate.
func (d *document) signedBy(key ssh.PublicKey) bool {
	for _, s := range d.sigs {
		by, err := signature.Verify(bytes.NewReader(d.body), s.Sig, signature.NamespaceChannel)
		if err == nil && signature.Fingerprint(by) == signature.Fingerprint(key) {
			return true
		}
	}
	return false
}

// signDocument makes a document with one signature, named after the role.
func signDocument(body []byte, k kind, signer ssh.Signer, role string) (*document, error) {
	sig, err := signature.Sign(signer, signature.NamespaceChannel, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	d := &document{body: body, sigs: []signature.SignedDoc{{Name: k.file + "." + role + trust.SigSuffix, Sig: sig}}}
	raw, err := d.encode(k)
	d.manifest = digest.Of(raw)
	return d, err
}

func (d *document) encode(k kind) ([]byte, error) {
	m := artifact.Manifest{Type: k.mediaType, Layers: []artifact.Descriptor{layerOf(k.mediaType, k.file, d.body)}}
	for _, s := range d.sigs {
		m.Layers = append(m.Layers, layerOf(artifact.TypeSSHSIG, s.Name, s.Sig))
	}
	return m.Encode()
}

func layerOf(mediaType, title string, b []byte) artifact.Descriptor {
	return artifact.Descriptor{MediaType: mediaType, Digest: digest.Of(b), Size: int64(len(b)), Title: title}
}

// put stores a document and points a tag at it.
func (d *document) put(ctx context.Context, repo *static.Repo, k kind, tag string) error {
	raw, err := d.encode(k)
	if err != nil {
		return err
	}
	blobs := [][]byte{[]byte(artifact.Empty), d.body}
	for _, s := range d.sigs {
		blobs = append(blobs, s.Sig)
	}
	for _, b := range blobs {
		if err := putBytes(ctx, repo, b); err != nil {
			return err
		}
	}
	_, err = repo.PutManifest(raw, tag)
	return err
}

func putBytes(ctx context.Context, repo *static.Repo, b []byte) error {
	_, err := repo.PutBlob(ctx, digest.Of(b), int64(len(b)), func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b)), nil
	})
	return err
}
