package journal

import (
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

// What a newer relkit wrote is neither torn nor damaged, wherever it stands.
func TestNewer(t *testing.T) {
	line := func(text string) string { return sum([]byte(text)) + " " + text + "\n" }
	begin := line(`{"event":"begin","time":"2026-01-01T00:00:00Z"}`)
	for _, c := range []struct{ journal, want string }{
		{begin + line(`{"event":"begin","time":"2026-01-01T00:00:00Z","colour":"red"}`), `line 2: offset 47: unknown field "colour"`},
		{line(`{"event":"begin","time":"2026-01-01T00:00:00Z","colour":"red"}`) + begin, `line 1: offset`},
		{begin + line(`{"event":"checked","time":"2026-01-01T00:00:00Z"}`), `line 2: unknown event "checked"`},
		{begin + line(`[]`), `line 2: offset`},
	} {
		if _, _, err := Parse([]byte(c.journal)); failure.Of(err) != failure.Refused || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %q", c.journal, err, c.want)
		}
	}
	torn := strings.Replace(line(`{"event":"staged"}`), "staged", "stagex", 1)
	if records, whole, err := Parse([]byte(begin + torn)); err != nil || len(records) != 1 || whole != len(begin) {
		t.Errorf("torn: %d records, %d bytes, %v", len(records), whole, err)
	}
	if _, err := ReadPlan(strings.NewReader(`{"schema":"relkit.plan/v2","tops":"other"}` + "\n")); failure.Of(err) != failure.Refused {
		t.Errorf("plan: %v", err)
	}
	if _, _, _, err := ParseAudit([]byte(`{"schema":"relkit.audit/v2","mood":"good"}` + "\n")); failure.Of(err) != failure.Refused {
		t.Errorf("audit: %v", err)
	}
	for _, text := range []string{`{"schema":"relkit.plan/v1"}`, `{"schema":"relkit.image/v2"}`, `{"schema":7}`, `{}`, `{`} {
		if err := Newer([]byte(text), PlanSchema); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
