// Package trust decides whether what was signed may be acted on: whose
// signatures count, as what, and how many different people it takes.
package trust

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/signature"
)

// DefaultRequire is what a policy without Require asks for.
const DefaultRequire = "release"

// maxSignoffs bounds how many sign-offs of one patch are looked at.
const maxSignoffs = 256

// Policy is who may sign, and what it takes.
type Policy struct {
	Allowed *signature.AllowedSigners
	// File is what Allowed was read from, for messages; "" says "allowed_signers".
	File string
	// Require is the roles that must sign, each with a key of its own; a role
	// named twice needs two. An element may offer a choice, as "status|release".
	// None means DefaultRequire.
	Require []string
	// Subject is the file that is verified, for hints; "" says "FILE".
	Subject string
}

// Accepted is one requirement with the signature that met it.
type Accepted struct {
	Role           string `json:"role"`
	KeyFingerprint string `json:"key"`
	// Certificate names the certificate that the key signed with, and its
	// authority: no file on the machine lists the key then; "" without one.
	Certificate string    `json:"certificate,omitempty"`
	Time        time.Time `json:"time"` // when the signer says it was signed; zero for a bare signature
}

// Signer is the key, with its certificate.
func (a Accepted) Signer() string {
	if a.Certificate == "" {
		return a.KeyFingerprint
	}
	return a.KeyFingerprint + ", " + a.Certificate
}

// certificate says which certificate a key is; "" where it is none.
func certificate(key ssh.PublicKey) string {
	c, ok := key.(*ssh.Certificate)
	if !ok {
		return ""
	}
	return fmt.Sprintf("certificate %q (serial %d) of %s", c.KeyId, c.Serial, signature.Fingerprint(c.SignatureKey))
}

// claim is a signature that verifies and may stand for the roles it names.
type claim struct {
	Accepted
	roles []string
}

// CheckSignoffs tells whether the sign-offs of the patch with identity patchID
// satisfy the policy at the time now, and which of them do, in the order of
// policy.Require. The error is a failure.Untrusted that says which role is
// missing and what was found instead.
//
// A certificate has to have been valid at the time that the sign-off gives, and
// need not be now: it may live for a day, the patch for years. Its holder could
// give a time that has passed, so whoever is to be locked out at once is, by
// their line or their authority's. Sign-offs that do not count (of another patch, by an unknown key, not
// passed) are passed over: anybody can put one into a patch.
func CheckSignoffs(policy Policy, patchID digest.Digest, signoffs []signature.SignedDoc, now time.Time) ([]Accepted, error) {
	if policy.Allowed == nil {
		return nil, failure.Errorf(failure.Untrusted, "no allowed signers to check the sign-offs against")
	}
	if len(signoffs) > maxSignoffs {
		return nil, failure.Errorf(failure.Untrusted, "%d sign-offs: at most %d", len(signoffs), maxSignoffs)
	}
	var claims []claim
	var found []finding
	for _, doc := range signoffs {
		c, role, err := policy.checkSignoff(patchID, doc, now)
		if err != nil {
			found = append(found, finding{role, fmt.Errorf("%s: %w", doc.Name, err)})
			continue
		}
		claims = append(claims, c)
	}
	accepted, err := policy.match(claims, found, "sign-off")
	var missing *missingRole
	if errors.As(err, &missing) {
		return nil, failure.WithHint(failure.As(failure.Untrusted, err), "relkit sign %s --as %s --key KEY", cmp.Or(policy.Subject, "FILE"), missing.role)
	}
	return accepted, failure.As(failure.Untrusted, err)
}

// checkSignoff returns the role that a sign-off speaks for wherever it can be told.
func (p Policy) checkSignoff(patchID digest.Digest, doc signature.SignedDoc, now time.Time) (claim, string, error) {
	key, err := signature.Verify(strings.NewReader(string(doc.Doc)), doc.Sig, signature.NamespaceSignoff)
	if err != nil {
		return claim{}, "", err
	}
	s, err := signature.ParseSignoff(doc.Doc)
	if err != nil {
		return claim{}, "", err
	}
	print := signature.Fingerprint(key)
	switch {
	case s.Patch != patchID:
		return claim{}, s.Role, fmt.Errorf("it is about patch %s, not %s", s.Patch, patchID)
	case s.Verdict != signature.VerdictPass:
		return claim{}, s.Role, fmt.Errorf("the verdict of key %s is %q", print, s.Verdict)
	}
	lines := p.Allowed.Find(key)
	if len(lines) == 0 {
		return claim{}, s.Role, fmt.Errorf("key %s signed as %q but is not in %s", print, s.Role, p.file())
	}
	var why []string
	for _, l := range lines {
		place := fmt.Sprintf("(%s line %d)", p.file(), l.Line)
		err := l.Accepts(key, signature.NamespaceSignoff, s.Time, now)
		if roles := l.Roles(key); err == nil && !slices.Contains(roles, s.Role) {
			why = append(why, fmt.Sprintf("is %s %s", listedAs(l, roles), place))
			continue
		}
		if err == nil {
			return claim{Accepted{s.Role, print, certificate(key), s.Time}, []string{s.Role}}, s.Role, nil
		}
		why = append(why, fmt.Sprintf("does not count: %v %s", err, place))
	}
	return claim{}, s.Role, fmt.Errorf("key %s signed as %q but %s", print, s.Role, strings.Join(why, ", and "))
}

// CheckDocument tells whether the armored signatures over doc, in a namespace,
// satisfy the policy at the time now. A key stands for every role it is listed
// as. A document says by "issued" when it was signed, or it is taken to be signed
// now. The error is a failure.Untrusted.
func CheckDocument(policy Policy, namespace string, doc []byte, sigs []signature.SignedDoc, now time.Time) ([]Accepted, error) {
	if policy.Allowed == nil {
		return nil, failure.Errorf(failure.Untrusted, "no allowed signers to check the signature against")
	}
	if len(sigs) > maxSignoffs {
		return nil, failure.Errorf(failure.Untrusted, "%d signatures: at most %d", len(sigs), maxSignoffs)
	}
	var claims []claim
	var found []finding
	for _, s := range sigs {
		key, err := signature.Verify(strings.NewReader(string(doc)), s.Sig, namespace)
		if err != nil {
			found = append(found, finding{"", fmt.Errorf("%s: %w", s.Name, err)})
			continue
		}
		print := signature.Fingerprint(key)
		signed := issued(doc, now)
		roles := policy.Allowed.Roles(key, namespace, signed, now)
		if len(roles) == 0 {
			found = append(found, finding{"", fmt.Errorf("%s: key %s %s", s.Name, print, policy.whyNot(key, namespace, signed, now))})
			continue
		}
		claims = append(claims, claim{Accepted{KeyFingerprint: print, Certificate: certificate(key)}, roles})
	}
	accepted, err := policy.match(claims, found, "signature")
	return accepted, failure.As(failure.Untrusted, err)
}

// issued is when a document, of which it is known that some key signed it, says
// that it was made.
func issued(doc []byte, now time.Time) time.Time {
	var d struct {
		Issued time.Time `json:"issued"`
	}
	if json.Unmarshal(doc, &d) != nil || d.Issued.IsZero() {
		return now
	}
	return d.Issued
}

func (p Policy) whyNot(key ssh.PublicKey, namespace string, signed, now time.Time) string {
	lines := p.Allowed.Find(key)
	if len(lines) == 0 {
		return "is not in " + p.file()
	}
	var why []string
	for _, l := range lines {
		if err := l.Accepts(key, namespace, signed, now); err != nil {
			why = append(why, fmt.Sprintf("does not count: %v (%s line %d)", err, p.file(), l.Line))
		} else {
			why = append(why, fmt.Sprintf("is %s (%s line %d)", listedAs(l, l.Roles(key)), p.file(), l.Line))
		}
	}
	return strings.Join(why, ", and ")
}

// listedAs says what a key may sign as by a line. A certificate can leave nothing of it.
func listedAs(l signature.Signer, roles []string) string {
	if len(roles) == 0 {
		return "certified as none of " + quoted(l.Principals)
	}
	return "listed as " + quoted(roles)
}

func (p Policy) require() []string {
	if len(p.Require) == 0 {
		return []string{DefaultRequire}
	}
	return p.Require
}

func (p Policy) file() string {
	if p.File == "" {
		return "allowed_signers"
	}
	return p.File
}

func quoted(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(q, ", ")
}
