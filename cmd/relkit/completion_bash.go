package main

import (
	"fmt"
	"strings"
)

// bashHead finds out where the cursor is: in the command, in the value of a
// flag, in a flag or in an operand. Bash cuts words at "=" too, so that
// --flag=value comes as three words. The rest of the script is made of the table.
const bashHead = `# bash completion for relkit, made by: relkit completion bash

_relkit_files() { # -f or -d
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}

_relkit_words() { # WORD...
	mapfile -t COMPREPLY < <(compgen -W "$*" -- "$cur")
}

_relkit() {
	local cur=${COMP_WORDS[COMP_CWORD]} flag= i
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		_relkit_words %s
		return
	fi
	for ((i = 2; i < COMP_CWORD; i++)); do
		[[ ${COMP_WORDS[i]} == -- ]] && flag=--
	done
	if [[ -z $flag ]]; then
		flag=${COMP_WORDS[COMP_CWORD-1]}
		if [[ $cur == = ]]; then
			cur=
		elif [[ $flag == = ]]; then
			flag=${COMP_WORDS[COMP_CWORD-2]}
		elif [[ $flag != -* ]]; then
			flag=
		fi
	fi
	case "${COMP_WORDS[1]} $flag" in
`

// bashCompletion is a script for bash 4 or later; it needs nothing besides.
func bashCompletion(table []completed) string {
	var b strings.Builder
	names := []string{"--help", "--version"}
	for _, c := range table {
		names = append(names, c.Name)
	}
	fmt.Fprintf(&b, bashHead, strings.Join(names, " "))
	for _, c := range table {
		for _, f := range c.Flags {
			if !f.Takes {
				continue
			}
			pattern := fmt.Sprintf("%q", c.Name+" --"+f.Long)
			if f.Short != "" {
				pattern += fmt.Sprintf(" | %q", c.Name+" -"+f.Short)
			}
			fmt.Fprintf(&b, "\t%s)\n%s\t\treturn\n\t\t;;\n", pattern, bashValue(f.Value))
		}
	}
	b.WriteString("\tesac\n\tif [[ $cur == -* && $flag != -- ]]; then\n\t\tcase ${COMP_WORDS[1]} in\n")
	for _, c := range table {
		if words := flagWords(c.Flags); words != "" {
			fmt.Fprintf(&b, "\t\t%s) _relkit_words %s ;;\n", c.Name, words)
		}
	}
	b.WriteString("\t\tesac\n\t\treturn\n\tfi\n\tcase ${COMP_WORDS[1]} in\n")
	for _, c := range table {
		if action := bashValue(c.Operands); action != "" {
			fmt.Fprintf(&b, "\t%s) %s ;;\n", c.Name, strings.TrimSpace(action))
		}
	}
	b.WriteString("\tesac\n}\n\ncomplete -F _relkit relkit\n")
	return b.String()
}

func bashValue(v completedValue) string {
	switch {
	case len(v.Words) > 0:
		return "\t\t_relkit_words " + strings.Join(v.Words, " ") + "\n"
	case v.Files:
		return "\t\t_relkit_files -f\n"
	case v.Dirs:
		return "\t\t_relkit_files -d\n"
	}
	return ""
}

func flagWords(flags []completedFlag) string {
	var words []string
	for _, f := range flags {
		words = append(words, "--"+f.Long)
		if f.Short != "" {
			words = append(words, "-"+f.Short)
		}
	}
	return strings.Join(words, " ")
}
