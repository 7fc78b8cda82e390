// Package glob matches the paths of a tree against patterns: what an image or a
// patch leaves out or takes in.
//
// A pattern is anchored at the top of the tree; a slash in front of it changes
// nothing. Within one component * is any text, ? one character, [a-z] one of a
// set and [!a-z] one outside it, and a backslash takes the next character as it
// is. A component that is ** alone is any number of components, none included;
// at the end of a pattern it is at least one, so that "var/log/**" is all that
// var/log holds and not var/log itself. Names that begin with a dot are like others.
package glob

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Pattern is a pattern ready to match.
type Pattern struct {
	text  string
	parts []string
}

// Parse reads a pattern.
func Parse(pattern string) (Pattern, error) {
	p := Pattern{text: pattern, parts: strings.Split(strings.Trim(pattern, "/"), "/")}
	for _, part := range p.parts {
		if part == "" || part == "." || part == ".." {
			return Pattern{}, fmt.Errorf("bad pattern %q: a component is %q", pattern, part)
		}
		if err := checkPart(part); err != nil {
			return Pattern{}, fmt.Errorf("bad pattern %q: %w", pattern, err)
		}
	}
	return p, nil
}

func (p Pattern) String() string { return p.text }

// Match tells whether the pattern is exactly that of path: relative, with
// slashes, as manifest.Entry has it. Nothing matches ".", the top itself.
func (p Pattern) Match(path string) bool {
	return path != "." && matchParts(p.parts, strings.Split(path, "/"))
}

// matchParts works through the path once, remembering the last ** to come back
// to: a later ** makes an earlier one's choice final.
func matchParts(pattern, path []string) bool {
	pi, si, star, mark := 0, 0, -1, 0
	for si < len(path) {
		switch {
		case pi < len(pattern) && pattern[pi] == "**":
			if pi == len(pattern)-1 {
				return true // there is at least one component left
			}
			star, mark = pi, si
			pi++
		case pi < len(pattern) && matchPart(pattern[pi], path[si]):
			pi++
			si++
		case star >= 0:
			mark++
			pi, si = star+1, mark
		default:
			return false
		}
	}
	return pi == len(pattern)
}

// matchPart matches one component in the same way, * for **.
func matchPart(pattern, name string) bool {
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, n
			p++
			continue
		}
		if p < len(pattern) {
			c, size := utf8.DecodeRuneInString(name[n:])
			if c == utf8.RuneError && size == 1 {
				c = -1 - rune(name[n]) // a byte that is no character
			}
			if ok, used := matchOne(pattern[p:], c); ok {
				p += used
				n += size
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark++
		p, n = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne matches the pattern's first element, not a *, against one character.
func matchOne(pattern string, c rune) (ok bool, used int) {
	switch pattern[0] {
	case '?':
		return true, 1
	case '[':
		return matchSet(pattern, c)
	}
	want, used := char(pattern)
	return c == want, used
}

// char is the first literal character of a pattern and its length there.
func char(pattern string) (rune, int) {
	skip := 0
	if pattern[0] == '\\' {
		skip = 1
	}
	c, size := utf8.DecodeRuneInString(pattern[skip:])
	if c == utf8.RuneError && size == 1 {
		c = -1 - rune(pattern[skip])
	}
	return c, skip + size
}

// matchSet matches a [set]; checkPart has seen that it ends.
func matchSet(pattern string, c rune) (ok bool, used int) {
	i := 1
	not := pattern[i] == '!' || pattern[i] == '^'
	if not {
		i++
	}
	for first := true; first || pattern[i] != ']'; first = false {
		lo, size := char(pattern[i:])
		i += size
		hi := lo
		if pattern[i] == '-' && pattern[i+1] != ']' {
			hi, size = char(pattern[i+1:])
			i += 1 + size
		}
		ok = ok || lo <= c && c <= hi
	}
	return ok != not, i + 1
}

// checkPart finds sets without an end and a backslash at the end.
func checkPart(part string) error {
	for i := 0; i < len(part); {
		switch part[i] {
		case '[':
			n := setLength(part[i:])
			if n == 0 {
				return fmt.Errorf("no ] after [")
			}
			i += n
		case '\\':
			if i+1 == len(part) {
				return fmt.Errorf("nothing after the backslash")
			}
			i += 2
		default:
			i++
		}
	}
	return nil
}

// setLength is the length of the [set] that s begins with; 0: it does not end.
func setLength(s string) int {
	i := 1
	if i < len(s) && (s[i] == '!' || s[i] == '^') {
		i++
	}
	for first := true; i < len(s); first = false {
		if s[i] == ']' && !first {
			return i + 1
		}
		if s[i] == '\\' {
			i++
		}
		i++
	}
	return 0
}

// Set is patterns of which any may match.
type Set []Pattern

// ParseSet reads patterns.
func ParseSet(patterns []string) (Set, error) {
	s := make(Set, 0, len(patterns))
	for _, text := range patterns {
		p, err := Parse(text)
		if err != nil {
			return nil, err
		}
		s = append(s, p)
	}
	return s, nil
}

// Match tells whether a pattern matches path itself.
func (s Set) Match(path string) bool {
	for _, p := range s {
		if p.Match(path) {
			return true
		}
	}
	return false
}

// Covers tells whether a pattern matches path or a folder above it.
func (s Set) Covers(path string) bool {
	for i := range len(path) {
		if path[i] == '/' && s.Match(path[:i]) {
			return true
		}
	}
	return s.Match(path)
}
