package testresult

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/relkit/relkit/pkg/relkittest"
)

// brief is a case in a line: its place, status and message.
func brief(c *Case) string {
	s := string(c.Status) + " " + c.ID()
	if c.Flaky {
		s = "flaky " + s
	}
	if first, _, _ := strings.Cut(c.Message, "\n"); first != "" {
		s += " | " + first
	}
	return s
}

func briefs(cases []Case) string {
	var b strings.Builder
	for i := range cases {
		fmt.Fprintln(&b, brief(&cases[i]))
	}
	return b.String()
}

func TestTAP(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"plan first": {"1..2\nok 1 - a\nnot ok 2 b\n", "passed s: a\nfailed s: b\n"},
		"plan last":  {"TAP version 13\nok - a\nok\n1..2\n", "passed s: a\npassed s: test 2\n"},
		"directives": {"1..7\nnot ok 1 - a # TODO later\nok 2 - b # todo\nok 3 # SKIP no tool\nok 4 - x # Skipped: none\n" +
			"not ok 5 skips # SKIP\nok 6 - \\# 1 \\\\ # no directive\nok 7 - c#skip\n",
			"skipped s: a | TODO later\npassed s: b\nskipped s: test 3 | no tool\nskipped s: x | none\nskipped s: skips\npassed s: # 1 \\ # no directive\npassed s: c#skip\n"},
		"all skipped":     {"1..0 # Skipped: no tool\n", "skipped s: (all tests) | no tool\n"},
		"too few":         {"1..3\nok 1\nnot ok 2\n", "passed s: test 1\nfailed s: test 2\nerror s: (plan) | 3 tests were planned and 2 ran\n"},
		"too many":        {"1..1\nok 1 a\nok 2 b\n", "passed s: a\npassed s: b\nerror s: (plan) | 1 tests were planned and 2 ran\n"},
		"none of plan":    {"1..3\n", "error s: (plan) | 3 tests were planned and 0 ran\n"},
		"no plan":         {"ok 1 a\nok 2 b\n", "passed s: a\npassed s: b\nerror s: (plan) | there is no plan after 2 tests: the output may be cut short\n"},
		"second plan":     {"1..2\nok 1 a\n1..2\nok 2 b\n", "passed s: a\npassed s: b\nerror s: (plan) | there is a second plan\n"},
		"plan between":    {"ok 1 a\n1..2\nok 2 b\n", "passed s: a\npassed s: b\nerror s: (plan) | test 2 came after the plan at the end\n"},
		"twice":           {"1..3\nok 1 a\nok 1 b\nok 2 c\n", "passed s: a\npassed s: b\npassed s: c\nerror s: (plan) | test 1 came twice\n"},
		"beyond":          {"1..2\nok 1 a\nok 3 b\n", "passed s: a\npassed s: b\nerror s: (plan) | test 3 is beyond the plan of 2\n"},
		"in any order":    {"1..3\nok 3 a\nok 1 b\nok 2 c\n", "passed s: a\npassed s: b\npassed s: c\n"},
		"bail out":        {"1..3\nok 1 a\nBail out! no disk\nok 2 b\n", "passed s: a\nerror s: (bail out) | no disk\n"},
		"version 14":      {"TAP version 14\npragma +strict\n1..1\nok 1 - a\n", "passed s: a\n"},
		"output":          {"1..1\nokay then\nnot okay\nok1\n ok 1 - indented by one\nok 1 - a\r\n", "passed s: a\n"},
		"several runs":    {"1..1\nok 1 a\n1..1\nok 1 b\nTAP version 13\nok 1 c\n1..1\nok 1 d\n1..1\n", "passed s: a\npassed s: b\npassed s: c\npassed s: d\n"},
		"a run cut":       {"1..2\nok 1 a\nTAP version 13\n1..1\nok 1 b\n", "passed s: a\nerror s: (plan) | 2 tests were planned and 1 ran\npassed s: b\n"},
		"comments":        {"1..2\nnot ok 1 a\n# (in file x, line 2)\n#  more\nok 2 b\n# nobody's\n", "failed s: a | (in file x, line 2)\npassed s: b\n"},
		"YAML":            {"1..3\nnot ok 1 a\n  ---\n  message: 'it''s \"bad\"'\n  at: { line: 1 }\n  ...\nnot ok 2 b\n  ---\n  error: |-\n    one\n    two\n  duration_ms: 1500\n  ...\nnot ok 3 c\n  ---\n  severity: fail\n  ...\n", "failed s: a | it's \"bad\"\nfailed s: b | one\nfailed s: c | severity: fail\n"},
		"YAML, no end":    {"1..2\nnot ok 1 a\n  ---\n  message: bad\nok 2 b\n", "failed s: a | bad\npassed s: b\n"},
		"bats --timing":   {"1..2\nok 1 a in 12ms\nnot ok 2 b in 3sec\n", "passed s: a\nfailed s: b\n"},
		"subtests":        {"1..2\n# Subtest: in\n    1..2\n    ok 1 - x\n    # Subtest: deep\n        ok 1 - y\n        1..1\n    ok 2 - deep\nok 1 - in\nok 2 - out\n", "passed s/in: x\npassed s/in/deep: y\npassed s/in: deep\npassed s: in\npassed s: out\n"},
		"inner comment":   {"1..1\n    # Subtest: in\n    ok 1 x\n    1..1\nok 1 in\n", "passed s/in: x\npassed s: in\n"},
		"bare subtest":    {"1..1\n    ok 1 - x\n    1..1\nok 1 - in\n", "passed s/in: x\npassed s: in\n"},
		"subtest's plan":  {"1..1\n# Subtest: in\n    1..2\n    ok 1 x\nnot ok 1 - in\n", "passed s/in: x\nerror s/in: (plan) | 2 tests were planned and 1 ran\nfailed s: in\n"},
		"no such subtest": {"1..1\n    ok 12 cups\n    not ok then\nok 1 - a\n", "passed s: a\n"},
		"subtest to do":   {"1..1\n    not ok 1 - x\n    1..1\nnot ok 1 - in # TODO later\n", "skipped s/in: x\nskipped s: in | TODO later\n"},
		"subtest alone":   {"1..1\n# Subtest: in\n    not ok 1 - x\n    1..1\n", "failed s/in: x\nerror s: (plan) | 1 tests were planned and 0 ran\n"},
		"prove -v":        {"t/a.t .. \n1..1\nok 1 - a\nok\nt/b.t .. \nok 1 - b\n1..1\nok\nAll tests successful.\n", "passed t/a.t: a\npassed t/b.t: b\n"},
		"odd bytes":       {"1..1\nnot ok 1 - a\xff\x1b[1m\n# \xfe\n", "failed s: a\uFFFD\uFFFD[1m | \uFFFD\n"},
	} {
		cases, err := ReadTAP("s", strings.NewReader(c.in))
		if err != nil || briefs(cases) != c.want {
			t.Errorf("%s: %v, got\n%swant\n%s", name, err, briefs(cases), c.want)
		}
	}
}

func TestTAPOfNothing(t *testing.T) {
	for _, in := range []string{"", "make: nothing to be done\n", "# Subtest: x\n", "  ---\n"} {
		if cases, err := ReadTAP("", strings.NewReader(in)); !errors.Is(err, ErrNone) || cases != nil {
			t.Errorf("%q: %v, %v", in, cases, err)
		}
	}
}

func TestTAPWithoutSuite(t *testing.T) {
	for _, in := range []string{
		"1..1\n# Subtest: in\n    # Subtest: x\n        ok 1 y\n        1..1\n    ok 1 x\n    1..1\nok 1 in\n",
		"1..1\n    # Subtest: in\n        # Subtest: x\n        ok 1 y\n        1..1\n    ok 1 x\n    1..1\nok 1 in\n",
	} {
		cases, err := ReadTAP("", strings.NewReader(in))
		if want := "passed in/x: y\npassed in: x\npassed in\n"; err != nil || briefs(cases) != want {
			t.Errorf("%v, got\n%swant\n%s", err, briefs(cases), want)
		}
	}
}

func TestTAPKeepsBothEndsOfDetail(t *testing.T) {
	in := "1..1\nnot ok 1 a\n# first\n" + strings.Repeat("# noise of é\n", 10_000) + "# last\n"
	cases, err := ReadTAP("", strings.NewReader(in))
	if err != nil || len(cases) != 1 {
		t.Fatal(cases, err)
	}
	d := cases[0].Detail
	if len(d) > MaxDetail || !strings.HasPrefix(d, "first\n") || !strings.HasSuffix(d, "\nlast") || !strings.Contains(d, clipMark) {
		t.Errorf("%d bytes, %.40q", len(d), d)
	}
}

func TestHugeTAPTakesLittleMemory(t *testing.T) {
	line := strings.Repeat("output ", 1000) + "\n"
	relkittest.Allocates(t, 1<<20, func() {
		if _, err := ReadTAP("", repeat("1..1\nnot ok 1 a\n", "# "+line+line, 3000, "")); err != nil {
			t.Error(err)
		}
		if _, err := ReadTAP("", repeat("1..1\nok 1 a\n", strings.TrimSuffix(line, "\n"), 3000, "")); err != nil {
			t.Error(err)
		}
	})
}

// checkCases is what holds of the cases of any input.
func checkCases(t *testing.T, cases []Case, err error) {
	t.Helper()
	if err != nil && cases != nil {
		t.Error("cases with an error")
	}
	for _, c := range cases {
		if len(c.Detail) > MaxDetail || len(c.Message) > MaxName || len(c.Name) > MaxName || len(c.Class) > MaxName || len(c.Suite) > MaxName || c.Duration < 0 {
			t.Errorf("out of bounds: %+v", c)
		}
		if !utf8.ValidString(c.Suite + c.Class + c.Name + c.Message + c.Detail) {
			t.Errorf("not UTF-8: %+v", c)
		}
		switch c.Status {
		case Passed, Failed, Errored, Skipped:
		default:
			t.Errorf("status of %+v", c)
		}
	}
}

func FuzzReadTAP(f *testing.F) {
	f.Add([]byte("TAP version 14\n1..2\n# Subtest: a\n    ok 1 - b # SKIP c\n    1..1\nok 1 - a\nnot ok 2 # TODO d\n  ---\n  message: 'x'\n  ...\n# e\n"))
	f.Add([]byte("ok 1 a in 5ms\nBail out! x\n1..0 # skip\n"))
	f.Add([]byte("1..1\nok 1\nok\nt/a.t ..\n1..1\nnot ok 1 \\# # todo\n    1..1\n        ok 9\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var cases []Case
		var err error
		relkittest.Allocates(t, 1<<20+1024*uint64(len(in)), func() { cases, err = ReadTAP("suite", strings.NewReader(string(in))) })
		checkCases(t, cases, err)
	})
}
