package health

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/format/record"
)

// Dialect is one of the two texts that Prometheus reads.
type Dialect int

const (
	// Prometheus is text format 0.0.4, as node_exporter's textfile collector
	// wants it: no timestamps, a counter's type under its full name.
	Prometheus Dialect = iota
	// OpenMetrics is version 1.0: a counter's type under its name without
	// _total, and "# EOF" at the end.
	OpenMetrics
)

// family is the samples of one metric.
type family struct {
	name, kind, help string
	samples          []string
}

// metrics gathers families in the order they come up.
type metrics struct {
	families []*family
	byName   map[string]*family
}

// Metrics writes a report as metrics, all named relkit_…, with the check's
// object as a label. What is null or text is left out.
func Metrics(h *record.Health, d Dialect) []byte {
	m := &metrics{byName: map[string]*family{}}
	m.gauge("relkit_health_time_seconds", "When the report was begun, in seconds since 1970.", strconv.FormatInt(h.Time.Unix(), 10))
	m.gauge("relkit_health_duration_seconds", "How long making the report took.", number(h.DurationSeconds))
	m.gauge("relkit_health_status", "The worst of the checks: 0 ok, 1 unknown, 2 warn, 3 crit.", strconv.Itoa(h.Status.Rank()))
	for _, c := range h.Checks {
		m.gauge("relkit_health_check_status", "A check: 0 ok, 1 unknown, 2 warn, 3 crit.", strconv.Itoa(c.Status.Rank()),
			"check", c.Name, "object", c.Object)
	}
	m.gauge("relkit_health_info", "The relkit that made the report.", "1", "version", h.Relkit.Version)
	m.gauge("relkit_machine_info", "Which machine it is.", "1", machineLabels(&h.Machine)...)
	if h.Release.Version != nil {
		m.gauge("relkit_release_info", "What is installed.", "1", "product", orElse(h.Release.Product, ""), "version", *h.Release.Version)
	}
	about := map[string]string{}
	for _, f := range record.HealthFields() {
		about[f.Path] = f.About
	}
	for _, c := range h.Checks {
		for _, key := range slices.Sorted(maps.Keys(c.Values)) {
			v, ok := sample(c.Values[key])
			if !ok {
				continue
			}
			kind, help := "gauge", about["checks["+c.Name+"].values."+key]
			// Prometheus has no bits: its linter asks for bytes.
			if bits, isBits := strings.CutSuffix(key, "_bits_per_second"); isBits {
				n, err := strconv.ParseFloat(v, 64)
				if err != nil {
					continue
				}
				key, v = bits+"_bytes_per_second", number(n/8)
			}
			if strings.HasSuffix(key, "_total") {
				kind = "counter"
			}
			var labels []string
			if c.Object != "" {
				labels = []string{"object", c.Object}
			}
			m.add("relkit_"+c.Name+"_"+key, kind, sentence(key, help), v, labels...)
		}
	}
	return m.write(d)
}

func machineLabels(m *record.HealthMachine) []string {
	var labels []string
	for _, l := range []struct {
		name string
		v    *string
	}{
		{"id", m.ID}, {"serial", m.Serial}, {"vendor", m.Vendor}, {"product", m.Product}, {"bios_version", m.BIOSVersion},
		{"hostname", m.Hostname}, {"os", m.OS}, {"kernel", m.Kernel}, {"architecture", m.Architecture},
	} {
		if l.v != nil {
			labels = append(labels, l.name, *l.v)
		}
	}
	return labels
}

func (m *metrics) gauge(name, help, value string, labels ...string) {
	m.add(name, "gauge", help, value, labels...)
}

// add adds a sample; labels are names and values in turn.
func (m *metrics) add(name, kind, help, value string, labels ...string) {
	f := m.byName[name]
	if f == nil {
		f = &family{name: name, kind: kind, help: help}
		m.byName[name] = f
		m.families = append(m.families, f)
	}
	var b strings.Builder
	b.WriteString(name)
	for i := 0; i < len(labels); i += 2 {
		open := ","
		if i == 0 {
			open = "{"
		}
		b.WriteString(open + labels[i] + `="` + labelEscaper.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	b.WriteString(" " + value + "\n")
	f.samples = append(f.samples, b.String())
}

var labelEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func (m *metrics) write(d Dialect) []byte {
	var b strings.Builder
	for _, f := range m.families {
		name := f.name
		if d == OpenMetrics && f.kind == "counter" {
			name = strings.TrimSuffix(name, "_total")
		}
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, f.help, name, f.kind)
		for _, s := range f.samples {
			b.WriteString(s)
		}
	}
	if d == OpenMetrics {
		b.WriteString("# EOF\n")
	}
	return []byte(b.String())
}

// sample is a value as a metric has it; ok is false for null and for text.
func sample(v any) (text string, ok bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return "1", true
		}
		return "0", true
	case int, int64, uint64:
		return fmt.Sprint(v), true
	case float64:
		return number(v), true
	case json.Number:
		return v.String(), true
	}
	return "", false
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// sentence is the help of a metric; where the field's own words say little
// without its name, the name comes first.
func sentence(key, about string) string {
	words := strings.ReplaceAll(strings.TrimSuffix(key, "_total"), "_", " ")
	return strings.ToUpper(words[:1]) + words[1:] + ": " + about + "."
}
