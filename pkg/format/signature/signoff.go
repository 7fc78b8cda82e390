package signature

import (
	"errors"
	"fmt"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/strict"
	"github.com/relkit/relkit/pkg/format/version"
)

// SignoffSchema is a sign-off document's "schema".
const SignoffSchema = "relkit.signoff/v1"

// VerdictPass is the one verdict that lets a patch through.
const VerdictPass = "pass"

// MaxSignoff bounds a sign-off document in bytes.
const MaxSignoff = 1 << 20

// Signoff is one role's word on one patch. It is signed in NamespaceSignoff.
type Signoff struct {
	Schema string `json:"schema"`
	// Patch is the patch's identity: the digest of its patch.json.
	Patch digest.Digest `json:"patch"`
	Role  string        `json:"role"`
	Time  time.Time     `json:"time"` // RFC 3339, UTC
	// Verdict is VerdictPass, or a word that lets nothing through ("fail").
	Verdict string `json:"verdict"`
	// Evidence is what the verdict rests on: test reports, build records.
	Evidence []Evidence `json:"evidence,omitempty"`
}

// Evidence names a file that was looked at.
type Evidence struct {
	Name   string        `json:"name"`
	Digest digest.Digest `json:"digest"`
}

// Encode writes the document as it is signed.
func (s *Signoff) Encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	out := *s
	out.Time = s.Time.UTC()
	b, err := strict.Encode(&out)
	if err == nil && len(b) > MaxSignoff {
		return nil, fmt.Errorf("sign-off of %d bytes: at most %d", len(b), MaxSignoff)
	}
	return b, err
}

// ParseSignoff reads a sign-off document. Check the signature over the bytes first.
func ParseSignoff(b []byte) (*Signoff, error) {
	var s Signoff
	if err := strict.Decode(b, MaxSignoff, &s); err != nil {
		return nil, err
	}
	return &s, s.check()
}

func (s *Signoff) check() error {
	switch {
	case s.Schema != SignoffSchema:
		return fmt.Errorf("schema %q: want %q", s.Schema, SignoffSchema)
	case s.Patch.IsZero():
		return errors.New(`no "patch" digest`)
	case s.Verdict == "":
		return errors.New(`no "verdict"`)
	case s.Time.IsZero() || s.Time.Year() < 1970 || s.Time.Year() > 9999:
		return errors.New(`no "time", or one outside 1970 to 9999`)
	}
	if err := ValidRole(s.Role); err != nil {
		return err
	}
	for i, e := range s.Evidence {
		if e.Name == "" || e.Digest.IsZero() {
			return fmt.Errorf("evidence %d: needs a name and a digest", i)
		}
	}
	return nil
}

// ValidRole tells what is wrong with a role's name: letters, digits and . + - _,
// so that it can be a principal and a file name.
func ValidRole(role string) error {
	if err := version.ValidName(role); err != nil {
		return fmt.Errorf("role: %w", err)
	}
	for i := range len(role) {
		if role[i] == '/' || role[i] == ':' {
			return fmt.Errorf("role %q: bad character %q", role, role[i])
		}
	}
	return nil
}

// SignedDoc is a document with the signature beside it.
type SignedDoc struct {
	Name string // where it was found, for messages: "signoffs/qa.json"
	Doc  []byte
	Sig  []byte // armored
}
