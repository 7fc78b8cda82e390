package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/inspect"
	"github.com/relkit/relkit/pkg/ui"
	"github.com/relkit/relkit/pkg/update"
)

func trustCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "trust",
		Category:  groupPatch,
		Usage:     "say who may sign for a machine, by a signed document",
		ArgsUsage: "DOCUMENT…",
		Flags: []cli.Flag{
			rootFlag("/"), stateFlag(""), dryRunFlag(),
			&cli.BoolFlag{Name: "install", Usage: "make DOCUMENT the first one of this machine, on your own word"},
			&cli.BoolFlag{Name: "update", Usage: "give this machine a newer DOCUMENT, by way of those in between"},
			&cli.BoolFlag{Name: "insecure-reset-time", Usage: "have this machine forget what its clock has shown"},
			outputFlag("write a new document to `FILE`"),
			&cli.StringFlag{Name: "previous", Usage: "the new document follows that in `FILE`"},
			&cli.StringFlag{Name: "product", Usage: "the new document is for `PRODUCT`"},
			&cli.StringFlag{Name: "allowed-signers", Usage: "those in `FILE` may sign by the new document"},
			&cli.StringSliceFlag{Name: "threshold", Usage: "the word of a role takes so many keys: `ROLE=N,…`"},
			&cli.StringSliceFlag{Name: "revoke", Usage: "`KEY` never counts again: a fingerprint, or a public key file"},
			&cli.StringFlag{Name: "reason", Usage: "the reason of --revoke is `TEXT`"},
			&cli.StringFlag{Name: "expires", Usage: "the new document expires after `SPAN`", Value: "365d"},
		},
		Action: func(c *cli.Context) error {
			if err := exclusive(c, "install", "update", "insecure-reset-time", "output"); err != nil {
				return err
			}
			if c.IsSet("output") {
				return e.makeTrust(c)
			}
			for _, name := range []string{"previous", "product", "allowed-signers", "threshold", "revoke", "reason", "expires"} {
				if c.IsSet(name) {
					return failure.Errorf(failure.Usage, "--%s is for a new document: it goes with -o FILE", name)
				}
			}
			return e.trustHere(c)
		},
	}
}

// trustHere is what the command does on an appliance.
func (e *env) trustHere(c *cli.Context) error {
	install, change := c.Bool("install"), c.Bool("install") || c.Bool("update")
	least, most := 0, 0
	if change {
		least, most = 1, -1
	}
	if install {
		most = 1
	}
	names, err := e.operands(c, least, most)
	if err != nil {
		return err
	}
	o := update.Options{Root: c.String("root"), State: c.String("state"), DryRun: c.Bool("dry-run"), Now: e.Now, Built: builtAt(), Log: e.Log, Hold: e.hold}
	if change && !o.DryRun {
		e.Target = o.Root
	}
	var s *update.TrustState
	switch {
	case change:
		docs := make([]*trust.Document, len(names))
		for i, name := range names {
			if docs[i], err = readTrustFile(name); err != nil {
				return err
			}
		}
		s, err = update.UpdateTrust(c.Context, docs, install, o)
	case c.Bool("insecure-reset-time"):
		s, err = update.ResetTime(c.Context, o)
	default:
		s, err = update.ShowTrust(c.Context, o)
	}
	if err != nil {
		return err
	}
	return e.printTrust(s)
}

func (e *env) printTrust(s *update.TrustState) error {
	rows := [][]string{{"status", s.Status}}
	if d := s.Document; d != nil {
		rows = append(append(rows, []string{"digest", s.Digest}), inspect.TrustRows(d)...)
		e.Log.Debug("the document was signed by", "root", s.Root)
	}
	switch s.Status {
	case "installed":
		e.Log.Info(fmt.Sprintf("trust document %d decides from here on who may sign; its root keys alone name the next", s.Document.Version))
	case "updated":
		e.Log.Info(fmt.Sprintf("trust document %d is in place of %d", s.Document.Version, s.Before))
	case "planned":
		e.Log.Info(fmt.Sprintf("trust document %d would be taken", s.Document.Version))
	case "none":
		e.Log.Info("this machine has no trust document: " + defaultSigners + ", or --allowed-signers, says who may sign")
	}
	if !s.NotBefore.IsZero() {
		rows = append(rows, []string{"not before", s.NotBefore.Format(time.RFC3339)})
	}
	if s.ClockWrong {
		e.Log.Warn("the clock shows an earlier time than has been seen: it is wrong")
	}
	for _, r := range rows {
		for i := range r {
			r[i] = strings.ReplaceAll(ui.Visible(r[i]), "\n", `\n`)
		}
	}
	return e.print(s, columns(rows)...)
}

// madeTrust is relkit.trust-made/v1: the document that was written.
type madeTrust struct {
	Schema  string    `json:"schema"`
	File    string    `json:"file"`
	Product string    `json:"product"`
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"`
	Digest  string    `json:"digest"`
}

// fingerprint is the value of --revoke: a fingerprint, or a public key file's.
func fingerprint(value string) (string, error) {
	if strings.HasPrefix(value, "SHA256:") {
		return value, nil
	}
	key, err := readPublicKey(value)
	if err != nil {
		return "", err
	}
	return signature.Fingerprint(key), nil
}
