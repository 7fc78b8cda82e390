package update

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
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

// runner runs a patch's hooks, the check of the command line, and works the services.
type runner struct {
	root    string
	path    string // as of machine
	target  transaction.Target
	env     []string
	old     string // version before the patch
	new     string // and after it
	scripts map[string][]byte
	check   string
	timeout time.Duration
	output  io.Writer
}

// newRunner prepares the hooks of a patch whose sign-offs were accepted.
func (a *applier) newRunner(h *patch.Header, hooks map[string][]byte) (*runner, error) {
	r := &runner{
		root: a.opt.Root, path: a.path, target: a.target, check: a.o.Check, timeout: a.o.CheckTimeout, output: a.o.Output,
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
		"PATH=" + cmp.Or(r.path, searchPath), "HOME=/", "LANG=C.UTF-8", "LC_ALL=C.UTF-8",
		"RELKIT_PATCH=" + patchID, "RELKIT_PRODUCT=" + product,
	}
	r.old, r.new = from, to
}

// before runs what comes before anything visible changes.
func (r *runner) before(ctx context.Context, tx *transaction.Tx) error {
	if err := r.script(ctx, tx.Journal, hookPre); err != nil {
		return err
	}
	return r.stopServices(ctx, tx.Journal)
}

// after runs what decides whether the new tree stays.
func (r *runner) after(ctx context.Context, tx *transaction.Tx) error {
	if err := r.script(ctx, tx.Journal, hookPost); err != nil {
		return err
	}
	if err := r.startServices(ctx, tx.Journal); err != nil {
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
	return r.journaled(j, journal.Record{Hook: "check command"}, func(attempt int, output io.Writer) error {
		return r.run(ctx, "check", process.Job{
			Argv: []string{"/bin/sh", "-c", r.check}, Dir: "/",
			Env: append(r.envOf(hookCheck), "RELKIT_HOOK=check", "RELKIT_ROOT="+r.root, "RELKIT_ATTEMPT="+strconv.Itoa(attempt)),
		}, output)
	})
}

// script runs a kept script, in a chroot where the root is not "/".
func (r *runner) script(ctx context.Context, j *state.Transaction, name string) error {
	path, err := transaction.Script(r.target, j, name)
	if err != nil || path == "" {
		return err
	}
	return r.journaled(j, journal.Record{Hook: name}, func(attempt int, output io.Writer) error {
		job := process.Job{
			Argv: []string{"/" + path}, Dir: "/",
			Env: append(r.envOf(name), "RELKIT_HOOK="+name, "RELKIT_ROOT=/", "RELKIT_ATTEMPT="+strconv.Itoa(attempt)),
		}
		if r.root != "/" {
			job.Root = r.root
		}
		return r.run(ctx, name+" hook", job, output)
	})
}

// journaled runs do, a hook or what is like one. The journal says that it
// begins before it does, and how it ended: one that was cut off is run again by
// whoever comes next.
func (r *runner) journaled(j *state.Transaction, note journal.Record, do func(attempt int, output io.Writer) error) error {
	started, _ := j.HookRuns(note.Hook)
	note.Event, note.Attempt = journal.Hook, started+1
	if err := transaction.Note(r.target, j, note); err != nil {
		return fmt.Errorf("%s hook: %w", note.Hook, err)
	}
	end := &tail{also: r.output}
	err := do(note.Attempt, end)
	if note.Result, note.Output = hookOK, end.String(); err != nil {
		note.Result = err.Error()
	}
	return errors.Join(err, transaction.Note(r.target, j, note))
}

// tail passes output on, and keeps the end of it for the journal.
type tail struct {
	also io.Writer // nil for nobody
	mu   sync.Mutex
	b    []byte
}

// maxTail is how much output of a hook the journal keeps, in bytes.
const maxTail = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if over := len(t.b) - maxTail; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	if t.also == nil {
		return len(b), nil
	}
	return t.also.Write(b)
}

// String is the end of the output, as JSON can hold it.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(string(t.b), "\uFFFD")
}

func (r *runner) run(ctx context.Context, what string, job process.Job, output io.Writer) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	job.Timeout = r.deadline()
	job.Stdout, job.Stderr = output, output
	res, err := process.Run(ctx, job)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !res.OK() {
		return fmt.Errorf("%s: %s", what, res)
	}
	return nil
}

// deadline is how long a hook or check may run.
func (r *runner) deadline() time.Duration {
	if r.timeout == 0 {
		return defaultTimeout
	}
	return r.timeout
}
