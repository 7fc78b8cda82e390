package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/delta"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/patchmake"
)

func patchMakeCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "patch-make",
		Category:  groupPatch,
		Usage:     "make a patch that turns one tree into another",
		ArgsUsage: "OLD NEW",
		Flags: append([]cli.Flag{
			outputFlag("write the patch to `FILE` (default: PRODUCT-FROM-TO.rkp)"),
			&cli.StringFlag{Name: "meta", Usage: "read what follows from `FILE` (TOML) where no flag says it"},
			&cli.StringFlag{Name: "id", Usage: "call the patch `ID`"},
			&cli.StringFlag{Name: "product", Usage: "it is for the product `NAME`"},
			&cli.StringFlag{Name: "from-version", Usage: "OLD is `VERSION`"},
			&cli.StringFlag{Name: "to-version", Usage: "NEW is `VERSION`"},
			&cli.StringSliceFlag{Name: "requires", Usage: "apply it only where `EXPR` holds, as in \"fw (>= 4.1)\""},
			&cli.StringSliceFlag{Name: "conflicts", Usage: "do not apply it where `EXPR` holds"},
			&cli.StringSliceFlag{Name: "supersedes", Usage: "it takes the place of the patch `ID`"},
			&cli.StringSliceFlag{Name: "model", Usage: "only for models that match `GLOB`"},
			&cli.StringSliceFlag{Name: "label", Usage: "only for machines labelled `NAME=VALUE,…`"},
			&cli.StringSliceFlag{Name: "provides", Usage: "others may require it as `NAME` too, or as \"NAME (= VERSION)\""},
			&cli.StringFlag{Name: "floor", Usage: "from it on nothing older than `VERSION` may be installed"},
			&cli.StringSliceFlag{Name: "requires-command", Usage: "only where there is a program `NAME`"},
			&cli.StringSliceFlag{Name: "requires-space", Usage: "only where so much is free afterwards: `PATH=SIZE`"},
			&cli.StringFlag{Name: "reboot", Usage: "a reboot is `none|required` (default: none)"},
			&cli.StringSliceFlag{Name: "restart", Usage: "restart the service `UNIT` afterwards"},
			&cli.StringSliceFlag{Name: "reload", Usage: "reload the service `UNIT` afterwards"},
			&cli.StringSliceFlag{Name: "stop", Usage: "stop the service `UNIT` while the tree changes"},
			&cli.StringFlag{Name: "pre", Usage: "run `SCRIPT` before"},
			&cli.StringFlag{Name: "post", Usage: "run `SCRIPT` after"},
			&cli.StringFlag{Name: "check", Usage: "run `SCRIPT` to tell whether it works; if not, roll back"},
			&cli.StringFlag{Name: "pre-rollback", Usage: "run `SCRIPT` before a rollback"},
			&cli.StringFlag{Name: "post-rollback", Usage: "run `SCRIPT` after a rollback"},
			&cli.StringSliceFlag{Name: "config-files", Usage: "files that match `GLOB` belong to the machine's owner"},
			&cli.StringFlag{Name: "product-file", Usage: "read from `FILE` (TOML) what the product manages"},
			&cli.StringFlag{Name: "expires", Usage: "not to be applied after `SPAN` (90d) or a time"},
			&cli.BoolFlag{Name: "full", Usage: "carry all of NEW: a patch that needs no OLD"},
			&cli.StringFlag{Name: "as", Usage: "sign as `ROLE`", Value: "release"},
			&cli.StringFlag{Name: "level", Usage: "work `fast|best`", Value: "best"},
			&cli.StringFlag{Name: "scratch", Usage: "keep temporary files under `DIR` (default: TMPDIR, or beside the output)"},
			&cli.StringSliceFlag{Name: "insecure-include", Usage: "carry private keys and machine ids that match `GLOB`"},
			storeFlag(defaultStore), jobsFlag(),
		}, signerFlags()...),
		Action: func(c *cli.Context) error {
			o, err := e.patchMakeOptions(c)
			if err != nil {
				return err
			}
			signer, done, err := e.signer(c)
			if err != nil {
				return err
			}
			defer done()
			if o.Signer = signer; signer == nil && c.IsSet("as") {
				return failure.Errorf(failure.Usage, "--as says who signs, and there is no --key or --agent to sign with")
			}
			made, err := patchmake.Make(c.Context, o)
			if err != nil {
				return err
			}
			e.Log.Info(fmt.Sprintf("%s: %d bytes, %d changes, %d files of %d bytes", made.ID, made.Bytes, made.Sizes.Entries, made.Sizes.Files, made.Sizes.NewBytes))
			if made.File == "-" {
				return nil
			}
			return e.print(made, made.File)
		},
	}
}

// tellSignoffs says which sign-offs are lost with the file that is overwritten.
func (e *env) tellSignoffs(name string) {
	f, err := os.Open(name)
	if err != nil {
		return // there is none, or writing it says what is wrong
	}
	defer f.Close()
	p, err := patch.Open(f)
	if p == nil || err != nil {
		return // no patch
	}
	for _, s := range p.Signoffs() {
		e.Log.Info(fmt.Sprintf("%s was signed: %s is not in what is made anew", name, s.Name))
	}
}

// patchMakeOptions reads operands and flags.
func (e *env) patchMakeOptions(c *cli.Context) (o patchmake.Options, err error) {
	want := 2
	if c.Bool("full") {
		want = 1
	}
	trees, err := e.operands(c, want, want)
	if err != nil {
		return o, err
	}
	o.New = trees[len(trees)-1]
	if want == 2 {
		o.Old = trees[0]
	}
	o.Output, o.Scratch, o.Store = c.String("output"), c.String("scratch"), c.String("store")
	if o.Output == "-" && e.JSON {
		return o, failure.Errorf(failure.Usage, "--json and -o - both want standard output")
	}
	if o.Scratch == "" {
		o.Scratch = e.Getenv("TMPDIR")
	}
	o.Stdin = e.Stdin
	o.Create = func(name string) (patchmake.Output, error) {
		e.tellSignoffs(name)
		return e.create(name, 0o644, true)
	}
	o.Include, o.Role, o.Log, o.Progress = c.StringSlice("insecure-include"), c.String("as"), e.Log, e.progress()
	if o.Created, err = e.stamp(); err != nil {
		return o, err
	}
	if o.Jobs, err = jobs(c); err != nil {
		return o, err
	}
	switch level := c.String("level"); level {
	case "best":
		o.Level = delta.Best
	case "fast":
		o.Level = delta.Fast
	default:
		return o, failure.Errorf(failure.Usage, "reading --level: got %q, want fast or best", level)
	}
	return o, e.patchMeta(c, &o)
}

// patchMeta reads the two TOML files and the flags that go over them.
func (e *env) patchMeta(c *cli.Context, o *patchmake.Options) error {
	if name := c.String("product-file"); name != "" {
		data, err := os.ReadFile(name)
		if err != nil {
			return failure.As(failure.Usage, err)
		}
		if o.Product, err = patchmake.DecodeProduct(name, data); err != nil {
			return err
		}
	}
	var base patchmake.Meta
	if name := c.String("meta"); name != "" {
		var err error
		if base, err = patchmake.ReadMeta(name); err != nil {
			return err
		}
	}
	labels, err := labelsValue(c, "label")
	if err != nil {
		return err
	}
	space, err := spaceValue(c, "requires-space")
	if err != nil {
		return err
	}
	o.Meta = patchmake.Meta{
		ID: c.String("id"), Product: c.String("product"), FromVersion: c.String("from-version"), ToVersion: c.String("to-version"),
		Model: c.StringSlice("model"), Supersedes: c.StringSlice("supersedes"), Requires: c.StringSlice("requires"), Conflicts: c.StringSlice("conflicts"),
		Reboot: c.String("reboot"), Restart: c.StringSlice("restart"), Reload: c.StringSlice("reload"), Stop: c.StringSlice("stop"),
		ConfigFiles: c.StringSlice("config-files"), Expires: c.String("expires"),
		Labels: labels, Provides: c.StringSlice("provides"), Floor: c.String("floor"),
		RequiresCommands: commaList(c.StringSlice("requires-command")), RequiresSpace: space,
		Hooks: patchmake.Hooks{Pre: c.String("pre"), Post: c.String("post"), Check: c.String("check"),
			PreRollback: c.String("pre-rollback"), PostRollback: c.String("post-rollback")},
	}.Over(base)
	return nil
}

// spaceValue reads a flag that is documented as PATH=SIZE; nil where it is not given.
func spaceValue(c *cli.Context, flag string) (map[string]config.Size, error) {
	var all map[string]config.Size
	for _, s := range c.StringSlice(flag) {
		i := strings.LastIndexByte(s, '=')
		if i < 1 {
			return nil, failure.Errorf(failure.Usage, "reading --%s: got %q, want PATH=SIZE", flag, s)
		}
		n, err := config.ParseSize(s[i+1:])
		if err != nil {
			return nil, failure.Errorf(failure.Usage, "reading --%s: %w", flag, err)
		}
		if all == nil {
			all = map[string]config.Size{}
		}
		all[s[:i]] = config.Size(n)
	}
	return all, nil
}
