// Package strict reads JSON documents from outside so that every byte of them
// has been understood: encoding/json by itself takes unknown fields, fields in
// the wrong case, the last of duplicate fields, and text after the document.
package strict

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Decode reads the one JSON document in data, of at most limit bytes, into the
// struct that v points to. Every field must be one of v's, spelt exactly as
// there, and stand once; null is for pointers only. Errors carry the byte
// offset. Fields that are absent keep what v held.
func Decode(data []byte, limit int, v any) error {
	if len(data) > limit {
		return fmt.Errorf("document of %d bytes: at most %d", len(data), limit)
	}
	if i := invalidUTF8(data); i >= 0 {
		return fmt.Errorf("offset %d: not UTF-8", i)
	}
	w := walker{dec: json.NewDecoder(bytes.NewReader(data)), data: data, known: map[reflect.Type]known{}}
	if err := w.value(reflect.TypeOf(v).Elem()); err != nil {
		return err
	}
	end := w.dec.InputOffset()
	if rest := bytes.TrimLeft(data[end:], " \t\r\n"); len(rest) > 0 {
		return fmt.Errorf("offset %d: text after the document", len(data)-len(rest))
	}
	return located(json.Unmarshal(data, v))
}

// Encode writes v as relkit writes JSON: fields in the order of the struct, no
// blanks, no HTML escapes, one newline at the end. Equal values give equal bytes.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// walker reads the tokens along the type they are going to be decoded into.
type walker struct {
	dec   *json.Decoder
	data  []byte
	known map[reflect.Type]known // the types met so far: a list may hold a million objects
	depth int                    // of objects and arrays that are open
}

// maxDepth bounds nesting, as json.Unmarshal does; json.Decoder.Token does not,
// and a stack that overflows ends the process.
const maxDepth = 10000

// known is what members says of a type.
type known struct {
	fields map[string]reflect.Type
	elem   reflect.Type
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func (w *walker) value(t reflect.Type) error {
	optional := t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	tok, err := w.token()
	if err != nil {
		return err
	}
	if _, opens := tok.(json.Delim); opens {
		if w.depth++; w.depth > maxDepth {
			return fmt.Errorf("offset %d: nested more than %d deep", w.dec.InputOffset(), maxDepth)
		}
		defer func() { w.depth-- }()
	}
	switch tok {
	case json.Delim('{'):
		return w.object(t)
	case json.Delim('['):
		return w.array(t)
	case nil:
		if !optional {
			return fmt.Errorf("offset %d: null where a value is needed", w.dec.InputOffset())
		}
	}
	return nil // a scalar: json.Unmarshal knows whether it fits
}

func (w *walker) object(t reflect.Type) error {
	k, ok := w.known[t]
	if !ok {
		k.fields, k.elem = members(t)
		w.known[t] = k
	}
	fields, elem := k.fields, k.elem
	seen := map[string]bool{}
	for w.dec.More() {
		tok, err := w.token()
		if err != nil {
			return err
		}
		name, _ := tok.(string)
		at := w.start(name)
		if seen[name] {
			return fmt.Errorf("offset %d: field %q stands twice", at, name)
		}
		seen[name] = true
		ft := elem
		if fields != nil {
			var ok bool
			if ft, ok = fields[name]; !ok {
				return fmt.Errorf("offset %d: unknown field %q", at, name)
			}
		}
		if err := w.value(ft); err != nil {
			return err
		}
	}
	_, err := w.token()
	return err
}

func (w *walker) array(t reflect.Type) error {
	elem := reflect.TypeFor[any]()
	if t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
		elem = t.Elem()
	}
	for w.dec.More() {
		if err := w.value(elem); err != nil {
			return err
		}
	}
	_, err := w.token()
	return err
}

func (w *walker) token() (json.Token, error) {
	tok, err := w.dec.Token()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("offset %d: the document ends early", len(w.data))
	}
	return tok, located(err)
}

// start is the offset of the string that was just read: its opening quote.
func (w *walker) start(s string) int64 {
	end := w.dec.InputOffset()
	if at := end - int64(len(s)) - 2; at >= 0 && string(w.data[at+1:end-1]) == s {
		return at
	}
	return end // it holds escapes
}

// members is a struct's JSON fields; or nil, and what a map's values are.
func members(t reflect.Type) (fields map[string]reflect.Type, elem reflect.Type) {
	switch {
	case t.Kind() == reflect.Map:
		return nil, t.Elem()
	case t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(textUnmarshaler):
		return nil, reflect.TypeFor[any]()
	}
	fields = map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported() || f.Anonymous && name == "":
			continue
		case name == "":
			name = f.Name
		}
		fields[name] = f.Type
	}
	return fields, nil
}

// located puts the offset that encoding/json keeps in its errors into the text.
func located(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("offset %d: %w", syntax.Offset, err)
	case errors.As(err, &kind):
		return fmt.Errorf("offset %d: field %q: got a JSON %s", kind.Offset, kind.Field, kind.Value)
	}
	return err
}

func invalidUTF8(data []byte) int {
	if utf8.Valid(data) {
		return -1
	}
	at := 0
	for at < len(data) {
		r, n := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		at += n
	}
	return at
}
