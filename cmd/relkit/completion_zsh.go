package main

import (
	"fmt"
	"strings"
)

// zshCompletion is a function for a folder of fpath, and can be sourced after
// compinit as well.
func zshCompletion(table []completed) string {
	var b strings.Builder
	b.WriteString("#compdef relkit\n# zsh completion for relkit, made by: relkit completion zsh\n\n_relkit() {\n" +
		"\tlocal curcontext=$curcontext state state_descr line\n\ttypeset -A opt_args\n\tlocal -a subcommands=(\n")
	for _, c := range table {
		fmt.Fprintf(&b, "\t\t%s\n", zshQuote(c.Name+":"+c.Usage))
	}
	b.WriteString("\t)\n\t_arguments -C '(- *)--help[print the commands]' '(- *)--version[print the version]' '1:command:->command' '*::operand:->operand'\n" +
		"\tcase $state in\n\tcommand) _describe -t commands command subcommands ;;\n\toperand)\n\t\tcase $words[1] in\n")
	for _, c := range table {
		fmt.Fprintf(&b, "\t\t%s)\n\t\t\t_arguments -s", c.Name)
		for _, f := range c.Flags {
			b.WriteString(" \\\n\t\t\t\t" + zshFlag(f))
		}
		if c.Operands.Name != "" {
			spec := "*" + zshValue(c.Operands)
			if v := c.Operands; len(v.Words) == 0 && !v.Files && !v.Dirs {
				// The message of a blank action would stand in the way of completing a flag.
				spec = strings.TrimSuffix(spec, " ") + "()"
			}
			b.WriteString(" \\\n\t\t\t\t" + zshQuote(spec))
		}
		b.WriteString("\n\t\t\t;;\n")
	}
	b.WriteString("\t\tesac\n\t\t;;\n\tesac\n}\n\n" +
		"if [[ $funcstack[1] == _relkit ]]; then\n\t_relkit \"$@\"\nelse\n\tcompdef _relkit relkit\nfi\n")
	return b.String()
}

// zshFlag is a specification of _arguments (zshcompsys(1)):
//
//	'(-o --output)'{-o+,--output=}'[write to FILE]:FILE:_files'
func zshFlag(f completedFlag) string {
	long, short := "--"+f.Long, "-"+f.Short
	rest := "[" + strings.NewReplacer("[", `\[`, "]", `\]`).Replace(f.Usage) + "]"
	excludes := long
	if f.Takes {
		long, short = long+"=", short+"+"
		rest += zshValue(f.Value)
	}
	repeats := ""
	switch {
	case f.Repeats:
		repeats = "*"
	case f.Short != "":
		repeats = "(-" + f.Short + " " + excludes + ")"
	}
	if f.Short == "" {
		return zshQuote(repeats + long + rest)
	}
	return zshQuote(repeats) + "{" + short + "," + long + "}" + zshQuote(rest)
}

// zshValue is ":MESSAGE:ACTION".
func zshValue(v completedValue) string {
	action := " " // nothing can be completed, and the message is shown
	switch {
	case len(v.Words) > 0:
		action = "(" + strings.Join(v.Words, " ") + ")"
	case v.Files:
		action = "_files"
	case v.Dirs:
		action = "_files -/"
	}
	return ":" + strings.ReplaceAll(v.Name, ":", `\:`) + ":" + action
}

// zshQuote makes one word of s.
func zshQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
