package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/format/record"
)

// Text is a report for people: a line that says it all, then a line a check,
// the worst first, then what could not be looked at.
func Text(h *record.Health) []string {
	lines := []string{fmt.Sprintf("%s  %s  %s  %s", strings.ToUpper(string(h.Status)),
		orElse(h.Machine.Hostname, orElse(h.Machine.ID, "this machine")), releaseText(&h.Release), h.Time.Format(time.RFC3339))}
	checks := worstFirst(h.Checks)
	rows := make([][3]string, len(checks))
	var width [2]int
	for i, c := range checks {
		rows[i] = [3]string{string(c.Status), strings.TrimSpace(c.Name + " " + c.Object), c.Summary}
		for k := range width {
			width[k] = max(width[k], len(rows[i][k]))
		}
	}
	for _, r := range rows {
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%-*s  %-*s  %s", width[0], r[0], width[1], r[1], r[2]), " "))
	}
	for _, e := range h.Errors {
		what := e.Collector
		if e.Field != "" {
			what = e.Field
		}
		lines = append(lines, fmt.Sprintf("note: %s: %s", what, e.Error))
	}
	return lines
}

// worstFirst is the checks in the order that matters to a person.
func worstFirst(checks []record.HealthCheck) []record.HealthCheck {
	checks = slices.Clone(checks)
	slices.SortStableFunc(checks, func(a, b record.HealthCheck) int { return cmp.Compare(b.Status.Rank(), a.Status.Rank()) })
	return checks
}

func releaseText(r *record.HealthRelease) string {
	if r.Product == nil && r.Version == nil {
		return "release unknown"
	}
	return strings.TrimSpace(orElse(r.Product, "") + " " + orElse(r.Version, ""))
}

func orElse(s *string, other string) string {
	if s == nil {
		return other
	}
	return *s
}
