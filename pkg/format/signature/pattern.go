package signature

import (
	"fmt"
	"strings"
)

// maxPattern bounds one pattern in bytes: with a longer one in a list,
// ssh-keygen takes none of it.
const maxPattern = 1022

func checkPatterns(list string) error {
	for pattern := range strings.SplitSeq(list, ",") {
		if len(strings.TrimPrefix(pattern, "!")) > maxPattern {
			return fmt.Errorf("pattern of %d bytes: at most %d", len(pattern), maxPattern)
		}
	}
	return nil
}

// matchList tells whether s matches a pattern list (ssh_config(5), PATTERNS):
// at least one pattern, and none of those behind a "!".
func matchList(s, list string) bool {
	matched := false
	for pattern := range strings.SplitSeq(list, ",") {
		pattern, negated := strings.CutPrefix(pattern, "!")
		if !match(s, pattern) {
			continue
		}
		if negated {
			return false
		}
		matched = true
	}
	return matched
}

// match tells whether s matches pattern, in which "*" is any text and "?" any
// byte. It backtracks to the last "*" only, so it takes len(s)*len(pattern) at worst.
func match(s, pattern string) bool {
	i, p := 0, 0
	star, from := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			i++
			p++
		case star >= 0:
			from++
			i, p = from, star+1
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
