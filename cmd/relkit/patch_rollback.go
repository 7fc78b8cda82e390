package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/update"
)

func patchRollbackCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "patch-rollback",
		Category:  groupPatch,
		Usage:     "take applied patches back, without any download",
		ArgsUsage: "[ID]",
		Flags: []cli.Flag{
			rootFlag("/"), stateFlag(""), dryRunFlag(), jobsFlag(),
			&cli.IntFlag{Name: "last", Usage: "take back the last `N` patches (default: 1)"},
			&cli.StringFlag{Name: "to", Usage: "go back to `VERSION`"},
			onModifiedFlag("what to do about files changed since"),
			&cli.BoolFlag{Name: "below-floor", Usage: "go back below the security floor"},
			&cli.BoolFlag{Name: "no-pre-rollback-hook", Usage: "take the patch back without its pre-rollback hook"},
			&cli.StringFlag{Name: "check-timeout", Usage: "give up when a hook runs longer than `SPAN`", Value: "60s"},
			&cli.BoolFlag{Name: "at-boot", Usage: "take the patch back at the next boot, whatever it was"},
			&cli.BoolFlag{Name: "list", Usage: "list what was applied and what can be taken back"},
			&cli.BoolFlag{Name: "prune", Usage: "give up the rollback copies of all but the newest patches"},
			&cli.IntFlag{Name: "keep", Usage: "with --prune: keep those of the newest `N` (default: as machine.toml has it)"},
			&cli.StringFlag{Name: "keep-size", Usage: "with --prune: keep the newest that take `SIZE` together"},
		},
		Action: func(c *cli.Context) error {
			names, err := e.operands(c, 0, 1)
			if err != nil {
				return err
			}
			if err := exclusive(c, "list", "prune", "last", "to"); err != nil {
				return err
			}
			for _, name := range []string{"list", "prune", "last", "to"} {
				if len(names) > 0 && c.IsSet(name) {
					return failure.Errorf(failure.Usage, "--%s takes no patch: unexpected operand %q", name, names[0])
				}
			}
			for _, name := range []string{"keep", "keep-size"} {
				if c.IsSet(name) && !c.Bool("prune") {
					return failure.Errorf(failure.Usage, "--%s goes with --prune", name)
				}
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
			return e.rollback(c, o, names)
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

func (e *env) rollback(c *cli.Context, o update.Options, names []string) (err error) {
	r := update.RollbackOptions{
		Options: o, Last: c.Int("last"), To: c.String("to"), Output: e.hookWriter(),
		AtBoot: c.Bool("at-boot"), BelowFloor: c.Bool("below-floor"), NoPreRollbackHook: c.Bool("no-pre-rollback-hook"),
	}
	if r.OnModified, err = onModified(c); err != nil {
		return err
	}
	if r.HookTimeout, err = checkTimeout(c); err != nil {
		return err
	}
	if len(names) > 0 {
		if r.Patch = names[0]; r.Patch == "" {
			return failure.Errorf(failure.Usage, "an empty word names no patch")
		}
	} else if r.To == "" {
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
		told := map[string]bool{}
		for _, d := range r.Deviations {
			e.Log.Warn(d.Path + ": " + d.Why())
			told[d.Old], told[d.Saved] = true, true
		}
		for _, path := range r.Kept {
			if !told[path] {
				e.Log.Warn("what stood in the way was kept", "path", path)
			}
		}
		if r.HookFailed != "" {
			e.Log.Warn("the patch was taken back, and its hook failed: " + r.HookFailed)
		}
		switch r.Status {
		case "planned":
			e.Log.Info(fmt.Sprintf("patch %s would be taken back%s", r.Patch, again(&r, "would be")))
		case "withdrawn":
			e.Log.Info(fmt.Sprintf("patch %s is taken back at the next boot%s", r.Patch, again(&r, "will be")))
		default:
			e.Log.Info(fmt.Sprintf("patch %s taken back%s, visible within %s", r.Patch, again(&r, "is"),
				time.Duration(r.VisibleSeconds*float64(time.Second)).Round(100*time.Microsecond)))
			if !r.Again {
				e.Log.Info(fmt.Sprintf("what patch %s brought is not kept: to apply it again takes the patch itself", r.Patch))
			}
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
	rows := [][]string{{"TRANSACTION", "PATCH", "FROM", "TO", "STATUS", "TIME", "KEPT", "INODES"}}
	for _, t := range l.Transactions {
		kept, inodes := "-", "-"
		if t.Kept || t.Again {
			kept, inodes = strconv.FormatInt(t.KeptBytes, 10), strconv.FormatInt(t.KeptInodes, 10)
		}
		rows = append(rows, []string{t.ID, t.Patch, dash(t.From), dash(t.To), string(t.Status), t.Time.UTC().Format(time.RFC3339), kept, inodes})
	}
	if len(l.Transactions) > 0 {
		rows = append(rows, []string{"all", "", "", "", "", "", strconv.FormatInt(l.KeptBytes, 10), strconv.FormatInt(l.KeptInodes, 10)})
	}
	return e.print(l, columns(rows)...)
}

// again says which version there is again; "" for a patch that stayed at its
// version: a repair, or a hotfix.
func again(r *update.RollbackResult, is string) string {
	if r.From == r.To {
		return ""
	}
	return fmt.Sprintf(": %s %s %s %s again", r.Product, dash(r.From), is, dash(r.To))
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
	var r *update.Retention // as machine.toml has it
	if c.IsSet("keep") || c.IsSet("keep-size") {
		r = &update.Retention{Keep: -1, Size: -1}
	}
	if c.IsSet("keep") {
		if r.Keep = c.Int("keep"); r.Keep < 0 {
			return failure.Errorf(failure.Usage, "reading --keep: got %d, want 0 or more", r.Keep)
		}
	}
	if c.IsSet("keep-size") {
		n, err := config.ParseSize(c.String("keep-size"))
		if err != nil {
			return failure.Errorf(failure.Usage, "reading --keep-size: %w", err)
		}
		r.Size = n
	}
	freed, err := update.Prune(c.Context, o, r)
	if err != nil {
		return err
	}
	return e.print(pruneResult{Schema: "relkit.prune/v1", Freed: append([]string{}, freed...)}, freed...)
}
