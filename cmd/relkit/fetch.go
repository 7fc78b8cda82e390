package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/distribute"
	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/identity"
	"github.com/relkit/relkit/pkg/format/signature"
)

func fetchCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "fetch",
		Category:  groupDistribute,
		Usage:     "download what a channel has for this machine",
		ArgsUsage: "REF…",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "put the files into `DIR`", Value: "."},
			outputFlag("write the one file of an artifact to `FILE`"),
			&cli.StringFlag{Name: "allowed-signers", Usage: "who may sign channels, as ssh-keygen(1) has it: `FILE`", Value: defaultSigners},
			&cli.StringSliceFlag{Name: "require-signoff", Usage: "the roles that must have signed a channel's releases: `ROLE,…` (default: " + trust.DefaultRequire + ")"},
			stateFlag("/var/lib/relkit"),
			&cli.StringFlag{Name: "machine-id", Usage: "draw this machine's lot in a rollout from `FILE`", Value: "/etc/machine-id"},
			&cli.StringSliceFlag{Name: "model", Usage: "this machine is `MODEL,…`, instead of what " + machineFile + " says"},
			&cli.StringSliceFlag{Name: "label", Usage: "this machine is labelled `NAME=VALUE,…`"},
			&cli.BoolFlag{Name: "plain-http", Usage: "speak plain HTTP to other machines too"},
			&cli.IntFlag{Name: "retries", Usage: "try `N` times more when a download gets no further", Value: 4},
			&cli.StringFlag{Name: "stall", Usage: "give up a connection that brings nothing for `SPAN`", Value: "30s"},
			&cli.BoolFlag{Name: "force", Usage: "take a release whatever share of machines it is out for"},
			dryRunFlag(),
		},
		Action: func(c *cli.Context) error {
			names, err := e.operands(c, 1, -1)
			if err != nil {
				return err
			}
			o, err := e.fetchOptions(c)
			if err != nil {
				return err
			}
			if out := c.String("output"); out != "" {
				return e.fetchTo(c, names, out, o)
			}
			o.To = c.String("to")
			var all []*distribute.Fetched
			for _, name := range names {
				f, err := e.fetchOne(c, name, o)
				if err != nil {
					return err
				}
				all = append(all, f)
			}
			return e.printFetched(all)
		},
	}
}

// machineFile says what machine this is.
const machineFile = "/etc/relkit/machine.toml"

func (e *env) fetchOne(c *cli.Context, name string, o distribute.FetchOptions) (*distribute.Fetched, error) {
	ref, err := distribute.ParseRef(name)
	if err != nil {
		return nil, err
	}
	p := e.progress()
	o.Start, o.Fetch.Progress = p.Start, p.Add
	defer p.Done()
	return distribute.Fetch(c.Context, ref, o)
}

// fetchTo is fetch with -o FILE or -o -.
func (e *env) fetchTo(c *cli.Context, names []string, out string, o distribute.FetchOptions) error {
	switch {
	case len(names) > 1:
		return failure.Errorf(failure.Usage, "unexpected operand %q: -o takes one artifact", names[1])
	case c.IsSet("to"):
		return failure.Errorf(failure.Usage, "--to and -o exclude each other")
	}
	o.File = out
	if out == "-" {
		return e.fetchToStdout(c, names[0], o)
	}
	f, err := e.fetchOne(c, names[0], o)
	if err != nil {
		return err
	}
	return e.printFetched([]*distribute.Fetched{f})
}

// fetchToStdout hands out nothing before all of it is verified.
func (e *env) fetchToStdout(c *cli.Context, name string, o distribute.FetchOptions) error {
	if e.JSON {
		return failure.Errorf(failure.Usage, "--json and -o - both want standard output")
	}
	w, err := e.create("-", 0, true)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "relkit-fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.File = filepath.Join(dir, "file")
	if _, err := e.fetchOne(c, name, o); err != nil || o.DryRun {
		return err
	}
	f, err := os.Open(o.File)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// fetchResult is relkit.fetch/v1: what was decided about each reference, and
// the files in the order to apply.
type fetchResult struct {
	Schema  string                `json:"schema"`
	Fetched []*distribute.Fetched `json:"fetched"`
}

func (e *env) printFetched(all []*distribute.Fetched) error {
	var lines []string
	for _, f := range all {
		for _, file := range f.Files {
			lines = append(lines, file.Path)
		}
		if f.Note != "" {
			e.Log.Info(f.Note)
		}
	}
	return e.print(fetchResult{Schema: "relkit.fetch/v1", Fetched: all}, lines...)
}

func (e *env) fetchOptions(c *cli.Context) (o distribute.FetchOptions, err error) {
	o = distribute.FetchOptions{State: c.String("state"), Force: c.Bool("force"), DryRun: c.Bool("dry-run"), Now: e.Now, NotBefore: builtAt(), Log: e.Log}
	o.SignersGiven = c.IsSet("allowed-signers")
	o.Given = givenFlags(c, "require-signoff", "state", "plain-http", "force")
	o.PlainHTTP = c.Bool("plain-http")
	o.Fetch.Log = e.Log
	if o.Fetch.Retries = c.Int("retries"); o.Fetch.Retries < 1 {
		o.Fetch.Retries = -1
	}
	if o.Fetch.Stall, err = spanValue(c, "stall"); err != nil {
		return o, err
	}
	if o.Policy, err = channelPolicy(c); err != nil {
		return o, err
	}
	if o.Policy.Require = commaList(c.StringSlice("require-signoff")); len(o.Policy.Require) == 0 {
		o.Policy.Require = []string{trust.DefaultRequire}
	}
	o.Machine, err = thisMachine(c)
	return o, err
}

// channelPolicy reads --allowed-signers. Without the flag a missing file means
// that nobody may sign: artifacts by digest need nobody.
func channelPolicy(c *cli.Context) (trust.Policy, error) {
	p := trust.Policy{File: c.String("allowed-signers")}
	b, err := os.ReadFile(p.File)
	if errors.Is(err, fs.ErrNotExist) && !c.IsSet("allowed-signers") {
		return p, nil
	}
	if err == nil {
		p.Allowed, err = signature.ParseAllowedSigners(b)
	}
	if err != nil {
		return p, failure.As(failure.Usage, fmt.Errorf("reading the allowed signers: %s: %w", p.File, err))
	}
	return p, nil
}

// thisMachine is what a channel asks of the machine.
func thisMachine(c *cli.Context) (m channel.Machine, err error) {
	b, err := os.ReadFile(c.String("machine-id"))
	if err == nil {
		var key identity.ID
		if key, err = identity.Key(b); err == nil {
			m.Key = key.String()
		}
	}
	missing := errors.Is(err, identity.ErrNone) || errors.Is(err, fs.ErrNotExist) && !c.IsSet("machine-id")
	if err != nil && !missing {
		return m, failure.As(failure.Usage, fmt.Errorf("reading --machine-id: %w", err))
	}
	if m.Labels, err = labelsValue(c, "label"); err != nil {
		return m, err
	}
	m.Models = commaList(c.StringSlice("model"))
	if len(m.Models) > 0 && m.Labels != nil {
		return m, nil
	}
	b, err = os.ReadFile(machineFile)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	var file config.Machine
	if err == nil {
		file, err = config.DecodeMachine(machineFile, b)
	}
	if len(m.Models) == 0 {
		m.Models = file.Compatible
	}
	if m.Labels == nil {
		m.Labels = file.Labels
	}
	return m, err
}

// labelsValue reads a flag that is documented as NAME=VALUE,…; nil where it is not given.
func labelsValue(c *cli.Context, flag string) (map[string]string, error) {
	var labels map[string]string
	for _, s := range commaList(c.StringSlice(flag)) {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, failure.Errorf(failure.Usage, "reading --%s: got %q, want NAME=VALUE", flag, s)
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[name] = value
	}
	return labels, nil
}

// builtAt is a time that the clock cannot be before: that of the commit this
// program was built from; the zero time where it does not say.
func builtAt() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			t, _ := time.Parse(time.RFC3339, s.Value)
			return t
		}
	}
	return time.Time{}
}
