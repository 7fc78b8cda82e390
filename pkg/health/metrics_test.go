package health

import (
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/relkit/relkit/pkg/format/record"
)

// troubledReport is the report with the most in it.
func troubledReport(t *testing.T) (h *record.Health) {
	synctest.Test(t, func(t *testing.T) { h = readFixture(t, "testdata/troubled.txtar").report(t) })
	return h
}

var (
	headLine   = regexp.MustCompile(`^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$`)
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*",?)*\})? (-?[0-9.]+(?:e[+-][0-9]+)?)$`)
)

// TestMetricsFormat holds every line to the exposition formats: HELP, TYPE, then
// the samples of that name and type, each family and each series once, no
// timestamps; and the names to what promtool's linter asks: counters end in
// _total, nothing else does, and units are base units.
func TestMetricsFormat(t *testing.T) {
	for d, suffix := range map[Dialect]string{Prometheus: "", OpenMetrics: "_total"} {
		text := strings.TrimSuffix(string(Metrics(troubledReport(t), d)), "# EOF\n")
		var name, kind string
		seen := map[string]bool{}
		once := func(what string) {
			if seen[what] {
				t.Errorf("%s stands there twice", what)
			}
			seen[what] = true
		}
		for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
			if m := headLine.FindStringSubmatch(line); m != nil {
				once(m[1] + " " + m[2])
				if m[1] == "HELP" {
					name, kind = m[2], ""
				} else if kind = m[3]; m[2] != name || kind != "gauge" && kind != "counter" {
					t.Errorf("line %d: %s", i+1, line)
				}
				continue
			}
			m := sampleLine.FindStringSubmatch(line)
			if m == nil {
				t.Errorf("line %d is no sample: %s", i+1, line)
				continue
			}
			once(m[1] + m[2])
			want := name
			if kind == "counter" {
				want += suffix
			}
			if m[1] != want || kind == "" || strings.HasSuffix(m[1], "_total") != (kind == "counter") {
				t.Errorf("line %d: sample of %s (%s): %s", i+1, name, kind, line)
			}
			if regexp.MustCompile(`_(bits|percent|milliseconds|kilobytes)(_|$)`).MatchString(m[1]) {
				t.Errorf("line %d: %s is in no base unit", i+1, m[1])
			}
		}
	}
}

// TestOpenMetrics shows where the two texts differ.
func TestOpenMetrics(t *testing.T) {
	h := troubledReport(t)
	a, b := string(Metrics(h, Prometheus)), string(Metrics(h, OpenMetrics))
	for text, want := range map[string][2]bool{
		"\n# TYPE relkit_nic_receive_errors_total counter\n":       {true, false},
		"\n# TYPE relkit_nic_receive_errors counter\n":             {false, true},
		"\nrelkit_nic_receive_errors_total{object=\"eth1\"} 500\n": {true, true},
		"\n# EOF\n": {false, true},
	} {
		if got := [2]bool{strings.Contains(a, text), strings.Contains(b, text)}; got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
	if !strings.HasSuffix(b, "# EOF\n") {
		t.Error("the end is missing")
	}
}

// TestMetricsEscapes holds label values with a backslash and a quote in them.
func TestMetricsEscapes(t *testing.T) {
	h := &record.Health{Status: "ok", Checks: []record.HealthCheck{{Name: "filesystem", Object: `/a\040"b`, Status: "ok"}}}
	want := `relkit_health_check_status{check="filesystem",object="/a\\040\"b"} 0` + "\n"
	if got := string(Metrics(h, Prometheus)); !strings.Contains(got, want) {
		t.Errorf("no %s in\n%s", want, got)
	}
}

// TestNagiosGuidelines holds the first line to the plug-in guidelines: one bar,
// labels in quotes without = and ', numbers with a unit they know.
func TestNagiosGuidelines(t *testing.T) {
	h := troubledReport(t)
	h.Checks[1].Summary, h.Checks[1].Object = "a | b", "/it's=x"
	h.Checks[1].Values["age_seconds"] = 1e7
	first := Nagios(h)[0]
	text, data, ok := strings.Cut(first, " | ")
	if !ok || strings.Contains(text, "|") || strings.Contains(data, "|") || !strings.HasPrefix(text, "RELKIT CRITICAL - ") {
		t.Fatalf("first line %q", first)
	}
	rest := data
	for rest != "" {
		label, after, ok := strings.Cut(strings.TrimPrefix(rest, "'"), "'=")
		if !ok || rest[0] != '\'' || strings.ContainsAny(label, "='|") {
			t.Fatalf("label at %q", rest)
		}
		value, next, _ := strings.Cut(after, " ")
		if strings.Trim(value, "0123456789.cBs%;") != "" {
			t.Errorf("value %q of %q", value, label)
		}
		rest = next
	}
	if want := "'/ used_ratio'=82.8283%;80;95;0;100"; !strings.Contains(strings.Join(Nagios(troubledReport(t)), "\n"), want) {
		t.Errorf("no %s in %s", want, data)
	}
}
