package main

import (
	"fmt"
	"strings"
)

// fishHead: a command is the second word of the line, whatever stands behind it.
const fishHead = `# fish completion for relkit, made by: relkit completion fish

function __relkit_command
    set -l words (commandline -opc)
    test (count $words) -ge 2; and contains -- $words[2] $argv
end

function __relkit_no_command
    test (count (commandline -opc)) -eq 1
end

complete -c relkit -f
complete -c relkit -n __relkit_no_command -l help -d 'print the commands'
complete -c relkit -n __relkit_no_command -l version -d 'print the version'
`

// fishCompletion is a file of fish's completions (complete(1)).
func fishCompletion(table []completed) string {
	var b strings.Builder
	b.WriteString(fishHead)
	for _, c := range table {
		fmt.Fprintf(&b, "\ncomplete -c relkit -n __relkit_no_command -a %s -d %s\n", c.Name, fishQuote(c.Usage))
		when := "complete -c relkit -n '__relkit_command " + c.Name + "'"
		for _, f := range c.Flags {
			line := when + " -l " + f.Long
			if f.Short != "" {
				line += " -s " + f.Short
			}
			if f.Takes {
				line += " -r" + fishValue(f.Value)
			}
			b.WriteString(line + " -d " + fishQuote(f.Usage) + "\n")
		}
		if v := fishValue(c.Operands); v != " -f" {
			b.WriteString(when + v + "\n")
		}
	}
	return b.String()
}

func fishValue(v completedValue) string {
	switch {
	case len(v.Words) > 0:
		return " -f -a " + fishQuote(strings.Join(v.Words, " "))
	case v.Files:
		return " -F"
	case v.Dirs:
		return " -f -a '(__fish_complete_directories (commandline -ct))'"
	}
	return " -f"
}

// fishQuote makes one word of s.
func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
