package record

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestHealthLines: the lines hold what the report holds, each thing once.
func TestHealthLines(t *testing.T) {
	id := "aa"
	h := &Health{Schema: HealthSchema, ID: "r", Status: HealthWarn, Machine: HealthMachine{ID: &id, MACs: []string{}}, Counts: HealthCounts{OK: 1, Warn: 1},
		Checks: []HealthCheck{{Name: "nic", Object: "eth0", Status: HealthOK, Values: map[string]any{"a": 1}}, {Name: "filesystem", Object: "/", Status: HealthWarn, Summary: "full"}}}
	b, err := h.EncodeLines()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(lines) != 3 || !bytes.HasSuffix(b, []byte("}\n")) {
		t.Fatalf("got %d lines: %s", len(lines), b)
	}
	if want := `{"schema":"relkit.health-check/v1","report":"r","time":"0001-01-01T00:00:00Z","machine":"aa","name":"nic","object":"eth0","status":"ok","summary":"","values":{"a":1}}`; lines[0] != want {
		t.Errorf("got  %s\nwant %s", lines[0], want)
	}
	whole, summary := map[string]any{}, map[string]any{}
	one, err := h.Encode()
	if err != nil || json.Unmarshal(one, &whole) != nil || json.Unmarshal([]byte(lines[2]), &summary) != nil {
		t.Fatalf("%v: %s %s", err, one, lines[2])
	}
	delete(whole, "checks")
	if got, want := slices.Sorted(maps.Keys(summary)), slices.Sorted(maps.Keys(whole)); !slices.Equal(got, want) || summary["schema"] != HealthSummarySchema || summary["status"] != "warn" {
		t.Errorf("the summary has %v of %v: %s", got, want, lines[2])
	}
}
