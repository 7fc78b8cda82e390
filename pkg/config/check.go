package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// checker compares a parsed file with the type that it is to fill. The TOML
// package would match keys whatever their case, and tell the place of a mistake
// in an array of tables as that of its last element.
type checker struct {
	places   places
	mistakes []mistake
}

func typeOf(v any) reflect.Type {
	t := reflect.TypeOf(v)
	if t == nil || t.Kind() != reflect.Pointer {
		panic(fmt.Sprintf("config: decoding into %T, want a pointer", v))
	}
	return t.Elem()
}

var (
	durationType    = reflect.TypeFor[time.Duration]()
	timeType        = reflect.TypeFor[time.Time]()
	unmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// check compares one value with the type it goes to; at is its place and name
// what a person calls it ("builder.step").
func (c *checker) check(value any, t reflect.Type, at place, name string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == durationType:
		c.checkDuration(value, at, name)
		return
	case t != timeType && reflect.PointerTo(t).Implements(unmarshalerType):
		c.checkText(value, t, at, name)
		return
	}
	switch got := value.(type) {
	case map[string]any:
		c.checkTable(got, t, at, name)
	case []map[string]any:
		for i, v := range got {
			c.checkElement(v, i, t, at, name)
		}
	case []any:
		if len(got) == 0 && !isList(t) {
			c.mismatch(value, t, at, name)
		}
		for i, v := range got {
			c.checkElement(v, i, t, at, name)
		}
	default:
		if !fits(value, t) {
			c.mismatch(value, t, at, name)
		}
	}
}

func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice || t.Kind() == reflect.Array || t.Kind() == reflect.Interface
}

// checkElement checks one element of an array; a type that is no list is one
// mistake, told at the first element.
func (c *checker) checkElement(value any, i int, t reflect.Type, at place, name string) {
	if !isList(t) {
		if i == 0 {
			c.mismatch([]any{}, t, at, name)
		}
		return
	}
	if t.Kind() != reflect.Interface {
		t = t.Elem()
	}
	c.check(value, t, at.index(i), name)
}

func (c *checker) checkTable(table map[string]any, t reflect.Type, at place, name string) {
	switch t.Kind() {
	case reflect.Interface:
		return
	case reflect.Map:
		for key, v := range table {
			c.check(v, t.Elem(), at.key(key), join(name, key))
		}
		return
	case reflect.Struct:
	default:
		c.mismatch(table, t, at, name)
		return
	}
	fields := fieldTypes(t)
	for key, v := range table {
		if ft, ok := fields[key]; ok {
			c.check(v, ft, at.key(key), join(name, key))
			continue
		}
		text := fmt.Sprintf("unknown key %q", key)
		if name != "" {
			text += " in " + name
		}
		if near := nearest(key, fields); near != "" {
			text += fmt.Sprintf(", did you mean %q?", near)
		}
		c.add(at.key(key), text)
	}
}

func (c *checker) checkDuration(value any, at place, name string) {
	s, ok := value.(string)
	if !ok {
		c.add(at, fmt.Sprintf("%s: got %s, want a span of time such as \"10m\"", name, describe(value)))
		return
	}
	if _, err := time.ParseDuration(s); err != nil {
		c.add(at, fmt.Sprintf("%s: bad span of time %q, want for example \"90s\" or \"1h30m\"", name, s))
	}
}

// checkText tries a value that reads itself on a spare one.
func (c *checker) checkText(value any, t reflect.Type, at place, name string) {
	s, ok := value.(string)
	if !ok {
		c.add(at, fmt.Sprintf("%s: got %s, want a string", name, describe(value)))
		return
	}
	if err := reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
		c.add(at, fmt.Sprintf("%s: %v", name, err))
	}
}

func (c *checker) mismatch(value any, t reflect.Type, at place, name string) {
	c.add(at, fmt.Sprintf("%s: got %s, want %s", name, describe(value), describeType(t)))
}

func (c *checker) add(at place, text string) {
	c.mistakes = append(c.mistakes, mistake{c.places.offset(at), text})
}

// fits tells whether a value that is neither table nor array fits a type.
func fits(value any, t reflect.Type) bool {
	if t.Kind() == reflect.Interface {
		return true
	}
	switch v := value.(type) {
	case string:
		return t.Kind() == reflect.String
	case bool:
		return t.Kind() == reflect.Bool
	case int64:
		switch {
		case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64:
			return !reflect.Zero(t).OverflowInt(v)
		case t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64:
			return v >= 0 && !reflect.Zero(t).OverflowUint(uint64(v))
		}
		return t.Kind() == reflect.Float64 && int64(float64(v)) == v
	case float64:
		return t.Kind() == reflect.Float64
	case time.Time:
		return t == timeType
	}
	return false
}

func describe(value any) string {
	switch v := value.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64:
		return fmt.Sprintf("the integer %d", v)
	case float64:
		return "a float"
	case time.Time:
		return "a time"
	case map[string]any:
		return "a table"
	}
	return "an array"
}

func describeType(t reflect.Type) string {
	switch k := t.Kind(); {
	case t == timeType:
		return "a time"
	case k == reflect.String:
		return "a string"
	case k == reflect.Bool:
		return "a boolean"
	case k >= reflect.Int && k <= reflect.Int64:
		return "an integer"
	case k >= reflect.Uint && k <= reflect.Uint64:
		return "an integer of 0 or more"
	case k == reflect.Float64:
		return "a number"
	case k == reflect.Slice || k == reflect.Array:
		return "an array"
	}
	return "a table"
}

// fieldTypes maps the keys of a struct to the types of their fields; the
// fields of embedded structs belong to the outer one.
func fieldTypes(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
		switch {
		case f.Anonymous && tag == "" && f.Type.Kind() == reflect.Struct:
			for k, v := range fieldTypes(f.Type) {
				fields[k] = v
			}
		case tag != "" && tag != "-" && f.IsExported():
			fields[tag] = f.Type
		}
	}
	return fields
}

func join(name, key string) string {
	if name == "" {
		return key
	}
	return name + "." + key
}

// nearest is a key that differs from word by case, by "-" for "_" or by one
// letter; "" where there is none.
func nearest(word string, fields map[string]reflect.Type) string {
	keys := make([]string, 0, len(fields))
	for k := range fields {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	folded := strings.ReplaceAll(strings.ToLower(word), "-", "_")
	for _, k := range keys {
		if k == folded {
			return k
		}
	}
	for _, k := range keys {
		if oneLetterOff(folded, k) {
			return k
		}
	}
	return ""
}

// oneLetterOff tells whether a and b differ by one letter put in, left out,
// replaced, or swapped with its neighbour.
func oneLetterOff(a, b string) bool {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	a, b = a[i:], b[i:]
	switch {
	case len(a) == len(b) && len(a) > 1 && a[0] == b[1] && a[1] == b[0] && a[2:] == b[2:]:
		return true
	case len(a) == len(b):
		return len(a) > 0 && a[1:] == b[1:]
	case len(a) == len(b)+1:
		return a[1:] == b
	case len(b) == len(a)+1:
		return b[1:] == a
	}
	return false
}
