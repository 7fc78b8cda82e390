package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/update"
)

func patchRollbackCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:     "patch-rollback",
		Category: groupPatch,
		Usage:    "take applied patches back, without any download",
		Flags: []cli.Flag{
			rootFlag("/"), stateFlag(""), dryRunFlag(), jobsFlag(),
			&cli.IntFlag{Name: "last", Usage: "take back the last `N` patches (default: 1)"},
			&cli.StringFlag{Name: "to", Usage: "go back to `VERSION`"},
			onModifiedFlag("what to do about files changed since"),
			&cli.BoolFlag{Name: "below-floor", Usage: "go back below the security floor"},
			&cli.StringFlag{Name: "check-timeout", Usage: "give up when a hook runs longer than `SPAN`", Value: "60s"},
			&cli.BoolFlag{Name: "at-boot", Usage: "take the patch back at the next boot, whatever it was"},
			&cli.BoolFlag{Name: "list", Usage: "list what was applied and what can be taken back"},
			&cli.BoolFlag{Name: "prune", Usage: "give up the rollback copies of all but the newest patches"},
			&cli.IntFlag{Name: "keep", Usage: "with --prune: keep those of the newest `N`", Value: 1},
		},
		Action: func(c *cli.Context) error {
			if _, err := e.operands(c, 0, 0); err != nil {
				return err
			}
			if err := exclusive(c, "list", "prune", "last", "to"); err != nil {
				return err
			}
			if c.IsSet("keep") && !c.Bool("prune") {
				return failure.Errorf(failure.Usage, "--keep goes with --prune")
			}
			if c.IsSet("to") && c.String("to") == "" {
				return failure.Errorf(failure.Usage, "reading --to: no version given")
			}
			o, err := e.updateOptions(c)
			if err != nil {
				return err
			}
			switch {
			case c.Bool("list"):
				return e.listTransactions(c, o)
			case c.Bool("prune"):
				return e.prune(c, o)
			}
			return e.rollback(c, o)
		},
	}
}

// exclusive holds that at most one of the flags is given.
func exclusive(c *cli.Context, names ...string) error {
	given := ""
	for _, name := range names {
		if !c.IsSet(name) {
			continue
		}
		if given != "" {
			return failure.Errorf(failure.Usage, "--%s and --%s exclude each other", given, name)
		}
		given = name
	}
	return nil
}

func (e *env) rollback(c *cli.Context, o update.Options) (err error) {
	r := update.RollbackOptions{
		Options: o, Last: c.Int("last"), To: c.String("to"), Output: e.hookWriter(),
		AtBoot: c.Bool("at-boot"), BelowFloor: c.Bool("below-floor"),
	}
	if r.OnModified, err = onModified(c); err != nil {
		return err
	}
	if r.HookTimeout, err = checkTimeout(c); err != nil {
		return err
	}
	if r.To == "" {
		if !c.IsSet("last") {
			r.Last = 1
		}
		if r.Last < 1 {
			return failure.Errorf(failure.Usage, "reading --last: got %d, want 1 or more", r.Last)
		}
	}
	results, err := update.Rollback(c.Context, r)
	return e.hookOutput(r.Output, errors.Join(e.printRolledBack(results), err))
}

func (e *env) printRolledBack(results []update.RollbackResult) error {
	if len(results) == 0 {
		return nil
	}
	for _, r := range results {
		for _, path := range r.Modified {
			e.Log.Warn("changed since the patch was applied", "path", path)
		}
		for _, path := range r.Kept {
			e.Log.Warn("what stood in the way was kept", "path", path)
		}
		if r.HookFailed != "" {
			e.Log.Warn("the patch was taken back, and its hook failed: " + r.HookFailed)
		}
		switch r.Status {
		case "planned":
			e.Log.Info(fmt.Sprintf("patch %s would be taken back: %s %s would be %s again", r.Patch, r.Product, dash(r.From), dash(r.To)))
		case "withdrawn":
			e.Log.Info(fmt.Sprintf("patch %s is taken back at the next boot: %s %s will be %s again", r.Patch, r.Product, dash(r.From), dash(r.To)))
		default:
			e.Log.Info(fmt.Sprintf("patch %s taken back: %s %s is %s again, visible within %s", r.Patch, r.Product, dash(r.From), dash(r.To),
				time.Duration(r.VisibleSeconds*float64(time.Second)).Round(100*time.Microsecond)))
		}
		if e.JSON {
			if err := e.printJSONLine(&r); err != nil {
				return err
			}
		} else if err := e.line(r.Transaction); err != nil {
			return err
		}
	}
	return nil
}

func (e *env) listTransactions(c *cli.Context, o update.Options) error {
	l, err := update.ListTransactions(c.Context, o)
	if err != nil {
		return err
	}
	rows := [][]string{{"TRANSACTION", "PATCH", "FROM", "TO", "STATUS", "TIME", "KEPT"}}
	for _, t := range l.Transactions {
		kept := "-"
		if t.Kept {
			kept = strconv.FormatInt(t.KeptBytes, 10)
		}
		rows = append(rows, []string{t.ID, t.Patch, dash(t.From), dash(t.To), string(t.Status), t.Time.UTC().Format(time.RFC3339), kept})
	}
	return e.print(l, columns(rows)...)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// pruneResult is relkit.prune/v1: the transactions whose rollback copies are gone.
type pruneResult struct {
	Schema string   `json:"schema"`
	Freed  []string `json:"freed"`
}

func (e *env) prune(c *cli.Context, o update.Options) error {
	keep := c.Int("keep")
	if keep < 0 {
		return failure.Errorf(failure.Usage, "reading --keep: got %d, want 0 or more", keep)
	}
	freed, err := update.Prune(c.Context, o, keep)
	if err != nil {
		return err
	}
	return e.print(pruneResult{Schema: "relkit.prune/v1", Freed: append([]string{}, freed...)}, freed...)
}
