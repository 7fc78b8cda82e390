package artifact

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/format/digest"
)

func TestEncode(t *testing.T) {
	m := Manifest{Type: TypePatch, Layers: []Descriptor{{TypePatch, digest.Of([]byte("abc")), 3, "fw.rkp"}}}
	got, err := m.Encode()
	want := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.relkit.patch.v1",` +
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},` +
		`"layers":[{"mediaType":"application/vnd.relkit.patch.v1","digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","size":3,` +
		`"annotations":{"org.opencontainers.image.title":"fw.rkp"}}]}` + "\n"
	if err != nil || string(got) != want {
		t.Fatalf("Encode = %s, %v, want %s", got, err, want)
	}
	m.Config = EmptyConfig()
	if back, err := Parse(got); err != nil || !reflect.DeepEqual(*back, m) {
		t.Errorf("Parse = %+v, %v, want %+v", back, err, m)
	}
	if _, err := (&Manifest{}).Encode(); err == nil {
		t.Error("a manifest without type and layers is written")
	}
}

func TestParseRefuses(t *testing.T) {
	for in, want := range map[string]string{
		`{`:                               "unexpected end",
		`{"schemaVersion":1,"layers":[]}`: "media type",
		`{"schemaVersion":2,"mediaType":"` + TypeIndex + `"}`:                            "media type",
		`{"schemaVersion":2,"layers":[{"size":1}]}`:                                      "layer 0",
		`{"schemaVersion":2,"layers":[{"size":1,"digest":"md5:abc"}]}`:                   `bad digest "md5:abc"`,
		`{"schemaVersion":2,"layers":[],"x":"` + strings.Repeat("a", MaxManifest) + `"}`: "at most",
	} {
		if _, err := Parse([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.60s) = %v, want an error with %q", in, err, want)
		}
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{"fw.rkp": true, "a b": true, "": false, ".": false, "..": false, ".ssh": false, "a/b": false, "a\nb": false, "/": false, strings.Repeat("a", 201): false} {
		if _, err := (Descriptor{Title: name}).FileName(); (err == nil) != ok {
			t.Errorf("FileName of title %q: %v, want ok %v", name, err, ok)
		}
	}
	for tag, ok := range map[string]bool{"stable.status": true, "_": true, "": false, ".a": false, "a/b": false, "a:b": false, strings.Repeat("a", 129): false} {
		if (ValidTag(tag) == nil) != ok {
			t.Errorf("ValidTag(%q), want ok %v", tag, ok)
		}
	}
	for repo, ok := range map[string]bool{"fw": true, "a/b-c__d.e": true, "": false, "Fw": false, "a//b": false, "../a": false, "a/": false, "a..b": false} {
		if (ValidRepo(repo) == nil) != ok {
			t.Errorf("ValidRepo(%q), want ok %v", repo, ok)
		}
	}
	for _, name := range []string{"fw-4.1.rkp", "ä ö.tar", "..", "-x", "a+b"} {
		if err := ValidTag(TagOf(name)); err != nil {
			t.Errorf("TagOf(%q): %v", name, err)
		}
	}
	for in, want := range map[string]string{"fw": "fw", "Acme FW": "acme-fw", "a..b": "a-b", "acme/Fw_2": "acme/fw_2", "x--y": "x--y", "R3000+": "r3000"} {
		if got := RepoOf(in); got != want || ValidRepo(got) != nil {
			t.Errorf("RepoOf(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	seed, _ := (&Manifest{Type: TypeFile, Layers: []Descriptor{{TypeFile, digest.Of(nil), 0, "x"}}, Annotations: map[string]string{"a": "b"}}).Encode()
	f.Add(seed)
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Parse(raw)
		if err != nil || len(m.Layers) == 0 {
			return
		}
		once, err := m.Encode()
		if err != nil {
			return // without a type; or escapes push it over the limit
		}
		again, err := Parse(once)
		if err != nil {
			t.Fatalf("%q is read, but written as %q is not: %v", raw, once, err)
		}
		if twice, _ := again.Encode(); !bytes.Equal(once, twice) {
			t.Errorf("%q is written as %q, then as %q", raw, once, twice)
		}
	})
}
