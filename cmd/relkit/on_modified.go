package main

import (
	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
)

// onModifiedFlag is --on-modified, which patch-apply and patch-rollback have.
func onModifiedFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "on-modified", Usage: usage + ": `abort|keep|replace`", Value: "abort"}
}

func onModified(c *cli.Context) (transaction.OnModified, error) {
	on := transaction.OnModified(c.String("on-modified"))
	switch on {
	case transaction.OnModifiedAbort, transaction.OnModifiedKeep, transaction.OnModifiedReplace:
		return on, nil
	}
	return "", failure.Errorf(failure.Usage, "reading --on-modified: got %q, want abort, keep or replace", on)
}
