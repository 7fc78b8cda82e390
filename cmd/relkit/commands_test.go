package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestEveryCommand holds all commands to what command.go says of them.
func TestEveryCommand(t *testing.T) {
	list := commands(testEnv("", nil, nil, nil))
	if !slices.IsSortedFunc(list, func(a, b *cli.Command) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("commands are not sorted by name")
	}
	for _, cmd := range list {
		t.Run(cmd.Name, func(t *testing.T) {
			if !slices.Contains(groups, cmd.Category) {
				t.Errorf("category %q is none of %q", cmd.Category, groups)
			}
			if !regexp.MustCompile(`^[a-z].*[^.]$`).MatchString(cmd.Usage) {
				t.Errorf("usage %q: want lower case and no full stop", cmd.Usage)
			}
			if n := len([]rune(cmd.Usage)); n > 60 {
				t.Errorf("usage %q has %d letters: the list of commands is to fit 80 columns", cmd.Usage, n)
			}
			if len(cmd.Subcommands) > 0 || len(cmd.Aliases) > 0 || cmd.Action == nil {
				t.Error("a command has an action, no commands below it and one name")
			}
			checkFlags(t, cmd.Flags)
			checkManners(t, cmd.Name)
		})
	}
}

func checkFlags(t *testing.T, flags []cli.Flag) {
	t.Helper()
	shared := map[string][]string{}
	for _, f := range []cli.Flag{configFlag(""), rootFlag(""), storeFlag(""), stateFlag(""), dryRunFlag(), jobsFlag(), outputFlag("")} {
		shared[f.Names()[0]] = f.Names()
	}
	taken := flagNames(commonFlags())
	for _, f := range flags {
		for _, n := range f.Names() {
			if taken[n] {
				t.Errorf("the flag %q is there already", n)
			}
			taken[n] = true
			if !regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`).MatchString(n) {
				t.Errorf("the flag %q is not kebab-case", n)
			}
		}
		name := f.Names()[0]
		if len(name) < 2 {
			t.Errorf("the flag %q has no long name before its short one", name)
		}
		if want, ok := shared[name]; ok && !slices.Equal(f.Names(), want) {
			t.Errorf("the flag %q has the names %q, elsewhere %q", name, f.Names(), want)
		}
		d, ok := f.(cli.DocGenerationFlag)
		if !ok || d.GetUsage() == "" && !hidden(f) {
			t.Errorf("the flag %q says nothing of itself", name)
			continue
		}
		if d.TakesValue() && !hidden(f) && strings.Count(d.GetUsage(), "`") != 2 {
			t.Errorf("the flag %q does not name its value in backquotes: %q", name, d.GetUsage())
		}
		if len(d.GetEnvVars()) > 0 {
			t.Errorf("the flag %q names its own environment variables; the frame does that", name)
		}
	}
}

func hidden(f cli.Flag) bool {
	v, ok := f.(cli.VisibleFlag)
	return ok && !v.IsVisible()
}

// checkManners: help to standard output, mistakes to standard error with
// status 2, the last line as JSON where that was asked for.
func checkManners(t *testing.T, name string) {
	t.Helper()
	out, errs, status := runTool(t, "", nil, name, "--help")
	if status != 0 || errs != "" || !strings.HasPrefix(out, "relkit "+name+": ") {
		t.Errorf("--help: status %d, stderr %q, stdout %q", status, errs, out)
	}
	out, errs, status = runTool(t, "", nil, name, "operand", "--json", "--no-such-flag")
	if status != 2 || out != "" || !strings.HasPrefix(errs, "relkit "+name+": unknown flag \"--no-such-flag\"\n") {
		t.Errorf("unknown flag: status %d, stdout %q, stderr %q", status, out, errs)
	}
	wantErrorDocument(t, errs, `unknown flag "--no-such-flag"`, 2, "unchanged")
}
