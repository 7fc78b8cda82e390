package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/process"
)

// The hooks, by the names under which they are kept with the transaction.
const (
	hookPre          = "pre"
	hookPost         = "post"
	hookCheck        = "check"
	hookPreRollback  = "pre-rollback"
	hookPostRollback = "post-rollback"
)

// hookOK is the result of a hook that succeeded, in the journal.
const hookOK = "ok"

// defaultTimeout bounds a hook or check for which nothing else was said.
const defaultTimeout = 60 * time.Second

// searchPath is the PATH of hooks and checks.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// runner runs a patch's hooks, the check of the command line, and restarts services.
type runner struct {
	root    string
	target  transaction.Target
	env     []string
	scripts map[string][]byte
	units   []string
	check   string
	timeout time.Duration
	output  io.Writer
}

// newRunner prepares the hooks of a patch whose sign-offs were accepted.
func (a *applier) newRunner(h *patch.Header, hooks map[string][]byte) (*runner, error) {
	r := &runner{
		root: a.opt.Root, target: a.target, units: h.Restart, check: a.o.Check, timeout: a.o.CheckTimeout, output: a.o.Output,
		scripts: map[string][]byte{},
	}
	from := ""
	if h.From != nil {
		from = h.From.Version
	}
	r.environment(h.ID, h.Product, from, h.To.Version)
	for name, member := range map[string]string{
		hookPre: h.Hooks.Pre, hookPost: h.Hooks.Post, hookCheck: h.Hooks.Check,
		hookPreRollback: h.Hooks.PreRollback, hookPostRollback: h.Hooks.PostRollback,
	} {
		if member != "" {
			r.scripts[name] = hooks[member]
		}
	}
	return r, nil
}

// admitHooks refuses hooks that could not, or must not, run: before anything is touched.
func (a *applier) admitHooks(h *patch.Header) error {
	switch {
	case len(h.Hooks.Names()) == 0:
		return nil
	case a.o.InsecureUnsigned:
		return failure.Errorf(failure.Refused, "patch %s has hooks, which never run from an unsigned patch", h.ID)
	case a.opt.Root != "/" && !fsys.Privileged():
		return failure.Errorf(failure.Refused, "patch %s has hooks, which run in a chroot of %q, and that takes root", h.ID, a.opt.Root)
	}
	return nil
}

func (r *runner) environment(patchID, product, from, to string) {
	r.env = []string{
		"PATH=" + searchPath, "HOME=/", "LANG=C.UTF-8", "LC_ALL=C.UTF-8",
		"RELKIT_PATCH=" + patchID, "RELKIT_PRODUCT=" + product, "RELKIT_FROM=" + from, "RELKIT_TO=" + to,
	}
}

// before runs what comes before anything visible changes.
func (r *runner) before(ctx context.Context, tx *transaction.Tx) error {
	return r.script(ctx, tx.Journal, hookPre)
}

// after runs what decides whether the new tree stays.
func (r *runner) after(ctx context.Context, tx *transaction.Tx) error {
	if err := r.script(ctx, tx.Journal, hookPost); err != nil {
		return err
	}
	if err := r.restart(ctx); err != nil {
		return err
	}
	return r.checks(ctx, tx.Journal)
}

// checks runs what says whether the new tree works.
func (r *runner) checks(ctx context.Context, j *state.Transaction) error {
	if err := r.script(ctx, j, hookCheck); err != nil {
		return err
	}
	if r.check == "" {
		return nil
	}
	return r.run(ctx, "check", process.Job{
		Argv: []string{"/bin/sh", "-c", r.check}, Dir: "/", Env: append(r.env, "RELKIT_HOOK=check", "RELKIT_ROOT="+r.root),
	})
}

// script runs a kept script, in a chroot where the root is not "/". The journal
// says that it starts before it does, and how it ended: one that was cut off is
// started again by whoever comes next, and learns from RELKIT_ATTEMPT.
func (r *runner) script(ctx context.Context, j *state.Transaction, name string) error {
	path, err := transaction.Script(r.target, j, name)
	if err != nil || path == "" {
		return err
	}
	started, _ := j.HookRuns(name)
	note := journal.Record{Event: journal.Hook, Hook: name, Attempt: started + 1}
	if err := transaction.Note(r.target, j, note); err != nil {
		return fmt.Errorf("%s hook: %w", name, err)
	}
	job := process.Job{
		Argv: []string{"/" + path}, Dir: "/",
		Env: append(slices.Clone(r.env), "RELKIT_HOOK="+name, "RELKIT_ROOT=/", "RELKIT_ATTEMPT="+strconv.Itoa(note.Attempt)),
	}
	if r.root != "/" {
		job.Root = r.root
	}
	err = r.run(ctx, name+" hook", job)
	note.Result = hookOK
	if err != nil {
		note.Result = err.Error()
	}
	return errors.Join(err, transaction.Note(r.target, j, note))
}

// restart restarts the patch's services, on the running system only.
func (r *runner) restart(ctx context.Context) error {
	if len(r.units) == 0 || r.root != "/" {
		return nil
	}
	if _, err := r.target.Root.Lstat("run/systemd/system"); err != nil {
		return nil
	}
	argv := append([]string{"systemctl", "try-restart", "--"}, r.units...)
	return r.run(ctx, "restarting services", process.Job{Argv: argv, Dir: "/", Env: r.env})
}

func (r *runner) run(ctx context.Context, what string, job process.Job) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	job.Timeout = r.timeout
	if job.Timeout == 0 {
		job.Timeout = defaultTimeout
	}
	job.Stdout, job.Stderr = r.output, r.output
	res, err := process.Run(ctx, job)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !res.OK() {
		return fmt.Errorf("%s: %s", what, res)
	}
	return nil
}

// undoHooks run a patch's rollback hooks when it is taken back by itself: when
// its post hook has begun, what that did is to be undone with the files.
type undoHooks struct{ m *machine }

func (u undoHooks) BeforeUndo(j *state.Transaction) { u.run(j, hookPreRollback) }
func (u undoHooks) AfterUndo(j *state.Transaction)  { u.run(j, hookPostRollback) }

func (u undoHooks) run(j *state.Transaction, name string) {
	if posts, _ := j.HookRuns(hookPost); posts == 0 {
		return
	}
	if _, result := j.HookRuns(name); result == hookOK {
		return // before the cut
	}
	a := &applier{machine: u.m}
	if err := a.runnerOf(j).script(context.Background(), j, name); err != nil {
		u.m.opt.Log.Warn("the patch is taken back all the same", "patch", j.Records[0].PatchID, "err", err)
	}
}
