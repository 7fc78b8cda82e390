// Package artifact writes and reads the OCI image manifest (OCI image
// specification 1.1, "Guidelines for Artifact Usage") by which a repository
// holds anything that relkit distributes: no configuration, an artifactType,
// and one layer a file, named by its title annotation.
package artifact

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/strict"
)

// The media types of what a repository holds.
const (
	TypeManifest = "application/vnd.oci.image.manifest.v1+json"
	TypeIndex    = "application/vnd.oci.image.index.v1+json"
	typeEmpty    = "application/vnd.oci.empty.v1+json"

	TypePatch    = "application/vnd.relkit.patch.v1"
	TypeFile     = "application/octet-stream"
	TypeReleases = "application/vnd.relkit.channel-releases.v1+json"
	TypeStatus   = "application/vnd.relkit.channel-status.v1+json"
	TypeSSHSIG   = "application/vnd.relkit.sshsig"
)

// MaxManifest bounds a manifest in bytes, as registries do.
const MaxManifest = 4 << 20

// Empty is the content of the OCI empty descriptor, which stands for "no
// configuration".
const Empty = "{}"

const annotationTitle = "org.opencontainers.image.title"

// Descriptor points at a blob.
type Descriptor struct {
	MediaType string
	Digest    digest.Digest
	Size      int64
	// Title is the file's name; "" where the layer is no file.
	Title string
}

// Manifest is one artifact.
type Manifest struct {
	// Type is what kind of thing it is: an artifactType or, of manifests that
	// have none, the configuration's media type.
	Type   string
	Config Descriptor
	Layers []Descriptor
	// Annotations are free text about the artifact.
	Annotations map[string]string
}

// EmptyConfig is the descriptor of Empty.
func EmptyConfig() Descriptor {
	return Descriptor{MediaType: typeEmpty, Digest: digest.Of([]byte(Empty)), Size: int64(len(Empty))}
}

type wireDescriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      digest.Digest     `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type wireManifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        wireDescriptor    `json:"config"`
	Layers        []wireDescriptor  `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// Encode writes m without a configuration; equal manifests give equal bytes.
func (m *Manifest) Encode() ([]byte, error) {
	w := wireManifest{SchemaVersion: 2, MediaType: TypeManifest, ArtifactType: m.Type, Config: toWire(EmptyConfig()), Annotations: m.Annotations}
	for _, l := range m.Layers {
		w.Layers = append(w.Layers, toWire(l))
	}
	if len(w.Layers) == 0 || m.Type == "" {
		return nil, errors.New("writing manifest: needs a type and a layer")
	}
	b, err := strict.Encode(&w)
	if err == nil && len(b) > MaxManifest {
		err = fmt.Errorf("writing manifest: %d bytes: at most %d", len(b), MaxManifest)
	}
	return b, err
}

// Parse reads an image manifest. What other tools put there beyond what relkit
// reads is passed over; the digest by which it was asked for covers it.
func Parse(raw []byte) (*Manifest, error) {
	if len(raw) > MaxManifest {
		return nil, fmt.Errorf("manifest of %d bytes: at most %d", len(raw), MaxManifest)
	}
	var w wireManifest
	if err := json.Unmarshal(raw, &w); err != nil {
		return nil, fmt.Errorf("reading manifest: %w", err)
	}
	if w.SchemaVersion != 2 || w.MediaType != TypeManifest && w.MediaType != "" && !strings.HasPrefix(w.MediaType, "application/vnd.docker.distribution.manifest.v2") {
		return nil, fmt.Errorf("reading manifest: media type %q: want %q", w.MediaType, TypeManifest)
	}
	m := &Manifest{Type: w.ArtifactType, Annotations: w.Annotations}
	if m.Type == "" {
		m.Type = w.Config.MediaType
	}
	m.Config = fromWire(w.Config)
	for i, l := range w.Layers {
		d := fromWire(l)
		if d.Digest.IsZero() || d.Size < 0 {
			return nil, fmt.Errorf("reading manifest: layer %d: needs a digest and a size", i)
		}
		m.Layers = append(m.Layers, d)
	}
	return m, nil
}

// MediaTypeOf is the media type a manifest of any kind says it has; "" where it says none.
func MediaTypeOf(raw []byte) string {
	var w struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(raw, &w) != nil {
		return ""
	}
	return w.MediaType
}

// FileName is the layer's title where that is safe as the name of a file in a
// folder: no path, not hidden, no control characters.
func (d Descriptor) FileName() (string, error) {
	t := d.Title
	bad := t == "" || len(t) > 200 || t[0] == '.' || strings.Contains(t, "/") || strings.ContainsFunc(t, func(r rune) bool { return r < ' ' || r == 0x7f })
	if bad {
		return "", fmt.Errorf("layer %s: its title %q is no file name", d.Digest, t)
	}
	return t, nil
}

func toWire(d Descriptor) wireDescriptor {
	w := wireDescriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
	if d.Title != "" {
		w.Annotations = map[string]string{annotationTitle: d.Title}
	}
	return w
}

func fromWire(w wireDescriptor) Descriptor {
	return Descriptor{MediaType: w.MediaType, Digest: w.Digest, Size: w.Size, Title: w.Annotations[annotationTitle]}
}

var (
	tagPattern  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	repoPattern = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	notInTag    = regexp.MustCompile(`[^A-Za-z0-9._-]+`)
)

// ValidTag tells what is wrong with a tag (OCI distribution specification 1.1).
func ValidTag(s string) error {
	if !tagPattern.MatchString(s) {
		return fmt.Errorf("bad tag %q: want up to 128 letters, digits and . _ -, not starting with . or -", s)
	}
	return nil
}

// ValidRepo tells what is wrong with a repository's name (the same specification).
func ValidRepo(s string) error {
	if len(s) > 200 || !repoPattern.MatchString(s) {
		return fmt.Errorf("bad repository name %q: want lower-case letters and digits with . _ - between them, and slashes", s)
	}
	return nil
}

// TagOf makes a tag of a file's name: what a tag cannot hold becomes "_".
func TagOf(name string) string {
	t := notInTag.ReplaceAllString(name, "_")
	t = strings.TrimLeft(t, ".-")
	if t == "" {
		return "_"
	}
	return t[:min(len(t), 128)]
}

// RepoOf makes a repository's name of a product's: lower case, and what a name
// cannot hold becomes a hyphen.
func RepoOf(product string) string {
	s := strings.ToLower(product)
	s = regexp.MustCompile(`[^a-z0-9._/-]+`).ReplaceAllString(s, "-")
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == '/' })
	for i, p := range parts {
		p = regexp.MustCompile(`\.[._-]+|_[.-][._-]*|_{3,}|-+[._][._-]*`).ReplaceAllString(p, "-")
		parts[i] = strings.Trim(p, "._-")
	}
	return strings.Join(parts, "/")
}
