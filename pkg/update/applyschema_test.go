package update

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// TestApplySchema holds the JSON Schema of relkit.apply/v1 to the type, and its
// statuses to those there are.
func TestApplySchema(t *testing.T) {
	data, err := os.ReadFile("../../man/relkit.apply.v1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	if schema["title"] != ApplySchema {
		t.Errorf("title %q", schema["title"])
	}
	for _, problem := range relkittest.CompareSchema(schema, reflect.TypeFor[Result](), "apply") {
		t.Error(problem)
	}
	var have []any
	for _, s := range []Status{Applied, Already, Planned, Repaired, Staged, Armed, Unstaged, Awaiting, Stays} {
		have = append(have, string(s))
	}
	status := schema["properties"].(map[string]any)["status"].(map[string]any)
	if !reflect.DeepEqual(status["enum"], have) {
		t.Errorf("statuses %q, want %q", status["enum"], have)
	}
}
