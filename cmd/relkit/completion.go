package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
)

func completionCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Category:  groupOther,
		Usage:     "print what makes a shell complete relkit's commands",
		ArgsUsage: "bash|zsh|fish",
		Action: func(c *cli.Context) error {
			shells, err := e.operands(c, 1, 1)
			if err != nil {
				return err
			}
			write := map[string]func([]completed) string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[shells[0]]
			if write == nil {
				return failure.Errorf(failure.Usage, "completing for %q: want bash, zsh or fish", shells[0])
			}
			if e.JSON {
				return failure.Errorf(failure.Usage, "a completion script has no JSON form")
			}
			return e.line(strings.TrimSuffix(write(completionTable(e)), "\n"))
		},
	}
}

// completed is what a shell needs to know of one command.
type completed struct {
	Name, Usage string
	Flags       []completedFlag
	Operands    completedValue
}

type completedFlag struct {
	Long, Short string // without dashes; Short may be ""
	Usage       string
	Takes       bool // a value
	Repeats     bool // may be given more than once
	Value       completedValue
}

// completedValue is what can stand in a place.
type completedValue struct {
	Name  string // what the help calls it
	Words []string
	Files bool
	Dirs  bool
}

// What the words that name a value in the help stand for. A word that is in
// neither cannot be completed.
var (
	fileValues = []string{"FILE", "[SOURCE=]FILE", "KEYFILE", "SCRIPT", "PROGRAM", "PATCH", "OLD", "ARTIFACT", "SOURCE", "REF", "DOCUMENT"}
	dirValues  = []string{"DIR"}
)

// completionTable lists the commands with all their flags, and `help`.
func completionTable(e *env) []completed {
	list := e.Commands(e)
	help := completed{Name: "help", Usage: "print the help of a command", Operands: completedValue{Name: "COMMAND"}}
	var table []completed
	for _, cmd := range list {
		done := completed{Name: cmd.Name, Usage: cmd.Usage, Operands: valueNamed(cmd.ArgsUsage)}
		for _, f := range append(slices.Clone(cmd.Flags), commonFlags()...) {
			if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
				continue
			}
			done.Flags = append(done.Flags, completeFlag(f))
		}
		table = append(table, done)
		help.Operands.Words = append(help.Operands.Words, cmd.Name)
	}
	return append(table, help)
}

func completeFlag(f cli.Flag) completedFlag {
	usage, placeholder := flagUsage(f)
	done := completedFlag{Usage: usage, Takes: takesValue(f), Value: valueNamed(placeholder)}
	_, done.Repeats = f.(*cli.StringSliceFlag)
	for _, n := range f.Names() {
		if len(n) == 1 {
			done.Short = n
		} else {
			done.Long = n
		}
	}
	return done
}

// valueNamed reads how the help names a value: words in lower case with "|"
// between them are all there is ("abort|keep|replace"), others say what kind it
// is, the first where there are several ("OLD NEW").
func valueNamed(name string) completedValue {
	first, _, _ := strings.Cut(name, " ")
	first = strings.TrimSuffix(strings.TrimSuffix(first, "…"), ",")
	v := completedValue{Name: first}
	if first == "FORMAT" {
		v.Words = slices.Sorted(maps.Keys(healthFormats))
		return v
	}
	words := strings.Split(first, "|")
	if len(words) > 1 && strings.ToLower(first) == first {
		v.Words = words
		return v
	}
	for _, w := range words {
		v.Files = v.Files || slices.Contains(fileValues, w)
		v.Dirs = v.Dirs || slices.Contains(dirValues, w)
	}
	return v
}
