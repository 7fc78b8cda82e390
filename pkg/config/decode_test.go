package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/relkit/relkit/pkg/failure"
)

// upperText reads itself and takes capitals only.
type upperText string

func (u *upperText) UnmarshalText(b []byte) error {
	if string(b) != strings.ToUpper(string(b)) {
		return fmt.Errorf("want capitals, got %q", b)
	}
	*u = upperText(b)
	return nil
}

type limits struct {
	Time time.Duration `toml:"time"`
	Jobs int           `toml:"jobs"`
}

type common struct {
	Note string `toml:"note"`
}

type step struct {
	Name string   `toml:"name"`
	Run  []string `toml:"run"`
}

type sample struct {
	common
	Project struct {
		Name  string    `toml:"name"`
		Level upperText `toml:"level"`
	} `toml:"project"`
	Builder []struct {
		Name   string            `toml:"name"`
		Limits limits            `toml:"limits"`
		Step   []step            `toml:"step"`
		Env    map[string]string `toml:"env"`
		Matrix map[string][]any  `toml:"matrix"`
	} `toml:"builder"`
	Ratio float64    `toml:"ratio"`
	Port  uint16     `toml:"port"`
	Keep  *bool      `toml:"keep"`
	Since *time.Time `toml:"since"`
	Plain string
}

const good = `# a comment
note = "embedded"
ratio = 2
port = 8080
keep = true
since = 2026-01-02T03:04:05Z
[project]
name = "fw"
level = "HIGH"
[[builder]]
name = 'one'
limits = { time = "1h", jobs = 3 }
env = { "A.B" = "c" }
  [[builder.step]]
  name = "compile"
  run = ["make", """
-j""", ]
  [[builder.step]]
  run = []
[[builder]]
name = "two"
matrix.arch = ["amd64", 64]
step = [ { name = "inline", run = ["x"] } ]
`

func TestDecode(t *testing.T) {
	var s sample
	if err := Decode("relkit.toml", []byte(good), &s); err != nil {
		t.Fatal(err)
	}
	b := s.Builder
	if s.Note != "embedded" || s.Ratio != 2 || s.Port != 8080 || s.Keep == nil || !*s.Keep || s.Project.Level != "HIGH" ||
		len(b) != 2 || b[0].Limits.Time != time.Hour || b[0].Env["A.B"] != "c" || len(b[0].Step) != 2 ||
		b[0].Step[0].Run[1] != "-j" || b[1].Step[0].Name != "inline" || b[1].Matrix["arch"][1] != int64(64) ||
		s.Since == nil || s.Since.Year() != 2026 {
		t.Errorf("got %+v", s)
	}
}

func TestDecodeTellsThePlaceOfEachMistake(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "[project]\nname = 'x'\nnmae = 'y'", `f.toml:3:1: unknown key "nmae" in project, did you mean "name"?`},
		{"unknown table", "[projekt]\nname = 'x'", `f.toml:1:1: unknown key "projekt", did you mean "project"?`},
		{"case of a key", "[project]\nName = 'x'", `f.toml:2:1: unknown key "Name" in project, did you mean "name"?`},
		{"case of a table", "[Project]\nname = 'x'", `f.toml:1:1: unknown key "Project", did you mean "project"?`},
		{"field without a tag", "Plain = 'x'", `f.toml:1:1: unknown key "Plain"`},
		{"first of two elements", "[[builder]]\n[[builder.step]]\nrum = 1\n[[builder.step]]\nrun = []", `f.toml:3:1: unknown key "rum" in builder.step, did you mean "run"?`},
		{"second of two elements", "[[builder]]\nname = 'a'\n[[builder]]\nname = 4", `f.toml:4:1: builder.name: got the integer 4, want a string`},
		{"deep element", "[[builder]]\n[[builder]]\n  [[builder.step]]\n  run = [\n 'a', # why\n    5]", `f.toml:6:5: builder.step.run: got the integer 5, want a string`},
		{"inline table", "[[builder]]\nlimits = { time = '1h', jobs = 'x' }", `f.toml:2:25: builder.limits.jobs: got a string, want an integer`},
		{"dotted key", "project.name = 3", `f.toml:1:1: project.name: got the integer 3, want a string`},
		{"quoted key", "[project]\n\"n.m\" = 3", `f.toml:2:1: unknown key "n.m" in project`},
		{"table for a string", "[project.name]\nx = 1", `f.toml:1:1: project.name: got a table, want a string`},
		{"array for a table", "[[project]]\nname = 'x'", `f.toml:1:1: project: got an array, want a table`},
		{"empty array for a string", "note = []", `f.toml:1:1: note: got an array, want a string`},
		{"table for an array", "[builder]\nname = 'x'", `f.toml:1:1: builder: got a table, want an array`},
		{"number for a duration", "[[builder]]\nlimits.time = 60", `f.toml:2:1: builder.limits.time: got the integer 60, want a span of time such as "10m"`},
		{"bad duration", "[[builder]]\nlimits.time = '60'", `f.toml:2:1: builder.limits.time: bad span of time "60", want for example "90s" or "1h30m"`},
		{"text that reads itself", "[project]\nlevel = 'low'", `f.toml:2:1: project.level: want capitals, got "low"`},
		{"text from a number", "[project]\nlevel = 7", `f.toml:2:1: project.level: got the integer 7, want a string`},
		{"overflow", "port = 70000", `f.toml:1:1: port: got the integer 70000, want an integer of 0 or more`},
		{"negative", "port = -1", `f.toml:1:1: port: got the integer -1, want an integer of 0 or more`},
		{"map value", "[[builder]]\n[builder.env]\nA = 1", `f.toml:3:1: builder.env.A: got the integer 1, want a string`},
		{"after a multi-line string", "note = \"\"\"\na = 1\n\\\"\"\"\"\"\"\nx = 1", `f.toml:4:1: unknown key "x"`},
		{"syntax", "[project]\nname = ", `f.toml:2:7: unexpected EOF; expected value`},
		{"duplicate key", "note = 'a'\nnote = 'b'", `f.toml:2:12: key 'note' has already been defined`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Decode("f.toml", []byte(c.text), new(sample))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("got  %v\nwant %s", err, c.want)
			}
			if failure.Of(err) != failure.Usage {
				t.Errorf("kind is %v, want Usage", failure.Of(err))
			}
		})
	}
}

func TestDecodeTellsAllMistakesInOrder(t *testing.T) {
	err := Decode("f", []byte("b = 1\na = 2\nport = 'x'"), new(sample))
	want := "f:1:1: unknown key \"b\"\nf:2:1: unknown key \"a\"\nf:3:1: port: got a string, want an integer of 0 or more"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	many := strings.Builder{}
	for i := range 15 {
		fmt.Fprintf(&many, "unknown%d = 1\n", i)
	}
	err = Decode("f", []byte(many.String()), new(sample))
	if err == nil || !strings.HasSuffix(err.Error(), "\nf: 5 more") {
		t.Errorf("got %v, want ten and the number of the others", err)
	}
}

func TestDecodeRefusesWhatIsTooLong(t *testing.T) {
	err := Decode("f", []byte(strings.Repeat("#", maxSize+1)), new(sample))
	if failure.Of(err) != failure.Usage {
		t.Errorf("got %v", err)
	}
}

// FuzzDecode holds the scanner for places against the TOML parser: in every file
// that the parser takes, each value has a place that begins with its key.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{good, "", "a.b.c = 1\n[a.d]\ne = 2", "[[a]]\n[a.b]\nc=1\n[[a]]\n[[a.b]]\nc=2", "x = [[1,2],[{y=3}]]",
		"'a.b' = {\"c\\n\" = '''\n'''''}", "a = \"\"\"\\\"\"\"\"\"\"\nb = 1",
		`a."\e\\e" = 1`, "[ a . \"b\" ] # c\nd = 1979-05-27 07:32:00\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = Decode("f", data, new(sample)) // must not panic
		var tree map[string]any
		if len(data) > 1<<12 || toml.Unmarshal(data, &tree) != nil {
			return
		}
		wantPlaces(t, findPlaces(data), tree, place{}, data)
		if err := Decode("f", data, new(map[string]any)); err != nil {
			t.Errorf("a map takes everything, got %v", err)
		}
	})
}

func wantPlaces(t *testing.T, found places, value any, at place, data []byte) {
	t.Helper()
	if _, ok := found[at]; !ok && at != (place{}) {
		t.Fatalf("%q: no place for %s", data, at.path)
	}
	switch v := value.(type) {
	case map[string]any:
		for k, e := range v {
			wantPlaces(t, found, e, at.key(k), data)
		}
	case []map[string]any:
		for i, e := range v {
			wantPlaces(t, found, e, at.index(i), data)
		}
	case []any:
		for i, e := range v {
			wantPlaces(t, found, e, at.index(i), data)
		}
	}
}
