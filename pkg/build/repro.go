package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/build/source"
	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/process"
)

// reproDir is, in a build's folder, what there is of the second build, and in the
// project's folder on a worker that of its trees where the path is to differ.
const reproDir = "repro"

// repro tells whether a cell is built twice: somebody asks for it, or a schedule
// does and there is something to compare.
func (r *runner) repro(c *Cell) bool {
	return r.opt.Repro || c.order != nil && c.order.repro && len(c.builder.Artifacts.Paths) > 0
}

// checkRepro refuses to build twice what leaves nothing to compare.
func (p *Project) checkRepro(c *Cell, opt *Options) error {
	if opt.Repro && len(c.builder.Artifacts.Paths) == 0 {
		return p.cfg.ErrorAt([]any{"builder", c.index}, "builder %q keeps no artifacts to compare: artifacts.paths is missing", c.builder.Name)
	}
	return nil
}

// again builds a second time, under other circumstances, and compares the
// artifacts. It answers why the build is not what it should be.
//
// The record with the first build's artifacts is written after this: who kills
// relkit meanwhile has an interrupted build, whose folder "repro" tells nothing.
func (j *job) again(ctx context.Context) (failed string, err error) {
	// The umask shows in the modes of nearly all that compilers and cp(1) make: it is
	// for who asks for it.
	want := slices.DeleteFunc(slices.Clone(config.Variations), func(v string) bool { return v == "umask" })
	if v := j.cell.builder.Repro; v != nil && v.Vary != nil {
		want = v.Vary
	}
	// Lists are empty, never nil: the record is printed as it is.
	rep := &record.BuildRepro{Result: record.ReproInterrupted, Vary: []record.BuildVariation{}, Steps: []record.BuildStep{}, Differences: []record.BuildDifference{}}
	j.build.Repro = rep
	two, done, err := j.second(ctx, want)
	if err != nil {
		return "", fmt.Errorf("building again: %w", err)
	}
	defer func() {
		if derr := done(); err == nil {
			err = derr
		}
	}()
	failed, err = two.buildAgain(ctx, j, want)
	rep.Worker, rep.Steps = two.build.Worker, append(rep.Steps, two.build.Steps...)
	for i := range rep.Steps {
		if s := &rep.Steps[i]; s.Log != "" {
			s.Log = path.Join(reproDir, s.Log)
		}
	}
	if two.differs != nil {
		rep.Vary = append(rep.Vary, two.differs.list...)
	}
	if err != nil {
		return "", fmt.Errorf("building again: %w", err)
	}
	if failed != "" {
		rep.Result = record.ReproFailed
		return "it built once, and not again under other circumstances: " + failed, nil
	}
	return j.compare(ctx, two)
}

// second makes the job of the second build, on another worker if that is wanted and
// there is one that can be used. done ends it.
func (j *job) second(ctx context.Context, want []string) (two *job, done func() error, err error) {
	// A worker has one session at a time, and Slurm perhaps one place.
	if err := j.on.Close(); err != nil {
		return nil, nil, err
	}
	var candidates []config.Worker
	if slices.Contains(want, "worker") {
		candidates = slices.DeleteFunc(slices.Clone(j.cell.spare), func(w config.Worker) bool { return w.Name == j.cell.Worker.Name })
	}
	candidates = append(candidates, j.cell.Worker)
	for i, w := range candidates {
		c := *j.cell
		c.Worker, c.Slots = w, min(j.cell.Slots, w.Slots)
		if err := j.r.move(ctx, &c, w); err != nil {
			return nil, nil, err
		}
		on, done, err := j.r.reopen(ctx, &c, j)
		last := i == len(candidates)-1
		if err == nil && !last && (on.Arch != j.on.Arch || on.OS != j.on.OS) {
			err = fmt.Errorf("%w: it is another machine, %s/%s instead of %s/%s", worker.ErrUnreachable, on.OS, on.Arch, j.on.OS, j.on.Arch)
			err = errors.Join(err, done())
		}
		if err != nil && (last || !worker.IsLost(err) || ctx.Err() != nil) {
			return nil, nil, err
		}
		if err != nil {
			j.r.opt.Log.Warn(fmt.Sprintf("%s worker %q is not used for the second build: %v", j.label(), w.Name, err))
			continue
		}
		b := *j.build
		b.Steps, b.Artifacts, b.Tests, b.Repro = nil, nil, nil, nil
		b.Worker = record.BuildWorker{Name: w.Name, Kind: on.Kind, Host: on.Host, OS: on.OS, Arch: on.Arch, Slots: c.Slots}
		two = &job{r: j.r, cell: &c, on: on, build: &b, dir: filepath.Join(j.dir, reproDir), needs: j.needs, past: j.pastBuilds(), vars: maps.Clone(j.vars)}
		two.vars["worker"], two.vars["slots"] = w.Name, fmt.Sprint(c.Slots)
		two.work = j.r.workFolder(on.Dir, c.Name)
		if slices.Contains(want, "path") {
			two.work = workFolder(on.Dir, reproDir, c.Name)
		}
		return two, done, nil
	}
	return nil, nil, errors.New("no worker") // there is always the first one's
}

// reopen starts the session of a second build; what is left of it when relkit is
// killed, the next run finds by the cookie.
func (r *runner) reopen(ctx context.Context, c *Cell, j *job) (on *worker.Session, done func() error, err error) {
	down, err := r.up(ctx, c.Worker)
	if err != nil {
		return nil, nil, err
	}
	j.running.Again = process.NewCookie()
	if err := r.p.state.start(j.build.Builder, j.build.Number, j.running); err != nil {
		return nil, nil, errors.Join(err, down())
	}
	if on, err = r.open(ctx, c, j.running.Again); err != nil {
		return nil, nil, errors.Join(err, down())
	}
	return on, func() error { return errors.Join(on.Close(), down()) }, nil
}

// buildAgain is what a build does from the sources to the artifacts.
func (j *job) buildAgain(ctx context.Context, first *job, want []string) (failed string, err error) {
	for _, dir := range []string{j.dir, filepath.Join(j.dir, logDir)} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", err
		}
	}
	if err := j.fetchAgain(ctx, first.trees); err != nil {
		return "", err
	}
	if err := j.emptyFolder(ctx); err != nil {
		return "", err
	}
	if err := j.folders(ctx)(); err != nil {
		return "", err
	}
	if err := j.vary(ctx, first, want); err != nil {
		return "", err
	}
	for _, v := range j.differs.list {
		note := "varied"
		if !v.Varied {
			note = "not varied"
		}
		j.r.opt.Log.Info(fmt.Sprintf("%s %s: %s: %s", j.label(), v.What, note, v.How))
	}
	failed, err = j.execute(ctx)
	if j.differs.under != "" {
		err = errors.Join(err, j.on.Remove(ctx, j.differs.under))
	}
	return failed, err
}

// emptyFolder empties the folder in which the steps of a builder without sources
// run: a second build would find what the first has made.
func (j *job) emptyFolder(ctx context.Context) error {
	if len(j.cell.builder.Sources) > 0 {
		return nil
	}
	return j.on.Remove(ctx, path.Join(j.work, emptyDir))
}

// fetchAgain brings the revisions of a build to the worker of the second.
func (j *job) fetchAgain(ctx context.Context, trees []*tree) error {
	if err := j.on.Mkdir(ctx, j.work); err != nil {
		return err
	}
	for i, t := range trees {
		d, err := j.r.driver(j.r.p.source(t.record.Name), j.on)
		if err != nil {
			return err
		}
		again := &tree{Driver: d, record: t.record}
		again.dir, again.repo = treeDirs(j.work, t.record.Name, t.record.Checkout)
		if j.r.rev(i, t.record.Name) != "" { // it may be on no branch that is known
			_, err = again.Resolve(ctx, again.repo, t.record.Revision)
		} else {
			err = again.Fetch(ctx, again.repo, source.Revision{ID: t.record.Revision, Branch: t.record.Branch})
		}
		if err != nil {
			return fmt.Errorf("source %q: %w", t.record.Name, err)
		}
		j.trees = append(j.trees, again)
	}
	return nil
}

// compare compares the artifacts of two builds. Those of the second are kept where
// they differ, for a closer look.
func (j *job) compare(ctx context.Context, two *job) (failed string, err error) {
	j.doing("comparing")
	rep := j.build.Repro
	n, list, err := differences(j.dir, j.build.Artifacts, two.dir, two.build.Artifacts)
	if err != nil {
		return "", fmt.Errorf("comparing the artifacts: %w", err)
	}
	rep.Differ, rep.Differences = n, append(rep.Differences, list...)
	if rep.Differ == 0 {
		rep.Result = record.ReproSame
		j.r.opt.Log.Info(fmt.Sprintf("%s built twice, %d artifacts are the same", j.label(), len(j.build.Artifacts)))
		return "", errors.Join(worker.RemoveAll(filepath.Join(two.dir, artifactsDir)), worker.RemoveAll(filepath.Join(two.dir, sumsFile)))
	}
	rep.Result = record.ReproDifferent
	if rep.Report, err = j.r.report(ctx, j.dir, rep.Differences); err != nil {
		return "", fmt.Errorf("comparing the artifacts: %w", err)
	}
	var lines []string
	for _, d := range rep.Differences[:min(len(rep.Differences), maxTold)] {
		lines = append(lines, differenceLine(&d))
	}
	j.r.showLines(j.label()+" repro", lines)
	text := fmt.Sprintf("not reproducible: %d of %d artifacts differ when built again: %s", rep.Differ, len(j.build.Artifacts), strings.Join(lines, "; "))
	if n := rep.Differ - len(lines); n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	if rep.Report != "" {
		text += "; see " + filepath.Join(j.dir, rep.Report)
	}
	return text, nil
}
