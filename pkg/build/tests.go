package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/format/testresult"
	"github.com/relkit/relkit/pkg/sys/process"
)

// stdoutFile is what a step's tests name its standard output.
const stdoutFile = "-"

// stepTests is what the tests of one step say.
type stepTests struct {
	j    *job
	step *config.Step
	// before are the result files that were there before the step, by path.
	before map[string]worker.Info
	// streams read the output of the attempt that runs, or has run last.
	streams []*testStream
	// failed are the tests that failed in an attempt before the last.
	failed map[string]testresult.Case

	cases []foundCase
	old   int // result files that the step did not touch
	files int
	// problem is a result that cannot be read.
	problem string
}

// foundCase is a test and where it was found.
type foundCase struct {
	testresult.Case
	file string
}

// resultFile is a file of results.
type resultFile struct {
	worker.Info
	format testresult.Format
}

func (j *job) newStepTests(ctx context.Context, step *config.Step) (*stepTests, error) {
	t := &stepTests{j: j, step: step, before: map[string]worker.Info{}, failed: map[string]testresult.Case{}}
	files, err := t.find(ctx)
	for _, f := range files {
		t.before[f.Path] = f.Info
	}
	return t, err
}

// begin is the beginning of an attempt, whose output goes to next.
func (t *stepTests) begin(next func(process.Output) error) func(process.Output) error {
	t.streams = nil
	for _, text := range t.step.Tests {
		if format, file, _ := strings.Cut(text, ":"); file == stdoutFile {
			t.streams = append(t.streams, newTestStream(testresult.Format(format)))
		}
	}
	return tee(next, t.streams)
}

// end is the end of an attempt.
func (t *stepTests) end() {
	for _, s := range t.streams {
		s.end()
	}
}

// again notes which tests have failed in an attempt that is followed by another.
func (t *stepTests) again(ctx context.Context) error {
	if len(t.step.Tests) == 0 {
		return nil
	}
	if err := t.read(ctx); err != nil {
		return err
	}
	for _, c := range t.cases {
		if c.Status.Bad() {
			t.failed[c.ID()] = c.Case
		}
	}
	return nil
}

// find lists the files that the step's tests name. ctest -T Test begins a new
// folder each time and leaves the old ones in the tree: of those below one
// Testing folder the newest counts.
func (t *stepTests) find(ctx context.Context) ([]resultFile, error) {
	var files []resultFile
	at := map[string]int{}
	for _, text := range t.step.Tests {
		format, glob, _ := strings.Cut(text, ":")
		if glob == stdoutFile {
			continue
		}
		glob, err := substitute(glob, t.j.vars)
		if err != nil {
			return nil, err
		}
		found, err := t.j.on.Find(ctx, t.j.cwd, glob)
		if err != nil {
			return nil, fmt.Errorf("looking for test results: %w", err)
		}
		for _, f := range uniqueByPath(found.Files) {
			key := f.Path
			if above := path.Dir(path.Dir(f.Path)); path.Base(f.Path) == "Test.xml" && path.Base(above) == "Testing" {
				key = above
			}
			i, there := at[key]
			switch {
			case !there:
				at[key] = len(files)
				files = append(files, resultFile{f, testresult.Format(format)})
			case f.ModTime.After(files[i].ModTime):
				files[i] = resultFile{f, testresult.Format(format)}
			}
		}
	}
	return files, nil
}

// read reads what the last attempt has left.
func (t *stepTests) read(ctx context.Context) error {
	t.cases, t.old, t.files, t.problem = nil, 0, 0, ""
	for _, s := range t.streams {
		if errors.Is(s.err, testresult.ErrNone) {
			continue
		}
		t.files++
		t.take(stdoutFile, "on standard output", s.cases, s.err)
	}
	files, err := t.find(ctx)
	if err != nil {
		return err
	}
	for _, f := range files {
		t.files++
		if was, there := t.before[f.Path]; there && was.Size == f.Size && was.ModTime.Equal(f.ModTime) {
			t.old++
		}
		cases, err := t.j.readResults(ctx, f)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t.take(f.Path, fmt.Sprintf("%q", f.Path), cases, err)
	}
	return nil
}

func (t *stepTests) take(file, what string, cases []testresult.Case, err error) {
	if err != nil {
		t.problem = fmt.Sprintf("test results %s: %v", what, err)
		return
	}
	for i := range cases {
		c := &cases[i]
		if was, failed := t.failed[c.ID()]; failed && c.Status == testresult.Passed {
			c.Flaky, c.Message, c.Detail = true, was.Message, was.Detail
		}
		t.cases = append(t.cases, foundCase{*c, file})
	}
}

func (j *job) readResults(ctx context.Context, file resultFile) (cases []testresult.Case, err error) {
	if !file.Mode.IsRegular() {
		return nil, errors.New("not a regular file")
	}
	var bad error
	err = j.on.Get(ctx, j.cwd, []string{file.Path}, func(_ worker.Info, r io.Reader) error {
		cases, bad = testresult.Read(file.format, file.Path, r)
		_, err := io.Copy(io.Discard, r) // what a reader that gave up has left
		return err
	})
	return cases, errors.Join(bad, err)
}

// collectTests reads what a step's tests have written and judges the step by
// it. A step that says it has tests and shows none has failed, and so has one
// whose results cannot be read.
func (j *job) collectTests(ctx context.Context, t *stepTests, r *record.BuildStep, log *stepLog) error {
	if len(t.step.Tests) == 0 {
		return nil
	}
	if err := t.read(ctx); err != nil {
		return err
	}
	at := time.Duration(r.DurationSeconds * float64(time.Second))
	if t.problem != "" {
		log.Note(at, "%s", t.problem)
	}
	if t.files == 0 {
		t.problem = fmt.Sprintf("no test results match %q", strings.Join(t.step.Tests, " "))
	}
	j.judge(t, r, log, at)
	for i := range t.cases {
		if err := j.addTest(t.step.Name, &t.cases[i]); err != nil {
			return err
		}
	}
	return nil
}

// judge decides how the step ended, and tells.
func (j *job) judge(t *stepTests, r *record.BuildStep, log *stepLog, at time.Duration) {
	if t.step.Flaky == "warn" {
		j.excuse(t)
	}
	var n testresult.Counts
	bad, excused, named := 0, 0, []string{}
	for i := range t.cases {
		c := &t.cases[i]
		n.Add(&c.Case)
		switch {
		case c.Flaky && t.step.Flaky != "fail":
			if c.Status.Bad() {
				excused++
			}
			named = append(named, "flaky: "+nameOf(&c.Case))
		case c.Flaky:
			bad++
			named = append(named, "flaky: "+nameOf(&c.Case))
		case c.Status.Bad():
			bad++
			named = append(named, string(c.Status)+": "+nameOf(&c.Case))
		}
	}
	j.nameTests(named, log, at)
	log.Note(at, "tests: %d passed, %d failed, %d skipped", n.Passed, n.Failed+n.Errored, n.Skipped)
	if t.old > 0 {
		log.Note(at, "%d of %d result files are of an earlier build", t.old, t.files)
	}
	switch failed := r.Status == record.BuildFailed; {
	case failed && bad > 0:
		r.Error += fmt.Sprintf("; %d of %d tests failed", bad, n.Total)
	case failed && excused > 0 && r.Reason == string(process.Exited) && t.problem == "":
		why := j.inexcusable(t)
		if why != "" {
			r.Error += "; flaky tests failed, and " + why
			break
		}
		r.Status, r.Reason, r.Error = record.BuildSuccess, "flaky", ""
		log.Note(at, "none but flaky tests failed: the step counts as successful")
	case failed:
	case bad > 0:
		r.Status, r.Reason, r.Error = record.BuildFailed, "tests", fmt.Sprintf("%d of %d tests failed", bad, n.Total)
	case t.problem != "":
		r.Status, r.Reason, r.Error = record.BuildFailed, "tests", t.problem
	}
}

// excuse marks the failing tests that are known to be flaky.
func (j *job) excuse(t *stepTests) {
	failing := map[testKey]bool{}
	for _, c := range t.cases {
		if c.Status.Bad() {
			failing[testKey{t.step.Name, c.ID()}] = true
		}
	}
	if len(failing) == 0 {
		return
	}
	known := j.unsteady(failing)
	for i := range t.cases {
		c := &t.cases[i]
		c.Flaky = c.Flaky || c.Status.Bad() && known[testKey{t.step.Name, c.ID()}]
	}
}

// inexcusable is what else than flaky tests may be behind a program's failure,
// "" for nothing.
func (j *job) inexcusable(t *stepTests) string {
	now := map[testKey]bool{}
	for _, c := range t.cases {
		now[testKey{t.step.Name, c.ID()}] = true
	}
	n, build := lost(t.step.Name, now, j.pastBuilds().recent)
	switch {
	case t.old > 0:
		return fmt.Sprintf("%d of %d result files are of an earlier build", t.old, t.files)
	case n > 0:
		return fmt.Sprintf("%d tests of build %d have not run", n, build)
	}
	return ""
}

// nameOf is a test with the first words of why it failed.
func nameOf(c *testresult.Case) string {
	line := c.ID()
	first, rest, _ := strings.Cut(strings.TrimSpace(c.Message), "\n")
	if first = strings.TrimSpace(first); first != "" {
		line += ": " + first
		if !strings.Contains(first, " ") && rest != "" { // a place, as gtest has it
			second, _, _ := strings.Cut(rest, "\n")
			line += " " + strings.TrimSpace(second)
		}
	}
	return line
}

// maxNamed is how many failing tests are named.
const maxNamed = 20

// nameTests names the tests that failed, in the step's log and to whoever looks on.
func (j *job) nameTests(named []string, log *stepLog, at time.Duration) {
	if left := len(named) - maxNamed; left > 0 {
		named = append(named[:maxNamed], fmt.Sprintf("and %d more", left))
	}
	for _, l := range named {
		log.Note(at, "%s", l)
		log.named = append(log.named, []byte(l))
	}
}

// maxTestText bounds what a build keeps of why its tests failed, in bytes.
const maxTestText = 64 << 20

func (j *job) addTest(step string, c *foundCase) error {
	if len(j.tests) == testresult.MaxCases {
		return fmt.Errorf("more than %d tests", testresult.MaxCases)
	}
	t := record.BuildTest{ID: c.ID(), Step: step, Suite: c.Suite, Class: c.Class, Name: c.Name, Status: string(c.Status),
		Flaky: c.Flaky, DurationSeconds: seconds(c.Duration), Message: c.Message, Detail: c.Detail, File: manifest.Escape(c.file)}
	if j.testText += len(t.Message) + len(t.Detail); j.testText > maxTestText {
		t.Message, t.Detail = "", ""
	}
	j.tests = append(j.tests, t)
	if j.build.Tests == nil {
		j.build.Tests = &record.BuildTests{NewlyFailing: []string{}, NewlyFixed: []string{}, FlakyTests: []string{}}
	}
	n := j.build.Tests
	var one testresult.Counts
	one.Add(&c.Case)
	n.Total, n.Flaky = n.Total+1, n.Flaky+one.Flaky
	if c.Flaky && c.Status.Bad() {
		n.Excused++
	}
	n.Passed, n.Failed, n.Errored, n.Skipped = n.Passed+one.Passed, n.Failed+one.Failed, n.Errored+one.Errored, n.Skipped+one.Skipped
	return nil
}

// saveTests compares the build with those before it and writes tests.json. They are
// read only where there is something to compare.
func (j *job) saveTests() error {
	if j.build.Tests == nil && !slices.ContainsFunc(j.build.Steps, mayBeSlower) {
		return nil
	}
	recent := j.pastBuilds().recent
	findSlower(j.build, j.tests, recent)
	if j.build.Tests == nil {
		return nil
	}
	compareTests(j.build.Tests, j.tests, recent)
	r := record.BuildTestResults{Schema: record.BuildTestsSchema, Builder: j.build.Builder, Number: j.build.Number, Tests: j.tests}
	data, err := r.Encode()
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(j.dir, testsFile), data)
}
