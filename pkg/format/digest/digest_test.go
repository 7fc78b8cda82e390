package digest

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// Digests are what sha256sum says.
func TestOf(t *testing.T) {
	relkittest.Need(t, "sha256sum")
	for _, text := range []string{"", "abc", strings.Repeat("relkit ", 100000)} {
		cmd := exec.Command("sha256sum")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		want := "sha256:" + strings.Fields(string(out))[0]
		d, n, err := OfReader(strings.NewReader(text))
		if d.String() != want || n != int64(len(text)) || err != nil {
			t.Errorf("OfReader: %s, %d, %v, want %s", d, n, err, want)
		}
		if got := Of([]byte(text)); got != d || "sha256:"+got.Hex() != want {
			t.Errorf("Of: %s, want %s", got, want)
		}
	}
}

func TestParse(t *testing.T) {
	good := Of([]byte("x")).String()
	if d, err := Parse(good); err != nil || d.String() != good {
		t.Fatalf("%v, %v", d, err)
	}
	for _, bad := range []string{"", "sha256:", good[:len(good)-1], good + "0", strings.ToUpper(good), "sha256:" + strings.ToUpper(good[7:]),
		good[7:], "sha512:" + good[7:], " " + good, "sha256:" + strings.Repeat("g", 64)} {
		if d, err := Parse(bad); err == nil || !d.IsZero() {
			t.Errorf("Parse(%q) = %v, %v", bad, d, err)
		}
	}
}

// The zero Digest is "none": it is written as nothing and left out of JSON.
func TestZero(t *testing.T) {
	type doc struct {
		D Digest `json:"d,omitzero"`
	}
	b, err := json.Marshal(doc{})
	if err != nil || string(b) != "{}" {
		t.Errorf("%s, %v", b, err)
	}
	d := doc{D: Of([]byte("x"))}
	if err := json.Unmarshal([]byte(`{"d":""}`), &d); err != nil || !d.D.IsZero() || d.D.String() != "" {
		t.Errorf("%v, %v", d, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Of(nil).String())
	f.Add("sha256:")
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := Parse(s); err == nil && d.String() != s {
			t.Errorf("%q reads as %s", s, d)
		}
	})
}
