package signature

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"
)

// MaxAllowedSigners bounds an allowed_signers file in bytes.
const MaxAllowedSigners = 1 << 20

// AllowedSigners is an allowed_signers file (ssh-keygen(1), ALLOWED SIGNERS):
// which keys sign as whom.
type AllowedSigners struct {
	Signers []Signer
}

// Signer is one line of it.
type Signer struct {
	Line       int // from 1
	Principals []string
	Key        ssh.PublicKey
	// CertAuthority says that Key signs certificates, not documents: the keys
	// that it certifies sign as those of Principals that their certificates name.
	CertAuthority bool
	// Namespaces is the pattern list of namespaces=; "" allows every namespace.
	Namespaces string
	// ValidAfter and ValidBefore bound, both inclusive, when the key signs;
	// the zero time does not.
	ValidAfter, ValidBefore time.Time
}

// ParseAllowedSigners reads an allowed_signers file. It refuses, naming the
// line, what ssh-keygen refuses, and also patterns among the principals and key
// types that Verify does not accept. One bad line makes the whole file bad:
// ssh-keygen passes over it, and a signer is missing without a word.
func ParseAllowedSigners(data []byte) (*AllowedSigners, error) {
	if len(data) > MaxAllowedSigners {
		return nil, fmt.Errorf("allowed signers of %d bytes: at most %d", len(data), MaxAllowedSigners)
	}
	var a AllowedSigners
	n := 0
	for line := range bytes.Lines(data) {
		n++
		text := strings.TrimRight(strings.TrimLeft(string(line), " \t"), " \t\r\n")
		if text == "" || text[0] == '#' {
			continue
		}
		if strings.Contains(text, "\x00") {
			return nil, fmt.Errorf("line %d: a NUL byte", n)
		}
		s, err := parseSigner(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		s.Line = n
		a.Signers = append(a.Signers, s)
	}
	return &a, nil
}

// Roles is the principals, sorted, that what key signed in a namespace, at a
// time, counts as now.
func (a *AllowedSigners) Roles(key ssh.PublicKey, namespace string, signed, now time.Time) []string {
	var roles []string
	for _, s := range a.Find(key) {
		if s.Accepts(key, namespace, signed, now) == nil {
			roles = append(roles, s.Roles(key)...)
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// Find is the lines that are about key, accepted or not: those that hold it and,
// for a certificate, those that hold its authority.
func (a *AllowedSigners) Find(key ssh.PublicKey) []Signer {
	var found []Signer
	for _, s := range a.Signers {
		if sameKey(s.Key, Plain(key)) || s.certifies(key) {
			found = append(found, s)
		}
	}
	return found
}

// Roles is the principals that key has by this line: the line's and, for a
// certificate, of those the ones that it names too.
func (s *Signer) Roles(key ssh.PublicKey) []string {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return s.Principals
	}
	return slices.DeleteFunc(slices.Clone(s.Principals), func(p string) bool { return !slices.Contains(cert.ValidPrincipals, p) })
}

// Accepts tells why the line does not let key, which is the line's or certified
// by it, sign in a namespace; nil where it does. The line itself has to hold
// now, so that a key can be withdrawn, and to have begun when the signature was
// made; a certificate has to have been valid when it was made. Where nothing
// says when that was, signed is now.
func (s *Signer) Accepts(key ssh.PublicKey, namespace string, signed, now time.Time) error {
	cert, certified := key.(*ssh.Certificate)
	switch {
	case s.CertAuthority && !s.certifies(key):
		return errors.New("it is a certificate authority, which signs certificates alone")
	case certified && !s.CertAuthority:
		return errors.New("it signed with a certificate, and the line is for the key without one")
	case !s.ForNamespace(namespace):
		return fmt.Errorf("it is for namespaces %q, not %q", s.Namespaces, namespace)
	case !s.ValidAfter.IsZero() && now.Unix() < s.ValidAfter.Unix():
		return fmt.Errorf("it is valid only from %s", s.ValidAfter.UTC().Format(time.RFC3339))
	case !s.ValidAfter.IsZero() && signed.Unix() < s.ValidAfter.Unix():
		return fmt.Errorf("it is valid only from %s and signed on %s", s.ValidAfter.UTC().Format(time.RFC3339), signed.UTC().Format(time.RFC3339))
	case !s.ValidBefore.IsZero() && now.Unix() > s.ValidBefore.Unix():
		return fmt.Errorf("it was valid only until %s", s.ValidBefore.UTC().Format(time.RFC3339))
	}
	if !certified {
		return nil
	}
	if err := checkUse(cert); err != nil {
		return err
	}
	return checkValidity(cert, signed, now)
}

// ForNamespace tells whether the line lets its key sign in a namespace at all.
func (s *Signer) ForNamespace(namespace string) bool {
	return s.Namespaces == "" || matchList(namespace, s.Namespaces)
}

// certifies tells whether the line is of the authority that certified key.
func (s *Signer) certifies(key ssh.PublicKey) bool {
	cert, ok := key.(*ssh.Certificate)
	return ok && s.CertAuthority && sameKey(s.Key, cert.SignatureKey)
}

func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// parseSigner reads "principals [options] keytype base64 [comment]".
func parseSigner(text string) (Signer, error) {
	var s Signer
	principals, rest, err := cutPrincipals(text)
	if err != nil {
		return s, err
	}
	if s.Principals, err = parsePrincipals(principals); err != nil {
		return s, err
	}
	word, _ := cutWord(rest)
	if !isKeyType(word) {
		options, after, err := cutOptions(rest)
		if err != nil {
			return s, err
		}
		if err := s.parseOptions(options); err != nil {
			return s, err
		}
		rest = after
	}
	if s.Key, err = parseKey(rest); err != nil {
		return s, err
	}
	if _, ok := s.Key.(*ssh.Certificate); ok {
		return s, errors.New("key is a certificate: list the key itself, or its authority with cert-authority")
	}
	return s, nil
}

// cutPrincipals takes the first field, which may stand in double quotes.
func cutPrincipals(text string) (field, rest string, err error) {
	quoted, isQuoted := strings.CutPrefix(text, `"`)
	if !isQuoted {
		field, rest = cutWord(text)
		if strings.Contains(field, `"`) {
			return "", "", fmt.Errorf("principals %q: a quote in the middle", field)
		}
		return field, rest, nil
	}
	field, rest, ok := strings.Cut(quoted, `"`)
	if !ok {
		return "", "", errors.New("principals: no closing quote")
	}
	if rest != "" && rest[0] != ' ' && rest[0] != '\t' {
		return "", "", fmt.Errorf("principals %q: no blank after the closing quote", field)
	}
	return field, strings.TrimLeft(rest, " \t"), nil
}

func parsePrincipals(list string) ([]string, error) {
	names := strings.Split(list, ",")
	for _, name := range names {
		switch {
		case name == "":
			return nil, fmt.Errorf("principals %q: an empty name", list)
		case strings.ContainsAny(name, "*?!"):
			return nil, fmt.Errorf("principal %q: patterns are not accepted, list each role by its name", name)
		case strings.ContainsFunc(name, unicode.IsControl):
			return nil, fmt.Errorf("principal %q: a control character", name)
		case len(name) > maxPattern:
			return nil, fmt.Errorf("principal of %d bytes: at most %d", len(name), maxPattern)
		}
	}
	return names, nil
}

// parseKey reads "keytype base64 [comment]".
func parseKey(text string) (ssh.PublicKey, error) {
	kind, rest := cutWord(text)
	if kind == "" {
		return nil, errors.New("no key on the line")
	}
	encoded, _ := cutWord(rest)
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("key of type %q: %w", kind, err)
	}
	key, err := ssh.ParsePublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("key of type %q: %w", kind, err)
	}
	if key.Type() != kind {
		return nil, fmt.Errorf("key says it is %q, the line says %q", key.Type(), kind)
	}
	return key, CheckKey(key)
}

// ParsePublicKey reads a public key file: "keytype base64 [comment]". It may
// hold a certificate.
func ParsePublicKey(data []byte) (ssh.PublicKey, error) {
	line, rest, _ := strings.Cut(strings.Trim(string(data), " \t\r\n"), "\n")
	if rest != "" {
		return nil, errors.New("public key: more than one line")
	}
	return parseKey(line)
}

func isKeyType(word string) bool {
	if _, ok := signatureFormats[word]; ok {
		return true
	}
	return word == "ssh-dss" || strings.HasSuffix(word, "-cert-v01@openssh.com")
}

// cutWord takes what stands before the first blank, and skips the blanks.
func cutWord(text string) (word, rest string) {
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		return text[:i], strings.TrimLeft(text[i:], " \t")
	}
	return text, ""
}
