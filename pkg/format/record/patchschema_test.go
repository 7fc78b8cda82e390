package record

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/relkittest"
)

// TestPatchSchema holds the JSON Schema of patch.json to the type.
func TestPatchSchema(t *testing.T) {
	data, err := os.ReadFile("../../../man/relkit.patch.v1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	if got := schema["title"]; got != patch.Schema {
		t.Errorf("title %q", got)
	}
	for _, problem := range relkittest.CompareSchema(schema, reflect.TypeFor[patch.Header](), "patch") {
		t.Error(problem)
	}
}
