package main

import (
	"context"
	"io"
	"log/slog"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/ui"
)

// run is the whole tool: args as in os.Args, the exit status out.
func run(ctx context.Context, e *env, args []string) int {
	e.setOutput(ui.Auto)
	ctx, stop := e.watchSignals(ctx)
	defer stop()
	cmd, err := e.dispatch(ctx, args)
	if cmd == "healthcheck" && e.asksNagios(args[2:]) {
		err = e.nagiosFailure(err)
	}
	return e.finish(ctx, cmd, err)
}

// dispatch finds the command and runs it; name is what errors are labelled with.
func (e *env) dispatch(ctx context.Context, args []string) (name string, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = internal(v)
		}
	}()
	list := e.Commands(e)
	if len(args) < 2 {
		e.JSON = e.asksJSON(nil)
		return "", withHelpHint(failure.Errorf(failure.Usage, "no command given"), "")
	}
	first, rest := args[1], args[2:]
	switch first {
	case "--help", "-h":
		return "", e.printHelp(list, nil)
	case "--version":
		return "", e.line(versionLine())
	case "help":
		return "", e.printHelp(list, rest)
	}
	cmd := find(list, first)
	if cmd == nil {
		e.JSON = e.asksJSON(rest)
		return "", unknownCommand(list, first)
	}
	name = cmd.Name
	finishCommand(e, cmd)
	argv, err := parseArgs(cmd, rest, e.LookupEnv)
	if err != nil {
		e.JSON = e.asksJSON(rest)
		return cmd.Name, withHelpHint(err, cmd.Name)
	}
	if argv.help {
		return cmd.Name, e.printHelp(list, []string{cmd.Name})
	}
	e.JSON = argv.json
	return cmd.Name, e.runCommand(ctx, cmd, argv)
}

// runCommand hands a command to cli/v2, which parses the flags' values, checks
// the required ones and calls the action. None of cli/v2's own output, help or
// exiting is let through: its streams lead nowhere and errors come back here.
func (e *env) runCommand(ctx context.Context, cmd *cli.Command, argv argv) error {
	acted := false
	action := cmd.Action
	cmd.Action = func(c *cli.Context) error {
		if err := e.readCommonFlags(c); err != nil {
			return err
		}
		acted = true
		return action(c)
	}
	app := &cli.App{
		Name:                      "relkit",
		Commands:                  []*cli.Command{cmd},
		Writer:                    io.Discard,
		ErrWriter:                 io.Discard,
		HideHelp:                  true,
		HideHelpCommand:           true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true,
		OnUsageError:              returnUsageError,
		ExitErrHandler:            func(*cli.Context, error) {},
		InvalidFlagAccessHandler: func(_ *cli.Context, name string) {
			// cli/v2 itself asks for the help flag that it was told to leave out.
			if name != "help" && name != "h" {
				panic("relkit " + cmd.Name + " reads the flag --" + name + ", which it does not have")
			}
		},
	}
	err := app.RunContext(ctx, argv.canonical(cmd.Name))
	if err != nil && !acted {
		return withHelpHint(failure.As(failure.Usage, plainUsage(err, argv.fromEnv)), cmd.Name)
	}
	return err
}

func returnUsageError(_ *cli.Context, err error, _ bool) error { return err }

// readCommonFlags takes what every command has into the env.
func (e *env) readCommonFlags(c *cli.Context) error {
	e.Quiet, e.Verbose = c.Bool("quiet"), c.Bool("verbose")
	if e.Quiet && e.Verbose {
		return failure.Errorf(failure.Usage, "--quiet and --verbose exclude each other")
	}
	mode := ui.Mode(c.String("progress"))
	switch mode {
	case ui.Auto, ui.Never, ui.JSON:
	default:
		return failure.Errorf(failure.Usage, "reading --progress: got %q, want auto, never or json", mode)
	}
	if e.Quiet {
		mode = ui.Never
	}
	e.setOutput(mode)
	return nil
}

// setOutput makes the console and the logger.
func (e *env) setOutput(mode ui.Mode) {
	terminal := e.IsTerminal(e.Stderr)
	e.console = ui.NewConsole(e.Stderr, ui.Options{
		Mode:     mode,
		Terminal: terminal,
		Color:    ui.WantsColor(terminal, e.Getenv),
		Size:     func() (int, int) { return ui.Size(e.Stderr) },
		Now:      e.Now,
	})
	level := slog.LevelInfo
	switch {
	case e.Quiet:
		level = slog.LevelError
	case e.Verbose:
		level = slog.LevelDebug
	}
	e.Log = ui.NewLogger(e.console, level)
}

func find(list []*cli.Command, name string) *cli.Command {
	for _, c := range list {
		if c.Name == name {
			return c
		}
	}
	return nil
}
