package trustdoc

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/relkittest"
)

var issued = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// key makes the same key for the same name every time.
func key(t testing.TB, name string) ssh.Signer {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// line is "release,qa KEY" of somebody.
func line(t testing.TB, roles, who string) string {
	t.Helper()
	return roles + " " + string(ssh.MarshalAuthorizedKey(key(t, who).PublicKey()))
}

func print(t testing.TB, who string) string {
	t.Helper()
	return signature.Fingerprint(key(t, who).PublicKey())
}

func fixture(t testing.TB) *Document {
	t.Helper()
	d, err := Next(nil, Edit{
		Product: "fw", Issued: issued, Expires: issued.AddDate(1, 0, 0), Thresholds: map[string]int{"root": 2, "qa": 1},
		AllowedSigners: new(line(t, "root", "ann") + line(t, "root", "bob") + line(t, `root,release namespaces="relkit-*",valid-before="20300101Z"`, "cid") + line(t, "qa", "dora")),
		Revoke:         []Revoked{{print(t, "mallory"), "lost on a train"}, {print(t, "eve"), ""}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRoundTrip(t *testing.T) {
	d := fixture(t)
	b, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"schema":"relkit.trust/v1","product":"fw","version":1,"issued":"2026-11-22T12:00:00Z","expires":"2027-11-22T12:00:00Z","allowed_signers":"root ssh-ed25519 `; !strings.HasPrefix(string(b), want) {
		t.Errorf("got %s", b)
	}
	again, err := Parse(b)
	if err != nil || !reflect.DeepEqual(d, again) {
		t.Errorf("%+v, %v, want %+v", again, err, d)
	}
	for who, want := range map[string]string{"mallory": "it is revoked by trust document 1: lost on a train", "eve": "it is revoked by trust document 1", "ann": "<nil>"} {
		if err := again.Revokes(print(t, who)); fmt.Sprint(err) != want {
			t.Errorf("Revokes(%s) = %v, want %s", who, err, want)
		}
	}
	if d.Expired(d.Expires.Add(-1)) || !d.Expired(d.Expires) {
		t.Error("expires at another time than it says")
	}
}

func TestCheckRefuses(t *testing.T) {
	for want, spoil := range map[string]func(*Document){
		`schema "x"`:                         func(d *Document) { d.Schema = "x" },
		"version 0":                          func(d *Document) { d.Version = 0 },
		"is not after issued":                func(d *Document) { d.Expires = d.Issued },
		"in UTC and whole seconds":           func(d *Document) { d.Issued = d.Issued.Add(1) },
		"product: empty name":                func(d *Document) { d.Product = "" },
		"allowed_signers: line 2: principal": func(d *Document) { d.AllowedSigners = line(t, "root", "ann") + line(t, "*", "bob") },
		"line 4: key " + print(t, "dora") + " is revoked": func(d *Document) {
			d.Revoked = []Revoked{{Key: print(t, "dora")}}
		},
		"does not come after the one before":  func(d *Document) { slices.Reverse(d.Revoked) },
		`bad fingerprint "SHA256:abc"`:        func(d *Document) { d.Revoked = []Revoked{{Key: "SHA256:abc"}} },
		"no control characters":               func(d *Document) { d.Revoked[0].Reason = "a\nb" },
		`no "root"`:                           func(d *Document) { delete(d.Thresholds, "root") },
		`role "root" takes 4 keys, and 3 are`: func(d *Document) { d.Thresholds["root"] = 4 },
		`role "qa" takes 2 keys, and 1 are`:   func(d *Document) { d.Thresholds["qa"] = 2 },
		`role "ops" takes 1 keys, and 0 are`:  func(d *Document) { d.Thresholds["ops"] = 1 },
		`role "qa": got 65`:                   func(d *Document) { d.Thresholds["qa"] = 65 },
		`role "root" takes 2 keys, and 1 are li`: func(d *Document) {
			d.AllowedSigners = line(t, "root", "ann") + line(t, `root namespaces="relkit-signoff"`, "bob") + line(t, "qa", "dora")
		},
		"line 1: a time without a Z": func(d *Document) {
			d.AllowedSigners = line(t, `root valid-after="20200101"`, "ann") + d.AllowedSigners
		},
	} {
		d := fixture(t)
		spoil(d)
		if _, err := d.Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Encode = %v, want %q", err, want)
		}
	}
	// An authority can certify any number of keys.
	d := fixture(t)
	d.AllowedSigners += line(t, "qa cert-authority", "ca")
	d.Thresholds["qa"] = 5
	if _, err := d.Encode(); err != nil {
		t.Error(err)
	}
}

func TestParseRefuses(t *testing.T) {
	b, err := fixture(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, c := range []struct {
		in, want string
		kind     failure.Kind
	}{
		{strings.Replace(text, "trust/v1", "trust/v2", 1), `schema "relkit.trust/v2": this relkit reads`, failure.Refused},
		{strings.Replace(text, "relkit.trust/v1", "relkit.other/v1", 1), `schema "relkit.other/v1"`, failure.Failed},
		{strings.Replace(text, `"version":1`, `"version":1,"mood":1`, 1), `unknown field "mood"`, failure.Failed},
		{strings.Replace(text, `"version":1`, `"version": 1`, 1), "offset 53: not in canonical form", failure.Failed},
		{strings.Replace(text, `"version":1`, `"version":1,"version":1`, 1), "stands twice", failure.Failed},
		{strings.Replace(text, `12:00:00Z`, `13:00:00+01:00`, 1), "in UTC", failure.Failed},
		{strings.TrimSpace(text), "not in canonical form", failure.Failed},
		{text + "\n", "not in canonical form", failure.Failed},
		{text + "{}", "text after the document", failure.Failed},
		{text + strings.Repeat(" ", MaxSize), "at most", failure.Failed},
		{"", "ends early", failure.Failed},
	} {
		if _, err := Parse([]byte(c.in)); err == nil || !strings.Contains(err.Error(), c.want) || failure.Of(err) != c.kind {
			t.Errorf("Parse(%.90s) = %v (kind %d), want %q (kind %d)", c.in, err, failure.Of(err), c.want, c.kind)
		}
	}
}

// TestNext: a document says what the one before said, but for the edit; a revoked
// key's lines go.
func TestNext(t *testing.T) {
	one := fixture(t)
	two, err := Next(one, Edit{Issued: issued.Add(time.Hour), Expires: issued.AddDate(2, 0, 0), Thresholds: map[string]int{"qa": 0, "release": 1},
		Revoke: []Revoked{{print(t, "bob"), "left"}, {print(t, "eve"), "found out"}}})
	if err != nil {
		t.Fatal(err)
	}
	if two.Version != 2 || two.Product != "fw" || !maps.Equal(two.Thresholds, map[string]int{"root": 2, "release": 1}) || len(two.Revoked) != 3 {
		t.Errorf("%+v", two)
	}
	if len(two.Signers().Signers) != 3 || strings.Contains(two.AllowedSigners, line(t, "root", "bob")) {
		t.Errorf("the line of a revoked key is there: %s", two.AllowedSigners)
	}
	if len(one.Revoked) != 2 || len(one.Thresholds) != 2 {
		t.Errorf("the first document was changed: %+v", one)
	}
	if err := two.Revokes(print(t, "eve")); err == nil || !strings.HasSuffix(err.Error(), "2: found out") {
		t.Errorf("Revokes = %v", err)
	}
	if _, err := Next(two, Edit{Issued: issued, Expires: issued.AddDate(1, 0, 0), Revoke: []Revoked{{Key: print(t, "ann")}}}); err == nil || !strings.Contains(err.Error(), `"root" takes 2 keys, and 1 are listed`) {
		t.Errorf("one root key left for two: %v", err)
	}
}

// TestTimes: what is remembered never goes back, and a clock far ahead of all
// that was ever signed is not remembered.
func TestTimes(t *testing.T) {
	var zero time.Time
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		have                 Times
		signed, clock, floor time.Time
		want                 Times
		changed              bool
	}{
		"nothing known, so nothing to hold the clock against": {Times{}, zero, issued, zero, Times{}, false},
		"the build time is something":                         {Times{}, zero, issued, issued.Add(-day), Times{Clock: issued}, true},
		"both":                                                {Times{}, issued.Add(-day), issued, zero, Times{Signed: issued.Add(-day), Clock: issued}, true},
		"a dead clock":                                        {Times{}, issued, time.Unix(0, 0), zero, Times{Signed: issued}, true},
		"set back":                                            {Times{Signed: issued, Clock: issued.Add(day)}, zero, issued, zero, Times{Signed: issued, Clock: issued.Add(day)}, false},
		"older sign-off":                                      {Times{Signed: issued}, issued.Add(-day), issued, zero, Times{Signed: issued}, false},
		"a little later":                                      {Times{Signed: issued, Clock: issued.Add(day)}, zero, issued.Add(day + time.Minute), zero, Times{Signed: issued, Clock: issued.Add(day)}, false},
		"an hour later":                                       {Times{Signed: issued, Clock: issued.Add(day)}, zero, issued.Add(day + time.Hour), zero, Times{Signed: issued, Clock: issued.Add(day + time.Hour)}, true},
		"far ahead":                                           {Times{Signed: issued}, zero, issued.AddDate(3, 0, 0), zero, Times{Signed: issued}, false},
		"far ahead of what is new":                            {Times{Signed: issued}, issued.Add(day), issued.AddDate(3, 0, 0), zero, Times{Signed: issued.Add(day)}, true},
		"not ahead of what is new":                            {Times{Signed: issued}, issued.AddDate(3, 0, 0), issued.AddDate(3, 0, 1), zero, Times{Signed: issued.AddDate(3, 0, 0), Clock: issued.AddDate(3, 0, 1)}, true},
		"fractions are cut":                                   {Times{}, issued.Add(1), issued.Add(day + 1), zero, Times{Signed: issued, Clock: issued.Add(day)}, true},
		"no year that can be kept":                            {Times{}, time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC), zero, Times{}, false},
	} {
		c.want.Schema = TimesSchema
		next, changed := c.have.After(c.signed, c.clock, c.floor)
		if next != c.want || changed != c.changed {
			t.Errorf("%s: %+v, %v, want %+v, %v", name, next, changed, c.want, c.changed)
		}
		b, err := next.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseTimes(b); err != nil || *again != next {
			t.Errorf("%s: read again: %+v, %v", name, again, err)
		}
	}
	for _, bad := range []string{`{"schema":"relkit.times/v2","signed":"2026-11-22T12:00:00Z","clock":"2026-11-22T12:00:00Z"}`, `{"schema":"relkit.times/v1","signed":"1960-11-22T12:00:00Z","clock":"2026-11-22T12:00:00Z"}`, `{"schema":"relkit.times/v1","when":1}`, `{`} {
		if _, err := ParseTimes([]byte(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// TestMemory: what a hostile document makes relkit allocate is bounded by its size.
func TestMemory(t *testing.T) {
	for name, text := range map[string]string{
		"too long": strings.Repeat("[", MaxSize+1),
		"nested":   `{"schema":"relkit.trust/v1","product":` + strings.Repeat("[", MaxSize/2),
		"revoked":  `{"schema":"relkit.trust/v1","revoked":[` + strings.Repeat(`{},`, MaxSize/4) + `{}]}`,
		"roles":    `{"schema":"relkit.trust/v1","thresholds":{` + strings.TrimSuffix(strings.Repeat(`"a":1,`, MaxSize/8), ",") + `}}`,
		"comments": `{"schema":"relkit.trust/v1","allowed_signers":"` + strings.Repeat(`#\n`, MaxSize/4) + `"}`,
	} {
		relkittest.Allocates(t, 64*MaxSize, func() {
			if _, err := Parse([]byte(text)); err == nil {
				t.Errorf("%s: taken", name)
			}
		})
	}
}

// FuzzDocument: what is read is the one form of what it says.
func FuzzDocument(f *testing.F) {
	seed, err := fixture(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(strings.Replace(string(seed), "root ssh-ed25519", `\"root\" cert-authority ssh-ed25519`, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(b)
		if err != nil {
			return
		}
		again, err := d.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q is written as %q, %v", b, again, err)
		}
		next, err := Next(d, Edit{Issued: d.Issued, Expires: d.Expires})
		if err != nil && d.Version < 1<<53 {
			t.Fatalf("%q has no next: %v", b, err)
		}
		_ = next
	})
}

func FuzzTimes(f *testing.F) {
	f.Add([]byte(`{"schema":"relkit.times/v1","signed":"2026-11-22T12:00:00Z","clock":"0001-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseTimes(b)
		if err != nil {
			return
		}
		once, err := x.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseTimes(once); err != nil || *again != *x {
			t.Fatalf("%q is written as %q: %v", b, once, err)
		}
	})
}

// TestSchema holds man/relkit.trust.v1.schema.json to the type.
func TestSchema(t *testing.T) {
	b, err := os.ReadFile("../../../man/relkit.trust.v1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	type schema struct {
		Title      string            `json:"title"`
		Type       string            `json:"type"`
		Properties map[string]schema `json:"properties"`
		Required   []string          `json:"required"`
		Items      *schema           `json:"items"`
		Additional any               `json:"additionalProperties"`
	}
	var s schema
	if err := json.Unmarshal(b, &s); err != nil || s.Title != Schema {
		t.Fatalf("title %q, %v", s.Title, err)
	}
	var compare func(at string, s schema, rt reflect.Type)
	compare = func(at string, s schema, rt reflect.Type) {
		var names, required []string
		for i := range rt.NumField() {
			name, rest, _ := strings.Cut(rt.Field(i).Tag.Get("json"), ",")
			if name == "" {
				continue
			}
			names = append(names, name)
			if rest == "" {
				required = append(required, name)
			}
			p, ft := s.Properties[name], rt.Field(i).Type
			want := map[reflect.Kind]string{reflect.String: "string", reflect.Struct: "string", reflect.Int64: "integer", reflect.Slice: "array", reflect.Map: "object"}[ft.Kind()]
			if p.Type != want {
				t.Errorf("%s.%s: type %q, want %q", at, name, p.Type, want)
			}
			if ft.Kind() == reflect.Slice && p.Items != nil {
				compare(at+"."+name, *p.Items, ft.Elem())
			}
		}
		slices.Sort(names)
		if got := slices.Sorted(maps.Keys(s.Properties)); !slices.Equal(got, names) || !slices.Equal(s.Required, required) || fmt.Sprint(s.Additional) != "false" {
			t.Errorf("%s: properties %q, required %q, additional %v; want %q, %q, false", at, got, s.Required, s.Additional, names, required)
		}
	}
	compare("document", s, reflect.TypeFor[Document]())
}
