package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
)

// TestMain lets scripts run three programs: relkit itself, the same at another
// time (relkit-at 1970-01-01T00:00:00Z ARG…), and the same frame around commands
// made for its tests.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"relkit": main,
		"relkit-at": func() {
			at, err := time.Parse(time.RFC3339, os.Args[1])
			if err != nil {
				panic(err)
			}
			e := newEnv()
			e.Now = func() time.Time { return at }
			os.Exit(run(context.Background(), e, append([]string{"relkit"}, os.Args[2:]...)))
		},
		"sample": func() {
			e := newEnv()
			e.Commands = sampleCommands
			os.Exit(run(context.Background(), e, os.Args))
		},
	})
}

// runTool runs the whole tool in this process, with environ as its environment.
func runTool(t *testing.T, stdin string, environ map[string]string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	return runWith(t, commands, stdin, environ, args...)
}

// runSample is runTool with the commands of this file.
func runSample(t *testing.T, environ map[string]string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	return runWith(t, sampleCommands, "input\n", environ, args...)
}

func runWith(t *testing.T, list func(*env) []*cli.Command, stdin string, environ map[string]string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	e := testEnv(stdin, environ, &out, &errs)
	e.Commands = list
	status = run(context.Background(), e, append([]string{"relkit"}, args...))
	return out.String(), errs.String(), status
}

func testEnv(stdin string, environ map[string]string, out, errs io.Writer) *env {
	return &env{
		Stdin: strings.NewReader(stdin), Stdout: out, Stderr: errs,
		LookupEnv:  func(k string) (string, bool) { v, ok := environ[k]; return v, ok },
		Now:        func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC) },
		IsTerminal: func(any) bool { return false },
		Exit:       func(int) {},
		Commands:   commands,
	}
}

// sampleCommands are echo, which prints what it was given, fail, which fails as
// told, wait, which waits for a signal, and write, which writes binary data.
func sampleCommands(e *env) []*cli.Command {
	return []*cli.Command{echoCommand(e), failCommand(e), waitCommand(e), writeCommand(e)}
}

type echoResult struct {
	Schema   string            `json:"schema"`
	Operands []string          `json:"operands"`
	Flags    map[string]string `json:"flags"`
}

func echoCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "echo", Category: groupOther, Usage: "print what it was given", ArgsUsage: "OLD NEW…",
		Description: "Echo is made for tests.",
		Flags: []cli.Flag{
			configFlag("relkit.toml"), dryRunFlag(), jobsFlag(), outputFlag("write to `FILE`"),
			&cli.StringSliceFlag{Name: "as", Usage: "echo as `ROLE,…`"},
			&cli.StringFlag{Name: "limit-rate", Usage: "at most `SIZE` a second"},
			&cli.BoolFlag{Name: "force", Usage: "lower safety"},
			&cli.BoolFlag{Name: "insecure-unsigned", Usage: "lower safety more"},
			&cli.StringFlag{Name: "on-modified", Usage: "lower safety by `abort|keep`"},
			&cli.BoolFlag{Name: "secret", Hidden: true},
		},
		Action: func(c *cli.Context) error {
			args, err := e.operands(c, 1, 3)
			if err != nil {
				return err
			}
			if _, err := jobs(c); err != nil {
				return err
			}
			e.Log.Info("a note", "operands", len(args))
			e.Log.Warn("a warning")
			e.Log.Debug("a detail")
			flags := map[string]string{}
			for _, n := range c.LocalFlagNames() {
				flags[n] = fmt.Sprint(c.Value(n))
			}
			flags["as"] = strings.Join(c.StringSlice("as"), "|")
			delete(flags, "json")
			return e.print(echoResult{"relkit.echo/v1", args, flags}, args...)
		},
	}
}

func failCommand(e *env) *cli.Command {
	errs := map[string]func() error{
		"plain":     func() error { return fmt.Errorf("reading %q: %w", "x", os.ErrNotExist) },
		"exitcoder": func() error { return cli.Exit("a coder", 42) },
		"hint": func() error {
			return failure.WithHint(failure.Errorf(failure.Refused, "no space"), "relkit patch-rollback --prune")
		},
		"escape": func() error { return errors.New("\x1b[31mred\x07 two\nlines") },
		"typo":   func() error { return nil },
		"schema": func() error { return e.print(struct{ A int }{1}) },
		"print":  func() error { return e.print(echoResult{Schema: "no schema"}) },
		"panic":  func() error { panic("told to") },
	}
	for k := failure.Failed; k <= failure.Mixed; k++ {
		errs[fmt.Sprint("kind", int(k))] = func() error { return fmt.Errorf("doing: %w", failure.Errorf(k, "kind %d", k)) }
	}
	return &cli.Command{
		Name: "fail", Category: groupOther, Usage: "fail as told", ArgsUsage: "HOW",
		Flags: []cli.Flag{&cli.StringFlag{Name: "to", Usage: "send to `DEST`", Required: true}, rootFlag("")},
		Action: func(c *cli.Context) error {
			e.Target = c.String("root")
			if c.Args().First() == "typo" {
				_ = c.String("too")
			}
			return errs[c.Args().First()]()
		},
	}
}

func waitCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "wait", Category: groupOther, Usage: "wait for a signal",
		Flags: []cli.Flag{&cli.StringFlag{Name: "then", Usage: "end by `cause|wrap|restored|mixed|untrusted|done`", Value: "cause"}},
		Action: func(c *cli.Context) error {
			fmt.Fprintln(e.Stdout, "waiting")
			<-c.Context.Done()
			cause := context.Cause(c.Context)
			switch c.String("then") {
			case "wrap":
				return fmt.Errorf("copying x: %w", c.Context.Err())
			case "restored":
				return failure.Errorf(failure.Restored, "undone: %w", cause)
			case "mixed":
				return failure.Errorf(failure.Mixed, "half done: %w", cause)
			case "untrusted":
				return failure.Errorf(failure.Untrusted, "bad signature")
			case "done":
				return nil
			}
			return cause
		},
	}
}

func writeCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "write", Category: groupOther, Usage: "copy binary data", ArgsUsage: "FILE…",
		Flags: []cli.Flag{
			outputFlag("write to `FILE`"),
			&cli.BoolFlag{Name: "half", Usage: "fail in the middle"},
			&cli.BoolFlag{Name: "endless", Usage: "never stop"},
		},
		Action: func(c *cli.Context) error {
			names, err := e.operands(c, 1, -1)
			if err != nil {
				return err
			}
			out, err := e.create(c.String("output"), 0o644, true)
			if err != nil {
				return err
			}
			defer out.Abort()
			p := e.progress()
			p.Start(0, "copying")
			defer p.Done()
			for _, n := range names {
				in, err := e.open(n)
				if err != nil {
					return err
				}
				_, err = io.Copy(out, in)
				in.Close()
				if err != nil {
					return fmt.Errorf("copying %q: %w", n, err)
				}
			}
			for c.Bool("endless") {
				if _, err := out.Write(make([]byte, 4096)); err != nil {
					return err
				}
			}
			if c.Bool("half") {
				return errors.New("stopped in the middle")
			}
			return out.Commit()
		},
	}
}
