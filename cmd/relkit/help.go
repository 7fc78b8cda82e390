package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
)

// printHelp writes the help of the tool, or of the one command named, as data.
// cli/v2's own help is not used: its templates know nothing of groups and print
// for unknown words what belongs on standard error.
func (e *env) printHelp(list []*cli.Command, topic []string) error {
	var text string
	switch {
	case len(topic) > 1:
		return failure.Errorf(failure.Usage, "help takes one command, got %q too", topic[1])
	case len(topic) == 1 && topic[0] != "help" && topic[0] != "--help" && topic[0] != "-h":
		cmd := find(list, topic[0])
		if cmd == nil {
			return unknownCommand(list, topic[0])
		}
		text = commandHelp(cmd)
	default:
		text = toolHelp(list)
	}
	return e.line(strings.TrimRight(text, "\n"))
}

func toolHelp(list []*cli.Command) string {
	var b strings.Builder
	b.WriteString("relkit takes a Linux appliance from source to the field.\n\n" +
		"usage: relkit COMMAND [FLAG…] [OPERAND…]\n" +
		"       relkit help COMMAND\n" +
		"       relkit --version\n")
	var rows [][]string
	for _, c := range list {
		rows = append(rows, []string{"  " + c.Name, c.Usage})
	}
	lines := columns(rows)
	for _, g := range groups {
		title := "\n" + g + ":\n"
		for i, c := range list {
			if c.Category == g {
				b.WriteString(title + lines[i] + "\n")
				title = ""
			}
		}
	}
	b.WriteString("\nExit status, environment and files: relkit(1). Terms and a walk-through: relkit(7).\n")
	return b.String()
}

func commandHelp(cmd *cli.Command) string {
	own, common := cmd.Flags, commonFlags()
	if n := len(own) - len(common); n >= 0 && len(own) > 0 && own[len(own)-1].Names()[0] == "help" {
		own = own[:n] // the command has been finished already
	}
	var b strings.Builder
	fmt.Fprintf(&b, "relkit %s: %s\n\nusage: relkit %s", cmd.Name, cmd.Usage, cmd.Name)
	if cmd.ArgsUsage != "" {
		b.WriteString(" " + cmd.ArgsUsage)
	}
	b.WriteString(" [FLAG…]\n")
	if d := strings.TrimSpace(cmd.Description); d != "" {
		b.WriteString("\n" + d + "\n")
	}
	if rows := flagRows(own); len(rows) > 0 {
		fmt.Fprintf(&b, "\nflags:\n%s\n", strings.Join(rows, "\n"))
	}
	fmt.Fprintf(&b, "\ncommon flags:\n%s\n", strings.Join(flagRows(common), "\n"))
	fmt.Fprintf(&b, "\nMore, with examples: relkit-%s(1).\n", cmd.Name)
	return b.String()
}

// flagRows is a line a flag: "  -o, --output FILE  write the patch to FILE".
func flagRows(flags []cli.Flag) []string {
	var rows [][]string
	for _, f := range flags {
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		short, long := "    ", ""
		for _, n := range f.Names() {
			if len(n) == 1 {
				short = "-" + n + ", "
			} else if long == "" {
				long = "--" + n
			}
		}
		usage, placeholder := flagUsage(f)
		if placeholder != "" {
			long += " " + placeholder
		}
		rows = append(rows, []string{"  " + short + long, usage})
	}
	return columns(rows)
}

// flagUsage is what a flag does and what its value is called: the part of the
// usage in backquotes, VALUE where there is none.
func flagUsage(f cli.Flag) (usage, placeholder string) {
	d, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return "", ""
	}
	usage = d.GetUsage()
	if before, rest, ok := strings.Cut(usage, "`"); ok {
		if name, after, ok := strings.Cut(rest, "`"); ok {
			usage, placeholder = before+name+after, name
		}
	}
	if !d.TakesValue() {
		return usage, ""
	}
	if placeholder == "" {
		placeholder = "VALUE"
	}
	switch v := d.GetValue(); v {
	case "", "0", "0s", "0.000000", "[]":
	default:
		usage += " (default: " + v + ")"
	}
	return usage, placeholder
}
