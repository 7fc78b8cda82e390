package manifest

import (
	"fmt"
	"strings"
)

// plain tells whether c stands for itself in a name: printable ASCII without
// the backslash, the comment sign and the glob characters. It is the set of
// vis(3) with VIS_WHITE|VIS_OCTAL|VIS_GLOB and every byte above ASCII encoded.
func plain(c byte) bool {
	if c <= ' ' || c >= 0x7f {
		return false
	}
	switch c {
	case '\\', '#', '*', '?', '[':
		return false
	}
	return true
}

// Escape writes a name the way manifests and records do: every byte that is not
// plain becomes a backslash and three octal digits, as vis(3) has it. The
// result is printable ASCII without blanks; each name has one escaped form.
func Escape(s string) string {
	for i := range len(s) {
		if !plain(s[i]) {
			return string(appendEscaped(make([]byte, 0, len(s)+16), s))
		}
	}
	return s
}

func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		}
	}
	return b
}

// Unescape reads what Escape writes, and nothing else: a byte that should have
// been escaped, one that should not have been, and a cut escape are errors.
func Unescape(s string) (string, error) {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if plain(c) {
			b.WriteByte(c)
			continue
		}
		if c != '\\' {
			return "", fmt.Errorf("bad name %q: byte %#02x is not escaped", s, c)
		}
		v, ok := octal(s[i+1:])
		if !ok {
			return "", fmt.Errorf("bad name %q: want three octal digits after each backslash", s)
		}
		if plain(v) {
			return "", fmt.Errorf("bad name %q: %q needs no escape", s, v)
		}
		b.WriteByte(v)
		i += 3
	}
	return b.String(), nil
}

// octal is the byte that three octal digits name.
func octal(s string) (byte, bool) {
	if len(s) < 3 || s[0] < '0' || s[0] > '3' || s[1] < '0' || s[1] > '7' || s[2] < '0' || s[2] > '7' {
		return 0, false
	}
	return (s[0]-'0')<<6 | (s[1]-'0')<<3 | (s[2] - '0'), true
}
