package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/lock"
	"github.com/relkit/relkit/pkg/sys/process"
)

// job is one build of one cell.
type job struct {
	r    *runner
	cell *Cell
	on   *worker.Session

	build *record.Build
	dir   string // of the build
	work  string // the builder's folder on the worker
	cwd   string // where the steps run, there
	tmp   string // their TMPDIR
	trees []*tree
	needs []need
	vars  map[string]string
	env   map[string]string
	tests []record.BuildTest
	// testText counts the bytes of the tests' messages and details.
	testText int
	past     *pastBuilds // what the build is compared with
	running  running     // what runningFile says of the build
	// differs is, for the second of two builds, what it is built under.
	differs *circumstances
	goOn    bool // the step that failed is one to go on after
}

func (j *job) label() string {
	label := j.build.Builder + "/" + strconv.Itoa(j.build.Number) + ":"
	if j.differs != nil {
		label += " again:"
	}
	return label
}

// outcome is what became of a cell.
type outcome struct {
	build *record.Build // nil where nothing was built
	// skipped tells that it was not even looked at.
	skipped bool
	err     error
}

// run builds a cell. A build that failed is an outcome without an error.
func (r *runner) run(ctx context.Context, c *Cell) outcome {
	s := r.p.state
	if err := s.prepare(c.Name); err != nil {
		return outcome{err: err}
	}
	l, err := lock.Try(s.lockFile(c.Name))
	if err != nil {
		return outcome{err: fmt.Errorf("builder %s: %w", c.Name, err)}
	}
	defer l.Release()
	if err := r.putInOrder(c.Name, slog.LevelWarn); err != nil {
		return outcome{err: err}
	}
	if owed, err := s.claim(c); err != nil || !owed {
		return outcome{err: err}
	}
	b, err := r.locked(ctx, c)
	if b == nil && ctx.Err() == nil {
		err = errors.Join(err, r.recordDown(c, err))
	}
	r.announce(c.Name)
	return outcome{build: b, err: err}
}

// locked builds a cell whose lock is held.
func (r *runner) locked(ctx context.Context, c *Cell) (b *record.Build, err error) {
	was, err := r.p.state.previous(c.Name, 0)
	if err != nil {
		return nil, err
	}
	if r.ifChanged(c) {
		if due, err := r.glance(ctx, c, was); err != nil || !due {
			return nil, r.unchanged(ctx, c, err)
		}
	}
	if err := r.checkSigner(ctx, c); err != nil {
		return nil, fmt.Errorf("builder %s: %w", c.Name, err)
	}
	release, err := r.takeLocks(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("builder %s: %w", c.Name, err)
	}
	defer release()
	there, err := r.placed(ctx, c, c.fits())
	if err != nil {
		return nil, err
	}
	b, err = r.onWorker(ctx, there, was)
	err = errors.Join(err, there.slot.release())
	if err == nil || !worker.IsLost(err) || len(there.spare) == 0 || ctx.Err() != nil || b != nil && b.Repro != nil {
		return b, err // of a build that is made twice, it was perhaps the spare one that is lost
	}
	again, perr := r.placed(ctx, c, there.spare)
	if perr != nil {
		return b, errors.Join(err, perr)
	}
	r.opt.Log.Warn(fmt.Sprintf("%s: %v; trying once more on worker %s", c.Name, err, again.Worker.Name))
	b, err = r.onWorker(ctx, again, was)
	return b, errors.Join(err, again.slot.release())
}

// onWorker builds a cell on its worker.
func (r *runner) onWorker(ctx context.Context, c *Cell, was *record.Build) (b *record.Build, err error) {
	down, err := r.up(ctx, c.Worker)
	if err != nil {
		return nil, fmt.Errorf("builder %s: %w", c.Name, &downError{"worker", c.Worker.Name, err})
	}
	defer func() { err = errors.Join(err, down()) }()
	cookie := process.NewCookie()
	on, err := r.open(ctx, c, cookie)
	if err != nil {
		return nil, fmt.Errorf("builder %s: %w", c.Name, &downError{"worker", c.Worker.Name, err})
	}
	defer func() {
		if cerr := on.Close(); !worker.IsLost(err) { // what is lost has no good end
			err = errors.Join(err, cerr)
		}
	}()
	j := &job{r: r, cell: c, on: on, work: r.workFolder(on.Dir, c.Name)}
	j.doing("fetching the sources")
	if err := j.fetch(ctx); err != nil {
		if full := j.outOfRoom(ctx, saysNoRoom([]byte(err.Error()))); full != nil {
			err = fmt.Errorf("%w: %w", full, err)
		}
		return nil, fmt.Errorf("builder %s: %w", c.Name, err)
	}
	if j.needs, err = r.chooseNeeds(c); err != nil {
		return nil, fmt.Errorf("builder %s: %w", c.Name, err)
	}
	reason, err := j.reason(ctx, was)
	if err != nil || reason == "" {
		return nil, r.unchanged(ctx, c, err)
	}
	if r.repro(c) {
		if err := j.emptyFolder(ctx); err != nil {
			return nil, err
		}
	}
	made := j.folders(ctx)
	if err := j.begin(ctx, was, reason, cookie); err != nil {
		return nil, err
	}
	failed := ""
	if err = made(); err == nil {
		failed, err = j.execute(ctx)
	}
	if err == nil && failed == "" && r.repro(c) {
		failed, err = j.again(ctx)
	}
	// The worker puts its part in order while the record is being written.
	go on.Close()
	return j.build, j.end(ctx, failed, err)
}

// unchanged ends with a cell that is not built, err being why that is not known.
func (r *runner) unchanged(ctx context.Context, c *Cell, err error) error {
	if err != nil {
		return fmt.Errorf("builder %s: %w", c.Name, err)
	}
	r.notDue(ctx, c, "unchanged")
	return r.p.state.settleOwed(c)
}

// fetch brings the revisions to build into the builder's repositories.
func (j *job) fetch(ctx context.Context) error {
	if len(j.cell.builder.Sources) > 0 {
		if err := j.on.Mkdir(ctx, j.work); err != nil {
			return err
		}
	}
	checkout := j.cell.builder.Checkout
	if checkout == "" {
		checkout = "incremental"
	}
	clean := j.r.opt.Clean || j.cell.order != nil && j.cell.order.clean
	if (clean || j.r.try() || j.r.repro(j.cell)) && checkout == "incremental" {
		checkout = "clean"
	}
	for i, name := range j.cell.builder.Sources {
		src := j.r.p.source(name)
		d, err := j.r.driver(src, j.on)
		if err != nil {
			return err
		}
		tr := &tree{Driver: d, record: record.BuildSource{Name: name, VCS: src.VCS, URL: config.Redact(j.r.p.sourceURL(src.URL)), Checkout: checkout}}
		tr.dir, tr.repo = treeDirs(j.work, name, checkout)
		if clean {
			if err := j.on.Remove(ctx, tr.dir); err != nil {
				return err
			}
		}
		if rev := j.r.rev(i, name); rev != "" {
			tr.record.Revision, err = tr.Resolve(ctx, tr.repo, rev)
		} else {
			err = j.fetchHead(ctx, tr, src, i)
		}
		if err == nil {
			tr.record.Time, err = tr.Time(ctx, tr.repo, tr.record.Revision)
		}
		if err == nil && strings.Contains(j.r.p.cfg.Project.Version, "{count}") {
			tr.record.Count, err = tr.Count(ctx, tr.repo, tr.record.Revision)
		}
		if err != nil {
			return fmt.Errorf("source %q: %w", name, err)
		}
		j.trees = append(j.trees, tr)
	}
	return nil
}

func (j *job) fetchHead(ctx context.Context, tr *tree, src config.Source, index int) error {
	if index == 0 && j.r.opt.Branch != "" {
		src.Branch = j.r.opt.Branch
	}
	head, err := j.r.head(ctx, src)
	if err != nil {
		return err
	}
	tr.record.Revision, tr.record.Branch = head.ID, head.Branch
	return tr.Fetch(ctx, tr.repo, head)
}

// reason is why the cell is built now, "" where it is not to be: nothing that
// matters has changed since its previous build.
func (j *job) reason(ctx context.Context, was *record.Build) (string, error) {
	reason := "asked"
	switch o := j.cell.order; {
	case j.r.try():
		return "try", nil
	case j.r.opt.Force:
		return "forced", nil
	case o != nil:
		reason = o.reason
	case j.r.opt.IfChanged:
		reason = "change"
	}
	if !j.r.ifChanged(j.cell) || was == nil {
		return reason, nil
	}
	for _, t := range j.trees {
		old := revisionOf(was, t.record.Name)
		if old == t.record.Revision || !j.cell.counts(t.record.Name) {
			continue
		}
		matters, err := j.matters(ctx, t, old)
		if err != nil {
			return "", err
		}
		if matters {
			return reason, nil
		}
	}
	if changed, err := j.r.needsChanged(j.cell, was); err != nil || changed {
		return reason, err
	}
	return "", nil
}

func revisionOf(b *record.Build, source string) string {
	for _, s := range b.Sources {
		if s.Name == source {
			return s.Revision
		}
	}
	return ""
}

// matters tells whether what changed since old is important to the source.
func (j *job) matters(ctx context.Context, t *tree, old string) (bool, error) {
	src := j.r.p.source(t.record.Name)
	if old == "" || len(src.Important) == 0 && len(src.Ignore) == 0 {
		return true, nil
	}
	paths, known, err := t.Touched(ctx, t.repo, old, t.record.Revision)
	if err != nil || !known {
		return !known, err
	}
	return slices.ContainsFunc(paths, func(p string) bool {
		return (len(src.Important) == 0 || worker.MatchAny(src.Important, p)) && !worker.MatchAny(src.Ignore, p)
	}), nil
}

// maxChanges bounds the changes in a build's record.
const maxChanges = 100

// short is a revision as people see it.
func short(revision string) string { return revision[:min(12, len(revision))] }

// begin takes a number and writes down that the build runs.
func (j *job) begin(ctx context.Context, was *record.Build, reason, cookie string) error {
	s := j.r.p.state
	for _, t := range j.trees {
		if was == nil || revisionOf(was, t.record.Name) == "" {
			continue
		}
		list, err := t.Changes(ctx, t.repo, revisionOf(was, t.record.Name), t.record.Revision, maxChanges)
		if err != nil {
			return err
		}
		for _, c := range list {
			t.changes = append(t.changes, record.BuildChange{Source: t.record.Name, Revision: c.ID, Author: c.Author, Email: c.Email, Time: c.Time, Subject: c.Subject})
		}
	}
	n, err := s.reserve(j.cell.Name)
	if err != nil {
		return err
	}
	j.dir = s.build(j.cell.Name, n)
	j.build = &record.Build{Schema: record.BuildSchema, Project: j.r.p.cfg.Project.Name, Builder: j.cell.Name, Number: n,
		Status: record.BuildInterrupted, Reason: reason, Started: time.Now().UTC().Truncate(time.Millisecond),
		Relkit: record.BuildRelkit{Version: j.r.opt.Version}, Matrix: j.cell.Axes, Set: j.r.opt.Set,
		Sources: []record.BuildSource{}, Changes: []record.BuildChange{}, Steps: []record.BuildStep{}, Artifacts: []record.BuildArtifact{},
		Worker: record.BuildWorker{Name: j.cell.Worker.Name, Kind: j.on.Kind, Host: j.on.Host, OS: j.on.OS, Arch: j.on.Arch, Slots: j.cell.Slots}}
	j.build.Needs, j.build.Try = needRecords(j.needs), j.r.diffRecords()
	if j.cell.order != nil {
		j.build.Schedule = j.cell.order.schedule
	}
	if err := j.describe(); err != nil {
		return err
	}
	var owes []owed
	if j.cell.order != nil {
		owes = j.cell.order.owed
	}
	j.running = running{Owed: owes, Started: j.build.Started, Reason: reason, Cookie: cookie, PID: os.Getpid(), Partial: j.build}
	if err := s.start(j.cell.Name, n, j.running); err != nil {
		return errors.Join(err, os.Remove(j.dir)) // nothing is in it, and nothing was built
	}
	if err := s.settleOwed(j.cell); err != nil {
		return err
	}
	if err := j.keepDiffs(); err != nil {
		return err
	}
	return os.Mkdir(filepath.Join(j.dir, logDir), 0o755)
}

// describe fills in what the sources say: times, changes, version, substitutions.
func (j *job) describe() error {
	b := j.build
	vars := buildVars{number: b.Number, set: b.Set}
	for i, t := range j.trees {
		b.Sources = append(b.Sources, t.record)
		b.Changes = append(b.Changes, t.changes...)
		b.SourceDateEpoch = max(b.SourceDateEpoch, t.record.Time.Unix())
		if i == 0 {
			vars.count, vars.revision, vars.branch = t.record.Count, t.record.Revision, t.record.Branch
		}
	}
	if len(j.trees) == 0 {
		b.SourceDateEpoch = b.Started.Unix()
	}
	if len(b.Changes) > maxChanges {
		b.Changes = b.Changes[:maxChanges]
	}
	var err error
	if b.Version, err = substitute(j.r.p.cfg.Project.Version, j.r.p.vars(j.cell, vars)); err != nil {
		return err
	}
	vars.version = b.Version
	j.vars = j.r.p.vars(j.cell, vars)
	return nil
}

// execute checks out, runs the steps and collects what they made.
func (j *job) execute(ctx context.Context) (failed string, err error) {
	for _, t := range j.trees {
		j.doing("checking out %s", t.record.Name)
		j.r.opt.Log.Info(fmt.Sprintf("%s checking out %s %s", j.label(), t.record.Name, short(t.record.Revision)))
		if err := j.checkOut(ctx, t); err != nil {
			return "", err
		}
	}
	if failed, err = j.applyDiffs(ctx); failed != "" || err != nil {
		return failed, err
	}
	handed, err := j.handOver(ctx)
	if err != nil {
		return "", err
	}
	j.env = j.r.stepEnv(j.on, j.cell, j.build, j.trees, j.tmp)
	maps.Copy(j.env, handed)
	if err := errors.Join(j.useCache(ctx), j.tryConfine(ctx)); err != nil {
		return "", err
	}
	if j.differs != nil {
		maps.Copy(j.env, j.differs.env)
	}
	for k, v := range j.cell.builder.Env {
		if j.env[k], err = substitute(v, j.vars); err != nil {
			return "", err
		}
	}
	if failed, err = j.steps(ctx); failed != "" || err != nil {
		return failed, err
	}
	j.doing("collecting artifacts")
	return j.collectArtifacts(ctx)
}

// end writes the record: whatever happened, and whoever asked to stop.
func (j *job) end(ctx context.Context, failed string, err error) error {
	b := j.build
	b.Finished = time.Now().UTC().Truncate(time.Millisecond)
	if err == nil && failed == "" {
		err = j.writeSBOMs(ctx)
	}
	if err == nil && failed == "" {
		failed, err = j.attest(ctx)
	}
	switch {
	case err != nil && errors.Is(err, context.Canceled):
		b.Status, b.Error = record.BuildInterrupted, config.Redact(err.Error())
	case err != nil:
		b.Status, b.Error = record.BuildError, config.Redact(err.Error())
	case failed != "":
		b.Status, b.Error = record.BuildFailed, failed
	default:
		b.Status = record.BuildSuccess
	}
	terr := j.saveTests()
	if b.Status == record.BuildInterrupted { // by a shutdown, say: the night is not lost for that
		_, oerr := j.r.p.state.oweAgain(b, &j.running)
		terr = errors.Join(terr, oerr)
	}
	b.DurationSeconds = seconds(b.Finished.Sub(b.Started))
	ferr := j.r.p.state.finish(b)
	if ferr != nil {
		j.r.p.state.markUnwritten(b.Builder, b.Number)
	}
	j.r.opt.Log.Info(fmt.Sprintf("%s %s after %.1f s%s", j.label(), b.Status, b.DurationSeconds, j.testSummary()))
	if err != nil {
		err = fmt.Errorf("build %s/%d: %w", b.Builder, b.Number, err)
	}
	return errors.Join(err, terr, ferr)
}
