package main

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
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
			&cli.StringFlag{Name: "trust", Usage: "those in the trust document `FILE` may sign"},
			&cli.StringSliceFlag{Name: "require-signoff", Usage: "want the sign-offs of `ROLE,…` (default: " + trust.DefaultRequire + ")"},
		},
		Action: func(c *cli.Context) error {
			names, err := e.operands(c, 1, 1)
			if err != nil {
				return err
			}
			o := inspect.Options{Files: c.Bool("files"), Verify: c.Bool("verify"), Now: e.Now()}
			if o.Verify {
				if o.Policy, o.Trust, err = readPolicy(c, o.Now); err != nil {
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

// readPolicy reads who may sign and who must, and the trust document where one says so.
func readPolicy(c *cli.Context, now time.Time) (p trust.Policy, d *trust.Document, err error) {
	if err := exclusive(c, "trust", "allowed-signers"); err != nil {
		return p, nil, err
	}
	p.File = filepath.Base(c.String("allowed-signers"))
	if name := c.String("trust"); name != "" {
		if d, err = readTrustFile(name); err != nil {
			return p, nil, err
		}
		p = d.Policy(trust.Clock{Shown: now})
	} else if p.Allowed, err = readSigners(c.String("allowed-signers")); err != nil {
		return p, nil, err
	}
	p.Require = commaList(c.StringSlice("require-signoff"))
	return p, d, nil
}

// readTrustFile reads a trust document and FILE.sig beside it.
func readTrustFile(name string) (*trust.Document, error) {
	d, err := trust.ReadDocument(os.DirFS(filepath.Dir(name)), filepath.Base(name))
	if failure.Of(err) == failure.Failed {
		err = failure.As(failure.Usage, err)
	}
	if err != nil {
		return nil, err
	}
	d.Name = name
	return d, nil
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
