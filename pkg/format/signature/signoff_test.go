package signature

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
)

func TestSignoff(t *testing.T) {
	s := Signoff{Schema: SignoffSchema, Patch: digest.Of([]byte("p")), Role: "qa", Verdict: VerdictPass,
		Time: time.Date(2026, 11, 22, 13, 0, 0, 0, time.FixedZone("x", 3600)), Evidence: []Evidence{{"tests <1>.xml", digest.Of([]byte("e"))}}}
	b, err := s.Encode()
	want := `{"schema":"relkit.signoff/v1","patch":"` + s.Patch.String() + `","role":"qa","time":"2026-11-22T12:00:00Z","verdict":"pass",` +
		`"evidence":[{"name":"tests <1>.xml","digest":"` + s.Evidence[0].Digest.String() + "\"}]}\n"
	if err != nil || string(b) != want {
		t.Fatalf("Encode = %s, %v, want %s", b, err, want)
	}
	got, err := ParseSignoff(b)
	s.Time = s.Time.UTC()
	if err != nil || !reflect.DeepEqual(*got, s) {
		t.Errorf("ParseSignoff = %+v, %v, want %+v", got, err, s)
	}
	for old, c := range map[string][2]string{
		`"role":"qa"`:            {`"role":"q/a"`, `role "q/a": bad character`},
		`"verdict":"pass"`:       {`"verdict":""`, "verdict"},
		`"verdict":"pass",`:      {`"verdict":"pass","mood":"good",`, `unknown field "mood"`},
		`relkit.signoff/v1`:      {`relkit.signoff/v2`, `schema "relkit.signoff/v2"`},
		`"name":"tests <1>.xml"`: {`"name":""`, "evidence 0"},
		`2026-11-22T12:00:00Z`:   {`yesterday`, "yesterday"},
		s.Patch.String():         {"", "patch"},
	} {
		bad := strings.Replace(string(b), old, c[0], 1)
		if _, err := ParseSignoff([]byte(bad)); err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("ParseSignoff(%s) = %v, want an error with %q", bad, err, c[1])
		}
	}
}

func FuzzSignoff(f *testing.F) {
	f.Add([]byte(`{"schema":"relkit.signoff/v1","patch":"` + digest.Of(nil).String() + `","role":"qa","time":"2026-11-22T12:00:00.5+01:00","verdict":"pass"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSignoff(b)
		if err != nil {
			return
		}
		once, err := s.Encode()
		if err != nil {
			t.Fatalf("%s is read, but not written: %v", b, err)
		}
		again, err := ParseSignoff(once)
		if err != nil {
			t.Fatalf("%s is written as %s, which is not read: %v", b, once, err)
		}
		if twice, _ := again.Encode(); !bytes.Equal(once, twice) {
			t.Errorf("%s is written as %s, then as %s", b, once, twice)
		}
	})
}
