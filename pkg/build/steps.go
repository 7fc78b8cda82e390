package build

import (
	"context"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/process"
)

// steps runs the steps of a build in order. It answers why the build failed, ""
// where it did not; an error is the infrastructure's, or the end of ctx.
func (j *job) steps(ctx context.Context) (failed string, err error) {
	deadline := time.Now().Add(j.cell.builder.Limits.Bounded().Time)
	for i := range j.cell.builder.Steps {
		step := &j.cell.builder.Steps[i]
		rec, err := j.newStep(i, step)
		if err != nil {
			return failed, err
		}
		j.build.Steps = append(j.build.Steps, rec)
		r := &j.build.Steps[len(j.build.Steps)-1]
		if failed != "" && !j.goOn {
			r.Status = record.BuildSkipped
			j.r.opt.Progress.Add(1)
			continue
		}
		if err := j.step(ctx, step, r, deadline); err != nil {
			return failed, err
		}
		j.r.opt.Progress.Add(1)
		if r.Status == record.BuildSuccess {
			continue
		}
		if failed == "" {
			failed = fmt.Sprintf("step %q: %s", r.Name, r.Error)
		}
		j.goOn = step.OnFail == "continue"
	}
	return failed, nil
}

// newStep is a step's record before it runs.
func (j *job) newStep(i int, step *config.Step) (record.BuildStep, error) {
	r := record.BuildStep{Number: i + 1, Name: step.Name}
	for _, arg := range step.Run {
		s, err := substitute(arg, j.vars)
		if err != nil {
			return r, err
		}
		r.Argv = append(r.Argv, s)
	}
	if step.Sh != "" {
		script, err := substituteShell(step.Sh, j.vars)
		if err != nil {
			return r, err
		}
		r.Argv = []string{"/bin/sh", "-ec", script}
	}
	return r, nil
}

// step runs one step and fills in its record.
func (j *job) step(ctx context.Context, step *config.Step, r *record.BuildStep, deadline time.Time) error {
	env := maps.Clone(j.env)
	for k, v := range step.Env {
		s, err := substitute(v, j.vars)
		if err != nil {
			return err
		}
		env[k] = s
	}
	r.Log = path.Join(logDir, fmt.Sprintf("%02d-%s%s", r.Number, r.Name, logExt))
	log, err := newStepLog(filepath.Join(j.dir, r.Log), j.live(r.Name))
	if err != nil {
		return fmt.Errorf("step %q: %w", r.Name, err)
	}
	tests, err := j.newStepTests(ctx, step)
	if err == nil {
		log.Note(0, "$ %s", commandLine(r.Argv))
		j.doing("%d/%d %s", r.Number, len(j.cell.builder.Steps), r.Name)
		j.r.opt.Log.Info(j.label() + " " + r.Name)
		err = j.attempts(ctx, tests, r, log, env, deadline)
	}
	if err == nil {
		err = j.collectTests(ctx, tests, r, log)
	}
	if r.Status == "" {
		r.Status = record.BuildInterrupted
	}
	switch {
	case r.Status == record.BuildFailed:
		j.r.show(j.label()+" "+r.Name, append(log.Tail(), log.named...))
		j.r.opt.Log.Info(fmt.Sprintf("%s %s: failed: %s", j.label(), r.Name, r.Error))
	case len(log.named) > 0: // flaky
		j.r.show(j.label()+" "+r.Name, log.named)
	}
	if cerr := log.Close(); err == nil && cerr != nil {
		err = cerr
	}
	if err == nil && r.Status == record.BuildFailed {
		err = j.outOfRoom(ctx, slices.ContainsFunc(log.Tail(), saysNoRoom))
	}
	if err != nil {
		return fmt.Errorf("step %q: %w", r.Name, err)
	}
	return nil
}

// attempts runs a step until it succeeds or its retries are used up.
func (j *job) attempts(ctx context.Context, tests *stepTests, r *record.BuildStep, log *stepLog, env map[string]string, deadline time.Time) error {
	retry := tests.step.Retry
	if retry == nil {
		retry = &config.Retry{}
	}
	if retry.Match != "" {
		log.watch = regexp.MustCompile(retry.Match) // config has compiled it before
	}
	for left := retry.Times; ; left-- {
		r.Attempts++
		log.matched = false
		err := j.runStep(ctx, r, log, tests.begin(log.Output), env, deadline)
		tests.end()
		if err != nil || r.Status == record.BuildSuccess || left == 0 {
			return err
		}
		again := r.Reason == string(process.Exited) && (len(retry.Exit) == 0 || slices.Contains(retry.Exit, *r.Exit)) && (retry.Match == "" || log.matched)
		if !again {
			return nil
		}
		if err := tests.again(ctx); err != nil {
			return err
		}
		log.Note(time.Duration(r.DurationSeconds*float64(time.Second)), "trying again")
		j.r.opt.Log.Info(fmt.Sprintf("%s %s: %s, trying again", j.label(), r.Name, r.Error))
	}
}

func (j *job) runStep(ctx context.Context, r *record.BuildStep, log *stepLog, output func(process.Output) error, env map[string]string, deadline time.Time) error {
	limits := j.cell.builder.Limits.Bounded()
	argv := r.Argv
	if j.differs != nil {
		argv = j.differs.wrap(argv)
	}
	job := process.Job{Argv: argv, Dir: j.cwd, Env: environ(env), Idle: limits.Idle, MaxOutput: int64(limits.Log),
		Grace: j.r.opt.grace, MaxMemory: int64(limits.Mem), NoNetwork: noNetwork(j.cell.builder), Output: output}
	if !deadline.IsZero() {
		// All steps share the time; the last moments of a build still start a
		// step, which then times out and says so.
		job.Timeout = max(time.Until(deadline), time.Millisecond)
	}
	res, err := j.on.Run(ctx, job)
	r.Reason, r.Swept = string(res.Reason), res.Swept
	if res.MemoryBound != "" {
		j.build.Worker.MemoryBound = string(res.MemoryBound)
	}
	r.DurationSeconds = seconds(res.Duration)
	r.UserSeconds, r.SystemSeconds, r.MaxRSSBytes = seconds(res.UserTime), seconds(res.SystemTime), res.MaxRSSBytes
	if res.Reason != "" && res.Reason != process.Canceled {
		r.Exit = &res.Exit
	}
	if res.Swept > 0 {
		log.Note(res.Duration, "%d processes that the step left behind were killed", res.Swept)
	}
	if err != nil {
		log.Note(res.Duration, "stopped: %v", err)
		return err
	}
	log.Note(res.Duration, "%s", res)
	if res.Left > 0 {
		return fmt.Errorf("%d processes cannot be killed", res.Left)
	}
	r.Status, r.Error = record.BuildSuccess, ""
	if !res.OK() {
		r.Status, r.Error = record.BuildFailed, res.String()
	}
	return nil
}

// seconds rounds to microseconds, which is what a record shows.
func seconds(d time.Duration) float64 { return d.Round(time.Microsecond).Seconds() }

// commandLine is an argv as a person would type it.
func commandLine(argv []string) string {
	var words []string
	for _, a := range argv {
		if a == "" || !shellSafe.MatchString(a) {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}
