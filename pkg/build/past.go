package build

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/format/testresult"
)

// recentBuilds is with how many of the builder's last builds one is compared.
const recentBuilds = 10

// testKey tells a test from the same one of another step.
type testKey struct{ step, id string }

func keyOf(t *record.BuildTest) testKey { return testKey{t.Step, t.ID} }

// pastTest is how a test went.
type pastTest struct {
	status  testresult.Status
	flaky   bool
	seconds float64
}

// pastBuild is what an earlier build is compared by.
type pastBuild struct {
	number int
	// of tells what was built: the revisions and what --set gave; "" where
	// nothing does, as in a builder without sources.
	of    string
	steps map[string]float64 // seconds of those that succeeded at once
	tests map[testKey]pastTest
}

// builtOf is pastBuild.of.
func builtOf(b *record.Build) string {
	var parts []string
	for _, s := range b.Sources {
		parts = append(parts, s.Name+"="+s.Revision)
	}
	if len(parts) == 0 {
		return ""
	}
	for _, d := range b.Try { // or a test that the diff breaks would count as flaky
		parts = append(parts, "diff "+d.Source+"="+d.Digest.String())
	}
	for _, k := range slices.Sorted(maps.Keys(b.Set)) {
		parts = append(parts, "set "+k+"="+b.Set[k])
	}
	return strings.Join(parts, "\x00")
}

// past reads an earlier build; nil where there is nothing to compare with.
func (s state) past(name string, n int) (*pastBuild, error) {
	b, err := s.load(name, n)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) { // it was killed, or is being removed
			return nil, nil
		}
		return nil, err
	}
	if b.IsTry() { // what a diff did is nobody else's history
		return nil, nil
	}
	p := &pastBuild{number: n, of: builtOf(b), steps: map[string]float64{}}
	for _, step := range b.Steps {
		if step.Status == record.BuildSuccess && step.Attempts == 1 {
			p.steps[step.Name] = step.DurationSeconds
		}
	}
	data, err := os.ReadFile(filepath.Join(s.build(name, n), testsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	t, err := record.DecodeBuildTests(data)
	if err != nil {
		return nil, err
	}
	p.tests = byKey(t.Tests)
	return p, nil
}

// byKey is how each test went; of those that share a name, the worst.
func byKey(tests []record.BuildTest) map[testKey]pastTest {
	m := map[testKey]pastTest{}
	for i := range tests {
		t := &tests[i]
		is := pastTest{testresult.Status(t.Status), t.Flaky, t.DurationSeconds}
		if was, twice := m[keyOf(t)]; twice {
			is.flaky, is.seconds = is.flaky || was.flaky, max(is.seconds, was.seconds)
			if was.status.Bad() || is.status == testresult.Skipped {
				is.status = was.status
			}
		}
		m[keyOf(t)] = is
	}
	return m
}

// pastBuilds are the builder's earlier builds, newest first: the last ones in
// memory, for they are looked at several times, and the numbers of the others.
type pastBuilds struct {
	recent []*pastBuild
	older  []int
}

// pastBuilds reads the last builds, once.
func (j *job) pastBuilds() *pastBuilds {
	if j.past != nil {
		return j.past
	}
	j.past = &pastBuilds{}
	numbers, err := j.r.p.state.numbers(j.build.Builder)
	if err != nil {
		j.warnPast(err)
	}
	for len(numbers) > 0 && len(j.past.recent) < recentBuilds {
		n := numbers[len(numbers)-1]
		numbers = numbers[:len(numbers)-1]
		if p := j.pastBuild(n); p != nil {
			j.past.recent = append(j.past.recent, p)
		}
	}
	slices.Reverse(numbers)
	j.past.older = numbers
	return j.past
}

// pastBuild reads an earlier build; nil where that is of no use. Old results
// that cannot be read spoil no new build.
func (j *job) pastBuild(n int) *pastBuild {
	if n >= j.build.Number {
		return nil
	}
	p, err := j.r.p.state.past(j.build.Builder, n)
	if err != nil {
		j.warnPast(err)
	}
	return p
}

func (j *job) warnPast(err error) {
	j.r.opt.Log.Warn(j.label()+" comparing with earlier builds", "error", err)
}

// earlier passes on all earlier builds that are kept, newest first.
func (j *job) earlier(yield func(*pastBuild) bool) {
	past := j.pastBuilds()
	for _, p := range past.recent {
		if !yield(p) {
			return
		}
	}
	for _, n := range past.older {
		if p := j.pastBuild(n); p != nil && !yield(p) {
			return
		}
	}
}
