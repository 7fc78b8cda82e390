package record

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// TestBuildSchemas holds the JSON Schemas beside the manual pages to the types:
// the same fields, of the same types, required unless they may be left out.
func TestBuildSchemas(t *testing.T) {
	for name, v := range map[string]any{"build": Build{}, "build-tests": BuildTestResults{}, "build-history": BuildEvent{}, "build-notice": BuildNotice{}} {
		data, err := os.ReadFile("../../../man/relkit." + name + ".v1.schema.json")
		if err != nil {
			t.Fatal(err)
		}
		var schema map[string]any
		if err := json.Unmarshal(data, &schema); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := fmt.Sprint(schema["title"]); got != "relkit."+name+"/v1" {
			t.Errorf("%s: title %q", name, got)
		}
		for _, problem := range relkittest.CompareSchema(schema, reflect.TypeOf(v), name) {
			t.Error(problem)
		}
	}
}
