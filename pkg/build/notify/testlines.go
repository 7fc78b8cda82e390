package notify

import (
	"bytes"
	"fmt"

	"github.com/relkit/relkit/pkg/format/record"
)

// heldAgainst counts the tests that failed, without those that are known to be
// flaky and were excused.
func heldAgainst(tests *record.BuildTests) int {
	return max(0, tests.Failed+tests.Errored-tests.Excused)
}

// testLines tells of the tests, and of what became slower.
func (s *Situation) testLines(t *bytes.Buffer, f *Facts, field func(string, string, ...any)) {
	if tests := s.Build.Tests; tests != nil {
		field("Tests", "%d, of which %d failed, %d newly; %d newly fixed", tests.Total, heldAgainst(tests),
			len(tests.NewlyFailing), len(tests.NewlyFixed))
		listLines(t, f.failing(tests.NewlyFailing))
		if tests.Flaky > 0 {
			field("Flaky", "%s", count(tests.Flaky, "test"))
			listLines(t, tests.FlakyTests)
		}
	}
	var lines []string
	for _, x := range s.Build.Slower {
		lines = append(lines, fmt.Sprintf("%s, %.1f s, after a median of %.1f s", either(x.Test, "step "+x.Step), x.DurationSeconds, x.MedianSeconds))
	}
	if len(lines) > 0 {
		field("Slower", "than in the last builds:")
		listLines(t, lines)
	}
}

// failing are the lines of tests that newly fail; where none does, of all that do.
func (f *Facts) failing(newly []string) (lines []string) {
	why := map[string]string{}
	for _, x := range f.Failing {
		why[x.ID] = x.Why
	}
	if len(newly) == 0 {
		for _, x := range f.Failing {
			newly = append(newly, x.ID)
		}
	}
	for _, id := range newly {
		if why[id] != "" {
			id += ": " + why[id]
		}
		lines = append(lines, id)
	}
	return lines
}

// listLines lists names below a field, and not too many.
func listLines(t *bytes.Buffer, names []string) {
	for i, name := range names {
		if i == maxTests {
			fmt.Fprintf(t, "%12s… and %d more\n", "", len(names)-i)
			break
		}
		fmt.Fprintf(t, "%12s%s\n", "", clean(name, maxLine))
	}
}
