package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/window"
	"github.com/relkit/relkit/pkg/sys/boot"
	"github.com/relkit/relkit/pkg/update"
)

// timingFlags say when a patch becomes visible.
func timingFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "stage", Usage: "stop before anything visible changes"},
		&cli.BoolFlag{Name: "commit", Usage: "make the staged patch visible"},
		&cli.BoolFlag{Name: "unstage", Usage: "give the staged patch up"},
		&cli.BoolFlag{Name: "at-boot", Usage: "commit at the next boot, whatever the patch says"},
		&cli.StringFlag{Name: "window", Usage: "change something visible only within `WINDOW`, as \"Sun 02:00-04:00\""},
		&cli.BoolFlag{Name: "reboot", Usage: "reboot when the patch needs it, within the window"},
		&cli.BoolFlag{Name: "confirm", Usage: "keep the patch that was committed at boot, if its checks pass"},
		&cli.BoolFlag{Name: "boot", Usage: "do what waits for a boot: for the initramfs, before the system starts"},
		&cli.IntFlag{Name: "boots", Usage: "with --boot: take back what `N` boots have not confirmed", Value: update.DefaultBoots},
		&cli.StringFlag{Name: "entry", Usage: "with --boot: the boot loader's entry that runs, `rest|test|good|keep`", Value: string(boot.Rest)},
		&cli.BoolFlag{Name: "failed", Usage: "with --boot: the boot loader fell back, take back what awaits confirmation"},
	}
}

// timing reads the flags that say when.
func (e *env) timing(c *cli.Context, o update.Options) (t update.Timing, err error) {
	t.Stage, t.AtBoot = c.Bool("stage"), c.Bool("at-boot")
	if b := o.Boot; b != nil {
		t.BootReady = b.Ready
	}
	if text := c.String("window"); text != "" {
		if t.Window, err = window.Parse(text); err != nil {
			return t, failure.As(failure.Usage, fmt.Errorf("reading --window: %w", err))
		}
	}
	if !c.Bool("reboot") {
		return t, nil
	}
	if o.Root != "/" {
		return t, failure.Errorf(failure.Usage, "--reboot is for the running system, not for %q", o.Root)
	}
	t.Reboot = reboot
	return t, nil
}

// reboot asks the service manager for a reboot, in its order.
func reboot(ctx context.Context) error {
	argv := []string{"reboot"}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		argv = []string{"systemctl", "--no-block", "reboot"}
	}
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("rebooting: %s: %w\n%s", argv[0], err, out)
	}
	return nil
}

// pendingMode runs what works on a patch that waits; false where none was asked for.
func (e *env) pendingMode(c *cli.Context, o update.Options) (bool, error) {
	modes := []string{"recover", "commit", "unstage", "confirm", "boot"}
	if err := exclusive(c, append(modes, "stage")...); err != nil {
		return true, err
	}
	for _, name := range []string{"boots", "failed", "entry"} {
		if c.IsSet(name) && !c.Bool("boot") {
			return true, failure.Errorf(failure.Usage, "--%s goes with --boot", name)
		}
	}
	mode := ""
	for _, name := range modes {
		if c.Bool(name) {
			mode = name
		}
	}
	if mode == "" {
		return false, nil
	}
	most, id := 0, ""
	if mode == "confirm" {
		most = 1
	}
	names, err := e.operands(c, 0, most)
	if err != nil {
		return true, err
	}
	if len(names) > 0 {
		if id = names[0]; id == "" {
			return true, failure.Errorf(failure.Usage, "an empty word names no patch")
		}
	}
	if mode == "recover" {
		return true, e.recover(c, o)
	}
	a := update.ApplyOptions{Options: o, Check: c.String("check"), Output: e.hookWriter()}
	if a.CheckTimeout, err = checkTimeout(c); err != nil {
		return true, err
	}
	if a.Timing, err = e.timing(c, o); err != nil {
		return true, err
	}
	file := c.String("allowed-signers")
	if mode == "boot" && !c.IsSet("allowed-signers") {
		file = filepath.Join(o.Root, defaultSigners) // the initramfs has none of its own
	}
	e.signers(c, &a, file)
	if mode == "boot" {
		return true, e.boot(c, a)
	}
	var r *update.Result
	switch mode {
	case "commit":
		r, err = update.Commit(c.Context, a)
	case "unstage":
		r, err = update.Unstage(c.Context, o)
	case "confirm":
		r, err = update.Confirm(c.Context, a, id)
	}
	if r != nil && r.Status != "" {
		err = errors.Join(e.printResult(r), err)
	}
	return true, e.hookOutput(a.Output, err)
}

func (e *env) boot(c *cli.Context, a update.ApplyOptions) error {
	if c.Int("boots") < 1 {
		return failure.Errorf(failure.Usage, "reading --boots: got %d, want 1 or more", c.Int("boots"))
	}
	switch choice := boot.Choice(c.String("entry")); choice {
	case boot.Rest, boot.Test, boot.Good, boot.Keep:
	default:
		return failure.Errorf(failure.Usage, "reading --entry: got %q, want rest, test, good or keep", choice)
	}
	r, err := update.Boot(c.Context, update.BootOptions{ApplyOptions: a, Boots: c.Int("boots"), Failed: c.Bool("failed"), Entry: boot.Choice(c.String("entry"))})
	if r == nil {
		return err
	}
	var lines []string
	for _, d := range r.Done {
		text := fmt.Sprintf("patch %s was %s, is %s", d.Patch, d.Found, d.Now)
		if d.Reason != "" {
			e.Log.Warn(text + ": " + d.Reason)
		} else {
			e.Log.Info(text)
		}
		lines = append(lines, d.Transaction+" "+string(d.Now))
	}
	if r.Reboot {
		e.Log.Warn("the machine is to be rebooted before anything of the tree runs")
		lines = append(lines, "reboot")
	}
	return errors.Join(e.print(r, lines...), e.hookOutput(a.Output, err))
}
