package main

import (
	"errors"
	"io/fs"
	"path"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/update"
)

func auditCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:     "audit",
		Category: groupPatch,
		Usage:    "print or verify the log of what was done to this machine",
		Flags: []cli.Flag{
			rootFlag("/"), stateFlag(""),
			&cli.BoolFlag{Name: "verify", Usage: "check the chain of the log and print its head"},
			&cli.StringFlag{Name: "head", Usage: "with --verify: the log must hold the line with the digest `HASH`, as a head noted earlier"},
			&cli.StringFlag{Name: "pubkey", Usage: "with --verify: the head must be signed by the key of `FILE`, a public key"},
			&cli.StringFlag{Name: "since", Usage: "print what is not older than `TIME` (RFC 3339, YYYY-MM-DD or a span such as 7d)"},
		},
		Action: func(c *cli.Context) error {
			if _, err := e.operands(c, 0, 0); err != nil {
				return err
			}
			if c.IsSet("head") && !c.Bool("verify") {
				return failure.Errorf(failure.Usage, "--head goes with --verify")
			}
			since, err := e.sinceValue(c)
			if err != nil {
				return err
			}
			if c.IsSet("pubkey") && !c.Bool("verify") {
				return failure.Errorf(failure.Usage, "--pubkey goes with --verify")
			}
			name := c.String("state")
			if name == "" {
				name = path.Join(c.String("root"), update.DefaultState)
			}
			dir, err := fsys.Open(name)
			if err != nil {
				return failure.As(failure.Usage, err)
			}
			defer dir.Close()
			if err := isState(dir, name); err != nil {
				return err
			}
			if c.Bool("verify") {
				return e.verifyAudit(c, state.New(dir))
			}
			return e.printAudit(state.New(dir), since)
		},
	}
}

// isState refuses a folder that holds nothing of relkit's: a log that is not
// there must not be told as whole.
func isState(dir fsys.FS, name string) error {
	for _, of := range []string{"audit.jsonl", "version.json", "transactions", "trust", "lock"} {
		if _, err := dir.Lstat(of); err == nil || !fsys.IsAbsent(err) {
			return err
		}
	}
	return failure.WithHint(failure.Errorf(failure.Usage, "%q holds no state of relkit", name),
		"relkit audit --state %s", failure.Word(path.Join(name, update.DefaultState)))
}

// auditFailure makes of what is wrong with the log that it is not to be trusted.
func auditFailure(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return err
	}
	return failure.As(failure.Untrusted, err)
}

// auditGone tells of a log that holds nothing although there are journals: it is
// begun with the first transaction and never removed.
func auditGone(s *state.State, c state.Chain) error {
	if c.Head.Count > 0 {
		return nil
	}
	all, err := s.Transactions()
	if err != nil || len(all) > 0 {
		return errors.Join(err, failure.Errorf(failure.Untrusted, "audit.jsonl is gone: there are journals of %d transactions", len(all)))
	}
	return nil
}

// sinceValue is the value of --since, the zero time where it is not given.
func (e *env) sinceValue(c *cli.Context) (time.Time, error) {
	s := c.String("since")
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	d, err := parseSpan(s)
	if err != nil {
		return time.Time{}, failure.Errorf(failure.Usage, "reading --since: %w", err)
	}
	return e.Now().Add(-d), nil
}

func (e *env) printAudit(s *state.State, since time.Time) error {
	var rows [][]string
	chain, err := s.Audit(func(*journal.AuditLine) error { return nil })
	if err != nil {
		return auditFailure(err)
	}
	if err := auditGone(s, chain); err != nil {
		return err
	}
	_, err = s.Audit(func(l *journal.AuditLine) error {
		switch {
		case l.Time.Before(since):
			return nil
		case e.JSON:
			return e.printJSONLine(l)
		}
		rows = append(rows, []string{l.Time.UTC().Format(time.RFC3339), dash(l.Transaction), string(l.Event), dash(l.PatchID), dash(l.Detail())})
		return nil
	})
	if err != nil {
		return err
	}
	for _, line := range columns(rows) {
		if err := e.line(line); err != nil {
			return err
		}
	}
	return nil
}
