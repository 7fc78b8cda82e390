package record

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/machine"
	"github.com/relkit/relkit/pkg/relkittest"
)

func anImage() *Image {
	return &Image{Schema: ImageSchema, Name: "fw", Version: "1:2.0-3", Tree: digest.Of(nil), Created: time.Unix(1700000000, 0).UTC(),
		Source: "-", Parent: "fw:1", Entries: 10, Files: 5, Bytes: 100, SharedFiles: 2, SharedBytes: 40, Identity: IdentityReset,
		Reset: []string{"etc/machine-id"}, NoOwner: true, Excluded: []string{"var/cache/**"}, Inconsistent: []string{`var/log/a\040b`}}
}

func TestImageRoundTrip(t *testing.T) {
	b, err := anImage().Encode()
	if err != nil {
		t.Fatal(err)
	}
	i, err := DecodeImage(b)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := i.Encode(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("got %s, %v; want %s", again, err, b)
	}
}

func TestImageRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Image){
		"schema": func(i *Image) { i.Schema = "relkit.image/v2" }, "name": func(i *Image) { i.Name = "../x" },
		"version": func(i *Image) { i.Version = "a/b" }, "tree": func(i *Image) { i.Tree = digest.Digest{} },
		"identity": func(i *Image) { i.Identity = "" }, "shared": func(i *Image) { i.SharedFiles = 6 },
		"reset": func(i *Image) { i.Reset = []string{"../x"} }, "inconsistent": func(i *Image) { i.Inconsistent = []string{"a b"} },
	} {
		i := anImage()
		spoil(i)
		if _, err := i.Encode(); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	b, _ := anImage().Encode()
	bad := strings.Replace(string(b), `"name"`, `"nome"`, 1)
	if _, err := DecodeImage([]byte(bad)); err == nil || !strings.Contains(err.Error(), "offset") {
		t.Errorf("an unknown field: %v", err)
	}
}

func FuzzDecodeImage(f *testing.F) {
	b, err := anImage().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		i, err := DecodeImage(in)
		if err != nil {
			return
		}
		one, err := i.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := DecodeImage(one); err != nil {
			t.Fatal(err)
		} else if two, err := again.Encode(); err != nil || !bytes.Equal(one, two) {
			t.Errorf("%s\nread again is\n%s (%v)", one, two, err)
		}
	})
}

// TestImageSchemas holds the JSON Schemas of what a stored image has beside its
// tree to the types.
func TestImageSchemas(t *testing.T) {
	for name, v := range map[string]any{"image": Image{}, "machine": machine.Machine{}} {
		data, err := os.ReadFile("../../../man/relkit." + name + ".v1.schema.json")
		if err != nil {
			t.Fatal(err)
		}
		var schema map[string]any
		if err := json.Unmarshal(data, &schema); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := schema["title"]; got != "relkit."+name+"/v1" {
			t.Errorf("%s: title %q", name, got)
		}
		for _, problem := range relkittest.CompareSchema(schema, reflect.TypeOf(v), name) {
			t.Error(problem)
		}
	}
}
