// Package digest names bytes by their SHA-256, written "sha256:<64 lower-case hex digits>".
//
// It is the one digest relkit writes anywhere (the form is the OCI image
// specification's "descriptor digest").
package digest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"
)

const prefix = "sha256:"

// Digest is a SHA-256. The zero Digest means "none" and prints as "".
type Digest [sha256.Size]byte

// Parse reads the written form. Upper-case hex, other algorithms and other
// lengths are errors: a digest has one spelling only.
func Parse(s string) (Digest, error) {
	var d Digest
	hexed, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return d, fmt.Errorf("bad digest %q: want sha256:<hex>", s)
	}
	return ParseHex(hexed)
}

// ParseHex reads 64 lower-case hex digits without the "sha256:" in front.
func ParseHex(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d)) || strings.ToLower(s) != s {
		return Digest{}, fmt.Errorf("bad digest %q: want %d lower-case hex digits", s, hex.EncodedLen(len(d)))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("bad digest %q: %w", s, err)
	}
	return d, nil
}

// Of is the digest of b.
func Of(b []byte) Digest { return sha256.Sum256(b) }

// OfReader is the digest and length of all that r holds.
func OfReader(r io.Reader) (Digest, int64, error) {
	h := New()
	n, err := io.Copy(h, r)
	return h.Digest(), n, err
}

// IsZero tells whether d is the zero Digest, "none".
func (d Digest) IsZero() bool { return d == Digest{} }

// Hex is the 64 hex digits alone, as mtree(5)'s sha256digest keyword wants them.
func (d Digest) Hex() string { return hex.EncodeToString(d[:]) }

// String is the written form; "" for the zero Digest.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return prefix + d.Hex()
}

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; "" is the zero Digest.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	v, err := Parse(string(b))
	*d = v
	return err
}

// Hash is a running digest.
type Hash struct{ hash.Hash }

// New starts a running digest.
func New() Hash { return Hash{sha256.New()} }

// Digest is the digest of what was written so far.
func (h Hash) Digest() Digest {
	var d Digest
	h.Sum(d[:0])
	return d
}
