package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/relkit/relkit/pkg/build/notify"
	"github.com/relkit/relkit/pkg/build/source"
	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// Options of a run; the zero value builds once what is asked for.
type Options struct {
	// IfChanged builds only what has an important change since its previous build.
	IfChanged bool
	// Force builds even what IfChanged would not.
	Force bool
	// Revs replaces what is built of sources, by name; "" is each builder's first.
	Revs map[string]string
	// Branch replaces what is built of each builder's first source.
	Branch string
	// Set adds substitutions and environment variables.
	Set map[string]string
	// Clean builds in trees that hold nothing of earlier builds.
	Clean bool
	// Diffs make try builds, of what was asked for with the diffs applied. They go to
	// nobody as good builds, and nobody is told of them.
	Diffs []Diff
	// Repro builds twice and compares: artifacts that differ fail the build.
	Repro bool
	// KeepGoing builds the others after one has failed.
	KeepGoing bool
	// Jobs is how many builds run at a time; 0 is as many as the worker has slots.
	Jobs int
	// Version is relkit's own.
	Version string
	// Now is the clock of the schedules, with the time zone they are in; nil is time.Now.
	Now func() time.Time
	// look says that nothing may be written.
	look bool
	// LookupEnv is the caller's environment; nil is os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Log gets notes; nil drops them.
	Log *slog.Logger
	// Show gets lines of the steps' output: the last ones of a step that failed,
	// with Verbose all as they come. Label says whose. Nil drops them.
	Show    func(label, line string)
	Verbose bool
	// Progress counts the steps of all cells; nil for nobody.
	Progress Progress
	// Watch hears where the cell of an index stands, several at a time; nil for nobody.
	Watch func(cell int, s Stage)
	// Done hears of each build that has ended, with its folder, one at a time.
	Done func(b *record.Build, dir string) error

	// heartbeat and patience are what worker.Options has, grace what process.Job has, commands how
	// long up and down may take; tests make them short.
	heartbeat, patience, grace, commands time.Duration
	// hold is what notify.Spool has as HoldFor.
	hold time.Duration
	// poll is how long a source may take to say what its head is; 0 is pollTime.
	poll time.Duration
}

// Progress hears how far a run is.
type Progress interface {
	Start(total int64, what string)
	Add(n int64)
	Done()
}

type silent struct{}

func (silent) Start(int64, string) {}
func (silent) Add(int64)           {}
func (silent) Done()               {}

// runner is one call of Run.
type runner struct {
	p   *Project
	opt Options
	// spool is what is to be told of builds.
	spool *notify.Spool

	mu    sync.Mutex // guards what follows, and the calls of Show and Done
	heads map[string]*headOf
	err   error                    // of Done
	tried map[string]*record.Build // the try builds of this run that succeeded, by cell
	// left counts the cells of each builder that are still to end, mails are the
	// locks that say so to other runs.
	left  map[string]int
	mails map[string]*lock.Lock
}

var setName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

func (p *Project) newRunner(cells []Cell, opt Options) (*runner, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.LookupEnv == nil {
		opt.LookupEnv = os.LookupEnv
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Progress == nil {
		opt.Progress = silent{}
	}
	for k := range opt.Set {
		if !setName.MatchString(k) || slices.Contains(config.Placeholders, k) {
			return nil, failure.Errorf(failure.Usage, "bad name %q for a value: want letters, digits, \".\", \"_\" and \"-\", and none of %s", k, strings.Join(config.Placeholders, " "))
		}
	}
	if err := p.checkDiffs(cells, &opt); err != nil {
		return nil, err
	}
	for i := range cells {
		c := &cells[i]
		if err := p.checkSubstitutions(c, opt.Set); err != nil {
			return nil, err
		}
		if err := p.checkRepro(c, &opt); err != nil {
			return nil, err
		}
		for k := range opt.Set {
			if _, clash := c.Axes[k]; clash {
				return nil, failure.Errorf(failure.Usage, "the value %q has the name of an axis of builder %q", k, c.builder.Name)
			}
		}
		if (opt.Revs[""] != "" || opt.Branch != "") && len(c.builder.Sources) == 0 {
			return nil, failure.Errorf(failure.Usage, "builder %q has no source to take a revision of", c.builder.Name)
		}
	}
	for name := range opt.Revs {
		if name != "" && !slices.ContainsFunc(cells, func(c Cell) bool { return slices.Contains(c.builder.Sources, name) }) {
			return nil, failure.Errorf(failure.Usage, "nothing that is to be built has a source %q to take a revision of", name)
		}
	}
	r := &runner{p: p, opt: opt, heads: map[string]*headOf{}, tried: map[string]*record.Build{}}
	r.spool = r.newSpool()
	return r, nil
}

// workFolder is a cell's folder for its work trees on a worker.
func (r *runner) workFolder(dir, name string) string {
	if r.try() {
		return workFolder(dir, tryDir, name)
	}
	return workFolder(dir, workDir, name)
}

// rev is the revision that is asked for of a builder's source; "" is the newest.
func (r *runner) rev(index int, source string) string {
	if rev := r.opt.Revs[source]; rev != "" || index > 0 {
		return rev
	}
	return r.opt.Revs[""]
}

func (p *Project) sourceIndex(name string) int {
	return slices.IndexFunc(p.cfg.Sources, func(s config.Source) bool { return s.Name == name })
}

func (p *Project) source(name string) config.Source { return p.cfg.Sources[p.sourceIndex(name)] }

// Run builds cells, several at a time. It answers an error of kind failure.No
// where a build failed, failure.Busy where another relkit builds one of the
// cells, and failure.Failed where the infrastructure did; that one first.
func (p *Project) Run(ctx context.Context, cells []Cell, opt Options) (err error) {
	r, err := p.newRunner(cells, opt)
	if err != nil {
		return err
	}
	outcomes := r.all(ctx, cells)
	if r.err != nil {
		return r.err
	}
	return p.verdict(ctx, outcomes)
}

// ended tells of a build that has ended, and answers whether to begin no other.
func (r *runner) ended(o *outcome) (stop bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.build != nil && o.build.Status != record.BuildSuccess || o.err != nil {
		stop = !r.opt.KeepGoing
	}
	if o.build != nil && o.build.IsTry() && o.build.Status == record.BuildSuccess {
		r.tried[o.build.Builder] = o.build
	}
	if o.build != nil && r.opt.Done != nil && r.err == nil && r.p.state.written(o.build) {
		if r.err = r.opt.Done(o.build, r.p.state.build(o.build.Builder, o.build.Number)); r.err != nil {
			stop = true
		}
	}
	return stop
}

// verdict makes one error of many outcomes.
func (p *Project) verdict(ctx context.Context, outcomes []outcome) error {
	var errs []error
	var failed []string
	var last *record.Build
	for _, o := range outcomes {
		switch {
		case o.err != nil:
			errs = append(errs, o.err)
		case o.build != nil && o.build.Status == record.BuildFailed:
			last = o.build
			failed = append(failed, fmt.Sprintf("build %s/%d failed: %s", last.Builder, last.Number, last.Error))
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// The infrastructure first: with it down, nothing else is the whole answer.
	kind := failure.No
	if len(failed) == 0 && len(errs) > 0 {
		kind = failure.Of(errs[0])
	}
	for _, err := range errs {
		if failure.Of(err) == failure.Failed {
			kind = failure.Failed
		}
		failed = append(failed, err.Error())
	}
	switch {
	case len(errs) == 1 && len(failed) == 1:
		return errs[0]
	case len(failed) == 0:
		return nil
	}
	err := failure.As(kind, errors.New(strings.Join(failed, "; ")))
	if last != nil {
		err = failure.WithHint(err, "relkit build --log %s%s", failure.Word(fmt.Sprintf("%s/%d", last.Builder, last.Number)), p.given)
	}
	return err
}

// driver answers a source's driver on a host.
func (r *runner) driver(src config.Source, on *worker.Session) (source.Driver, error) {
	return source.Open(src, r.p.sourceURL(src.URL), on, r.toolEnv(on), source.Memory{Dir: filepath.Join(r.p.state.dir, digestsDir), ReadOnly: r.opt.look})
}

// Poll asks for the revisions that would be built and notes them in the cells;
// with IfChanged it answers only those that would be.
func (p *Project) Poll(ctx context.Context, cells []Cell, opt Options) (_ []Cell, err error) {
	r, err := p.newRunner(cells, opt)
	if err != nil {
		return nil, err
	}
	r.opt.look = true
	var out []Cell
	for _, c := range cells {
		was, err := p.state.previous(c.Name, 0)
		if err != nil {
			return nil, err
		}
		c.Revisions = map[string]string{}
		for i, name := range c.builder.Sources {
			src := p.source(name)
			if i == 0 && opt.Branch != "" {
				src.Branch = opt.Branch
			}
			head, err := r.head(ctx, src)
			if err != nil {
				return nil, fmt.Errorf("source %q: %w", name, err)
			}
			c.Revisions[name] = head.ID
			if rev := r.rev(i, name); rev != "" {
				c.Revisions[name] = rev
			}
		}
		due := true
		if r.ifChanged(&c) {
			if due, err = r.glance(ctx, &c, was); err != nil {
				return nil, err
			}
		}
		if due {
			out = append(out, c)
		}
	}
	share(out, opt.Jobs)
	return out, nil
}

// show passes lines of output on.
func (r *runner) show(label string, lines [][]byte) {
	if r.opt.Show == nil || r.opt.Verbose {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range lines {
		r.opt.Show(label, string(l))
	}
}

// showLines is show of texts.
func (r *runner) showLines(label string, lines []string) {
	var list [][]byte
	for _, l := range lines {
		list = append(list, []byte(l))
	}
	r.show(label, list)
}

// live is what a step's log passes lines to as they come; nil for nothing.
func (j *job) live(step string) func([]byte) {
	if !j.r.opt.Verbose || j.r.opt.Show == nil {
		return nil
	}
	label := j.label() + " " + step
	return func(line []byte) {
		j.r.mu.Lock()
		defer j.r.mu.Unlock()
		j.r.opt.Show(label, string(line))
	}
}

// Artifacts lists the paths of a build's artifacts, as they are on disk.
func Artifacts(b *record.Build, dir string) ([]string, error) {
	var list []string
	for _, a := range b.Artifacts {
		name, err := manifest.Unescape(a.Path)
		if err != nil {
			return nil, err
		}
		list = append(list, filepath.Join(dir, name))
	}
	return list, nil
}
