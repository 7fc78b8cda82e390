package main

import (
	"runtime"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
)

// The flags that mean the same in every command that has them. A default of ""
// means that the command has none.

func configFlag(def string) cli.Flag {
	return &cli.StringFlag{Name: "config", Usage: "read the configuration from `FILE`", Value: def}
}

func rootFlag(def string) cli.Flag {
	return &cli.StringFlag{Name: "root", Usage: "work on the tree under `DIR`", Value: def}
}

func storeFlag(def string) cli.Flag {
	return &cli.StringFlag{Name: "store", Usage: "keep images under `DIR`", Value: def}
}

func stateFlag(def string) cli.Flag {
	return &cli.StringFlag{Name: "state", Usage: "keep relkit's own state under `DIR`", Value: def}
}

func dryRunFlag() cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "say what would be done, change nothing"}
}

func jobsFlag() cli.Flag {
	return &cli.IntFlag{Name: "jobs", Aliases: []string{"j"}, Usage: "do up to `N` things at a time (default: the number of cores)"}
}

func outputFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: usage}
}

// commonFlags are on every command.
func commonFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "json", Usage: "print the result as JSON"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "say nothing on standard error unless it fails"},
		&cli.BoolFlag{Name: "verbose", Usage: "say more on standard error"},
		&cli.StringFlag{Name: "progress", Usage: "show progress: `auto|never|json`", Value: "auto"},
		&cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "print this help"},
	}
}

// jobs is the value of --jobs, the number of cores where it is not given.
func jobs(c *cli.Context) (int, error) {
	n := c.Int("jobs")
	switch {
	case n < 0 || (n == 0 && c.IsSet("jobs")):
		return 0, failure.Errorf(failure.Usage, "reading --jobs: got %d, want 1 or more", n)
	case n == 0:
		return runtime.GOMAXPROCS(0), nil
	}
	return n, nil
}

// sharedFlags may be given as RELKIT_<FLAG>.
var sharedFlags = map[string]bool{
	"config": true, "root": true, "store": true, "state": true, "dry-run": true,
	"quiet": true, "verbose": true, "jobs": true, "output": true, "json": true, "progress": true,
}

// envName is the environment variable that stands in for a flag of a command;
// "" where there is none, because the flag lowers safety and a forgotten export
// must not, or because it would do nothing.
func envName(command, flag string) string {
	switch {
	case flag == "help":
		return ""
	case sharedFlags[flag]:
		return "RELKIT_" + upper(flag)
	case lowersSafety(flag):
		return ""
	}
	return "RELKIT_" + upper(command) + "_" + upper(flag)
}

func lowersSafety(flag string) bool {
	switch flag {
	case "force", "allow-downgrade", "on-modified", "below-floor", "no-pre-rollback-hook":
		return true
	}
	return strings.HasPrefix(flag, "insecure")
}

func upper(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }
