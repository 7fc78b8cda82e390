package main

// How to write a command
//
// One file a command, named after it (patch-make in patchmake.go): its flags,
// one call into the job's package, one print. No logic lives here. The function
// is added to commands.go when the command works; man/relkit-NAME.1 documents its
// flags and man/relkit.1 lists it (tests compare them).
//
//	func greetCommand(e *env) *cli.Command {
//		return &cli.Command{
//			Name:      "greet",
//			Category:  groupOther,
//			Usage:     "say hello to each name",        // lower case, no full stop
//			ArgsUsage: "NAME…",
//			Flags: []cli.Flag{
//				dryRunFlag(),                              // shared ones: flags.go
//				outputFlag("write the greeting to `FILE`"),
//				&cli.StringSliceFlag{Name: "as", Usage: "greet as `ROLE,…`"},
//			},
//			Action: func(c *cli.Context) error {
//				names, err := e.operands(c, 1, -1)         // usage error when there are none
//				if err != nil {
//					return err
//				}
//				res, err := greet.Run(c.Context, names, greet.Options{
//					Roles:    commaList(c.StringSlice("as")), // cli/v2 does not split; we do
//					Log:      e.Log,
//					Progress: e.progress(),
//				})
//				if err != nil {
//					return err                              // failure.Errorf(kind, …) says the exit status
//				}
//				return e.print(res, res.Path)              // with --json the document, else the lines
//			},
//		}
//	}
//
// What the framework does for every command, so that none does it itself:
//
//   - adds --json, --quiet/-q, --verbose, --progress and --help;
//   - lets flags stand before and after operands, "--" end them, "-" be an operand;
//   - takes RELKIT_<FLAG> for shared flags and RELKIT_<COMMAND>_<FLAG> for its own
//     where the command line does not give one, never for those that lower safety;
//   - cancels c.Context at SIGINT, SIGTERM and SIGHUP; return context.Cause(c.Context)
//     or anything that wraps context.Canceled after cleaning up, and the status is 128+n;
//   - prints errors, hints and, with --json, the error document; sets the exit status.
//
// Standard output is for data: use e.print, e.printJSONLine, e.line, or for
// bytes e.create (a file, or "-") and e.open (a file, or "-"). Everything said to
// a person goes through e.Log and e.progress(). A command that changes a machine
// sets e.Target to its root before it begins, and wraps what must not be cut
// short in e.hold. Reading a flag that the command does not have panics.

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
)

// finishCommand adds what every command has.
func finishCommand(e *env, cmd *cli.Command) {
	cmd.Flags = append(cmd.Flags, commonFlags()...)
	cmd.OnUsageError = returnUsageError
	cmd.HideHelp = true
	cmd.HideHelpCommand = true
}

// operands are the operands, at least min and, unless max is negative, at most
// max. At most one of them may be "-".
func (e *env) operands(c *cli.Context, min, max int) ([]string, error) {
	args := c.Args().Slice()
	names := strings.Fields(c.Command.ArgsUsage)
	switch {
	case len(args) < min:
		what := "operand"
		if len(args) < len(names) {
			what = names[len(args)]
		}
		return nil, withHelpHint(failure.Errorf(failure.Usage, "missing operand: %s", what), c.Command.Name)
	case max >= 0 && len(args) > max:
		return nil, withHelpHint(failure.Errorf(failure.Usage, "unexpected operand %q", args[max]), c.Command.Name)
	}
	dashes := 0
	for _, a := range args {
		if a == "-" {
			dashes++
		}
	}
	if dashes > 1 {
		return nil, failure.Errorf(failure.Usage, "only one operand may be \"-\"")
	}
	return args, nil
}

// commaList splits the values of a flag that is documented as NAME,…: it may be
// repeated, and each value may hold several with commas between them.
func commaList(values []string) []string {
	var out []string
	for _, v := range values {
		for _, s := range strings.Split(v, ",") {
			if s = strings.TrimSpace(s); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}
