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
	// Thresholds is how many keys a role takes wherever it is required, one where
	// nothing is said; of a choice the first role's.
	Thresholds map[string]int
	// Evidence are the roles whose sign-offs must name what they rest on.
	Evidence []string
	// Revoked tells why a key, by its fingerprint, never counts; nil for none.
	Revoked func(print string) error
	// ClockWrong says that the clock is known to be wrong, so that "now" is only a
	// time that has passed: what is valid from a later time on counts if it was
	// valid when it signed.
	ClockWrong bool
	// Subject is the file that is verified, for hints; "" says "FILE".
	Subject string
}

// Accepted is one requirement with the signature that met it.
type Accepted struct {
	Role           string `json:"role"`
	KeyFingerprint string `json:"key"`
	// Certificate names the certificate that the key signed with, and its
	// authority: no file on the machine lists the key then; "" without one.
	Certificate string `json:"certificate,omitempty"`
	// Time is when the signer says it was signed; zero for a bare signature, and
	// where it is read back from a journal, which does not have it.
	Time time.Time `json:"time,omitzero"`
	// Evidence is what the signer's word rests on.
	Evidence []signature.Evidence `json:"evidence,omitempty"`
}

// Signer is the key, with its certificate.
func (a Accepted) Signer() string {
	if a.Certificate == "" {
		return a.KeyFingerprint
	}
	return a.KeyFingerprint + ", " + a.Certificate
}

// String is the acceptance as the audit log has it: role, signer, and the digests
// of the first few files that the signer's word rests on.
func (a Accepted) String() string {
	text := a.Role + " " + a.Signer()
	const shown = 8
	for i, e := range a.Evidence {
		if i == shown {
			return fmt.Sprintf("%s and %d more", text, len(a.Evidence)-shown)
		}
		text += ", evidence " + e.Digest.String()
	}
	return text
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
	roles   []string
	verdict string // of a sign-off
}

// CheckSignoffs tells whether the sign-offs of the patch with identity patchID
// satisfy the policy at the time now, and which of them do, in the order of
// policy.Require. The error is a failure.Untrusted that says which role is
// missing and what was found instead.
//
// A certificate has to have been valid at the time that the sign-off gives, and
// need not be now: it may live for a day, the patch for years. Its holder could
// give a time that has passed, so whoever is to be locked out at once is, by
// their line or their authority's, or by being revoked. Sign-offs that do not
// count (of another patch, by an unknown key) are passed over: anybody can put
// one into a patch. But a verdict other than pass, by a key that may sign as its
// role, required or not, refuses the patch until that key says otherwise later.
func CheckSignoffs(policy Policy, patchID digest.Digest, signoffs []signature.SignedDoc, now time.Time) ([]Accepted, error) {
	if policy.Allowed == nil {
		return nil, failure.Errorf(failure.Untrusted, "no allowed signers to check the sign-offs against")
	}
	if len(signoffs) > maxSignoffs {
		return nil, failure.Errorf(failure.Untrusted, "%d sign-offs: at most %d", len(signoffs), maxSignoffs)
	}
	var all []claim
	var found []finding
	for _, doc := range signoffs {
		c, role, err := policy.checkSignoff(patchID, doc, now)
		if err != nil {
			found = append(found, finding{role, fmt.Errorf("%s: %w", doc.Name, err)})
			continue
		}
		all = append(all, c)
	}
	claims, against := weigh(all)
	for _, c := range against {
		found = append(found, finding{c.Role, c.objection()})
	}
	accepted, err := policy.match(claims, found, "sign-off")
	if err == nil && len(against) > 0 {
		return nil, failure.As(failure.Untrusted, against[0].objection())
	}
	var missing *missingRole
	if errors.As(err, &missing) {
		evidence := ""
		if slices.Contains(policy.Evidence, missing.role) {
			evidence = " --evidence FILE"
		}
		return nil, failure.WithHint(failure.As(failure.Untrusted, err), "relkit sign %s --as %s --key KEY%s", cmp.Or(policy.Subject, "FILE"), missing.role, evidence)
	}
	return accepted, failure.As(failure.Untrusted, err)
}

// weigh takes each key's last word in each role: those who pass the patch, and
// those who do not. Of two words of one time the one against it counts.
func weigh(all []claim) (passed, against []claim) {
	for _, c := range all {
		answered := slices.ContainsFunc(all, func(o claim) bool {
			later := o.Time.After(c.Time) || o.Time.Equal(c.Time) && c.verdict == signature.VerdictPass
			return o.KeyFingerprint == c.KeyFingerprint && o.Role == c.Role && o.verdict != c.verdict && later
		})
		switch {
		case answered:
		case c.verdict == signature.VerdictPass:
			passed = append(passed, c)
		default:
			against = append(against, c)
		}
	}
	return passed, against
}

func (c claim) objection() error {
	return fmt.Errorf("the verdict of key %s as %q is %q, of %s", c.KeyFingerprint, c.Role, c.verdict, c.Time.UTC().Format(time.RFC3339))
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
	if s.Patch != patchID {
		return claim{}, s.Role, fmt.Errorf("it is about patch %s, not %s", s.Patch, patchID)
	}
	if err := p.revoked(key); err != nil {
		return claim{}, s.Role, fmt.Errorf("key %s signed as %q but %w", print, s.Role, err)
	}
	lines := p.Allowed.Find(key)
	if len(lines) == 0 {
		return claim{}, s.Role, fmt.Errorf("key %s signed as %q but is not in %s", print, s.Role, p.file())
	}
	var why []string
	for _, l := range lines {
		place := fmt.Sprintf("(%s line %d)", p.file(), l.Line)
		err := l.Accepts(key, signature.NamespaceSignoff, s.Time, p.at(s.Time, now))
		roles := l.Roles(key)
		switch {
		case err != nil:
			why = append(why, fmt.Sprintf("does not count: %v %s", err, place))
		case !slices.Contains(roles, s.Role):
			why = append(why, fmt.Sprintf("is %s %s", listedAs(l, roles), place))
		case len(s.Evidence) == 0 && s.Verdict == signature.VerdictPass && slices.Contains(p.Evidence, s.Role):
			return claim{}, s.Role, fmt.Errorf("key %s signed as %q without evidence, which the policy of this machine wants", print, s.Role)
		default:
			return claim{Accepted{s.Role, print, certificate(key), s.Time, s.Evidence}, []string{s.Role}, s.Verdict}, s.Role, nil
		}
	}
	return claim{}, s.Role, fmt.Errorf("key %s signed as %q but %s", print, s.Role, strings.Join(why, ", and "))
}

// revoked tells why a key, or who certified it, never counts.
func (p Policy) revoked(key ssh.PublicKey) error {
	if p.Revoked == nil {
		return nil
	}
	err := p.Revoked(signature.Fingerprint(key))
	if cert, ok := key.(*ssh.Certificate); ok && err == nil {
		if err = p.Revoked(signature.Fingerprint(cert.SignatureKey)); err != nil {
			err = fmt.Errorf("of its authority: %w", err)
		}
	}
	return err
}

// at is the time that a line has to hold at.
func (p Policy) at(signed, now time.Time) time.Time {
	if p.ClockWrong && signed.After(now) {
		return signed
	}
	return now
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
		if err := policy.revoked(key); err != nil {
			found = append(found, finding{"", fmt.Errorf("%s: key %s: %w", s.Name, print, err)})
			continue
		}
		signed := issued(doc, now)
		at := policy.at(signed, now)
		roles := policy.Allowed.Roles(key, namespace, signed, at)
		if len(roles) == 0 {
			found = append(found, finding{"", fmt.Errorf("%s: key %s %s", s.Name, print, policy.whyNot(key, namespace, signed, at))})
			continue
		}
		claims = append(claims, claim{Accepted: Accepted{KeyFingerprint: print, Certificate: certificate(key)}, roles: roles})
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

// require is every required role as often as it takes keys.
func (p Policy) require() []string {
	wanted := p.Require
	if len(wanted) == 0 {
		wanted = []string{DefaultRequire}
	}
	var all []string
	for i, r := range wanted {
		if slices.Contains(wanted[:i], r) {
			continue
		}
		n := 0
		for _, o := range wanted {
			if o == r {
				n++
			}
		}
		first, _, _ := strings.Cut(r, "|")
		all = append(all, slices.Repeat([]string{r}, max(n, p.Thresholds[first]))...)
	}
	return all
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
