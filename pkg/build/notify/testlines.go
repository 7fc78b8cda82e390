package notify

import (
	"bytes"
	"fmt"
)

// testLines tells of the tests, and of what became slower.
func (s *Situation) testLines(t *bytes.Buffer, field func(string, string, ...any)) {
	if tests := s.Build.Tests; tests != nil {
		field("Tests", "%d, of which %d failed, %d newly; %d newly fixed", tests.Total, tests.Failed+tests.Errored,
			len(tests.NewlyFailing), len(tests.NewlyFixed))
		listLines(t, tests.NewlyFailing)
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
