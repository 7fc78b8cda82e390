package update

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/process"
)

// What is done to services, as the journal names it among the hooks.
const (
	hookStop  = "stop services"
	hookStart = "start services"
)

// services are those of a transaction, nil where there are none or no service
// manager works them: on another root than the running system's, or without
// systemd (sd_booted(3)).
func (r *runner) services(j *state.Transaction) *journal.Services {
	if r.root != "/" {
		return nil
	}
	if _, err := r.target.Root.Lstat("run/systemd/system"); err != nil {
		return nil
	}
	s := j.Find(journal.Begin).Services
	if s == nil || r.initializing() {
		return nil
	}
	return s
}

// initializing tells whether systemd is early in booting: a recovery comes
// then. Nothing has been started that could be restarted, and to wait for a
// unit that waits for what this runs before would never end.
func (r *runner) initializing() bool {
	var out bytes.Buffer
	job := r.systemctlJob("is-system-running")
	job.Timeout, job.Stdout = r.deadline(), &out
	_, err := process.Run(context.Background(), job)
	return err == nil && strings.TrimSpace(out.String()) == "initializing"
}

// stopServices stops those of the units to be stopped that run. The journal has
// their names before they are.
func (r *runner) stopServices(ctx context.Context, j *state.Transaction) error {
	s := r.services(j)
	if s == nil || len(s.Stop) == 0 {
		return nil
	}
	running, err := r.running(ctx, s.Stop)
	if err != nil {
		return err
	}
	return r.journaled(j, journal.Record{Hook: hookStop, Units: running}, func(_ int, output io.Writer) error {
		return r.systemctl(ctx, output, "stop", running)
	})
}

// startServices starts again what was stopped, and restarts or reloads what
// runs of the others, with what the tree says of them now.
func (r *runner) startServices(ctx context.Context, j *state.Transaction) error {
	s := r.services(j)
	if s == nil {
		return nil
	}
	var stopped []string
	for i := range j.Records {
		switch rec := &j.Records[i]; {
		case rec.Event == journal.Hook && rec.Hook == hookStop:
			stopped = append(stopped, rec.Units...)
		case rec.Event == journal.Hook && rec.Hook == hookStart && rec.Result == hookOK:
			stopped = nil // they run again; who stops one after that means it
		}
	}
	slices.Sort(stopped)
	return r.journaled(j, journal.Record{Hook: hookStart}, func(_ int, output io.Writer) error {
		// One that fails keeps no other from running: on the way back there is no
		// other try.
		return errors.Join(
			r.run(ctx, "systemctl daemon-reload", r.systemctlJob("daemon-reload"), output),
			r.systemctl(ctx, output, "start", slices.Compact(stopped)),
			r.systemctl(ctx, output, "try-restart", s.Restart),
			r.systemctl(ctx, output, "try-reload-or-restart", s.Reload),
		)
	})
}

// running are those of the units that run. systemctl is-active prints a state a
// line and fails where one does not.
func (r *runner) running(ctx context.Context, units []string) ([]string, error) {
	var out bytes.Buffer
	job := r.systemctlJob(append([]string{"is-active", "--"}, units...)...)
	job.Timeout, job.Stdout = r.deadline(), &out
	if _, err := process.Run(ctx, job); err != nil {
		return nil, fmt.Errorf("systemctl is-active: %w", err)
	}
	var running []string
	states := strings.Fields(out.String())
	if len(states) != len(units) {
		return nil, fmt.Errorf("systemctl is-active: %d answers about %d units: %q", len(states), len(units), out.String())
	}
	for i, unit := range units {
		switch states[i] {
		case "active", "reloading", "activating", "refreshing":
			running = append(running, unit)
		}
	}
	return running, nil
}

func (r *runner) systemctl(ctx context.Context, output io.Writer, verb string, units []string) error {
	if len(units) == 0 {
		return nil
	}
	return r.run(ctx, "systemctl "+verb, r.systemctlJob(append([]string{verb, "--"}, units...)...), output)
}

func (r *runner) systemctlJob(args ...string) process.Job {
	return process.Job{Argv: append([]string{"systemctl"}, args...), Dir: "/", Env: r.env}
}

// startStopped starts the services that a run cut short had stopped for a
// rollback or the commit of a patch that is staged, or was taken back, that did not
// begin: nothing else would. A cut before the record of the start has the next run do
// it; units that run are started for nothing then.
func (m *machine) startStopped() error {
	all, err := m.target.State.Transactions()
	if err != nil {
		return err
	}
	for _, t := range all {
		records := t.Records
		switch {
		case t.TakenBack(): // what its rollback stopped it has started
			records = t.Since(journal.RolledBack)
		case !t.Active() && !t.Pending():
			continue
		}
		stopped := false
		for i := range records {
			switch r := &records[i]; {
			case r.Event == journal.Hook && r.Hook == hookStop:
				stopped = true
			case r.Event == journal.Hook && r.Hook == hookStart && r.Result != "":
				stopped = false
			}
		}
		if stopped {
			if err := (&applier{machine: m}).runnerOf(t).startServices(context.Background(), t); err != nil {
				m.opt.Log.Warn("services that were stopped are not started", "patch", t.Records[0].PatchID, "err", err)
			}
		}
	}
	return nil
}
