package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/sys/boot"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/update"
)

func bootCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:     "boot",
		Category: groupPatch,
		Usage:    "have patches committed at boot, and new kernels tried",
		Flags: []cli.Flag{
			rootFlag("/"), stateFlag(""),
			&cli.BoolFlag{Name: "install", Usage: "put the hook into the initramfs, and relkit's entries into the boot loader"},
			&cli.BoolFlag{Name: "uninstall", Usage: "take both away again"},
			&cli.BoolFlag{Name: "run", Usage: "do what waits for a boot: called by the hook"},
			&cli.StringFlag{Name: "method", Usage: "how the hook gets to run: `auto|initramfs-tools|dracut|init`", Value: boot.Auto},
			&cli.StringFlag{Name: "loader", Usage: "the boot loader: `auto|grub|systemd-boot|u-boot|exec|none`", Value: boot.Auto},
			&cli.StringFlag{Name: "folder", Usage: "the folder that the boot loader reads, below the root: `DIR`"},
			&cli.StringFlag{Name: "command", Usage: "with --loader exec: the `PROGRAM` that speaks to the boot loader, below the root"},
		},
		Action: func(c *cli.Context) error {
			if _, err := e.operands(c, 0, 0); err != nil {
				return err
			}
			if err := exclusive(c, "install", "uninstall", "run"); err != nil {
				return err
			}
			for _, name := range []string{"method", "loader", "folder", "command"} {
				if c.IsSet(name) && !c.Bool("install") {
					return failure.Errorf(failure.Usage, "--%s goes with --install", name)
				}
			}
			return e.bootAction(c)
		},
	}
}

func (e *env) bootAction(c *cli.Context) (err error) {
	root, s, err := e.openBoot(c.String("root"), c.String("state"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	switch {
	case c.Bool("install"):
		config, err := s.Install(boot.InstallOptions{
			Method: c.String("method"), Loader: c.String("loader"), Folder: c.String("folder"), Command: c.String("command"), Output: e.hookWriter(),
		})
		if err != nil {
			return fmt.Errorf("setting up the boot of %s: %w", c.String("root"), err)
		}
		return e.print(config, config.Method+" "+config.Loader)
	case c.Bool("uninstall"):
		return s.Uninstall(e.hookWriter())
	case c.Bool("run"):
		return e.runBoot(c, s)
	}
	return e.bootStatus(s)
}

// openBoot opens how the machine at root boots.
func (e *env) openBoot(dir, state string) (fsys.FS, *boot.Setup, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, nil, err
	}
	inside := update.DefaultState
	if state != "" {
		if state, err = filepath.Abs(state); err != nil {
			return nil, nil, err
		}
		if inside, err = filepath.Rel(dir, state); err != nil || inside == ".." || strings.HasPrefix(inside, "../") {
			return nil, nil, failure.Errorf(failure.Usage, "the state folder %q is not below the root %q, where alone a boot finds it", state, dir)
		}
	}
	root, err := fsys.Open(dir)
	if err != nil {
		return nil, nil, failure.As(failure.Usage, err)
	}
	o := boot.Options{Dir: dir, State: inside, Flags: bootFlags(dir, inside), Log: e.Log}
	// The machine that runs, or the one that an initramfs is about to start.
	if _, inInitramfs := e.LookupEnv("rootmnt"); dir == "/" || inInitramfs || e.Getenv("NEWROOT") != "" || e.Getenv("RELKIT_CMDLINE") != "" {
		o.Cmdline, o.BootID = boot.Cmdline(), boot.BootID()
	}
	s, err := boot.Open(root, o)
	if err != nil {
		return nil, nil, errors.Join(err, root.Close())
	}
	return root, s, nil
}

// bootFlags are the flags that name a machine whose state lies inside its root.
func bootFlags(dir, inside string) string {
	text := ""
	if dir != "/" {
		text += " --root " + failure.Word(dir)
	}
	if inside != update.DefaultState {
		text += " --state " + failure.Word(filepath.Join(dir, inside))
	}
	return text
}

// bootSetup is how the machine that is worked on boots: nil for a tree that is
// not the running system and was never set up.
func (e *env) bootSetup(o update.Options) (*boot.Setup, error) {
	dir, state := o.Root, o.State
	if state == "" {
		state = filepath.Join(dir, update.DefaultState)
	}
	if _, err := os.Stat(filepath.Join(state, "boot", "setup.json")); err != nil && dir != "/" {
		return nil, nil
	}
	// It stays open for as long as the process: it is one descriptor.
	_, s, err := e.openBoot(dir, state)
	return s, err
}

// runBoot is what the hook calls.
func (e *env) runBoot(c *cli.Context, s *boot.Setup) error {
	o := update.Options{Root: c.String("root"), State: c.String("state")}
	waits, places, err := update.Waits(o)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	apply := []string{self, "patch-apply", "--boot", "--json", "--root", o.Root}
	if o.State != "" {
		apply = append(apply, "--state", o.State)
	}
	reboot, err := s.Run(context.WithoutCancel(c.Context), boot.RunOptions{Waits: waits, Places: places, Apply: apply, Stderr: e.Stderr})
	if err != nil || !reboot {
		return err
	}
	e.Log.Warn("rebooting: the tree is another than the one this kernel belongs to")
	if e.Getenv("RELKIT_CMDLINE") != "" { // a disk that is looked at from elsewhere
		return e.line("reboot")
	}
	return boot.RebootNow()
}

// bootResult is relkit.boot-status/v1.
type bootResult struct {
	Schema string `json:"schema"`
	Ready  bool   `json:"ready"`
	// Reason says why it is not.
	Reason  string `json:"reason,omitempty"`
	Chosen  string `json:"chosen"`
	Left    int    `json:"tries_left"`
	Running string `json:"running"`
}

func (e *env) bootStatus(s *boot.Setup) error {
	st, err := s.State()
	if err != nil {
		return err
	}
	r := bootResult{Schema: "relkit.boot-status/v1", Ready: true, Chosen: string(st.Chosen), Left: st.Left, Running: string(st.Running)}
	ready := s.Ready()
	if ready != nil {
		r.Ready, r.Reason = false, ready.Error()
	}
	line := fmt.Sprintf("running %s, next %s", st.Running, st.Chosen)
	if st.Chosen == boot.Test {
		line += fmt.Sprintf(", %d tries left", st.Left)
	}
	if err := e.print(r, line); err != nil {
		return err
	}
	return ready
}
