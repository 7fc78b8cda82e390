package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/format/testresult"
)

// stamp tells a file from what it was before a step ran.
type stamp struct {
	size  int64
	mtime time.Time
}

// stamps notes the result files that are there before a step, by path.
func (j *job) stamps(ctx context.Context, step *config.Step) (map[string]stamp, error) {
	files, err := j.resultFiles(ctx, step)
	before := map[string]stamp{}
	for _, f := range files {
		before[f.Path] = stamp{f.Size, f.ModTime}
	}
	return before, err
}

// resultFiles lists the files that a step's tests name.
func (j *job) resultFiles(ctx context.Context, step *config.Step) ([]worker.Info, error) {
	var files []worker.Info
	for _, t := range step.Tests {
		_, glob, _ := strings.Cut(t, ":")
		glob, err := substitute(glob, j.vars)
		if err != nil {
			return nil, err
		}
		found, err := j.on.Find(ctx, j.cwd, glob)
		if err != nil {
			return nil, fmt.Errorf("looking for test results: %w", err)
		}
		files = append(files, found.Files...)
	}
	return uniqueByPath(files), nil
}

// collectTests reads what a step's tests have written. A step that says it has
// tests and shows none has failed, and so has one whose results cannot be read.
func (j *job) collectTests(ctx context.Context, step *config.Step, r *record.BuildStep, log *stepLog, before map[string]stamp) error {
	if len(step.Tests) == 0 {
		return nil
	}
	at := time.Duration(r.DurationSeconds * float64(time.Second))
	files, err := j.resultFiles(ctx, step)
	if err != nil {
		return err
	}
	var n testresult.Counts
	var problem string
	old := 0
	for _, file := range files {
		if was, there := before[file.Path]; there && was.size == file.Size && was.mtime.Equal(file.ModTime) {
			old++
		}
		cases, err := j.readResults(ctx, file)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			problem = fmt.Sprintf("test results %q: %v", file.Path, err)
			log.Note(at, "%s", problem)
			continue
		}
		for i := range cases {
			n.Add(&cases[i])
			j.addTest(step.Name, file.Path, &cases[i])
		}
	}
	if len(files) == 0 {
		problem = fmt.Sprintf("no test results match %q", strings.Join(step.Tests, " "))
	}
	j.nameFailing(step.Name, log, at)
	log.Note(at, "tests: %d passed, %d failed, %d skipped", n.Passed, n.Failed+n.Errored, n.Skipped)
	if old > 0 {
		log.Note(at, "%d of %d result files are of an earlier build", old, len(files))
	}
	bad := n.Failed + n.Errored
	switch {
	case r.Status == record.BuildFailed && bad > 0:
		r.Error += fmt.Sprintf("; %d of %d tests failed", bad, n.Total)
	case r.Status == record.BuildFailed:
	case bad > 0:
		r.Status, r.Reason, r.Error = record.BuildFailed, "tests", fmt.Sprintf("%d of %d tests failed", bad, n.Total)
	case problem != "":
		r.Status, r.Reason, r.Error = record.BuildFailed, "tests", problem
	}
	return nil
}

// maxNamed is how many failing tests are named.
const maxNamed = 20

// nameFailing names the tests of a step that failed, in its log and to whoever
// looks on.
func (j *job) nameFailing(step string, log *stepLog, at time.Duration) {
	var lines [][]byte
	left := 0
	for i := range j.tests {
		t := &j.tests[i]
		if t.Step != step || !testresult.Status(t.Status).Bad() {
			continue
		}
		if len(lines) == maxNamed {
			left++
			continue
		}
		line := t.Status + ": " + t.ID
		if first, _, _ := strings.Cut(strings.TrimSpace(t.Message), "\n"); first != "" {
			line += ": " + strings.TrimSpace(first)
		}
		lines = append(lines, []byte(line))
	}
	if left > 0 {
		lines = append(lines, fmt.Appendf(nil, "and %d more", left))
	}
	for _, l := range lines {
		log.Note(at, "%s", l)
	}
	log.named = lines
}

func (j *job) readResults(ctx context.Context, file worker.Info) (cases []testresult.Case, err error) {
	if !file.Mode.IsRegular() {
		return nil, errors.New("not a regular file")
	}
	err = j.on.Get(ctx, j.cwd, []string{file.Path}, func(_ worker.Info, r io.Reader) (err error) {
		cases, err = testresult.ReadJUnit(r)
		return err
	})
	return cases, err
}

func (j *job) addTest(step, file string, c *testresult.Case) {
	j.tests = append(j.tests, record.BuildTest{ID: c.ID(), Step: step, Suite: c.Suite, Class: c.Class, Name: c.Name, Status: string(c.Status),
		Flaky: c.Flaky, DurationSeconds: seconds(c.Duration), Message: c.Message, Detail: c.Detail, File: manifest.Escape(file)})
	if j.build.Tests == nil {
		j.build.Tests = &record.BuildTests{NewlyFailing: []string{}, NewlyFixed: []string{}}
	}
	n := j.build.Tests
	n.Total++
	switch c.Status {
	case testresult.Passed:
		n.Passed++
	case testresult.Failed:
		n.Failed++
	case testresult.Errored:
		n.Errored++
	case testresult.Skipped:
		n.Skipped++
	}
	if c.Flaky {
		n.Flaky++
	}
}

// saveTests writes tests.json and compares with the build before.
func (j *job) saveTests() error {
	if j.build.Tests == nil {
		return nil
	}
	was, err := j.previousTests()
	if err != nil {
		// Old results that cannot be read spoil no new build.
		j.r.opt.Log.Warn(j.label()+" comparing tests with the build before", "error", err)
	}
	for _, t := range j.tests {
		bad := testresult.Status(t.Status).Bad()
		before, known := was[t.ID]
		switch {
		case bad && !(known && before.Bad()):
			j.build.Tests.NewlyFailing = addName(j.build.Tests.NewlyFailing, t.ID)
		case t.Status == string(testresult.Passed) && known && before.Bad():
			j.build.Tests.NewlyFixed = addName(j.build.Tests.NewlyFixed, t.ID)
		}
	}
	r := record.BuildTestResults{Schema: record.BuildTestsSchema, Builder: j.build.Builder, Number: j.build.Number, Tests: j.tests}
	data, err := r.Encode()
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(j.dir, testsFile), data)
}

func addName(list []string, name string) []string {
	if len(list) == record.MaxBuildTestNames || slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}

// previousTests maps the tests of the newest earlier build that ran any to how they ended.
func (j *job) previousTests() (map[string]testresult.Status, error) {
	numbers, err := j.r.p.state.numbers(j.build.Builder)
	if err != nil {
		return nil, err
	}
	for i := len(numbers) - 1; i >= 0; i-- {
		if numbers[i] >= j.build.Number {
			continue
		}
		data, err := os.ReadFile(filepath.Join(j.r.p.state.build(j.build.Builder, numbers[i]), testsFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		t, err := record.DecodeBuildTests(data)
		if err != nil {
			return nil, err
		}
		was := map[string]testresult.Status{}
		for _, x := range t.Tests {
			was[x.ID] = testresult.Status(x.Status)
		}
		return was, nil
	}
	return nil, nil
}
