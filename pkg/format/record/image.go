package record

import (
	"fmt"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/strict"
	"github.com/relkit/relkit/pkg/format/version"
)

// ImageSchema names the record of a stored image, relkit-image(5).
const ImageSchema = "relkit.image/v1"

// MaxImage is the longest image record that is read, in bytes.
const MaxImage = 16 << 20

// What --identity may say of an image.
const (
	IdentityKeep  = "keep"
	IdentityReset = "reset"
)

// Image is image.json: what is in a stored image and where it came from. Paths
// are escaped as manifest.Escape does.
type Image struct {
	Schema  string `json:"schema"`
	Name    string `json:"name"`
	Version string `json:"version"`
	// Tree is the digest of manifest.mtree, and so of the tree.
	Tree digest.Digest `json:"tree"`
	// Created is when the image was stored, in UTC and whole seconds.
	Created time.Time `json:"created"`
	// Source is what it was taken from: a folder, a file, or "-".
	Source string `json:"source"`
	// Parent is the NAME:VERSION whose unchanged files are shared; "" for none.
	Parent string `json:"parent,omitempty"`
	// Entries counts names, Files those that are regular files, Bytes what these hold.
	Entries int64 `json:"entries"`
	Files   int64 `json:"files"`
	Bytes   int64 `json:"bytes"`
	// SharedFiles and SharedBytes are the part that the parent has too.
	SharedFiles int64 `json:"shared_files"`
	SharedBytes int64 `json:"shared_bytes"`
	// Identity is "keep" or "reset"; Reset lists the files that were emptied or left out by it.
	Identity string   `json:"identity"`
	Reset    []string `json:"reset,omitempty"`
	// NoOwner is set where owners, devices and privileged attributes were not kept.
	NoOwner bool `json:"no_owner,omitempty"`
	// Excluded are the patterns that were asked for.
	Excluded []string `json:"excluded,omitempty"`
	// Inconsistent lists files that changed while they were read.
	Inconsistent []string `json:"inconsistent,omitempty"`
}

// Encode writes the document; equal records give equal bytes.
func (i *Image) Encode() ([]byte, error) {
	if err := i.Check(); err != nil {
		return nil, fmt.Errorf("writing image record: %w", err)
	}
	b, err := strict.Encode(i)
	if err != nil {
		return nil, fmt.Errorf("writing image record: %w", err)
	}
	return b, nil
}

// DecodeImage reads a document. What is wrong with it, unknown fields among it,
// is failure.Untrusted, with its offset.
func DecodeImage(b []byte) (*Image, error) {
	i := new(Image)
	err := strict.Decode(b, MaxImage, i)
	if err == nil {
		err = i.Check()
	}
	if err != nil {
		return nil, failure.Errorf(failure.Untrusted, "reading image record: %w", err)
	}
	return i, nil
}

// Check tells what is wrong with the record.
func (i *Image) Check() error {
	if i.Schema != ImageSchema {
		return fmt.Errorf("schema %q, want %q", i.Schema, ImageSchema)
	}
	if err := ValidImageName(i.Name); err != nil {
		return err
	}
	if err := version.Valid(i.Version); err != nil {
		return err
	}
	switch {
	case i.Tree.IsZero():
		return fmt.Errorf("no digest of the tree")
	case i.Identity != IdentityKeep && i.Identity != IdentityReset:
		return fmt.Errorf("identity %q, want keep or reset", i.Identity)
	case i.Entries < 1 || i.Files < 0 || i.Files >= i.Entries || i.Bytes < 0 || i.SharedFiles < 0 || i.SharedFiles > i.Files ||
		i.SharedBytes < 0 || i.SharedBytes > i.Bytes:
		return fmt.Errorf("counts that cannot be: %d entries, %d files, %d bytes, %d and %d shared",
			i.Entries, i.Files, i.Bytes, i.SharedFiles, i.SharedBytes)
	}
	for _, list := range [][]string{i.Reset, i.Inconsistent} {
		for _, p := range list {
			if raw, err := manifest.Unescape(p); err != nil || !manifest.ValidPath(raw) {
				return fmt.Errorf("bad path %q", p)
			}
		}
	}
	return nil
}

// ValidImageName tells what is wrong with an image's name: it begins with a
// letter or digit, and letters, digits, dots, dashes and underscores follow, 128
// at most.
func ValidImageName(name string) error {
	if name == "" || len(name) > 128 {
		return fmt.Errorf("bad image name %q: want 1 to 128 characters", name)
	}
	for n, c := range []byte(name) {
		alnum := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !alnum && (n == 0 || c != '.' && c != '-' && c != '_') {
			return fmt.Errorf("bad image name %q: want letters, digits and then . - _", name)
		}
	}
	return nil
}
