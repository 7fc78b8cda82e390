// Package provenance says, so that it can be signed, what a build's artifacts
// were made of and by whom: an in-toto Statement v1 with SLSA's provenance v1
// (https://slsa.dev/spec/v1.0/provenance) in a DSSE envelope.
package provenance

import (
	"errors"
	"fmt"
	"time"

	"github.com/relkit/relkit/pkg/format/strict"
)

// The types that a statement names. BuildType is relkit's own; its parameters
// are Parameters, relkit-build-record(5).
const (
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://slsa.dev/provenance/v1"
	BuildType     = "https://github.com/relkit/relkit/build/v1"
)

// Statement is what is signed.
type Statement struct {
	Type string `json:"_type"`
	// Subject are the artifacts that are files.
	Subject       []Resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     Predicate  `json:"predicate"`
}

// Resource is in-toto's ResourceDescriptor: a thing by name, place or digest.
type Resource struct {
	Name string `json:"name,omitempty"`
	URI  string `json:"uri,omitempty"`
	// Digest maps an algorithm to hexadecimal digits.
	Digest map[string]string `json:"digest,omitempty"`
	// Content is the thing itself, where it is small: a symlink's target.
	Content     []byte            `json:"content,omitempty"`
	MediaType   string            `json:"mediaType,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Predicate is SLSA's provenance.
type Predicate struct {
	BuildDefinition Definition `json:"buildDefinition"`
	RunDetails      Run        `json:"runDetails"`
}

// Definition is what was to be built.
type Definition struct {
	BuildType string `json:"buildType"`
	// External is what whoever asked for the build decided.
	External Parameters `json:"externalParameters"`
	// Internal is what relkit chose.
	Internal Internal `json:"internalParameters"`
	// Dependencies are the sources, then the artifacts of other builds.
	Dependencies []Resource `json:"resolvedDependencies"`
}

// Parameters are those of BuildType.
type Parameters struct {
	Project string `json:"project"`
	// Builder is without its cell of the matrix, which Matrix is.
	Builder  string            `json:"builder"`
	Matrix   map[string]string `json:"matrix,omitempty"`
	Set      map[string]string `json:"set,omitempty"`
	Schedule string            `json:"schedule,omitempty"`
	// Config is relkit.toml.
	Config Resource `json:"config"`
}

// Internal is where it was built, and as which version.
type Internal struct {
	Version         string `json:"version,omitempty"`
	SourceDateEpoch int64  `json:"sourceDateEpoch"`
	Worker          string `json:"worker"`
	Kind            string `json:"kind"`
	Host            string `json:"host,omitempty"`
	OS              string `json:"os"`
	Arch            string `json:"arch"`
}

// Run is one run of a definition.
type Run struct {
	Builder  Builder  `json:"builder"`
	Metadata Metadata `json:"metadata"`
	// Byproducts are the artifacts that are symlinks, which have no digest, and the
	// bills of materials.
	Byproducts []Resource `json:"byproducts,omitempty"`
}

// Builder is who is to be trusted for the statement to be true.
type Builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version"`
}

// Metadata is when, and which of the builder's builds it was.
type Metadata struct {
	// InvocationID is BUILDER/NUMBER.
	InvocationID string    `json:"invocationId"`
	StartedOn    time.Time `json:"startedOn"`
	FinishedOn   time.Time `json:"finishedOn"`
}

// Encode writes the statement as it is signed: one line without a newline. It is
// an error where DecodeStatement would not take it back.
func (s *Statement) Encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("writing provenance: %w", err)
	}
	c := *s
	if c.Predicate.BuildDefinition.Dependencies == nil {
		c.Predicate.BuildDefinition.Dependencies = []Resource{}
	}
	b, err := strict.Encode(&c)
	if err != nil {
		return nil, fmt.Errorf("writing provenance: %w", err)
	}
	if b = b[:len(b)-1]; len(b) > MaxStatement {
		return nil, fmt.Errorf("writing provenance: %d bytes: at most %d", len(b), MaxStatement)
	}
	return b, nil
}

// DecodeStatement reads a statement of BuildType strictly.
func DecodeStatement(data []byte) (*Statement, error) {
	s := &Statement{}
	err := strict.Decode(data, MaxStatement, s)
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return nil, fmt.Errorf("reading provenance: %w", err)
	}
	return s, nil
}

func (s *Statement) check() error {
	d := &s.Predicate.BuildDefinition
	switch {
	case s.Type != StatementType:
		return fmt.Errorf("type %q, want %q", s.Type, StatementType)
	case s.PredicateType != PredicateType:
		return fmt.Errorf("predicate type %q, want %q", s.PredicateType, PredicateType)
	case d.BuildType != BuildType:
		return fmt.Errorf("build type %q, want %q", d.BuildType, BuildType)
	case s.Predicate.RunDetails.Builder.ID == "":
		return errors.New("no builder")
	case len(s.Subject) == 0:
		return errors.New("no subject")
	}
	for i, r := range s.Subject {
		if r.Name == "" || len(r.Digest["sha256"]) != 64 {
			return fmt.Errorf("subject %d: want a name and a sha256", i+1)
		}
	}
	for i, r := range d.Dependencies {
		if r.URI == "" && len(r.Digest) == 0 {
			return fmt.Errorf("dependency %d: want a uri or a digest", i+1)
		}
	}
	return nil
}
