package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/inspect"
	"github.com/relkit/relkit/pkg/ui"
)

func inspectCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Category:  groupOther,
		Usage:     "tell what a file of relkit's holds",
		ArgsUsage: "FILE|DIR",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "files", Usage: "list each file of a patch or manifest"},
			&cli.BoolFlag{Name: "verify", Usage: "exit 5 unless it is whole and signed by those who may"},
			&cli.StringFlag{Name: "allowed-signers", Usage: "those in `FILE` may sign", Value: defaultSigners},
			&cli.StringSliceFlag{Name: "require-signoff", Usage: "want the sign-offs of `ROLE,…` (default: " + trust.DefaultRequire + ")"},
		},
		Action: func(c *cli.Context) error {
			names, err := e.operands(c, 1, 1)
			if err != nil {
				return err
			}
			o := inspect.Options{Files: c.Bool("files"), Verify: c.Bool("verify"), Now: e.Now()}
			if o.Verify {
				if o.Policy, err = readPolicy(c); err != nil {
					return err
				}
			}
			name := names[0]
			o.Policy.Subject = failure.Word(name)
			if info, err := os.Stat(name); err == nil && info.IsDir() {
				o.Folder = true
				if name, err = inspect.Dir(name); err != nil {
					return err
				}
			}
			if o.Beside, err = besideSignoffs(name); err != nil {
				return err
			}
			f, err := e.open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			res, err := inspect.Look(c.Context, name, f, o)
			if err != nil {
				return err
			}
			return e.print(res, inspectLines(res)...)
		},
	}
}

// readPolicy reads who may sign and who must.
func readPolicy(c *cli.Context) (trust.Policy, error) {
	name := c.String("allowed-signers")
	f, err := os.Open(name)
	if err != nil {
		return trust.Policy{}, failure.WithHint(failure.As(failure.Usage, err), "--allowed-signers FILE names those who may sign, a line each: echo \"release $(cat release.pub)\" >FILE")
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, signature.MaxAllowedSigners+1))
	if err != nil {
		return trust.Policy{}, err
	}
	allowed, err := signature.ParseAllowedSigners(data)
	if err != nil {
		return trust.Policy{}, failure.As(failure.Usage, fmt.Errorf("reading %q: %w", name, err))
	}
	return trust.Policy{Allowed: allowed, File: filepath.Base(name), Require: commaList(c.StringSlice("require-signoff"))}, nil
}

// inspectLines lays out what was found; nothing in it moves the terminal.
func inspectLines(res *inspect.Result) []string {
	var lines []string
	for _, rows := range [][][]string{res.Rows(), res.FileRows()} {
		for _, r := range rows {
			for i := range r {
				r[i] = strings.ReplaceAll(ui.Visible(r[i]), "\n", `\n`)
			}
		}
		lines = append(lines, columns(rows)...)
	}
	return lines
}
