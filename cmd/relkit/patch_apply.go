package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/transport/fetch"
	"github.com/relkit/relkit/pkg/update"
)

// defaultSigners is where an appliance says who may sign.
const defaultSigners = "/etc/relkit/allowed_signers"

func patchApplyCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "patch-apply",
		Category:  groupPatch,
		Usage:     "apply signed patches to a machine, or change nothing",
		ArgsUsage: "PATCH…",
		Flags: append([]cli.Flag{
			rootFlag("/"), stateFlag(""), dryRunFlag(), jobsFlag(),
			&cli.StringFlag{Name: "allowed-signers", Usage: "who may sign, as ssh-keygen(1) has it: `FILE`", Value: defaultSigners},
			&cli.StringSliceFlag{Name: "require-signoff", Usage: "the roles that must have signed: `ROLE,…` (default: " + trust.DefaultRequire + ")"},
			&cli.StringFlag{Name: "check", Usage: "take the patch back unless the shell command `CMD` succeeds"},
			&cli.StringFlag{Name: "check-timeout", Usage: "take the patch back when a hook or check runs longer than `SPAN`", Value: "60s"},
			&cli.BoolFlag{Name: "again", Usage: "apply a patch that was taken back and is still kept, the last one or that of the id given"},
			&cli.BoolFlag{Name: "recover", Usage: "finish or undo an interrupted run, and nothing else"},
			onModifiedFlag("what to do about locally modified files that are no config files"),
			&cli.BoolFlag{Name: "repair", Usage: "restore what differs from what is installed, out of its full patch"},
			&cli.BoolFlag{Name: "allow-downgrade", Usage: "apply a patch to an older version"},
			&cli.BoolFlag{Name: "insecure-unsigned", Usage: "apply a patch without valid sign-offs"},
		}, timingFlags()...),
		Action: func(c *cli.Context) error {
			o, err := e.updateOptions(c)
			if err != nil {
				return err
			}
			if is, err := e.pendingMode(c, o); is || err != nil {
				return err
			}
			for _, other := range []string{"stage", "repair"} {
				if err := exclusive(c, "again", other); err != nil {
					return err
				}
			}
			least, most := 1, -1
			switch {
			case c.Bool("again"):
				least, most = 0, 1
			case c.Bool("repair"):
				most = 1
			}
			names, err := e.operands(c, least, most)
			if err != nil {
				return err
			}
			a, err := e.applyOptions(c, o)
			if err != nil {
				return err
			}
			if c.Bool("again") {
				if a.Again, a.AgainLast = strings.Join(names, ""), len(names) == 0; a.Again == "" && !a.AgainLast {
					return failure.Errorf(failure.Usage, "an empty word names no patch")
				}
				results, err := update.Apply(c.Context, nil, a)
				return e.hookOutput(a.Output, errors.Join(e.printApplied(results), err))
			}
			sources := make([]update.Source, len(names))
			for i, name := range names {
				if sources[i], err = e.patchSource(name); err != nil {
					return err
				}
			}
			results, err := update.Apply(c.Context, sources, a)
			return e.hookOutput(a.Output, errors.Join(e.printApplied(results), err))
		},
	}
}

// updateOptions reads the flags that patch-apply and patch-rollback share.
func (e *env) updateOptions(c *cli.Context) (o update.Options, err error) {
	e.spareMemory()
	o = update.Options{Root: c.String("root"), State: c.String("state"), DryRun: c.Bool("dry-run"), Now: e.Now, Built: builtAt(), Log: e.Log, Progress: e.progress(), Hold: e.hold}
	if o.Jobs, err = jobs(c); err != nil {
		return o, err
	}
	if o.Boot, err = e.bootSetup(o); err != nil {
		return o, err
	}
	if v := e.Getenv("RELKIT_CRASH_AT"); v != "" {
		if o.KillAt, err = strconv.Atoi(v); err != nil {
			return o, failure.Errorf(failure.Usage, "reading RELKIT_CRASH_AT: %q is not a number", v)
		}
	}
	if !o.DryRun {
		e.Target = o.Root
	}
	return o, nil
}

func (e *env) applyOptions(c *cli.Context, o update.Options) (a update.ApplyOptions, err error) {
	a = update.ApplyOptions{
		Options: o, InsecureUnsigned: c.Bool("insecure-unsigned"), AllowDowngrade: c.Bool("allow-downgrade"), Repair: c.Bool("repair"),
		Check: c.String("check"), Output: e.hookWriter(),
	}
	if a.CheckTimeout, err = checkTimeout(c); err != nil {
		return a, err
	}
	if a.OnModified, err = onModified(c); err != nil {
		return a, err
	}
	if a.Timing, err = e.timing(c, o); err != nil {
		return a, err
	}
	e.signers(c, &a, c.String("allowed-signers"))
	if a.InsecureUnsigned && !a.SignersGiven && errors.Is(a.NoSigners, fs.ErrNotExist) {
		a.NoSigners = nil
	}
	return a, nil
}

// signers reads who must sign, who may where the machine has no trust document, and
// what was given of all that hints repeat.
func (e *env) signers(c *cli.Context, a *update.ApplyOptions, file string) {
	a.Policy.File, a.Policy.Require = file, commaList(c.StringSlice("require-signoff"))
	if rel, err := filepath.Rel(a.Root, file); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
		a.Protected = append(a.Protected, rel)
	}
	a.SignersGiven = c.IsSet("allowed-signers")
	a.Given = update.Given{
		Trust:  givenFlags(c, "allowed-signers", "require-signoff", "insecure-unsigned", "allow-downgrade"),
		Checks: givenFlags(c, "check", "check-timeout"),
		Timing: givenFlags(c, "stage", "at-boot", "window", "reboot"),
	}
	a.Policy.Allowed, a.NoSigners = readSigners(file)
}

// givenFlags are those of the flags that were given, as a shell takes them, each
// with a blank in front.
func givenFlags(c *cli.Context, names ...string) string {
	text := ""
	for _, name := range names {
		switch v := c.Value(name).(type) {
		case bool:
			if v {
				text += " --" + name
			}
		case cli.StringSlice:
			if list := strings.Join(v.Value(), ","); list != "" {
				text += " --" + name + " " + failure.Word(list)
			}
		case string:
			if c.IsSet(name) {
				text += " --" + name + " " + failure.Word(v)
			}
		}
	}
	return text
}

// readSigners reads who may sign on a machine that has no trust document.
func readSigners(name string) (*signature.AllowedSigners, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, failure.WithHint(failure.As(failure.Usage, fmt.Errorf("reading the allowed signers: %w", err)),
			"mkdir -p %s && echo \"release $(cat release.pub)\" >>%s  # trusts that key to sign releases",
			failure.Word(filepath.Dir(name)), failure.Word(name))
	}
	allowed, err := signature.ParseAllowedSigners(b)
	if err != nil {
		return nil, failure.As(failure.Usage, fmt.Errorf("reading %s: %w", name, err))
	}
	return allowed, nil
}

// checkTimeout is the value of --check-timeout, which must be a time.
func checkTimeout(c *cli.Context) (time.Duration, error) {
	d, err := spanValue(c, "check-timeout")
	if err == nil && d <= 0 {
		err = failure.Errorf(failure.Usage, "reading --check-timeout: got %q, want more than 0", c.String("check-timeout"))
	}
	return d, err
}

// patchSource is an operand of patch-apply: a file, "-" or a URL.
func (e *env) patchSource(name string) (update.Source, error) {
	s := update.Source{Name: name, Once: name == "-", Open: func(context.Context) (io.ReadCloser, error) { return e.open(name) }}
	switch scheme, _, isURL := strings.Cut(name, "://"); {
	case isURL && (scheme == "http" || scheme == "https"):
		s.Once = true
		s.Open = func(ctx context.Context) (io.ReadCloser, error) {
			return fetch.Stream(ctx, &http.Client{Transport: fetch.Transport()}, name, fetch.Options{Log: e.Log})
		}
		return s, nil
	case isURL:
		return s, failure.WithHint(failure.Errorf(failure.Usage, "%q is neither a file nor an http(s) URL", name),
			"relkit fetch %s  # downloads, and prints the files to apply", failure.Word(name))
	}
	if name == "-" {
		s.Name = "standard input"
		return s, nil
	}
	// What is no regular file, a pipe of the shell's for one, is read only once.
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		s.Once = true
		return s, nil
	}
	var err error
	s.Beside, err = besideSignoffs(name)
	return s, err
}

// besideSignoffs reads the sign-offs that lie beside a patch, as
// `relkit sign --detached` puts them: PATCH.ROLE.json and PATCH.ROLE.json.sig.
func besideSignoffs(name string) ([]signature.SignedDoc, error) {
	dir := filepath.Dir(name)
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil // opening the patch itself says what is wrong
	}
	var docs []signature.SignedDoc
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), filepath.Base(name)+".") || !strings.HasSuffix(f.Name(), ".json") || !f.Type().IsRegular() {
			continue
		}
		if info, err := os.Lstat(filepath.Join(dir, f.Name()+trust.SigSuffix)); err != nil || !info.Mode().IsRegular() {
			continue
		}
		doc, err := trust.ReadSigned(os.DirFS(dir), f.Name(), signature.MaxSignoff)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no signature beside it
		}
		if err != nil {
			return nil, fmt.Errorf("reading the sign-offs beside the patch: %w", err)
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

func (e *env) printApplied(results []update.Result) error {
	for _, r := range results {
		if err := e.printResult(&r); err != nil {
			return err
		}
	}
	return nil
}

func (e *env) printResult(r *update.Result) error {
	for _, w := range r.Insecure {
		if r.Status == update.Already {
			continue
		}
		if r.Status == update.Planned {
			e.Log.Warn("would be applied with --" + w + ", which the audit log would say")
			continue
		}
		e.Log.Warn("applied with --" + w + ", which the audit log says")
	}
	for _, path := range r.Kept {
		e.Log.Warn("a folder stays, since it holds something the patch does not know", "path", path)
	}
	for _, id := range r.Supersedes {
		e.Log.Info(fmt.Sprintf("patch %s takes the place of %s", r.Patch, id))
	}
	for _, d := range r.Deviations {
		why := d.Why()
		if r.Full { // it knows of no other version than its own
			why = strings.Replace(why, "it was changed on this machine", "it differs, and may have been changed on this machine", 1)
		}
		e.Log.Warn(d.Path + ": " + why)
	}
	for _, path := range r.Removed {
		e.Log.Info(path + ": the product manages it and the full patch does not have it")
	}
	for _, path := range r.Repaired {
		e.Log.Info(path + ": differs from what is installed")
	}
	for _, path := range r.Replaced {
		e.Log.Warn(path + ": it was changed on this machine, and is replaced; a rollback brings it back")
	}
	switch r.Status {
	case update.Already:
		e.Log.Info(fmt.Sprintf("patch %s: already so", r.Patch))
		if !e.JSON {
			return nil
		}
	case update.Planned:
		e.Log.Info(fmt.Sprintf("patch %s would make %s", r.Patch, counted(r.Changes, "change")))
		if !e.JSON {
			return e.print(r, r.Plan...)
		}
	case update.Staged:
		e.Log.Info(fmt.Sprintf("patch %s is staged: patch-apply --commit makes it visible, --unstage gives it up", r.Patch))
	case update.Armed:
		e.Log.Info(fmt.Sprintf("patch %s is committed at the next boot", r.Patch))
	case update.Awaiting:
		e.Log.Info(fmt.Sprintf("patch %s awaits confirmation", r.Patch))
	case update.Unstaged:
		e.Log.Info(fmt.Sprintf("patch %s is given up, nothing was changed", r.Patch))
	case update.Stays:
		e.Log.Info(fmt.Sprintf("patch %s is not taken back at the next boot: it stays applied", r.Patch))
	case update.Repaired:
		e.Log.Info(fmt.Sprintf("patch %s has restored %d of its paths; %s %s is installed", r.Patch, len(r.Repaired), r.Product, dash(r.To)))
	case update.Applied:
		within := ""
		if r.VisibleSeconds > 0 { // not of one that is confirmed, which was visible before
			within = fmt.Sprintf(", visible within %s", time.Duration(r.VisibleSeconds*float64(time.Second)).Round(100*time.Microsecond))
		}
		e.Log.Info(fmt.Sprintf("patch %s applied: %s %s is now %s; %s%s", r.Patch, r.Product, dash(r.From), dash(r.To), counted(r.Changes, "change"), within))
	}
	if e.JSON {
		return e.printJSONLine(r)
	}
	return e.line(r.Transaction)
}

// counted is a number of things whose plural takes an s.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// recoverResult is relkit.recover/v1: what --recover did.
type recoverResult struct {
	Schema    string             `json:"schema"`
	Recovered []update.Recovered `json:"recovered"`
}

func (e *env) recover(c *cli.Context, o update.Options) error {
	done, err := update.Recover(c.Context, o)
	if err != nil {
		return err
	}
	var lines []string
	for _, r := range done {
		lines = append(lines, r.Transaction)
	}
	return e.print(recoverResult{Schema: "relkit.recover/v1", Recovered: append([]update.Recovered{}, done...)}, lines...)
}
