package update

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/process"
)

// runFolder is where a running system says that it wants a reboot.
const runFolder = "/run"

// tellReboot says that the machine has to be rebooted: in /run/reboot-required,
// which monitoring looks at, with the patch's name beside it, and to whoever is
// logged in. A reboot empties /run. It is told of the running system only, and
// a failure to tell it is no failure of the patch.
func (m *machine) tellReboot(r *Result) {
	if m.opt.Root != "/" {
		return
	}
	if err := writeRebootRequired(runFolder, r.Patch); err != nil {
		m.opt.Log.Warn("saying that a reboot is needed", "err", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	text := fmt.Sprintf("relkit: patch %s takes a reboot to take effect", r.Patch)
	res, err := process.Run(ctx, process.Job{Argv: []string{"wall", text}, Dir: "/", Env: []string{"PATH=" + searchPath}, Timeout: 5 * time.Second})
	if err != nil || !res.OK() {
		m.opt.Log.Debug("no message to those who are logged in", "err", err, "result", res)
	}
}

// writeRebootRequired writes reboot-required and reboot-required.pkgs as Debian's
// update-notifier does: a sentence, and who wants it, a name a line.
func writeRebootRequired(dir, patch string) (err error) {
	f, err := fsys.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	const who = "reboot-required.pkgs"
	b, err := fsys.ReadFile(f, who, 1<<20)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	line := "relkit: " + patch + "\n"
	if !strings.Contains("\n"+string(b), "\n"+line) {
		if err := fsys.WriteFile(f, who, append(b, line...), 0o644); err != nil {
			return err
		}
	}
	return fsys.WriteFile(f, "reboot-required", []byte("*** System restart required ***\n"), 0o644)
}
