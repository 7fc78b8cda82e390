package health

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/format/record"
)

// schemaDocument is man/relkit.health.v1.schema.json.
func schemaDocument(t *testing.T) map[string]any {
	t.Helper()
	b, err := os.ReadFile("../../man/relkit.health.v1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, b).(map[string]any)
}

func decode(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// checkReport holds a report to the JSON Schema, to the list of fields and to
// its own decoder.
func checkReport(t *testing.T, h *record.Health) {
	t.Helper()
	b, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s := schemaDocument(t)
	for _, problem := range validate(s, s, decode(t, b), "") {
		t.Errorf("schema: %s", problem)
	}
	known := map[string]record.HealthField{}
	for _, f := range record.HealthFields() {
		known[f.Path] = f
	}
	for p, v := range leaves(decode(t, b)) {
		f, ok := known[p]
		if !ok {
			t.Errorf("the report holds %s, which is not in the list of fields", p)
		} else if v != nil && typeName(v) != f.Type && !(f.Type == "number" && typeName(v) == "integer") {
			t.Errorf("%s is %v, the list of fields says %s", p, v, f.Type)
		}
	}
	again, err := record.DecodeHealth(b)
	if err != nil {
		t.Fatal(err)
	}
	if b2, err := again.Encode(); err != nil || !bytes.Equal(b, b2) {
		t.Errorf("decoding and encoding changes the report (%v)\n%s\n%s", err, b, b2)
	}
}

// leaves maps the path of each value of a report, as HealthField has it, to the value.
func leaves(doc any) map[string]any {
	out := map[string]any{}
	var walk func(p string, v any)
	walk = func(p string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				q := strings.TrimPrefix(p+"."+k, ".")
				if name, ok := v["name"].(string); ok && p == "checks[]" && (k == "values" || k == "delta") {
					q = "checks[" + name + "]." + k
				}
				walk(q, x)
			}
		case []any:
			for _, x := range v {
				walk(p+"[]", x)
			}
		case nil:
			if p != "release.transaction" && p != "release.trust" {
				out[p] = nil
			}
		default:
			out[p] = v
		}
	}
	walk("", doc)
	return out
}

func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return "number"
		}
		return "integer"
	case []any:
		return "array"
	}
	return "object"
}

// validate is the part of JSON Schema (draft 2020-12) that the document uses; a
// keyword it does not know is a problem too.
func validate(root, schema map[string]any, v any, at string) (problems []string) {
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf("%s: ", strings.TrimPrefix(at, "."))+fmt.Sprintf(format, args...))
	}
	sub := func(s any, v any, at string) {
		problems = append(problems, validate(root, s.(map[string]any), v, at)...)
	}
	for _, keyword := range slices.Sorted(maps.Keys(schema)) {
		want := schema[keyword]
		switch keyword {
		case "$schema", "$id", "$defs", "title", "description", "then":
		case "$ref":
			name := strings.TrimPrefix(want.(string), "#/$defs/")
			sub(root["$defs"].(map[string]any)[name], v, at)
		case "type":
			names, ok := want.([]any)
			if !ok {
				names = []any{want}
			}
			got := typeName(v)
			if !slices.Contains(names, any(got)) && !(got == "integer" && slices.Contains(names, any("number"))) {
				bad("is %s, want %v", got, names)
			}
		case "const":
			if !reflect.DeepEqual(v, want) {
				bad("is %v, want %v", v, want)
			}
		case "enum":
			if !slices.ContainsFunc(want.([]any), func(w any) bool { return reflect.DeepEqual(v, w) }) {
				bad("is %v, want one of %v", v, want)
			}
		case "pattern":
			if s, ok := v.(string); ok && !regexp.MustCompile(want.(string)).MatchString(s) {
				bad("%q does not match %s", s, want)
			}
		case "minimum", "maximum":
			if n, ok := v.(json.Number); ok {
				x, _ := n.Float64()
				limit, _ := want.(json.Number).Float64()
				if keyword == "minimum" && x < limit || keyword == "maximum" && x > limit {
					bad("is %v, %s is %v", n, keyword, want)
				}
			}
		case "required":
			if o, ok := v.(map[string]any); ok {
				for _, k := range want.([]any) {
					if _, ok := o[k.(string)]; !ok {
						bad("has no %v", k)
					}
				}
			}
		case "properties":
			if o, ok := v.(map[string]any); ok {
				for k, x := range o {
					if s, ok := want.(map[string]any)[k]; ok {
						sub(s, x, at+"."+k)
					} else if !strings.HasSuffix(at, "#") {
						// Readers pass over what they do not know; our own reports hold
						// nothing that the schema does not tell of.
						bad("%q is not in the schema", k)
					}
				}
			}
		case "items":
			if a, ok := v.([]any); ok {
				for i, x := range a {
					sub(want, x, fmt.Sprintf("%s[%d]", at, i))
				}
			}
		case "anyOf":
			var all []string
			for _, s := range want.([]any) {
				p := validate(root, s.(map[string]any), v, at)
				if len(p) == 0 {
					all = nil
					break
				}
				all = append(all, p...)
			}
			if len(all) > 0 {
				bad("fits none of the alternatives: %v", all)
			}
		case "allOf":
			for _, s := range want.([]any) {
				// A conditional looks at some of the properties only.
				sub(s, v, at+"#")
			}
		case "if":
			if len(validate(root, want.(map[string]any), v, at)) == 0 {
				sub(schema["then"], v, at)
			}
		default:
			bad("keyword %q is not known to this test", keyword)
		}
	}
	return problems
}

// TestSchemaRefuses shows that the validator sees what is wrong.
func TestSchemaRefuses(t *testing.T) {
	f := readFixture(t, "testdata/appliance.txtar")
	h := f.report(t)
	b, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s := schemaDocument(t)
	for what, change := range map[string]func(map[string]any){
		"another schema":     func(d map[string]any) { d["schema"] = "relkit.health/v2" },
		"no status":          func(d map[string]any) { delete(d, "status") },
		"a bad status":       func(d map[string]any) { d["status"] = "bad" },
		"a bad time":         func(d map[string]any) { d["time"] = "yesterday" },
		"a negative count":   func(d map[string]any) { d["counts"].(map[string]any)["ok"] = json.Number("-1") },
		"a text for a flag":  func(d map[string]any) { d["release"].(map[string]any)["reboot_required"] = "no" },
		"a share above one":  func(d map[string]any) { firstValues(d, "filesystem")["used_ratio"] = json.Number("1.5") },
		"a value missing":    func(d map[string]any) { delete(firstValues(d, "nic"), "carrier") },
		"a field too many":   func(d map[string]any) { firstValues(d, "nic")["secret"] = "x" },
		"a field at the top": func(d map[string]any) { d["extra"] = true },
	} {
		d := decode(t, b).(map[string]any)
		change(d)
		if len(validate(s, s, d, "")) == 0 {
			t.Errorf("%s is let through", what)
		}
	}
}

func firstValues(d map[string]any, name string) map[string]any {
	for _, c := range d["checks"].([]any) {
		if c := c.(map[string]any); c["name"] == name {
			return c["values"].(map[string]any)
		}
	}
	return nil
}

// TestSchemaAndFieldsAgree holds the schema and the list of fields together, in
// both directions.
func TestSchemaAndFieldsAgree(t *testing.T) {
	s := schemaDocument(t)
	paths := map[string]bool{}
	schemaPaths(s, s, "", paths)
	listed := map[string]bool{}
	for _, f := range record.HealthFields() {
		if listed[f.Path] {
			t.Errorf("%s is listed twice", f.Path)
		}
		listed[f.Path] = true
		if !paths[f.Path] {
			t.Errorf("the list of fields has %s, the schema does not", f.Path)
		}
	}
	for p := range paths {
		if !listed[p] {
			t.Errorf("the schema has %s, the list of fields does not", p)
		}
	}
}

// schemaPaths collects the path of every value that the schema describes.
func schemaPaths(root, s map[string]any, at string, paths map[string]bool) {
	defs := root["$defs"].(map[string]any)
	if ref, ok := s["$ref"].(string); ok {
		s = defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	if either, ok := s["anyOf"].([]any); ok {
		s = either[len(either)-1].(map[string]any)
	}
	if all, ok := s["allOf"].([]any); ok {
		for _, c := range all {
			c := c.(map[string]any)
			name := c["if"].(map[string]any)["properties"].(map[string]any)["name"].(map[string]any)["const"].(string)
			for k, x := range c["then"].(map[string]any)["properties"].(map[string]any) {
				schemaPaths(root, x.(map[string]any), "checks["+name+"]."+k, paths)
			}
		}
	}
	if items, ok := s["items"].(map[string]any); ok {
		schemaPaths(root, items, at+"[]", paths)
		return
	}
	properties, ok := s["properties"].(map[string]any)
	if ref, isRef := s["$ref"].(string); isRef {
		schemaPaths(root, defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any), at, paths)
		return
	}
	if !ok {
		if at != "checks[].values" && at != "checks[].delta" {
			paths[at] = true
		}
		return
	}
	for k, x := range properties {
		schemaPaths(root, x.(map[string]any), strings.TrimPrefix(at+"."+k, "."), paths)
	}
}
