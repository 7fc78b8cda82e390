package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/trustdoc"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// trustDir holds the trust document in the state, as VERSION.json, its signatures
// beside it. A document is there once its own name is, which comes last and
// whole; the highest version counts, so that there is one or the other at every
// instant and never an older one again.
const trustDir = "trust"

// Document is a trust document with the signatures that came with it.
type Document struct {
	*trustdoc.Document
	// Name is where it was read from, for messages.
	Name   string
	Digest digest.Digest
	raw    []byte
	sigs   []signature.SignedDoc
}

// NewDocument reads a trust document and the file of signatures beside it. That
// the signatures are good for anything has not been checked.
func NewDocument(name string, raw, sigs []byte) (*Document, error) {
	d, err := trustdoc.Parse(raw)
	if err != nil {
		if failure.Of(err) != failure.Refused {
			err = failure.As(failure.Untrusted, err)
		}
		return nil, fmt.Errorf("reading %q: %w", name, err)
	}
	out := &Document{Document: d, Name: name, Digest: digest.Of(raw), raw: raw}
	all, err := signature.Split(sigs)
	if err != nil {
		return nil, failure.As(failure.Untrusted, fmt.Errorf("reading %q: %w", name+SigSuffix, err))
	}
	for i, s := range all {
		out.sigs = append(out.sigs, signature.SignedDoc{Name: fmt.Sprintf("signature %d", i+1), Doc: raw, Sig: s})
	}
	return out, nil
}

// ReadDocument reads a trust document and NAME.sig beside it.
func ReadDocument(fsys fs.FS, name string) (*Document, error) {
	raw, err := readBounded(fsys, name, trustdoc.MaxSize)
	if err != nil {
		return nil, err
	}
	sigs, err := readBounded(fsys, name+SigSuffix, signature.MaxSeveralSize)
	if errors.Is(err, fs.ErrNotExist) {
		err = failure.WithHint(failure.Errorf(failure.Untrusted, "%s is not signed: %w", name, err), "relkit sign %s --as root --key KEYFILE", failure.Word(name))
	}
	if err != nil {
		return nil, err
	}
	return NewDocument(name, raw, sigs)
}

// Load is the trust document in a machine's state; nil where there is none. One
// that is damaged is an error, and not none: that would be less trust than was
// asked for.
func Load(state fsys.FS) (*Document, error) {
	version, err := newest(state)
	if err != nil || version == 0 {
		return nil, err
	}
	raw, err := fsys.ReadFile(state, fileOf(version), trustdoc.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("reading the trust document: %w", err)
	}
	sigs, err := fsys.ReadFile(state, fileOf(version)+SigSuffix, signature.MaxSeveralSize)
	if err != nil {
		return nil, failure.As(failure.Untrusted, fmt.Errorf("reading the trust document: %w", err))
	}
	d, err := NewDocument(fileOf(version), raw, sigs)
	if err == nil && d.Version != version {
		err = failure.Errorf(failure.Untrusted, "%q is trust document %d", fileOf(version), d.Version)
	}
	if err == nil {
		// At the time it was issued: it was checked when it came, and what was right
		// then is not wrong because a key has expired since.
		_, err = d.signedBy(d, Clock{Shown: d.Issued})
	}
	if err != nil {
		return nil, fmt.Errorf("the trust document of this machine is damaged: %w", err)
	}
	return d, nil
}

func fileOf(version int64) string { return trustDir + "/" + strconv.FormatInt(version, 10) + ".json" }

// newest is the highest version in the state, 0 for none.
func newest(state fsys.FS) (last int64, err error) {
	names, err := state.ReadDir(trustDir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, name := range names {
		v, err := strconv.ParseInt(strings.TrimSuffix(name, ".json"), 10, 64)
		if err == nil && v > last && fileOf(v) == trustDir+"/"+name {
			last = v
		}
	}
	return last, err
}

// put makes d the machine's document. Up to the rename of VERSION.json the one
// before counts, since a signature without its document says nothing; from then
// on d does. What is older goes last, and is not missed: where that fails, the
// next put removes it.
func (d *Document) put(state fsys.FS) error {
	if err := fsys.MkdirAll(state, trustDir, 0o755); err != nil {
		return err
	}
	var sigs [][]byte
	for _, s := range d.sigs {
		sigs = append(sigs, s.Sig)
	}
	name := fileOf(d.Version)
	if err := fsys.WriteFile(state, name+SigSuffix, signature.Join(sigs), 0o644); err != nil {
		return err
	}
	if err := fsys.WriteFile(state, name, d.raw, 0o644); err != nil {
		return err
	}
	names, err := state.ReadDir(trustDir)
	for _, old := range names {
		if path := trustDir + "/" + old; path != name && path != name+SigSuffix {
			_ = state.Unlink(path)
		}
	}
	return err
}

// signedBy tells whether d is signed by as many root keys of a document, itself
// or the one before, as that one asks for.
func (d *Document) signedBy(of *Document, clock Clock) ([]Accepted, error) {
	p := of.Policy(clock)
	p.Require = []string{trustdoc.RoleRoot}
	accepted, err := CheckDocument(p, signature.NamespaceTrust, d.raw, d.sigs, clock.Now())
	if err != nil {
		return nil, failure.WithHint(fmt.Errorf("trust document %d is not signed as trust document %d wants it: %w", d.Version, of.Version, err),
			"relkit sign %s --as root --key KEYFILE", failure.Word(d.Name))
	}
	return accepted, nil
}

// Signatures are those that came with the document.
func (d *Document) Signatures() []signature.SignedDoc { return d.sigs }

// Policy is who may sign by the document, at the time of a clock; who must is
// for the machine to say.
func (d *Document) Policy(clock Clock) Policy {
	return Policy{
		Allowed: d.Signers(), File: fmt.Sprintf("trust document %d", d.Version), Thresholds: d.Thresholds, Revoked: d.Revokes, ClockWrong: clock.Wrong(),
	}
}

// Valid tells whether the document is one to go by for a product, "" for any.
func (d *Document) Valid(product string, clock Clock) error {
	if product != "" && product != d.Product {
		return failure.Errorf(failure.Untrusted, "trust document %d is for product %q, not %q", d.Version, d.Product, product)
	}
	if now := clock.Now(); d.Expired(now) {
		return failure.WithHint(failure.Errorf(failure.Untrusted, "trust document %d expired at %s, and it is %s or later", d.Version, d.Expires.Format(time.RFC3339), now.UTC().Format(time.RFC3339)),
			"relkit trust --update FILE  # with a newer one, signed by the root keys of this one")
	}
	return nil
}

// String names the document in the audit log.
func (d *Document) String() string {
	return fmt.Sprintf("trust document %d of %s (%s)", d.Version, d.Product, d.Digest)
}
