// Package version compares versions as deb-version(7) does, and reads the
// expressions over them that patches require and conflict with.
package version

import (
	"errors"
	"fmt"
	"strings"
)

// MaxLength bounds a version in bytes: longer ones are not valid.
const MaxLength = 256

// Valid tells what is wrong with v as a version: [epoch:]upstream[-revision],
// the characters of deb-version(7). Unlike Debian's policy the upstream part may
// start with a letter ("v1.2", "bookworm"): dpkg itself only warns there, and
// the order is defined all the same.
func Valid(v string) error {
	switch {
	case v == "":
		return errors.New("empty version")
	case len(v) > MaxLength:
		return fmt.Errorf("version of %d bytes: at most %d", len(v), MaxLength)
	}
	rest := v
	if epoch, after, ok := strings.Cut(v, ":"); ok {
		if epoch == "" || len(trimZeros(epoch)) > 9 || !allIn(epoch, isDigit) {
			return fmt.Errorf("version %q: bad epoch %q: want a number below 1000000000", v, epoch)
		}
		rest = after
	}
	upstream, revision, hasRevision := cutLast(rest, '-')
	if upstream == "" || !isDigit(upstream[0]) && !isAlpha(upstream[0]) {
		return fmt.Errorf("version %q: does not start with a letter or digit", v)
	}
	if hasRevision && revision == "" {
		return fmt.Errorf("version %q: nothing after the last hyphen", v)
	}
	for i := range len(rest) {
		if c := rest[i]; !isDigit(c) && !isAlpha(c) && !strings.ContainsRune(".+~-:", rune(c)) {
			return fmt.Errorf("version %q: bad character %q", v, c)
		}
	}
	if strings.Contains(revision, ":") {
		return fmt.Errorf("version %q: colon in the revision", v)
	}
	return nil
}

// Compare orders a and b as dpkg --compare-versions does: negative where a is
// older, 0 where neither is newer ("1.0" and "1.00"), positive where a is newer.
// It is a total preorder over all strings, valid or not.
func Compare(a, b string) int {
	ea, ra := cutEpoch(a)
	eb, rb := cutEpoch(b)
	if c := compareNumbers(ea, eb); c != 0 {
		return c
	}
	ua, va, _ := cutLast(ra, '-')
	ub, vb, _ := cutLast(rb, '-')
	if c := comparePart(ua, ub); c != 0 {
		return c
	}
	return comparePart(va, vb)
}

// cutEpoch splits off "N:"; a prefix that is no number belongs to the version.
func cutEpoch(v string) (epoch, rest string) {
	if e, after, ok := strings.Cut(v, ":"); ok && e != "" && allIn(e, isDigit) {
		return e, after
	}
	return "", v
}

// cutLast splits at the last sep; all is before where there is none.
func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// comparePart is dpkg's verrevcmp: runs of non-digits by order, runs of digits
// by value, in turn.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !isDigit(a[0]) || b != "" && !isDigit(b[0]) {
			if c := order(a) - order(b); c != 0 {
				return c
			}
			// Equal orders of a non-digit mean that both sides have one.
			a, b = a[1:], b[1:]
		}
		na, nb := digits(a), digits(b)
		if c := compareNumbers(na, nb); c != 0 {
			return c
		}
		a, b = a[len(na):], b[len(nb):]
	}
	return 0
}

// order ranks the first byte: "~" before the end and digits, then letters, then the rest.
func order(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case isAlpha(s[0]):
		return int(s[0])
	}
	return int(s[0]) + 256
}

func digits(s string) string {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return s[:n]
}

// compareNumbers compares decimal digits of any length; "" is 0.
func compareNumbers(a, b string) int {
	a, b = trimZeros(a), trimZeros(b)
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

func trimZeros(s string) string { return strings.TrimLeft(s, "0") }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isAlpha(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func allIn(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}
