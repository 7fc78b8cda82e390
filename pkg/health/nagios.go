package health

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/format/record"
)

// NagiosExit is the exit status a monitoring plug-in has for an answer.
func NagiosExit(s record.HealthStatus) int {
	switch s {
	case record.HealthOK:
		return 0
	case record.HealthWarn:
		return 1
	case record.HealthCrit:
		return 2
	}
	return 3
}

// Nagios writes a report as the monitoring plug-in guidelines have it: a line
// with the state, what is wrong and the performance data, and a line each for
// the checks.
func Nagios(h *record.Health) []string {
	word := map[record.HealthStatus]string{
		record.HealthOK: "OK", record.HealthWarn: "WARNING", record.HealthCrit: "CRITICAL", record.HealthUnknown: "UNKNOWN",
	}
	var wrong, data, long []string
	for _, c := range worstFirst(h.Checks) {
		what := strings.TrimSpace(c.Name+" "+c.Object) + ": " + c.Summary
		if c.Status != record.HealthOK {
			wrong = append(wrong, what)
		}
		long = append(long, plain(word[c.Status]+" "+what))
		data = append(data, perfdata(&c)...)
	}
	first := fmt.Sprintf("RELKIT %s - %d checks", word[h.Status], len(h.Checks))
	if len(wrong) > 0 {
		first = fmt.Sprintf("RELKIT %s - %s", word[h.Status], strings.Join(wrong, ", "))
	}
	first = plain(first)
	if len(data) > 0 {
		first += " | " + strings.Join(data, " ")
	}
	return append([]string{first}, long...)
}

// plain keeps the bar, which starts the performance data, out of a text.
func plain(s string) string { return strings.ReplaceAll(s, "|", "/") }

// perfdata is 'label'=value[unit];warn;crit;min;max: shares as per cent with the
// thresholds, counters with the unit c.
func perfdata(c *record.HealthCheck) []string {
	var data []string
	for _, key := range slices.Sorted(maps.Keys(c.Values)) {
		text, ok := sample(c.Values[key])
		if !ok {
			continue
		}
		if v, isFloat := c.Values[key].(float64); isFloat {
			text = strconv.FormatFloat(v, 'f', -1, 64) // the guidelines know no exponents
		}
		label := strings.Map(func(r rune) rune {
			if r == '=' || r == '\'' || r == '|' {
				return '_'
			}
			return r
		}, strings.TrimSpace(c.Object+" "+key))
		switch {
		case key == "used_ratio":
			share, _ := c.Values[key].(float64)
			text = fmt.Sprintf("%s%%;%s;%s;0;100", number(round(share*100)), percentOf(c.Warn), percentOf(c.Crit))
		case strings.HasSuffix(key, "_total"):
			text += "c"
		case strings.HasSuffix(key, "_bytes"):
			text += "B"
		case strings.HasSuffix(key, "_seconds"):
			text += "s"
		}
		data = append(data, "'"+label+"'="+text)
	}
	return data
}

// percentOf is a threshold such as ">=0.85" as "85".
func percentOf(threshold string) string {
	var v float64
	if _, err := fmt.Sscanf(threshold, ">=%g", &v); err != nil {
		return ""
	}
	return number(round(v * 100))
}
