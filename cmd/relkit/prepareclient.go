package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/golden"
)

func prepareclientCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:     "prepareclient",
		Category: groupImage,
		Usage:    "describe a golden machine, or write it as one stream",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "describe", Usage: "print the machine description only"},
			outputFlag("write the image to `FILE`, a tar archive packed by zstd (\"-\": standard output)"),
			&cli.StringSliceFlag{Name: "exclude", Usage: "leave out what `GLOB` matches; may be repeated"},
			rootFlag("/"), jobsFlag(),
		},
		Action: func(c *cli.Context) error {
			if _, err := e.operands(c, 0, 0); err != nil {
				return err
			}
			if c.Bool("describe") == (c.String("output") != "") {
				return withHelpHint(failure.Errorf(failure.Usage, "want either --describe or -o FILE"), c.Command.Name)
			}
			if c.Bool("describe") {
				return e.describe(c.String("root"))
			}
			return e.writeGolden(c)
		},
	}
}

// describe prints the description, which is JSON with or without --json.
func (e *env) describe(root string) error {
	m, err := golden.Describe(root)
	if err != nil {
		return err
	}
	return e.printJSON(m, "  ")
}

// goldenResult is the document of prepareclient -o FILE --json.
type goldenResult struct {
	Schema string `json:"schema"`
	Output string `json:"output"`
}

func (e *env) writeGolden(c *cli.Context) error {
	n, err := jobs(c)
	if err != nil {
		return err
	}
	name := c.String("output")
	if e.JSON && name == "-" {
		return failure.Errorf(failure.Usage, "with --json standard output is taken: want -o FILE")
	}
	out, err := e.create(name, 0o600, true)
	if err != nil {
		return err
	}
	defer out.Abort()
	opts := golden.Options{Root: c.String("root"), Exclude: c.StringSlice("exclude"), Jobs: n, Log: e.Log, Progress: e.progress()}
	e.spareMemory()
	err = golden.Write(c.Context, out, opts)
	if err != nil && failure.Of(err) != failure.No {
		return err
	}
	if cerr := out.Commit(); cerr != nil || name == "-" {
		return errors.Join(err, cerr)
	}
	return errors.Join(err, e.print(&goldenResult{"relkit.golden/v1", name}, name))
}
