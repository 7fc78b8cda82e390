package octal

import (
	"fmt"
	"strings"
	"testing"
)

func TestUnescape(t *testing.T) {
	for text, want := range map[string]string{
		"/mnt":             "/mnt",
		`/mnt/a\040b`:      "/mnt/a b",
		`\011\012\134\043`: "\t\n\\#",
		`\377`:             "\xff",
		`\400`:             `\400`,
		`\08`:              `\08`,
		`a\`:               `a\`,
		`\\040`:            `\ `,
	} {
		if got := Unescape(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// FuzzUnescape: what the kernel escapes comes back, and nothing becomes longer.
func FuzzUnescape(f *testing.F) {
	f.Add("/mnt/a b")
	f.Add(`\040\`)
	f.Fuzz(func(t *testing.T, s string) {
		if got := Unescape(s); len(got) > len(s) {
			t.Fatalf("%q: %q is longer", s, got)
		}
		var b strings.Builder
		for _, c := range []byte(s) { // seq_file's mangle_path
			if strings.IndexByte(" \t\n\\#", c) >= 0 {
				fmt.Fprintf(&b, `\%03o`, c)
			} else {
				b.WriteByte(c)
			}
		}
		if got := Unescape(b.String()); got != s {
			t.Fatalf("%q: came back as %q", s, got)
		}
	})
}
