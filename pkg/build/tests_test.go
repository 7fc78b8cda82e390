package build

import (
	"fmt"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/format/record"
)

func summary(r *record.Build) string {
	n := r.Tests
	return fmt.Sprint(n.Total, n.Passed, n.Failed, n.Errored, n.Skipped, n.NewlyFailing, n.NewlyFixed)
}

func junitOf(cases string) string { return "<testsuite name=\"s\">" + cases + "</testsuite>" }

const (
	good = `<testcase classname="c" name="a"/>`
	bad  = `<testcase classname="c" name="a"><failure message="no"/></testcase>`
	more = `<testcase classname="c" name="b"/><testcase name="z"><skipped/></testcase>`
)

func TestTestsDecide(t *testing.T) {
	b := newBench(t, builder("mkdir -p out; cp in.xml out/TEST-a.xml", "", "tests = [\"junit:**/TEST-*.xml\"]"), map[string]string{"in.xml": junitOf(good + more)})
	r := b.must()
	if summary(r) != "3 2 0 0 1 [] []" {
		t.Error(summary(r))
	}
	b.commit(map[string]string{"in.xml": junitOf(bad + more)})
	r = b.fails(`step "all": 1 of 3 tests failed`)
	if summary(r) != "3 1 1 0 1 [s: c.a] []" || *r.Steps[0].Exit != 0 || r.Steps[0].Reason != "tests" {
		t.Error(summary(r), r.Steps[0])
	}
	if b.link("last-good") != "000001" {
		t.Error("last-good moved to a build whose tests failed")
	}
	if r = b.fails("tests failed"); len(r.Tests.NewlyFailing) != 0 {
		t.Errorf("still failing is not newly failing: %q", r.Tests.NewlyFailing)
	}
	b.commit(map[string]string{"in.xml": junitOf(good + more)})
	if r = b.must(); summary(r) != "3 2 0 0 1 [] [s: c.a]" {
		t.Error(summary(r))
	}
	tests, err := record.DecodeBuildTests([]byte(b.read("state/builds/fw/000002/tests.json")))
	if err != nil || len(tests.Tests) != 3 || tests.Tests[0].Status != "failed" || tests.Tests[0].Message != "no" || tests.Tests[0].File != "out/TEST-a.xml" {
		t.Errorf("%v, %+v", err, tests)
	}
}

// TestFailingTestsAreNamed: where the build is looked at, and in its log; the
// first line of each message, and no more than 20 of them.
func TestFailingTestsAreNamed(t *testing.T) {
	var cases strings.Builder
	for i := range 25 {
		fmt.Fprintf(&cases, `<testcase classname="c" name="t%02d"><failure message="line one&#10;line two"/></testcase>`, i)
	}
	b := newBench(t, builder("cp in.xml TEST-a.xml; echo output", "", "tests = [\"junit:TEST-*.xml\"]"), map[string]string{"in.xml": junitOf(good + cases.String())})
	b.fails("25 of 26 tests failed")
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	logs, err := p.Logs("fw/1")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	if err := logs[0].Lines(func(l LogLine) error {
		if l.Stream == "relkit" && (strings.HasPrefix(string(l.Text), "failed: ") || strings.HasPrefix(string(l.Text), "and ")) {
			named = append(named, string(l.Text))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(named) != 21 || named[0] != "failed: s: c.t00: line one" || named[20] != "and 5 more" {
		t.Errorf("the log names %q", named)
	}
	want := append([]string{"output"}, named...)
	for i, line := range b.shown {
		if i >= len(want) || !strings.HasSuffix(line, " "+want[i]) {
			t.Errorf("shown is\n%s\nwant\n%s", strings.Join(b.shown, "\n"), strings.Join(want, "\n"))
			break
		}
	}
	if len(b.shown) != len(want) {
		t.Errorf("%d lines are shown, want %d", len(b.shown), len(want))
	}
}

func TestResultsThatAreNotThere(t *testing.T) {
	b := newBench(t, builder("sh in", "", "tests = [\"junit:TEST-*.xml\"]"), map[string]string{"in": "true"})
	b.fails("no test results match")
	b.commit(map[string]string{"in": "echo '<testsuite>' >TEST-a.xml"})
	b.fails(`test results "TEST-a.xml": reading JUnit XML: line 2: the file ends within`)
	b.commit(map[string]string{"in": "[ -e TEST-a.xml ] && grep -q name TEST-a.xml || echo '" + junitOf(good) + "' >TEST-a.xml"})
	b.must()
	// make builds nothing that is up to date: an incremental build shows the results that stand.
	if r := b.must(); r.Tests.Passed != 1 {
		t.Errorf("%+v", r.Tests)
	}
	p, _ := Open(b.path("relkit.toml"), "")
	logs, err := p.Logs("fw/4/all")
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	var said bool
	_ = logs[0].Lines(func(l LogLine) error {
		said = said || strings.Contains(string(l.Text), "1 of 1 result files are of an earlier build")
		return nil
	})
	if !said {
		t.Error("the log does not say that results are old")
	}
}
