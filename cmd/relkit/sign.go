package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/patchmake"
)

func signCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "sign",
		Category:  groupPatch,
		Usage:     "sign off a patch, or sign another file",
		ArgsUsage: "FILE",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "as", Usage: "sign a patch off, or a trust document, as `ROLE`"},
			&cli.StringFlag{Name: "verdict", Usage: "the role's word is `pass|fail` (default: pass)"},
			&cli.StringSliceFlag{Name: "evidence", Usage: "the verdict rests on `FILE`"},
			&cli.BoolFlag{Name: "detached", Usage: "write the sign-off beside the patch, not into it"},
		}, signerFlags()...),
		Action: func(c *cli.Context) error {
			files, err := e.operands(c, 1, 1)
			if err != nil {
				return err
			}
			o := patchmake.SignOptions{Role: c.String("as"), Verdict: c.String("verdict"), Evidence: c.StringSlice("evidence"), Detached: c.Bool("detached")}
			o.Create = func(name string, mode os.FileMode) (patchmake.Output, error) { return e.create(name, mode, true) }
			switch {
			case files[0] == "-":
				return failure.Errorf(failure.Usage, "signing writes into the file or beside it: \"-\" is neither")
			case o.Verdict != "" && o.Verdict != "pass" && o.Verdict != "fail":
				return failure.Errorf(failure.Usage, "reading --verdict: got %q, want pass or fail", o.Verdict)
			}
			signer, done, err := e.signer(c)
			if err != nil {
				return err
			}
			defer done()
			if signer == nil {
				return errNoSigner
			}
			o.Signer = signer
			if o.At, err = e.stamp(); err != nil {
				return err
			}
			signed, err := patchmake.Sign(c.Context, files[0], o)
			if err != nil {
				return err
			}
			if signed.Note != "" {
				e.Log.Warn(signed.Note)
			}
			return e.print(signed, signed.Wrote...)
		},
	}
}
