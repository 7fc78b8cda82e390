package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func relkitPage(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../man/relkit.toml.5")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRelkitPage: relkit.toml(5) has every key there is.
func TestRelkitPage(t *testing.T) {
	var documented []string
	for _, m := range regexp.MustCompile(`(?m)^\.(?:It )?Cm (.*)$`).FindAllStringSubmatch(relkitPage(t), -1) {
		documented = append(documented, strings.Fields(m[1])...)
	}
	var walk func(reflect.Type, string)
	walk = func(rt reflect.Type, at string) {
		for rt.Kind() == reflect.Pointer || rt.Kind() == reflect.Slice {
			rt = rt.Elem()
		}
		if rt.Kind() != reflect.Struct {
			return
		}
		for key, ft := range fieldTypes(rt) {
			if at != "" && !slices.Contains(documented, key) && !strings.Contains(relkitPage(t), ".Ss Tables builder."+key) && !strings.Contains(relkitPage(t), ".Ss Table builder."+key) {
				t.Errorf("relkit.toml(5) does not have %s.%s", at, key)
			}
			if at == "" && !regexp.MustCompile(`(?m)^\.Ss Tables? `+key+`$`).MatchString(relkitPage(t)) {
				t.Errorf("relkit.toml(5) does not have the table %s", key)
			}
			walk(ft, strings.TrimPrefix(at+"."+key, "."))
		}
	}
	walk(reflect.TypeFor[Relkit](), "")
	for _, p := range Placeholders {
		if !slices.Contains(documented, p) {
			t.Errorf("relkit.toml(5) does not have the substitution {%s}", p)
		}
	}
}

// TestRelkitPageExample: the page's example is a configuration.
func TestRelkitPageExample(t *testing.T) {
	_, text, ok := strings.Cut(relkitPage(t), ".Sh EXAMPLES\n.Bd -literal\n")
	text, _, end := strings.Cut(text, "\n.Ed")
	if !ok || !end {
		t.Fatal("relkit.toml(5) has no example")
	}
	if r, err := DecodeRelkit("example", []byte(text)); err != nil || len(r.Builders) != 1 {
		t.Errorf("%v, %+v", err, r)
	}
}
