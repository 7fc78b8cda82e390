package main

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/update"
)

// TestResultPage holds relkit-patch-apply(1) and the document that it describes
// equal, field for field.
func TestResultPage(t *testing.T) {
	text := readPage(t, "relkit-patch-apply.1")
	_, text, _ = strings.Cut(text, "\n.Ss Result\n")
	text, _, _ = strings.Cut(text, "\n.Sh ")
	described := map[string]bool{"schema": true} // in the sentence before the list
	for _, m := range regexp.MustCompile(`(?m)^\.It Cm (.*)$`).FindAllStringSubmatch(text, -1) {
		for name := range strings.SplitSeq(m[1], " , ") {
			described[name] = true
		}
	}
	result := reflect.TypeFor[update.Result]()
	for i := range result.NumField() {
		if !result.Field(i).IsExported() {
			continue
		}
		name, _, _ := strings.Cut(result.Field(i).Tag.Get("json"), ",")
		if !described[name] {
			t.Errorf("relkit-patch-apply(1) does not describe %q", name)
		}
		delete(described, name)
	}
	for name := range described {
		t.Errorf("relkit-patch-apply(1) describes %q, which there is not", name)
	}
}
