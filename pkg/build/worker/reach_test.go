package worker

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// TestLoginCommand: whatever shell a worker's user has, it runs the script as it stands.
func TestLoginCommand(t *testing.T) {
	text := "a='it is'\n" + `b="$a so! \ ~ {x,y} !! $(printf '%s' "caf` + "\xe9" + `")"` + "\n[ \"$a\" ] && # a comment\n\tprintf '%s\\n' \"$b\" '100%' '\\0101' \"$(cat)\"\n"
	want := "it is so! \\ ~ {x,y} !! caf\xe9\n100%\n\\0101\nfrom outside\n"
	for _, shell := range []string{"sh", "bash", "dash", "ksh", "zsh", "fish", "csh", "tcsh"} {
		t.Run(shell, func(t *testing.T) {
			relkittest.Need(t, shell)
			cmd := exec.Command(shell, "-c", loginCommand(text))
			cmd.Stdin = strings.NewReader("from outside")
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != want {
				t.Errorf("%v, %q, want %q", err, out, want)
			}
		})
	}
}
