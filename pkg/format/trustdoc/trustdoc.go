// Package trustdoc reads and writes the trust document: who may sign as what, for
// a product, as one signed and numbered file. It is what TUF's root role is to its
// metadata (https://theupdateframework.github.io/specification/latest/, 6.1).
package trustdoc

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/strict"
)

// Schema is what a trust document says it is.
const Schema = "relkit.trust/v1"

// RoleRoot is the role that signs trust documents.
const RoleRoot = "root"

// Bounds: of a document in bytes, of what is listed in it, and of the keys that a
// role can be made to take.
const (
	MaxSize      = 2 << 20
	maxRevoked   = 10000
	maxReason    = 1000
	maxRoles     = 100
	MaxThreshold = 64
)

// Document is a trust document. It is signed, as it stands, in
// signature.NamespaceTrust.
type Document struct {
	Schema  string `json:"schema"`
	Product string `json:"product"`
	// Version grows with each document; a machine never goes back to a lower one.
	Version int64     `json:"version"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	// AllowedSigners is the text of an allowed_signers file, ssh-keygen(1).
	AllowedSigners string `json:"allowed_signers"`
	// Thresholds is how many keys it takes for a role's word, one where nothing is
	// said. That of the role root is always said.
	Thresholds map[string]int `json:"thresholds"`
	// Revoked are keys that never count, whatever they signed and when; sorted by key.
	Revoked []Revoked `json:"revoked,omitempty"`

	signers *signature.AllowedSigners
}

// Revoked is a key, or a certificate authority, that never counts again.
type Revoked struct {
	// Key is its fingerprint, as ssh-keygen -l has it: "SHA256:…".
	Key    string `json:"key"`
	Reason string `json:"reason,omitempty"`
}

// Parse reads a trust document, which must stand in its one canonical form. Check
// the signatures over the bytes before acting on it. A document of a later schema
// is failure.Refused.
func Parse(b []byte) (*Document, error) {
	var head struct {
		Schema string `json:"schema"`
	}
	if len(b) <= MaxSize && json.Unmarshal(b, &head) == nil && head.Schema != Schema && strings.HasPrefix(head.Schema, "relkit.trust/") {
		return nil, failure.WithHint(failure.Errorf(failure.Refused, "schema %q: this relkit reads %q", head.Schema, Schema), "update relkit first")
	}
	d := new(Document)
	if err := strict.Decode(b, MaxSize, d); err != nil {
		return nil, err
	}
	canonical, err := d.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(canonical, b) {
		return nil, fmt.Errorf("offset %d: not in canonical form", firstDifference(canonical, b))
	}
	return d, nil
}

// Encode writes the document as it is signed. Equal documents give equal bytes.
func (d *Document) Encode() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	b, err := strict.Encode(d)
	if err == nil && len(b) > MaxSize {
		return nil, fmt.Errorf("trust document of %d bytes: at most %d", len(b), MaxSize)
	}
	return b, err
}

// Signers are the lines of AllowedSigners; d has been parsed or encoded.
func (d *Document) Signers() *signature.AllowedSigners { return d.signers }

// Expired tells whether the document has expired at a time.
func (d *Document) Expired(at time.Time) bool { return !at.Before(d.Expires) }

// Revokes tells why a key, or a certificate authority, of that fingerprint never
// counts; nil where nothing is said against it.
func (d *Document) Revokes(print string) error {
	i, found := slices.BinarySearchFunc(d.Revoked, print, func(r Revoked, print string) int { return cmp.Compare(r.Key, print) })
	if !found {
		return nil
	}
	return errors.New(strings.TrimSuffix(fmt.Sprintf("it is revoked by trust document %d: %s", d.Version, d.Revoked[i].Reason), ": "))
}

func firstDifference(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
