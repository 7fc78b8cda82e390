package strict

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
)

type inner struct {
	Size   int64         `json:"size"`
	Digest digest.Digest `json:"digest"`
}

type doc struct {
	Schema string            `json:"schema"`
	Time   time.Time         `json:"time"`
	Full   *inner            `json:"full,omitempty"`
	List   []inner           `json:"list"`
	Labels map[string]string `json:"labels,omitempty"`
}

func TestDecode(t *testing.T) {
	in := `{"schema":"x/v1","time":"2026-11-22T12:00:00Z","full":null,"list":[{"size":1,"digest":""}],"labels":{"Ring":"beta"}}` + " \n"
	want := doc{Schema: "x/v1", Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), List: []inner{{Size: 1}}, Labels: map[string]string{"Ring": "beta"}}
	var got doc
	if err := Decode([]byte(in), 1000, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Decode = %+v, %v, want %+v", got, err, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for in, want := range map[string]string{
		``:                                  "offset 0: the document ends early",
		`{"schema":"x"`:                     "offset 13: the document ends early",
		`{"schema":"x","form":1}`:           `offset 14: unknown field "form"`,
		`{"Schema":"x"}`:                    `offset 1: unknown field "Schema"`,
		`{"schema":"x","schema":"y"}`:       `offset 14: field "schema" stands twice`,
		`{"labels":{"a":"1","a":"2"}}`:      `offset 19: field "a" stands twice`,
		`{"list":[{"size":1,"siz":2}]}`:     `offset 19: unknown field "siz"`,
		`{"schema":"x"}{}`:                  "offset 14: text after the document",
		`{"schema":"x"} x`:                  "offset 15: text after the document",
		`{"schema":null}`:                   "offset 14: null where a value is needed",
		`{"schema":5}`:                      `field "schema": got a JSON number`,
		`{"list":{}}`:                       `field "list": got a JSON object`,
		`[]`:                                "got a JSON array",
		`{"full":{"digest":"md5:1"}}`:       `bad digest "md5:1"`,
		`{"full":{"size":1.5}}`:             "got a JSON number 1.5",
		"{\"schema\":\"\xff\"}":             "offset 11: not UTF-8",
		`{"schema":"x" "a":1}`:              "invalid character",
		`{"schema":"` + longText(90) + `"}`: "document of 103 bytes: at most 100",
	} {
		var d doc
		if err := Decode([]byte(in), 100, &d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Decode(%s) = %v, want an error with %q", in, err, want)
		}
	}
}

func longText(n int) string { return strings.Repeat("a", n) }

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"schema":"a<b","time":"2026-11-22T12:00:00Z","full":{"size":3,"digest":""},"list":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a, b doc
		if Decode(data, 1<<16, &a) != nil {
			return
		}
		once, err := Encode(a)
		if err != nil {
			return // a year that RFC 3339 cannot write
		}
		if err := Decode(once, 1<<20, &b); err != nil && a.List != nil {
			t.Fatalf("%s decodes, but its encoding %s does not: %v", data, once, err)
		}
		if a.List == nil {
			return
		}
		if twice, err := Encode(b); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s encodes as %s, then as %s (%v)", data, once, twice, err)
		}
	})
}

// TestDecodeNested: a document that is nothing but openings is an error, and not
// a stack that grows with it.
func TestDecodeNested(t *testing.T) {
	for _, open := range []string{"[", `{"a":`} {
		in := `{"labels":` + strings.Repeat(open, 4<<20)
		var d doc
		if err := Decode([]byte(in), len(in), &d); err == nil || !strings.Contains(err.Error(), "nested more than 10000 deep") {
			t.Errorf("Decode = %v", err)
		}
	}
	in := `{"labels":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1) + "}"
	var d doc
	if err := Decode([]byte(in), len(in), &d); err == nil || !strings.Contains(err.Error(), "got a JSON array") {
		t.Errorf("Decode of what is not too deep = %v", err)
	}
}
