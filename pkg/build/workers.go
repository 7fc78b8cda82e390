package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/sys/process"
)

// open starts a session on a cell's worker.
func (r *runner) open(ctx context.Context, c *Cell, cookie string) (*worker.Session, error) {
	c.at(Stage{What: "waiting for worker " + c.Worker.Name})
	if c.Worker.Slurm != nil {
		late := time.AfterFunc(queueTime, func() {
			r.opt.Log.Info(fmt.Sprintf("%s: waiting for worker %s: squeue --name=%s says what for", c.Name, c.Worker.Name, worker.JobName(cookie)))
		})
		defer late.Stop()
	}
	project := r.p.onWorkers()
	return worker.Open(ctx, c.Worker, worker.Options{Cookie: cookie, Dir: r.p.state.dir, Project: project, Key: project + "/" + c.Name,
		Trees: r.workFolder("", c.Name), Slots: c.Slots, LookupEnv: r.opt.LookupEnv, Heartbeat: r.opt.heartbeat, Patience: r.opt.patience})
}

// onWorkers is the name of the project's folder on a worker that others may use
// too: projects of one name, on several machines.
func (p *Project) onWorkers() string {
	host, _ := os.Hostname() // "" tells no machines apart, and that is all
	sum := sha256.Sum256([]byte(host + "\x00" + p.state.dir))
	return p.cfg.Project.Name + "-" + hex.EncodeToString(sum[:4])
}

const (
	// queueTime is after how long somebody is told that a build waits for Slurm.
	queueTime = 5 * time.Second
	// commandTimeout bounds a worker's up and down commands.
	commandTimeout = 30 * time.Minute
	// partingTimeout bounds down where relkit was told to end: somebody waits.
	partingTimeout = time.Minute
)

// up starts a worker that has a command for that; down, to be called after use,
// stops it. The command runs when the first build of all that run now needs the
// worker, and down after the last of them, whichever relkit that is: users hold a
// shared lock.
func (r *runner) up(ctx context.Context, w config.Worker) (down func() error, err error) {
	if len(w.Up) == 0 && len(w.Down) == 0 {
		return func() error { return nil }, nil
	}
	// "@": no builder's name begins with it.
	f, err := os.OpenFile(filepath.Join(r.p.state.dir, locksDir, "@up-"+w.Name), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	alone, err := takeShare(ctx, f)
	if err == nil && alone && len(w.Up) > 0 {
		err = r.command(ctx, w, "up", w.Up, commandTimeout)
	}
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_SH)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		var err error
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && len(w.Down) > 0 {
			timeout := commandTimeout
			if ctx.Err() != nil {
				timeout = partingTimeout
			}
			err = r.command(context.WithoutCancel(ctx), w, "down", w.Down, timeout)
		}
		return errors.Join(err, f.Close())
	}, nil
}

// takeShare takes a lock: alone where nobody has it, else as one of many.
func takeShare(ctx context.Context, f *os.File) (alone bool, err error) {
	for {
		for _, how := range []int{unix.LOCK_EX, unix.LOCK_SH} {
			err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
			if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
				return how == unix.LOCK_EX, err
			}
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(lockPause):
		}
	}
}

// command runs a worker's command on this machine.
func (r *runner) command(ctx context.Context, w config.Worker, what string, argv []string, timeout time.Duration) error {
	if r.opt.commands > 0 {
		timeout = r.opt.commands
	}
	here, err := worker.Open(ctx, config.Worker{}, worker.Options{Dir: r.p.dir, LookupEnv: r.opt.LookupEnv})
	if err != nil {
		return err
	}
	defer here.Close()
	var said []byte
	r.opt.Log.Info(fmt.Sprintf("worker %s: %s", w.Name, what))
	env := r.toolEnv(here)
	res, err := here.Run(ctx, process.Job{Argv: argv, Dir: r.p.dir, Env: append(env, "RELKIT_WORKER="+w.Name), Timeout: timeout, Grace: r.opt.grace, Output: func(o process.Output) error {
		said = append(said, o.Data...)
		said = said[max(0, len(said)-1<<10):]
		return nil
	}})
	if err == nil && !res.OK() {
		err = errors.New(res.String())
	}
	if err != nil {
		err = fmt.Errorf("%w: its %s command %q: %w", worker.ErrUnreachable, what, commandLine(argv), err)
		if text := strings.TrimSpace(string(said)); text != "" {
			err = fmt.Errorf("%w: %q", err, text)
		}
	}
	return err
}
