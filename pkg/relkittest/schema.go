package relkittest

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// CompareSchema lists where a JSON Schema, decoded, and a type differ: the same
// fields, of the same types, required unless they may be left out. What writes
// itself as text is a string.
func CompareSchema(schema map[string]any, t reflect.Type, at string) (problems []string) {
	want, null := "", false
	if t.Kind() == reflect.Pointer {
		t, null = t.Elem(), t.Elem().Kind() != reflect.Struct
	}
	switch {
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) || t.Kind() == reflect.String:
		want = "string"
	case t.Kind() == reflect.Bool:
		want = "boolean"
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		want = "integer"
	case t.Kind() == reflect.Float64:
		want = "number"
	case t.Kind() == reflect.Slice:
		want = "array"
		items, _ := schema["items"].(map[string]any)
		problems = CompareSchema(items, t.Elem(), at+"[]")
	case t.Kind() == reflect.Map:
		want = "object"
		values, _ := schema["additionalProperties"].(map[string]any)
		problems = CompareSchema(values, t.Elem(), at+"{}")
	case t.Kind() == reflect.Struct:
		want = "object"
		problems = compareFields(schema, t, at)
	}
	got := fmt.Sprint(schema["type"])
	if null {
		want = "[" + want + " null]"
	}
	if got != want {
		problems = append(problems, fmt.Sprintf("%s: type %s, want %s", at, got, want))
	}
	return problems
}

func compareFields(schema map[string]any, t reflect.Type, at string) (problems []string) {
	properties, _ := schema["properties"].(map[string]any)
	var fields, required []string
	for i := range t.NumField() {
		if !t.Field(i).IsExported() {
			continue
		}
		name, rest, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields = append(fields, name)
		if rest != "omitempty" && rest != "omitzero" {
			required = append(required, name)
		}
		sub, _ := properties[name].(map[string]any)
		problems = append(problems, CompareSchema(sub, t.Field(i).Type, at+"."+name)...)
	}
	slices.Sort(fields)
	if got := slices.Sorted(maps.Keys(properties)); !slices.Equal(got, fields) {
		problems = append(problems, fmt.Sprintf("%s: properties %q, want %q", at, got, fields))
	}
	var listed []string
	for _, r := range asList(schema["required"]) {
		listed = append(listed, fmt.Sprint(r))
	}
	if !slices.Equal(listed, required) {
		problems = append(problems, fmt.Sprintf("%s: required %q, want %q", at, listed, required))
	}
	if schema["additionalProperties"] != false {
		problems = append(problems, at+": additionalProperties is not false")
	}
	return problems
}

func asList(v any) []any {
	list, _ := v.([]any)
	return list
}
