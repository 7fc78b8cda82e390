package signature

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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
	// CertAuthority says that Key signs certificates, not documents. Such a
	// line is understood; no signature is accepted by it.
	CertAuthority bool
	// Namespaces is the pattern list of namespaces=; "" allows every namespace.
	Namespaces string
	// ValidAfter and ValidBefore bound, both inclusive, when the key signs;
	// the zero time does not.
	ValidAfter, ValidBefore time.Time
}

// ParseAllowedSigners reads an allowed_signers file. It refuses, naming the
// line, what ssh-keygen refuses, and also patterns among the principals and key
// types that Verify does not accept. As for ssh-keygen, times without a Z
// are in the local time zone.
func ParseAllowedSigners(data []byte) (*AllowedSigners, error) {
	if len(data) > MaxAllowedSigners {
		return nil, fmt.Errorf("allowed signers of %d bytes: at most %d", len(data), MaxAllowedSigners)
	}
	var a AllowedSigners
	n := 0
	for line := range bytes.Lines(data) {
		n++
		text := strings.Trim(string(line), " \t\r\n")
		if text == "" || text[0] == '#' {
			continue
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

// Roles is the principals, sorted, that key may sign as in a namespace at a time.
func (a *AllowedSigners) Roles(key ssh.PublicKey, namespace string, at time.Time) []string {
	var roles []string
	for _, s := range a.Find(key) {
		if s.Accepts(namespace, at) == nil {
			roles = append(roles, s.Principals...)
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// Find is the lines that hold key, accepted or not.
func (a *AllowedSigners) Find(key ssh.PublicKey) []Signer {
	var found []Signer
	wire := key.Marshal()
	for _, s := range a.Signers {
		if bytes.Equal(s.Key.Marshal(), wire) {
			found = append(found, s)
		}
	}
	return found
}

// Accepts tells why the line's key may not sign in a namespace at a time; nil where it may.
func (s *Signer) Accepts(namespace string, at time.Time) error {
	switch {
	case s.CertAuthority:
		return errors.New("it is a certificate authority, and certificates are not accepted")
	case s.Namespaces != "" && !matchList(namespace, s.Namespaces):
		return fmt.Errorf("it is for namespaces %q, not %q", s.Namespaces, namespace)
	case !s.ValidAfter.IsZero() && at.Before(s.ValidAfter):
		return fmt.Errorf("it is valid only from %s", s.ValidAfter.UTC().Format(time.RFC3339))
	case !s.ValidBefore.IsZero() && at.After(s.ValidBefore):
		return fmt.Errorf("it was valid only until %s", s.ValidBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

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
	s.Key, err = parseKey(rest)
	return s, err
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
		}
	}
	return names, nil
}

// cutOptions takes the options: up to the first blank outside double quotes.
func cutOptions(text string) (options, rest string, err error) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && text[i+1] == '"':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '\t'):
			return text[:i], strings.TrimLeft(text[i:], " \t"), nil
		}
	}
	if quoted {
		return "", "", errors.New("options: no closing quote")
	}
	return "", "", errors.New("no key on the line")
}

// parseOptions reads comma-separated options; their names are case-insensitive.
func (s *Signer) parseOptions(options string) error {
	seen := map[string]bool{}
	for {
		end := strings.IndexAny(options, "=,")
		name, value := options, ""
		switch {
		case end >= 0 && options[end] == '=':
			var err error
			name = options[:end]
			if value, options, err = cutQuoted(name, options[end+1:]); err != nil {
				return err
			}
		case end >= 0:
			name, options = options[:end], options[end:]
		default:
			options = ""
		}
		lower := strings.ToLower(name)
		if seen[lower] {
			return fmt.Errorf("option %q stands twice", name)
		}
		seen[lower] = true
		if err := s.setOption(lower, value, end >= 0 && value != ""); err != nil {
			return err
		}
		if options == "" {
			break
		}
		var comma bool
		if options, comma = strings.CutPrefix(options, ","); !comma || options == "" {
			return fmt.Errorf("option %q: want a comma and another option after it", name)
		}
	}
	if !s.ValidAfter.IsZero() && !s.ValidBefore.IsZero() && !s.ValidAfter.Before(s.ValidBefore) {
		return errors.New("valid-before is not after valid-after")
	}
	return nil
}

func (s *Signer) setOption(name, value string, hasValue bool) (err error) {
	switch {
	case name == "cert-authority" && !hasValue:
		s.CertAuthority = true
	case name == "namespaces" && hasValue:
		s.Namespaces = value
	case name == "valid-after" && hasValue:
		s.ValidAfter, err = parseTime(value)
	case name == "valid-before" && hasValue:
		s.ValidBefore, err = parseTime(value)
	default:
		return fmt.Errorf("unknown option, or one without its value: %q", name)
	}
	return err
}

// cutQuoted takes a value in double quotes, in which \" is a quote.
func cutQuoted(name, text string) (value, rest string, err error) {
	text, ok := strings.CutPrefix(text, `"`)
	if !ok {
		return "", "", fmt.Errorf("option %q: its value needs double quotes", name)
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == '"':
			i++
			b.WriteByte('"')
		case text[i] == '"':
			return b.String(), text[i+1:], nil
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", fmt.Errorf("option %q: no closing quote", name)
}

// parseTime reads YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z].
func parseTime(s string) (time.Time, error) {
	digits, utc := strings.CutSuffix(s, "Z")
	zone := time.Local
	if utc {
		zone = time.UTC
	}
	layout := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}[len(digits)]
	t, err := time.ParseInLocation(layout, digits, zone)
	if layout == "" || err != nil || strings.Trim(digits, "0123456789") != "" || t.Unix() <= 0 {
		return time.Time{}, fmt.Errorf("bad time %q: want YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z], after 1970", s)
	}
	return t, nil
}

// parseKey reads "keytype base64 [comment]".
func parseKey(text string) (ssh.PublicKey, error) {
	kind, rest := cutWord(text)
	if kind == "" {
		return nil, errors.New("no key on the line")
	}
	encoded, _ := cutWord(rest)
	raw, err := base64.StdEncoding.DecodeString(encoded)
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
	return key, checkKey(key)
}

// ParsePublicKey reads a public key file: "keytype base64 [comment]".
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
