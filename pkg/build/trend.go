package build

import (
	"fmt"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/format/testresult"
)

// A step or test is slower when it takes slowFactor times the median of its last
// builds and slowSeconds more than it. Below slowSamples builds nothing is said.
const (
	slowFactor  = 2
	slowSeconds = 1
	slowSamples = 3
)

// brokenAfter is how many builds in a row a flaky test may fail before it counts
// as broken: it would hide a regression as long as its history is kept.
const brokenAfter = 5

// compareTests fills in which tests newly fail and are newly fixed: against the
// newest of the last builds in which each has run. A flaky test that the build
// is not held to account for is neither.
func compareTests(n *record.BuildTests, tests []record.BuildTest, recent []*pastBuild) {
	now := byKey(tests)
	seen := map[testKey]bool{}
	for i := range tests {
		k := keyOf(&tests[i])
		is := now[k]
		if is.flaky {
			n.FlakyTests = addName(n.FlakyTests, k.id)
		}
		if seen[k] || is.status == testresult.Skipped || is.status.Bad() && is.flaky {
			continue
		}
		seen[k] = true
		was, known := lastOf(recent, k)
		switch {
		case is.status.Bad() && !was.status.Bad():
			n.NewlyFailing = addName(n.NewlyFailing, k.id)
		case known && !is.status.Bad() && was.status.Bad() && !was.flaky:
			n.NewlyFixed = addName(n.NewlyFixed, k.id)
		}
	}
}

// lastOf is how a test went when it last ran.
func lastOf(recent []*pastBuild, k testKey) (pastTest, bool) {
	for _, b := range recent {
		if t, ran := b.tests[k]; ran && t.status != testresult.Skipped {
			return t, true
		}
	}
	return pastTest{}, false
}

func addName(list []string, name string) []string {
	if len(list) == record.MaxBuildTestNames || slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}

// slower tells whether something takes much longer than it did; median is of
// the samples.
func slower(seconds float64, samples []float64) (median float64, is bool) {
	if len(samples) < slowSamples {
		return 0, false
	}
	slices.Sort(samples)
	median = samples[len(samples)/2]
	if len(samples)%2 == 0 {
		median = (median + samples[len(samples)/2-1]) / 2
	}
	return median, seconds >= slowFactor*median && seconds-median >= slowSeconds
}

// mayBeSlower tells whether a step is one that earlier ones are compared with.
func mayBeSlower(s record.BuildStep) bool {
	return s.Status == record.BuildSuccess && s.Attempts == 1 && s.DurationSeconds >= slowSeconds
}

// findSlower lists the steps and tests that succeeded and took much longer than
// in the last builds in which they did, and notes the median in the latter.
func findSlower(b *record.Build, tests []record.BuildTest, recent []*pastBuild) {
	for _, s := range b.Steps {
		if !mayBeSlower(s) {
			continue
		}
		var samples []float64
		for _, p := range recent {
			if d, ok := p.steps[s.Name]; ok {
				samples = append(samples, d)
			}
		}
		if median, is := slower(s.DurationSeconds, samples); is {
			b.Slower = append(b.Slower, record.BuildSlower{Step: s.Name, DurationSeconds: s.DurationSeconds, MedianSeconds: median, Builds: len(samples)})
		}
	}
	for i := range tests {
		t := &tests[i]
		if t.Status != string(testresult.Passed) || t.DurationSeconds < slowSeconds {
			continue
		}
		var samples []float64
		for _, p := range recent {
			if was := p.tests[keyOf(t)]; was.status == testresult.Passed {
				samples = append(samples, was.seconds)
			}
		}
		if median, is := slower(t.DurationSeconds, samples); is {
			t.MedianSeconds = median
			if len(b.Slower) < record.MaxBuildTestNames {
				b.Slower = append(b.Slower, record.BuildSlower{Step: t.Step, Test: t.ID, DurationSeconds: t.DurationSeconds, MedianSeconds: median, Builds: len(samples)})
			}
		}
	}
}

// unsteady are those of the tests that fail now which are known to be flaky:
// in the history that is kept, this build included, each has both passed and
// failed on the same revisions, or passed when it was run again. Those that have
// failed in brokenAfter builds in a row are not among them.
func (j *job) unsteady(failing map[testKey]bool) map[testKey]bool {
	type ends struct{ passed, failed bool }
	of := builtOf(j.build)
	if of == "" {
		return nil
	}
	known, seen := map[testKey]bool{}, map[testKey]map[string]ends{}
	row, passed := map[testKey]int{}, map[testKey]bool{}
	for k := range failing {
		seen[k] = map[string]ends{of: {failed: true}}
		row[k] = 1
	}
	for b := range j.earlier {
		open := false // whether more history may change anything
		for k := range failing {
			t, ran := b.tests[k]
			if ran && t.status != testresult.Skipped {
				e := seen[k][b.of]
				e.passed, e.failed = e.passed || !t.status.Bad(), e.failed || t.status.Bad()
				seen[k][b.of] = e
				known[k] = known[k] || t.flaky || b.of != "" && e.passed && e.failed
				if passed[k] = passed[k] || !t.status.Bad(); !passed[k] {
					row[k]++
				}
			}
			open = open || !known[k] || !passed[k] && row[k] < brokenAfter
		}
		if !open {
			break
		}
	}
	for k := range failing {
		if !known[k] || row[k] >= brokenAfter {
			delete(known, k)
		}
	}
	return known
}

// lost counts the tests of a step that have run in the newest of the last builds
// which ran any of it, and not now: a program that fails may have died before.
func lost(step string, now map[testKey]bool, recent []*pastBuild) (n, build int) {
	for _, b := range recent {
		ran := false
		for k := range b.tests {
			if k.step == step {
				ran = true
				if !now[k] {
					n++
				}
			}
		}
		if ran {
			return n, b.number
		}
	}
	return 0, 0
}

// maxTold is how many names a message holds.
const maxTold = 5

// testSummary is what a build's last message says of its tests and times.
func (j *job) testSummary() string {
	var text strings.Builder
	if t := j.build.Tests; t != nil {
		fmt.Fprintf(&text, ", %d tests, %d failed, %d skipped", t.Total, t.Failed+t.Errored, t.Skipped)
		for _, l := range []struct {
			what  string
			names []string
		}{{"newly failing", t.NewlyFailing}, {"newly fixed", t.NewlyFixed}, {"flaky", t.FlakyTests}} {
			if len(l.names) > 0 {
				text.WriteString(", " + l.what + ": " + told(l.names))
			}
		}
	}
	var names []string
	for _, s := range j.build.Slower {
		name := "step " + s.Step
		if s.Test != "" {
			name = s.Test
		}
		names = append(names, fmt.Sprintf("%s %.1f s after %.1f s", name, s.DurationSeconds, s.MedianSeconds))
	}
	if len(names) > 0 {
		text.WriteString(", slower: " + told(names))
	}
	return text.String()
}

func told(names []string) string {
	text := strings.Join(names[:min(len(names), maxTold)], ", ")
	if n := len(names) - maxTold; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}
