package version

import (
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

func TestCompareKnown(t *testing.T) {
	// Each is older than the next.
	ordered := []string{"~~", "~~a", "~", "0~rc1", "", "1.0~beta1~svc1", "1.0~beta1", "1.0", "1.0-1",
		"1.0a", "1.0+b", "1.2", "1.10", "99999999999999999999998", "99999999999999999999999", "1:0.1", "2:0"}
	for i := range ordered {
		for j := range ordered {
			if got, want := sign(Compare(ordered[i], ordered[j])), sign(i-j); got != want {
				t.Errorf("Compare(%q, %q) = %d, want %d", ordered[i], ordered[j], got, want)
			}
		}
	}
	for _, same := range [][2]string{{"1.0", "1.00"}, {"1.0", "0:1.0"}, {"1.0", "1.0-0"}, {"01", "1"}} {
		if c := Compare(same[0], same[1]); c != 0 {
			t.Errorf("Compare(%q, %q) = %d, want 0", same[0], same[1], c)
		}
	}
}

// TestCompareDpkg holds Compare against dpkg on versions made at random out of
// the pieces where implementations differ.
func TestCompareDpkg(t *testing.T) {
	relkittest.Need(t, "dpkg")
	r := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"0", "1", "09", "10", "~", "+", ".", "a", "Z", "-", "rc", "00"}
	gen := func() string {
		v := ""
		if r.IntN(5) == 0 {
			v = []string{"0:", "1:", "01:"}[r.IntN(3)]
		}
		v += string(rune('0' + r.IntN(3)))
		for range r.IntN(6) {
			v += pieces[r.IntN(len(pieces))]
		}
		return v
	}
	tried := 0
	for tried < 400 {
		a, b := gen(), gen()
		if Valid(a) != nil || Valid(b) != nil {
			continue
		}
		tried++
		c := Compare(a, b)
		op := map[int]string{-1: "lt", 0: "eq", 1: "gt"}[sign(c)]
		if out, err := exec.Command("dpkg", "--compare-versions", a, op, b).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("Compare(%q, %q) = %d, but dpkg --compare-versions %s %s %s: %v %s", a, b, c, a, op, b, err, out)
		}
	}
}

func TestValid(t *testing.T) {
	for _, v := range []string{"1", "4.2.1", "1:2.0-3", "2.0~rc1+git1", "1-2-3", "0:1:2-3", "v1.2", "bookworm", "999999999:1"} {
		if err := Valid(v); err != nil {
			t.Errorf("Valid(%q) = %v, want nil", v, err)
		}
	}
	bad := map[string]string{
		"": "empty", " 1": "start", "1 ": `bad character ' '`, "a:1": "bad epoch", ":1": "bad epoch", "1:": "start",
		"1000000000:1": "bad epoch", "1-": "last hyphen", "-1": "start", "1_2": `bad character '_'`, "1-2:3": "bad epoch",
		"0:1-2:3": "colon", "1/../2": `bad character '/'`, "1\n": `'\n'`, "é": "start", strings.Repeat("1", 257): "at most",
	}
	for v, want := range bad {
		if err := Valid(v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Valid(%q) = %v, want an error with %q", v, err, want)
		}
	}
}

func TestExpr(t *testing.T) {
	have := func(name string) (string, bool) {
		v, ok := map[string]string{"fw": "4.1", "hotfix-17": "", "kernel": "6.1~rc3"}[name]
		return v, ok
	}
	for in, want := range map[string]struct{ canonical, unmet string }{
		"":                             {"", ""},
		"fw":                           {"fw", ""},
		"fw(>=4.1),fw( << 5 )":         {"fw (>= 4.1), fw (<< 5)", ""},
		"fw (= 4.1.0)":                 {"fw (= 4.1.0)", "fw (= 4.1.0)"},
		"fw (>> 4.1), fw (<= 4.01)":    {"fw (>> 4.1), fw (<= 4.01)", "fw (>> 4.1)"},
		"hotfix-17, hotfix-18":         {"hotfix-17, hotfix-18", "hotfix-18"},
		"hotfix-17 (>= 0)":             {"hotfix-17 (>= 0)", "hotfix-17 (>= 0)"},
		"kernel (<< 6.1)":              {"kernel (<< 6.1)", ""},
		"absent (<< 6.1)":              {"absent (<< 6.1)", "absent (<< 6.1)"},
		" fw ( = 1:4.1 ) ,\tkernel\n ": {"fw (= 1:4.1), kernel", "fw (= 1:4.1)"},
	} {
		e, err := ParseExpr(in)
		if err != nil {
			t.Errorf("ParseExpr(%q): %v", in, err)
			continue
		}
		if e.String() != want.canonical {
			t.Errorf("ParseExpr(%q).String() = %q, want %q", in, e, want.canonical)
		}
		if got := Expr(e.Unmet(have)).String(); got != want.unmet {
			t.Errorf("ParseExpr(%q).Unmet = %q, want %q", in, got, want.unmet)
		}
		if held := e.Held(have); len(held)+len(e.Unmet(have)) != len(e) {
			t.Errorf("ParseExpr(%q): Held and Unmet are not complements", in)
		}
	}
	for in, want := range map[string]string{
		",": "empty name", "fw,": "empty name", "fw (4.1)": "want one of", "fw (>= )": "empty version", "fw (>= 1": "no closing",
		"fw (> 1)": "want one of", "fw (>= 1) x": "no closing", "fw bar": "bad character ' '", "(>= 1)": "empty name", "fw (>= 1 2)": "bad character",
		strings.Repeat("a", 129): "at most 128", strings.Repeat("a,", MaxExpr): "at most 65536",
	} {
		if _, err := ParseExpr(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseExpr(%.40q) = %v, want an error with %q", in, err, want)
		}
	}
}

// FuzzCompare: antisymmetric, reflexive, transitive, and equal under a suffix of leading zeros.
func FuzzCompare(f *testing.F) {
	f.Add("1.0~rc1", "1.0", "1:0-1")
	f.Add("1-", "1-0", "1")
	f.Add("~", "", "a:b")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if Compare(a, a) != 0 {
			t.Errorf("Compare(%q, itself) = %d", a, Compare(a, a))
		}
		ab, ba, bc, ac := sign(Compare(a, b)), sign(Compare(b, a)), sign(Compare(b, c)), sign(Compare(a, c))
		if ab != -ba {
			t.Errorf("Compare(%q, %q) = %d but the other way round %d", a, b, ab, ba)
		}
		if ab <= 0 && bc <= 0 && ac > 0 || ab >= 0 && bc >= 0 && ac < 0 {
			t.Errorf("not transitive: %q %d %q %d %q, but first to last %d", a, ab, b, bc, c, ac)
		}
	})
}

func FuzzExpr(f *testing.F) {
	f.Add("fw (>= 4.1), fw (<< 5), hotfix-17")
	f.Add(" a ( = 1:2-3 ) ")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseExpr(s)
		if err != nil {
			return
		}
		again, err := ParseExpr(e.String())
		if err != nil || again.String() != e.String() {
			t.Errorf("ParseExpr(%q) prints %q, which reads as %q, %v", s, e, again, err)
		}
	})
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
