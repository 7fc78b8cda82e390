package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/signature"
)

// headResult is relkit.audit-head/v1: an audit log that was verified.
type headResult struct {
	Schema string `json:"schema"`
	journal.Head
	// First is the number of the first line that is kept, Files how many files hold them.
	First int64 `json:"first"`
	Files int   `json:"files"`
	// Untold counts events of the journals that the log has no line of yet.
	Untold int         `json:"untold,omitempty"`
	Signed *signedHead `json:"signed,omitempty"`
}

// signedHead is the newest head that was signed.
type signedHead struct {
	journal.Head
	Key string `json:"key"`
}

func (e *env) verifyAudit(c *cli.Context, s *state.State) error {
	checked, err := s.Check()
	if err != nil {
		return auditFailure(err)
	}
	if err := auditGone(s, checked.Chain); err != nil {
		return err
	}
	if n := len(checked.Wrong); n > 0 {
		for _, wrong := range checked.Wrong[:min(n, 20)] {
			e.Log.Warn(wrong)
		}
		return failure.Errorf(failure.Untrusted, "the audit log and the journals tell different things, at %d places: %s", n, checked.Wrong[0])
	}
	r := headResult{Schema: journal.HeadSchema, Head: checked.Head, First: checked.First, Files: checked.Files, Untold: checked.Untold}
	if err := holds(c, s); err != nil {
		return err
	}
	if r.Signed, err = verifySignedHead(c, s); err != nil {
		return err
	}
	if checked.First > 1 {
		e.Log.Info(fmt.Sprintf("lines from %d on are kept; those before, which end with %s, were removed for their age", checked.First, checked.Start.Digest))
	}
	if checked.Untold > 0 {
		e.Log.Warn(fmt.Sprintf("%d events of the journals are not in the log: a relkit works on this machine, one was interrupted (the next adds them), or the end of the log was cut off", checked.Untold))
	}
	if r.Signed != nil && r.Signed.Count < r.Count {
		e.Log.Warn(fmt.Sprintf("the log is signed up to line %d; %d lines after it are not", r.Signed.Count, r.Count-r.Signed.Count))
	}
	text := fmt.Sprintf("%d %s", r.Count, r.Digest)
	if r.Signed != nil {
		text += fmt.Sprintf(" signed by %s", r.Signed.Key)
	}
	return e.print(r, text)
}

// holds checks --head, where it is given.
func holds(c *cli.Context, s *state.State) error {
	if !c.IsSet("head") {
		return nil
	}
	want, err := digest.Parse(c.String("head"))
	if err != nil {
		return failure.Errorf(failure.Usage, "reading --head: %w", err)
	}
	found, err := s.AuditHolds(want)
	if err == nil && !found {
		err = failure.Errorf(failure.Untrusted, "the audit log has no line %s: it was cut or written anew", want)
	}
	return err
}

// verifySignedHead verifies the head that was signed, and that the log goes on
// from it; nil where none was signed and none is asked for.
func verifySignedHead(c *cli.Context, s *state.State) (*signedHead, error) {
	signed, err := s.ReadSignedHead()
	switch {
	case err != nil:
		return nil, auditFailure(err)
	case signed == nil && c.IsSet("pubkey"):
		return nil, failure.WithHint(failure.Errorf(failure.Untrusted, "no head of the audit log was signed"),
			"set host_key in the table [audit] of /etc/relkit/machine.toml")
	case signed == nil:
		return nil, nil
	}
	key := signature.Fingerprint(signed.Key)
	if c.IsSet("pubkey") {
		want, err := readPublicKey(c.String("pubkey"))
		if err != nil {
			return nil, err
		}
		if signature.Fingerprint(want) != key {
			return nil, failure.Errorf(failure.Untrusted, "the head of the audit log is signed by key %s, not by %s", key, signature.Fingerprint(want))
		}
	}
	found, err := s.AuditHolds(signed.Digest)
	if err == nil && !found {
		err = failure.Errorf(failure.Untrusted, "the audit log does not have the line that key %s signed as its %dth, %s: it was cut or written anew", key, signed.Count, signed.Digest)
	}
	return &signedHead{signed.Head, key}, err
}
