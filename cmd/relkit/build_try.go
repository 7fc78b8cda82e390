package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/build"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/diff"
)

// checkTry refuses what a try build cannot be together with.
func checkTry(c *cli.Context, modes []string) error {
	if !c.IsSet("patch") {
		return nil
	}
	for _, name := range []string{"if-changed", "force"} {
		if c.Bool(name) {
			modes = append(modes, "--"+name)
		}
	}
	for _, m := range modes {
		if m != "--plan" {
			return failure.Errorf(failure.Usage, "--patch and %s exclude each other", m)
		}
	}
	return nil
}

// readDiffs reads what --patch names: FILE, "-", or either after "SOURCE=" where
// the configuration has a source of that name.
func (e *env) readDiffs(c *cli.Context, p *build.Project) ([]build.Diff, error) {
	var list []build.Diff
	stdin := false
	for _, text := range c.StringSlice("patch") {
		d := build.Diff{Name: text}
		if before, after, ok := strings.Cut(text, "="); ok && p.HasSource(before) {
			d.Source, d.Name = before, after
		}
		var in io.ReadCloser = io.NopCloser(e.Stdin)
		if d.Name == "-" {
			if stdin {
				return nil, failure.Errorf(failure.Usage, "reading --patch: standard input is read once")
			}
			stdin, d.Name = true, "standard input"
		} else {
			f, err := os.Open(d.Name)
			if err != nil {
				return nil, failure.Errorf(failure.Usage, "reading --patch: %w", err)
			}
			in = f
		}
		var err error
		d.Data, err = io.ReadAll(io.LimitReader(in, diff.MaxSize+1))
		if cerr := in.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return nil, fmt.Errorf("reading --patch: %w", err)
		}
		list = append(list, d)
	}
	return list, nil
}
