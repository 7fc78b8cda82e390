package journal

import (
	"encoding/json"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
)

// Newer refuses a document whose schema is another version of the one given
// ("relkit.NOUN/v1"); nil for any other document, whatever is wrong with it.
func Newer(text []byte, schema string) error {
	var d struct {
		Schema string `json:"schema"`
	}
	family := schema[:strings.LastIndexByte(schema, '/')+1]
	if json.Unmarshal(text, &d) != nil || d.Schema == schema || !strings.HasPrefix(d.Schema, family) {
		return nil
	}
	return newer("schema %q: this relkit reads %q", d.Schema, schema)
}

// newer is the refusal of what only a newer relkit can have written.
func newer(format string, args ...any) error {
	return failure.WithHint(failure.Errorf(failure.Refused, format, args...),
		"a newer relkit has worked on this machine: use that one")
}
