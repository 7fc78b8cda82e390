package failure

import (
	"os/exec"
	"testing"
)

// TestWord: a shell reads each word back as it was, and what needs no quotes has none.
func TestWord(t *testing.T) {
	for in, want := range map[string]string{
		"fw-1-2.rkp": "fw-1-2.rkp", "dir:/srv/www#fw@sha256:aa": "dir:/srv/www#fw@sha256:aa", "slow[cc=gcc]/3": "'slow[cc=gcc]/3'",
		"": "''", "a b": "'a b'", "it's": `'it'\''s'`, "~": "'~'", "$(x)": "'$(x)'", "#": "'#'", "é": "'é'", "a\nb": "'a\nb'",
	} {
		got := Word(in)
		if got != want {
			t.Errorf("Word(%q) = %s, want %s", in, got, want)
		}
		if out, err := exec.Command("/bin/sh", "-c", "printf %s "+got).Output(); err != nil || string(out) != in {
			t.Errorf("the shell reads %s as %q, %v", got, out, err)
		}
	}
}
