package build

import (
	"fmt"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
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

// TestResultsOnStandardOutput: the log keeps what the step wrote, the tests are
// read from it, and only from standard output.
func TestResultsOnStandardOutput(t *testing.T) {
	b := newBench(t, builder("cat in; echo 'not ok 9 of stderr' >&2", "", `tests = ["tap:-"]`), map[string]string{"in": "1..2\nok 1 - a\nnot ok 2 - b\n# why\n"})
	r := b.fails("1 of 2 tests failed")
	if summary(r) != "2 1 1 0 0 [b] []" || !strings.Contains(b.log("fw/1"), "not ok 2 - b\n") {
		t.Error(summary(r), b.log("fw/1"))
	}
	tests, err := record.DecodeBuildTests([]byte(b.read("state/builds/fw/000001/tests.json")))
	if err != nil || tests.Tests[1].File != "-" || tests.Tests[1].Message != "why" {
		t.Errorf("%v, %+v", err, tests)
	}
	b.commit(map[string]string{"in": "1..2\nok 1 - a\n"})
	if r = b.fails("1 of 2 tests failed"); summary(r) != "2 1 0 1 0 [(plan)] []" {
		t.Error(summary(r))
	}
	b.commit(map[string]string{"in": "nothing\n"})
	b.fails(`no test results match "tap:-"`)
	b.commit(map[string]string{"in": "1..2\nok 1 - a\nok 2 - b\n"})
	if r = b.must(); summary(r) != "2 2 0 0 0 [] [b]" {
		t.Error(summary(r))
	}
}

func TestGoTestOnStandardOutput(t *testing.T) {
	b := newBench(t, builder("cat in", "", `tests = ["gotest:-", "junit:*.xml"]`), map[string]string{
		"in":    `{"Action":"run","Package":"p","Test":"A"}` + "\n" + `{"Action":"fail","Package":"p","Test":"A"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n",
		"a.xml": junitOf(good)})
	if r := b.fails("1 of 2 tests failed"); summary(r) != "2 1 1 0 0 [p.A] []" {
		t.Error(summary(r))
	}
}

// TestHugeOutputWithTests: a stream of results that is cut off by a limit, and a
// reader that has given up, hold nothing up.
func TestHugeOutputWithTests(t *testing.T) {
	b := newBench(t, builder("echo 1..1; echo ok 1 - a; yes | head -c 40000000", "limits = { log = \"8M\" }", `tests = ["tap:-"]`), map[string]string{"in": ""})
	r := b.fails("")
	if summary(r) != "1 1 0 0 0 [] []" || r.Steps[0].Reason != "output" {
		t.Error(summary(r), r.Steps[0])
	}
}

// TestRetriedTestIsFlaky: a test that fails in one attempt and passes in the
// next one, in a file or on standard output.
func TestRetriedTestIsFlaky(t *testing.T) {
	const script = `n=$(cat n 2>/dev/null || echo 0); n=$((n+1)); echo $n >n
if [ $n = 1 ]; then cp bad.xml out.xml; printf '1..1\nnot ok 1 - x\n# once\n'; exit 1; fi
cp good.xml out.xml; printf '1..1\nok 1 - x\n'`
	files := map[string]string{"bad.xml": junitOf(bad), "good.xml": junitOf(good)}
	b := newBench(t, builder(script, "checkout = \"clean\"", "tests = [\"tap:-\", \"junit:out.xml\"]\nretry = { times = 1 }"), files)
	r := b.must()
	if summary(r) != "2 2 0 0 0 [] []" || fmt.Sprint(r.Tests.Flaky, r.Tests.FlakyTests, r.Tests.Excused) != "2 [x s: c.a] 0" || r.Steps[0].Attempts != 2 {
		t.Error(summary(r), r.Tests, r.Steps[0])
	}
	if !strings.Contains(strings.Join(b.shown, "\n"), "flaky: x: once") || !strings.Contains(b.notes.String(), "flaky: x, s: c.a") {
		t.Error(b.shown, b.notes.String())
	}
	b = newBench(t, builder(script, "checkout = \"clean\"", "tests = [\"tap:-\", \"junit:out.xml\"]\nretry = { times = 1 }\nflaky = \"fail\""), files)
	if r = b.fails("2 of 2 tests failed"); r.Tests.Flaky != 2 {
		t.Error(r.Tests)
	}
}

// TestFlakyTestsAreToldNotFailed: flaky = "warn".
func TestFlakyTestsAreToldNotFailed(t *testing.T) {
	script := func(result, status string) string { return "cp " + result + " out.xml; sleep 0.01; exit " + status }
	b := newBench(t, builder("sh script", "", "tests = [\"junit:out.xml\"]\nflaky = \"warn\""), map[string]string{"a.xml": junitOf(good + more), "b.xml": junitOf(bad + more), "script": "exit 9"})
	run := func(result, status string) string {
		t.Helper()
		// Out of the tree, so that the revision stays.
		b.write("script", script(b.path("repo", result), status))
		return b.path("script")
	}
	b.write("relkit.toml", head+builder("sh "+b.path("script"), "", "tests = [\"junit:out.xml\"]\nflaky = \"warn\""))
	run("a.xml", "0")
	b.must()
	// It has passed on this revision: now it is flaky, also for the program's status.
	run("b.xml", "1")
	r := b.must()
	if summary(r) != "3 1 1 0 1 [] []" || fmt.Sprint(r.Tests.Flaky, r.Tests.FlakyTests, r.Tests.Excused) != "1 [s: c.a] 1" || r.Steps[0].Reason != "flaky" || *r.Steps[0].Exit != 1 {
		t.Error(summary(r), r.Tests, r.Steps[0])
	}
	tests, err := record.DecodeBuildTests([]byte(b.read("state/builds/fw/000002/tests.json")))
	if err != nil || !tests.Tests[0].Flaky || tests.Tests[0].Status != "failed" {
		t.Errorf("%v, %+v", err, tests)
	}
	if !strings.Contains(strings.Join(b.shown, "\n"), "flaky: s: c.a: no") {
		t.Error(b.shown)
	}
	// On another revision too, for history knows it.
	b.commit(map[string]string{"other": ""})
	b.must()
	// Not where the program may have failed for another reason.
	b.write("script", "exit 1")
	b.fails("1 of 1 result files are of an earlier build")
	b.write("one.xml", junitOf(bad))
	b.write("script", script(b.path("one.xml"), "1"))
	b.fails("2 tests of build 4 have not run")
	// Five times in a row is broken.
	run("b.xml", "0")
	if r = b.fails("1 of 3 tests failed"); fmt.Sprint(r.Tests.NewlyFailing) != "[]" || r.Number != 6 {
		t.Error(r.Number, r.Tests)
	}
	// A test that never did both is not flaky.
	b.write("new.xml", junitOf(good+more+`<testcase classname="c" name="n"><failure/></testcase>`))
	b.write("script", script(b.path("new.xml"), "0"))
	if r = b.fails("1 of 4 tests failed"); fmt.Sprint(r.Tests.NewlyFailing, r.Tests.NewlyFixed) != "[s: c.n] [s: c.a]" {
		t.Error(r.Tests)
	}
}

// TestSlowerIsTold: a step and a test that take twice the median of the last
// builds, and a second more.
func TestSlowerIsTold(t *testing.T) {
	b := newBench(t, builder("cp in.xml out.xml; sleep $(cat t)", "", `tests = ["junit:out.xml"]`), map[string]string{"in.xml": junitOf(`<testcase name="a" time="2.0"/>`), "t": "0"})
	for range 3 {
		if r := b.must(); len(r.Slower) != 0 {
			t.Fatal(r.Slower)
		}
	}
	b.commit(map[string]string{"in.xml": junitOf(`<testcase name="a" time="4.5"/><testcase name="new" time="99"/>`), "t": "1.6"})
	r := b.must()
	if len(r.Slower) != 2 || r.Slower[0].Step != "all" || r.Slower[0].Test != "" || r.Slower[0].Builds != 3 || r.Slower[1] != (record.BuildSlower{Step: "all", Test: "s: a", DurationSeconds: 4.5, MedianSeconds: 2, Builds: 3}) {
		t.Errorf("%+v", r.Slower)
	}
	tests, err := record.DecodeBuildTests([]byte(b.read("state/builds/fw/000004/tests.json")))
	if err != nil || tests.Tests[0].MedianSeconds != 2 || tests.Tests[1].MedianSeconds != 0 {
		t.Errorf("%v, %+v", err, tests)
	}
	if !strings.Contains(b.notes.String(), "s: a 4.5 s after 2.0 s") {
		t.Error(b.notes.String())
	}
}

// TestNewlyFailingLooksFurtherBack: a build whose step with the tests never ran
// says nothing of them.
func TestNewlyFailingLooksFurtherBack(t *testing.T) {
	steps := "[[builder.step]]\nname = \"first\"\nsh = 'cp in1.xml o1.xml; test ! -e stop'\ntests = [\"junit:o1.xml\"]\n[[builder.step]]\nname = \"second\"\nsh = 'cp in2.xml o2.xml'\ntests = [\"junit:o2.xml\"]\n"
	b := newBench(t, "[[builder]]\nname = \"fw\"\nsources = [\"fw\"]\n"+steps, map[string]string{"in1.xml": junitOf(good), "in2.xml": junitOf(bad)})
	if r := b.fails("1 of 1 tests failed"); fmt.Sprint(r.Tests.NewlyFailing) != "[s: c.a]" {
		t.Error(r.Tests)
	}
	b.commit(map[string]string{"stop": ""})
	b.fails("exit status 1")
	b.git("rm", "-q", "stop")
	b.commit(nil)
	if r := b.fails("1 of 1 tests failed"); fmt.Sprint(r.Tests.NewlyFailing) != "[]" {
		t.Errorf("it failed before: %v", r.Tests)
	}
}

// TestCTestReadsTheNewestOfItsFolders: ctest -T Test leaves those of earlier runs.
func TestCTestReadsTheNewestOfItsFolders(t *testing.T) {
	ctest := func(status string) string {
		return "<Site><Testing><Test Status=\"" + status + "\"><Name>a</Name></Test></Testing></Site>"
	}
	b := newBench(t, builder("mkdir -p Testing/$(cat at); cp in.xml Testing/$(cat at)/Test.xml", "", `tests = ["ctest:Testing/*/Test.xml"]`), map[string]string{"in.xml": ctest("failed"), "at": "20260102-0000"})
	b.fails("1 of 1 tests failed")
	b.commit(map[string]string{"in.xml": ctest("passed"), "at": "20260101-0000"})
	if r := b.must(); summary(r) != "1 1 0 0 0 [] [a]" {
		t.Error(summary(r))
	}
}

// TestRealRunnersInABuild: bats on standard output, and ctest in a folder of its
// own each time.
func TestRealRunnersInABuild(t *testing.T) {
	relkittest.Need(t, "bats", "cmake", "ctest")
	b := newBench(t, builder("bats --tap t.bats || bad=1; cmake -S . -B b >/dev/null; cd b; ctest -T Test || bad=1; exit $bad", "", `tests = ["tap:-", "ctest:b/Testing/*/Test.xml"]`),
		map[string]string{"t.bats": "@test \"adds\" { true; }\n@test \"fails\" { false; }\n",
			"CMakeLists.txt": "cmake_minimum_required(VERSION 3.13)\nproject(x NONE)\ninclude(CTest)\nadd_test(NAME good COMMAND true)\nadd_test(NAME gone COMMAND /nonexistent)\n"})
	r := b.fails("2 of 4 tests failed")
	if summary(r) != "4 2 1 1 0 [fails gone] []" {
		t.Error(summary(r))
	}
}
