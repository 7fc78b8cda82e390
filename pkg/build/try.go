package build

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/build/source"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/diff"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/process"
)

const (
	// tryDir is, in a build's folder, that of the diffs it was made with, and in the
	// project's folder on a worker that of the trees of try builds: what they leave
	// there no other build ever sees.
	tryDir = "try"
	// applyStep is what the record of a try build calls the applying of its diffs.
	applyStep = "apply"
	// applyIdle bounds the silence of the program that applies a diff.
	applyIdle = 10 * time.Minute
)

// Diff is a change that no revision has, to be tried.
type Diff struct {
	// Name is the diff's own, for messages: a file's.
	Name string
	// Source is what it is applied to; "" is the first of each builder.
	Source string
	// Data is the diff, as git diff, svn diff, hg diff or diff -ru write it.
	Data []byte

	strip int
}

// try tells whether the run is of try builds.
func (r *runner) try() bool { return len(r.opt.Diffs) > 0 }

// checkDiffs reads the diffs and finds those that have no source to go to.
func (p *Project) checkDiffs(cells []Cell, opt *Options) error {
	if len(opt.Diffs) == 0 {
		return nil
	}
	if opt.IfChanged {
		return failure.Errorf(failure.Usage, "a try build is of a diff, and not of what has changed")
	}
	opt.Diffs = slices.Clone(opt.Diffs)
	for i := range opt.Diffs {
		d := &opt.Diffs[i]
		parsed, err := diff.Parse(string(d.Data))
		if err != nil {
			return failure.Errorf(failure.Usage, "reading the diff %q: %w", d.Name, err)
		}
		d.strip = parsed.Strip
		for k := range cells {
			if err := p.checkDiff(&cells[k], d); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkDiff finds the source of a builder that a diff is applied to. One that
// means another source in each builder has to say which.
func (p *Project) checkDiff(c *Cell, d *Diff) error {
	sources := c.builder.Sources
	switch {
	case len(sources) == 0:
		return failure.Errorf(failure.Usage, "builder %q has no source to apply the diff %q to", c.builder.Name, d.Name)
	case d.Source == "":
		d.Source = sources[0]
	case !slices.Contains(sources, d.Source):
		err := failure.Errorf(failure.Usage, "builder %q has no source %q to apply the diff %q to: its sources are %s", c.builder.Name, d.Source, d.Name, strings.Join(sources, ", "))
		return failure.WithHint(err, "relkit build %s --patch %s%s", failure.Word(c.builder.Name), failure.Word(sources[0]+"="+d.Name), p.given)
	}
	return nil
}

// keepDiffs puts the diffs into the build's folder. Its record, which runningFile
// has already, names them: a build that is killed in between is a try build
// nevertheless.
func (j *job) keepDiffs() error {
	if !j.r.try() {
		return nil
	}
	if err := os.Mkdir(filepath.Join(j.dir, tryDir), 0o755); err != nil {
		return err
	}
	for i, d := range j.r.opt.Diffs {
		if err := writeWhole(filepath.Join(j.dir, j.build.Try[i].Path), d.Data); err != nil {
			return err
		}
	}
	return nil
}

// diffRecords are the diffs as a build's record has them.
func (r *runner) diffRecords() []record.BuildDiff {
	var list []record.BuildDiff
	for i, d := range r.opt.Diffs {
		list = append(list, record.BuildDiff{Source: d.Source, Path: path.Join(tryDir, fmt.Sprintf("%02d-%s.diff", i+1, d.Source)),
			SizeBytes: int64(len(d.Data)), Digest: digest.Of(d.Data)})
	}
	return list
}

// applyDiffs applies the diffs of a try build to the trees that were checked out.
// It answers why the build failed: a diff that does not fit is none of the
// infrastructure's fault.
func (j *job) applyDiffs(ctx context.Context) (failed string, err error) {
	if !j.r.try() {
		return "", nil
	}
	j.doing("applying the diff")
	j.build.Steps = append(j.build.Steps, record.BuildStep{Name: applyStep, Attempts: 1})
	r := &j.build.Steps[len(j.build.Steps)-1]
	r.Log = path.Join(logDir, "00-"+applyStep+logExt)
	log, err := newStepLog(filepath.Join(j.dir, r.Log), j.live(applyStep))
	if err != nil {
		return "", err
	}
	started := time.Now()
	for i := range j.r.opt.Diffs {
		if err = j.applyDiff(ctx, i, r, log); err != nil || r.Status == record.BuildFailed {
			break
		}
	}
	r.DurationSeconds = seconds(time.Since(started))
	switch {
	case err != nil:
		r.Status = record.BuildInterrupted
	case r.Status == record.BuildFailed:
		failed = fmt.Sprintf("the diff %s", r.Error)
		j.r.show(j.label()+" "+applyStep, log.Tail())
	}
	if cerr := log.Close(); err == nil {
		err = cerr
	}
	return failed, err
}

// applyDiff applies one diff and fills in the step's record.
func (j *job) applyDiff(ctx context.Context, i int, r *record.BuildStep, log *stepLog) error {
	d := &j.r.opt.Diffs[i]
	t := j.trees[slices.IndexFunc(j.trees, func(t *tree) bool { return t.record.Name == d.Source })]
	dir := path.Join(j.work, ".diffs")
	if err := j.on.Mkdir(ctx, dir); err != nil {
		return err
	}
	file := path.Join(dir, path.Base(j.build.Try[i].Path))
	if err := j.on.Put(ctx, file, 0o600, bytes.NewReader(d.Data)); err != nil {
		return err
	}
	j.r.opt.Log.Info(fmt.Sprintf("%s applying %s to %s", j.label(), d.Name, d.Source))
	r.Argv = source.ApplyArgv(t.record.VCS, d.strip, file)
	log.Note(0, "$ %s", commandLine(r.Argv))
	var said bytes.Buffer
	res, err := j.on.Run(ctx, process.Job{Argv: r.Argv, Dir: t.dir, Env: append(j.r.toolEnv(j.on), source.ApplyEnv(t.dir)...), Idle: applyIdle,
		Output: func(o process.Output) error {
			if said.Len() < maxSaid {
				said.Write(o.Data)
			}
			return log.Output(o)
		}})
	if err != nil {
		return fmt.Errorf("applying the diff %q: %w", d.Name, err)
	}
	r.Reason, r.Exit = string(res.Reason), &res.Exit
	log.Note(res.Duration, "%s", res)
	switch {
	case res.OK():
		r.Status, r.Error = record.BuildSuccess, ""
	case res.Reason != process.Exited:
		program := source.ApplyProgram(t.record.VCS)
		return failure.WithHint(fmt.Errorf("applying the diff %q: worker %q: %s: %s", d.Name, j.cell.Worker.Name, program, res), "apt-get install %s  # or its like, on the worker", program)
	default:
		r.Status = record.BuildFailed
		r.Error = fmt.Sprintf("%q does not apply to source %q at %s: %s", d.Name, d.Source, short(t.record.Revision), source.WhyNotApplied(t.record.VCS, said.String()))
	}
	return nil
}

// maxSaid bounds what is looked at of what a program says, in bytes.
const maxSaid = 1 << 20
