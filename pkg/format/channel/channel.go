// Package channel writes and reads the two documents of a channel, and decides
// from them what a machine gets: which release, by which patches.
//
// releases says what there is and how far each release may spread; it changes
// when somebody publishes, and is signed with keys kept offline. status is short
// lived and says that the channel is alive; it can only hold back what releases
// allows. They relate as TUF's targets and timestamp roles do
// (https://theupdateframework.github.io/specification/latest/).
package channel

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/strict"
	"github.com/relkit/relkit/pkg/format/version"
)

// What the documents say they are.
const (
	ReleasesSchema = "relkit.channel-releases/v1"
	StatusSchema   = "relkit.channel-status/v1"
)

// Bounds, in bytes and in elements.
const (
	MaxReleases = 4 << 20
	MaxStatus   = 64 << 10
	maxReleases = 1000
	maxPatches  = 10000
	maxStages   = 100
	maxNames    = 10000
)

// WholeShare is every machine, in basis points (1/100 of a percent).
const WholeShare = 10000

// Releases is what a channel offers.
type Releases struct {
	Schema  string `json:"schema"`
	Product string `json:"product"`
	Channel string `json:"channel"`
	// Serial grows by one each time the document changes.
	Serial  int64     `json:"serial"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	// Floor is the oldest version that a machine may go back to; "" for any.
	Floor string `json:"floor,omitempty"`
	// Releases are in the order of their versions, the oldest first.
	Releases []Release `json:"releases"`
	Patches  []Patch   `json:"patches"`
}

// Release is one version that a machine may come to.
type Release struct {
	Version string `json:"version"`
	// Full is the patch that needs no base; nil where there is none.
	Full *Artifact `json:"full,omitempty"`
	// MinBase is the oldest version from which this one can be reached; "" for any.
	MinBase  string   `json:"min_base,omitempty"`
	Selector Selector `json:"selector,omitzero"`
	// Rollout is how the share of machines widens; none means all at once.
	Rollout []Stage `json:"rollout,omitempty"`
}

// Artifact is a file in the channel's repository.
type Artifact struct {
	ID     string        `json:"id"` // the patch's, unique in the channel
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"` // bytes
	// Model is as in Selector.
	Model []string `json:"model,omitempty"`
}

// Patch takes a machine from one version to another.
type Patch struct {
	Artifact
	From string `json:"from"`
	To   string `json:"to"` // one of the releases
}

// Stage is a share of the machines and when it begins.
type Stage struct {
	At               time.Time `json:"at"`
	ShareBasisPoints int       `json:"share_basis_points"` // 1 to 10000
}

// The values of Status.State.
const (
	Active = "active" // machines may update
	Paused = "paused" // nobody starts for now; a machine told to force it may
	Halted = "halted" // what is offered is bad: nobody, forced or not
)

// Status says what of a releases document holds now.
type Status struct {
	Schema  string `json:"schema"`
	Product string `json:"product"`
	Channel string `json:"channel"`
	// Serial grows by one each time the document changes; it is not the releases' one.
	Serial  int64     `json:"serial"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	State   string    `json:"state"`
	// CapBasisPoints holds the newest release at a share below what its stages
	// allow; 10000 holds nothing back.
	CapBasisPoints int         `json:"cap_basis_points"`
	Releases       ReleasesRef `json:"releases"`
}

// ReleasesRef is the one releases document that a status goes with.
type ReleasesRef struct {
	Serial int64 `json:"serial"`
	// Digest is of the document, Manifest of the artifact that holds it with its signatures.
	Digest   digest.Digest `json:"digest"`
	Manifest digest.Digest `json:"manifest"`
}

// Encode writes the document as it is signed; equal documents give equal bytes.
func (r *Releases) Encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("writing releases: %w", err)
	}
	return encode(r, MaxReleases)
}

// Encode writes the document as it is signed; equal documents give equal bytes.
func (s *Status) Encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("writing status: %w", err)
	}
	return encode(s, MaxStatus)
}

func encode(v any, limit int) ([]byte, error) {
	b, err := strict.Encode(v)
	if err == nil && len(b) > limit {
		err = fmt.Errorf("document of %d bytes: at most %d", len(b), limit)
	}
	return b, err
}

// ParseReleases reads a releases document, whose signatures have been checked.
func ParseReleases(b []byte) (*Releases, error) {
	r := new(Releases)
	if err := decode(b, MaxReleases, r, ReleasesSchema); err != nil {
		return nil, fmt.Errorf("reading releases: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("reading releases: %w", err)
	}
	return r, nil
}

// ParseStatus reads a status document, whose signatures have been checked.
func ParseStatus(b []byte) (*Status, error) {
	s := new(Status)
	if err := decode(b, MaxStatus, s, StatusSchema); err != nil {
		return nil, fmt.Errorf("reading status: %w", err)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("reading status: %w", err)
	}
	return s, nil
}

var schemaField = regexp.MustCompile(`^\s*\{\s*"schema"\s*:\s*"(relkit\.channel-[a-z]+/v([0-9]{1,9}))"`)

// decode refuses a document of a later schema as that, not as damaged: it is
// for a newer relkit. The schema is the first field. A key that nobody knows is
// failure.Untrusted: what was signed is not what would be understood.
func decode(b []byte, limit int, v any, schema string) error {
	if m := schemaField.FindSubmatch(b[:min(len(b), 200)]); m != nil && string(m[1]) != schema && sameNoun(string(m[1]), schema) {
		return failure.Errorf(failure.Refused, "schema %q: this relkit reads %q; update relkit first", m[1], schema)
	}
	return failure.As(failure.Untrusted, strict.Decode(b, limit, v))
}

func sameNoun(a, b string) bool {
	a, _, _ = strings.Cut(a, "/")
	b, _, _ = strings.Cut(b, "/")
	return a == b
}

// ValidName tells what is wrong with a channel's name: it is a tag, and
// CHANNEL.status is one too.
func ValidName(s string) error {
	if !channelPattern.MatchString(s) || strings.HasSuffix(s, StatusSuffix) {
		return fmt.Errorf("bad channel name %q: want up to 100 letters, digits and . _ -, not starting with . or - nor ending in %s", s, StatusSuffix)
	}
	return nil
}

var channelPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`)

// StatusSuffix is what the tag of the status adds to the channel's name.
const StatusSuffix = ".status"

func checkHead(schema, want, product, name string, serial int64, issued, expires time.Time) error {
	switch {
	case schema != want:
		return fmt.Errorf("schema %q: want %q", schema, want)
	case serial < 1:
		return fmt.Errorf("serial %d: want 1 or more", serial)
	case !validTime(issued) || !validTime(expires):
		return fmt.Errorf("issued and expires: want times in UTC and whole seconds")
	case !expires.After(issued):
		return fmt.Errorf("expires %s is not after issued %s", stamp(expires), stamp(issued))
	}
	if err := version.ValidName(product); err != nil {
		return fmt.Errorf("product: %w", err)
	}
	return ValidName(name)
}

// validTime admits the times that have one spelling.
func validTime(t time.Time) bool {
	return t.Year() >= 1970 && t.Year() <= 9999 && t.Nanosecond() == 0 && t.Location() == time.UTC
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
