package main

import (
	"slices"
	"strings"
	"testing"
)

// FuzzParseArgs demands that the canonical form of a command line means what
// the command line meant: taken apart again it gives itself.
func FuzzParseArgs(f *testing.F) {
	for _, s := range []string{"", "a b", "-nqo x", "--output=x -- --dry-run", "- -o -", "-j4 --as a,b --as=c", "--jobs -- x", "-n=1", "--=", "-=", "---", "--help=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		cmd := echoCommand(nil)
		finishCommand(nil, cmd)
		none := func(string) (string, bool) { return "", false }
		args := strings.Split(line, " ")
		first, err := parseArgs(cmd, args, none)
		if err != nil {
			return
		}
		second, err := parseArgs(cmd, first.canonical("echo")[2:], none)
		if err != nil {
			t.Fatalf("%q: its canonical form %q is refused: %v", args, first.canonical("echo"), err)
		}
		if !slices.Equal(first.flags, second.flags) || !slices.Equal(first.operands, second.operands) || first.help != second.help || first.json != second.json {
			t.Errorf("%q: got %+v, then %+v", args, first, second)
		}
	})
}
