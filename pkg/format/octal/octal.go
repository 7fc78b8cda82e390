// Package octal reads the \ooo escapes that the kernel writes into the tables of
// proc(5) (mounts, mountinfo, swaps), and fstab(5) has.
package octal

import "strings"

// Unescape undoes the \ooo that stand for blanks, tabs, line feeds, backslashes
// and number signs. Anything else, a backslash that begins no escape too, stays.
func Unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]) && s[i+1] <= '3' {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isDigit(c byte) bool { return c >= '0' && c <= '7' }
