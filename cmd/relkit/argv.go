package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
)

// argv is a command line taken apart: cli/v2 by itself stops reading flags at
// the first operand and takes what follows, `--dry-run` too, as operands.
type argv struct {
	flags    []string // each --name or --name=value, in the order given
	operands []string
	help     bool
	json     bool
	// fromEnv maps a flag that the environment gave to the variable's name.
	fromEnv map[string]string
}

// canonical is the command line that cli/v2 cannot misread.
func (a argv) canonical(command string) []string {
	out := append([]string{"relkit", command}, a.flags...)
	return append(append(out, "--"), a.operands...)
}

// parseArgs takes args apart by the rules of getopt_long(3): flags may stand
// anywhere before "--", a value follows as --flag=value, --flag value, -fvalue or
// -f value, short flags without a value may be bundled (-nq). "-" is an operand.
// Flags not given are then looked up in the environment.
func parseArgs(cmd *cli.Command, args []string, lookup func(string) (string, bool)) (argv, error) {
	p := &argParser{known: flagsByName(cmd.Flags), given: map[string]bool{}}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		var err error
		switch {
		case arg == "--":
			p.out.operands = append(p.out.operands, args...)
			args = nil
		case arg == "-" || !strings.HasPrefix(arg, "-"):
			p.out.operands = append(p.out.operands, arg)
		case strings.HasPrefix(arg, "--"):
			args, err = p.long(arg[2:], args)
		default:
			args, err = p.short(arg[1:], args)
		}
		if err != nil {
			return argv{}, err
		}
	}
	p.environment(cmd, lookup)
	return p.out, nil
}

type argParser struct {
	known map[string]cli.Flag // by each name and alias
	given map[string]bool     // by primary name
	out   argv
}

func flagsByName(flags []cli.Flag) map[string]cli.Flag {
	known := map[string]cli.Flag{}
	for _, f := range flags {
		for _, n := range f.Names() {
			known[n] = f
		}
	}
	return known
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}

// long reads one --flag; rest is what follows it, and what is left comes back.
func (p *argParser) long(arg string, rest []string) ([]string, error) {
	name, value, hasValue := strings.Cut(arg, "=")
	f := p.known[name]
	if f == nil || len(name) == 1 {
		return nil, p.unknown("--" + name)
	}
	switch {
	case hasValue:
	case !takesValue(f):
		value = "true"
	default:
		var err error
		if value, rest, err = p.next("--"+name, rest); err != nil {
			return nil, err
		}
	}
	p.add(f, value)
	return rest, nil
}

// short reads one or more short flags bundled behind one dash.
func (p *argParser) short(arg string, rest []string) ([]string, error) {
	if f := p.known[arg]; f != nil && len(arg) > 1 {
		return nil, failure.WithHint(failure.Errorf(failure.Usage, "unknown flag %q", "-"+arg), "long flags have two dashes: --%s", arg)
	}
	for arg != "" {
		name := arg[:1]
		arg = arg[1:]
		f := p.known[name]
		if f == nil {
			return nil, p.unknown("-" + name)
		}
		if !takesValue(f) {
			p.add(f, "true")
			continue
		}
		value := strings.TrimPrefix(arg, "=")
		if arg == "" {
			var err error
			if value, rest, err = p.next("-"+name, rest); err != nil {
				return nil, err
			}
		}
		p.add(f, value)
		break
	}
	return rest, nil
}

// next takes the value of a flag from the arguments behind it. A value that is
// one of the command's own flags is far more often a forgotten value.
func (p *argParser) next(flag string, rest []string) (string, []string, error) {
	if len(rest) == 0 {
		return "", nil, failure.Errorf(failure.Usage, "flag %s needs a value", flag)
	}
	if name, ok := strings.CutPrefix(rest[0], "--"); ok && p.known[name] != nil && len(name) > 1 {
		return "", nil, failure.WithHint(failure.Errorf(failure.Usage, "flag %s needs a value, got the flag %q", flag, rest[0]),
			"if %s is the value, write %s=%s", rest[0], flag, rest[0])
	}
	return rest[0], rest[1:], nil
}

func (p *argParser) add(f cli.Flag, value string) {
	name := f.Names()[0]
	p.given[name] = true
	p.out.set(name, value)
}

func (a *argv) set(name, value string) {
	switch {
	case name == "help":
		a.help, _ = strconv.ParseBool(value)
	case name == "json":
		a.json, _ = strconv.ParseBool(value)
	}
	a.flags = append(a.flags, "--"+name+"="+value)
}

// environment adds the flags that the environment gives and the command line
// does not. A variable that is empty counts as unset; for a flag that may be
// repeated, each line of the variable is one value.
func (p *argParser) environment(cmd *cli.Command, lookup func(string) (string, bool)) {
	p.out.fromEnv = map[string]string{}
	for _, f := range cmd.Flags {
		name := f.Names()[0]
		variable := envName(cmd.Name, name)
		if variable == "" || p.given[name] {
			continue
		}
		v, _ := lookup(variable)
		if v == "" {
			continue
		}
		values := []string{v}
		if _, ok := f.(*cli.StringSliceFlag); ok {
			values = strings.Split(strings.Trim(v, "\n"), "\n")
		}
		for _, v := range values {
			p.out.set(name, v)
		}
		p.out.fromEnv[name] = variable
	}
}

func (p *argParser) unknown(flag string) error {
	err := failure.Errorf(failure.Usage, "unknown flag %q", flag)
	var names []string
	for n := range p.known {
		if len(n) > 1 {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	if n := nearest(strings.TrimLeft(flag, "-"), names); n != "" {
		return failure.WithHint(err, "did you mean --%s?", n)
	}
	return err
}

// asksJSON tells whether the JSON form is asked for by args that could not be
// parsed, so that the error can be told in it all the same.
func (e *env) asksJSON(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	for _, a := range slices.Backward(args) {
		if a == "--json" {
			return true
		}
		if v, ok := strings.CutPrefix(a, "--json="); ok {
			json, _ := strconv.ParseBool(v)
			return json
		}
	}
	json, _ := strconv.ParseBool(e.Getenv("RELKIT_JSON"))
	return json
}
