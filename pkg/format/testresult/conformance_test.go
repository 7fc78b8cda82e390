package testresult

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// conformance is one row: a real test runner, the format it writes, and what
// relkit reads of it. Each format needs its rows here.
var conformance = []struct {
	name   string
	format Format
	needs  []string
	files  map[string]string
	// run is a script in the folder of files; its end is not looked at, for
	// tests fail in each. read is the file it writes, "" for standard output.
	run, read string
	want      string // brief of each case, sorted
	detail    string // what the detail of the first failing case has in it
}{
	{"bats tap", TAP, []string{"bats"}, batsFiles, "bats --tap t.bats", "", batsTAP + "skipped skips | no tool\n", "printed"},
	{"bats tap with times", TAP, []string{"bats"}, batsFiles, "bats --tap -T t.bats", "", batsTAP + "skipped skips | no tool\n", "printed"},
	{"bats tap13", TAP, []string{"bats"}, batsFiles, "bats --formatter tap13 t.bats", "", batsTAP + "skipped skips | no tool\n", "printed"},
	{"bats junit", JUnit, []string{"bats"}, batsFiles, "bats --formatter junit t.bats >out.xml", "out.xml",
		"failed t.bats.fails # it | (in test file t.bats, line 2)\npassed t.bats.adds\nskipped t.bats.skips | no tool\n", "printed"},
	{"Test::More", TAP, []string{"perl"}, perlFiles, "perl t.t 2>&1", "", perlTAP, "at t.t line 3"},
	{"prove", TAP, []string{"prove"}, perlFiles, "cp t.t u.t; prove --merge -v t.t u.t", "", proveTAP, "at t.t line 3"},
	{"node tap", TAP, []string{"node"}, map[string]string{"t.mjs": nodeTests}, "node --test-reporter=tap t.mjs", "",
		"failed fails | one is\nfailed outer | 1 subtest failed\nfailed outer/mid: in bad | boom\nfailed outer: mid | 1 subtest failed\n" +
			"passed adds\npassed outer/mid: in ok\nskipped later # it | TODO\nskipped skip | no tool\n", "AssertionError"},
	{"ctest Test.xml", CTest, []string{"cmake", "ctest"}, cmakeFiles, "cmake -S . -B b && cd b && ctest -T Test; cp Testing/*/Test.xml ../out.xml", "out.xml", ctestBriefs, "oh no"},
	{"ctest --output-junit", CTest, []string{"cmake", "ctest"}, cmakeFiles, "cmake -S . -B b && cd b && ctest --output-junit ../out.xml", "out.xml",
		"error Linux-unknown: gone.gone | Unable to find executable\nerror Linux-unknown: needs.needs | Fixture dependency failed\nfailed Linux-unknown: bad.bad\nfailed Linux-unknown: slow.slow\n" +
			"passed Linux-unknown: good.good\nskipped Linux-unknown: left.left | SKIP_RETURN_CODE=77\nskipped Linux-unknown: off.off\n", "oh no"},
	{"gtest", JUnit, []string{"g++", "/usr/include/gtest/gtest.h"}, map[string]string{"t.cc": gtestTests},
		"g++ -O0 -o t t.cc -lgtest -lgtest_main -lpthread && ./t --gtest_output=xml:out.xml", "out.xml",
		"failed Math.Fails | t.cc:3\npassed Math.Adds\nskipped Math.DISABLED_Off\nskipped Math.Left | t.cc:5\n", "second < failure"},
	{"surefire", JUnit, []string{"mvn", "javac", "/usr/share/java/junit4.jar", "/usr/share/maven-repo/org/apache/maven/plugins/maven-surefire-plugin"}, javaFiles,
		"mkdir -p target/test-classes && javac -encoding UTF-8 -cp /usr/share/java/junit4.jar -d target/test-classes CalcTest.java && " +
			"mvn -o -q -Dmaven.repo.local=/usr/share/maven-repo -Dsurefire.rerunFailingTestsCount=2 surefire:test; cp target/surefire-reports/TEST-*.xml out.xml", "out.xml",
		"error CalcTest.breaks | boom\nfailed CalcTest.fails | größe expected:<3> but was:<2>\nflaky passed CalcTest.flaky | run 1\npassed CalcTest.adds\nskipped CalcTest.ignored | later\n", "CalcTest.java"},
	{"ant junit", JUnit, []string{"ant", "javac", "/usr/share/java/junit4.jar", "/usr/share/ant/lib/ant-junit4.jar"}, javaFiles,
		"mkdir -p classes && javac -encoding UTF-8 -cp /usr/share/java/junit4.jar -d classes CalcTest.java && ant -q -lib /usr/share/java/junit4.jar; cp TEST-*.xml out.xml", "out.xml",
		"error CalcTest.breaks | boom\nfailed CalcTest.fails | größe expected:<3> but was:<2>\nfailed CalcTest.flaky | run 1\npassed CalcTest.adds\nskipped CalcTest.ignored\n", "CalcTest.java"},
	{"pytest", JUnit, []string{"pytest-3"}, map[string]string{"test_calc.py": pytestTests}, "pytest-3 -q --junitxml=out.xml", "out.xml",
		"error pytest: test_calc.test_breaks | failed on setup with \"RuntimeError: boom\"\nfailed pytest: test_calc.TestMany.test_of[2] | assert 2 == 1\nfailed pytest: test_calc.test_fails | assert (1 + 1) == 3\n" +
			"passed pytest: test_calc.TestMany.test_of[1]\npassed pytest: test_calc.test_adds\nskipped pytest: test_calc.test_skips | no tool\nskipped pytest: test_calc.test_xfails | later\n", "AssertionError"},
	{"go test", GoTest, []string{"go"}, goFiles, "go test -timeout 1s -json ./...", "", goBriefs, "printed"},
}

func TestConformance(t *testing.T) {
	for _, c := range conformance {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			for _, n := range c.needs {
				if _, err := os.Stat(n); strings.HasPrefix(n, "/") && err != nil {
					relkittest.Skip(t, "%s is not there (scripts/install-test-deps.sh installs it)", n)
				} else if !strings.HasPrefix(n, "/") {
					relkittest.Need(t, n)
				}
			}
			dir := t.TempDir()
			for name, text := range c.files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command("sh", "-c", c.run)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "GOFLAGS=-p=1", "GOWORK=off")
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run() // tests fail
			text := stdout.Bytes()
			if c.read != "" {
				var err error
				if text, err = os.ReadFile(filepath.Join(dir, c.read)); err != nil {
					t.Fatalf("%v\n%s%s", err, stdout.Bytes(), stderr.Bytes())
				}
			}
			cases, err := Read(c.format, "", bytes.NewReader(text))
			if got, want := sorted(briefs(cases)), sorted(c.want); err != nil || got != want {
				t.Errorf("%v, got\n%swant\n%sof\n%s%s", err, got, want, text, stderr.Bytes())
			}
			i := slices.IndexFunc(cases, func(c Case) bool { return c.Status == Failed })
			if i < 0 || !strings.Contains(cases[i].Detail, c.detail) {
				t.Errorf("no %q in the detail of the first failing test of %+v", c.detail, cases)
			}
		})
	}
}

func sorted(lines string) string {
	list := strings.SplitAfter(lines, "\n")
	slices.Sort(list)
	return strings.Join(list, "")
}

var batsFiles = map[string]string{"t.bats": `@test "adds" { [ 1 = 1 ]; }
@test "fails # it" { echo printed; [ 1 = 2 ]; }
@test "skips" { skip "no tool"; }
`}

const batsTAP = "failed fails # it | (in test file t.bats, line 2)\npassed adds\n"

var perlFiles = map[string]string{"t.t": `use Test::More;
ok(1, 'adds # 1');
is(3, 2, 'fails');
TODO: { local $TODO = 'later'; ok(0, 'todo fails'); ok(1, 'todo passes') }
SKIP: { skip 'no tool', 2; }
subtest inner => sub { plan tests => 2; ok(1, 'in'); ok(0, 'in bad'); };
done_testing;
`}

const (
	perlTAP = `failed fails | Failed test 'fails'
failed inner | Failed test 'inner'
failed inner: in bad | Failed test 'in bad'
passed adds # 1
passed inner: in
passed todo passes
skipped test 5 | no tool
skipped test 6 | no tool
skipped todo fails | TODO later
`
	proveTAP = `failed t.t/inner: in bad | Failed test 'in bad'
failed t.t: fails | Failed test 'fails'
failed t.t: inner | Failed test 'inner'
failed u.t/inner: in bad | Failed test 'in bad'
failed u.t: fails | Failed test 'fails'
failed u.t: inner | Failed test 'inner'
passed t.t/inner: in
passed t.t: adds # 1
passed t.t: todo passes
passed u.t/inner: in
passed u.t: adds # 1
passed u.t: todo passes
skipped t.t: test 5 | no tool
skipped t.t: test 6 | no tool
skipped t.t: todo fails | TODO later
skipped u.t: test 5 | no tool
skipped u.t: test 6 | no tool
skipped u.t: todo fails | TODO later
`
	nodeTests = `import test from 'node:test'; import assert from 'node:assert';
test('adds', () => {});
test('fails', () => { assert.strictEqual(1, 2, 'one is\nnot two') });
test('outer', async t => { await t.test('mid', async t => { await t.test('in ok', () => {}); await t.test('in bad', () => { throw new Error('boom') }) }) });
test('later # it', {todo: true}, () => { throw new Error('x') });
test('skip', {skip: 'no tool'}, () => {});
`
	pytestTests = `import pytest
def test_adds(): assert 1 + 1 == 2
def test_fails(): assert 1 + 1 == 3
@pytest.fixture
def broken(): raise RuntimeError("boom")
def test_breaks(broken): pass
@pytest.mark.skip(reason="no tool")
def test_skips(): pass
@pytest.mark.xfail(reason="later")
def test_xfails(): assert False
@pytest.mark.parametrize("x", [1, 2])
class TestMany:
    def test_of(self, x): assert x == 1
`
	gtestTests = `#include <gtest/gtest.h>
TEST(Math, Adds) { EXPECT_EQ(2, 1 + 1); }
TEST(Math, Fails) { EXPECT_EQ(3, 1 + 1); EXPECT_TRUE(false) << "second < failure"; }
TEST(Math, DISABLED_Off) {}
TEST(Math, Left) { RecordProperty("key", "value"); GTEST_SKIP() << "no tool"; }
`
	ctestBriefs = `error gone | Unable to find executable
error needs | Fixture dependency failed
error slow | Timeout
failed bad | exit status 1
passed good
skipped left | SKIP_RETURN_CODE=77
skipped off | Disabled
`
	goBriefs = `error example.com/t/b.(build) | b/b_test.go:4:28: undefined: undefined
error example.com/t/d.TestSlow/inner | panic: test timed out after 1s
error example.com/t/d.TestSlow | the package ended before it did
failed example.com/t/a.TestSub/x_y | want 3
failed example.com/t/a.TestSub | a subtest failed
failed example.com/t/c.TestPanic | panic: assignment to entry in nil map [recovered, repanicked]
passed example.com/t/a.TestOK
passed example.com/t/a.TestSub/ok
passed example.com/t/c.TestFine
skipped example.com/t/a.TestSkip | no tool
`
)

var cmakeFiles = map[string]string{"CMakeLists.txt": `cmake_minimum_required(VERSION 3.13)
project(x NONE)
include(CTest)
add_test(NAME good COMMAND sh -c "echo fine")
add_test(NAME bad COMMAND sh -c "echo oh no >&2; seq 10000; exit 1")
add_test(NAME left COMMAND sh -c "exit 77")
set_tests_properties(left PROPERTIES SKIP_RETURN_CODE 77)
add_test(NAME off COMMAND true)
set_tests_properties(off PROPERTIES DISABLED TRUE)
add_test(NAME slow COMMAND sleep 9)
set_tests_properties(slow PROPERTIES TIMEOUT 0.2)
add_test(NAME gone COMMAND /nonexistent/program)
set_tests_properties(bad PROPERTIES FIXTURES_SETUP f)
add_test(NAME needs COMMAND true)
set_tests_properties(needs PROPERTIES FIXTURES_REQUIRED f)
`}

var javaFiles = map[string]string{
	"CalcTest.java": `import static org.junit.Assert.*;
import org.junit.*;
public class CalcTest {
    static int runs;
    @Test public void adds() { assertEquals(2, 1 + 1); }
    @Test public void fails() { System.out.println("printed \u001b[1m"); assertEquals("größe", 3, 1 + 1); }
    @Test public void breaks() { throw new IllegalStateException("boom"); }
    @Test public void flaky() { assertTrue("run " + ++runs, runs > 1); }
    @Ignore("later") @Test public void ignored() {}
}
`,
	"pom.xml": `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>g</groupId><artifactId>a</artifactId><version>1</version>
<dependencies><dependency><groupId>junit</groupId><artifactId>junit</artifactId><version>4.x</version><scope>test</scope></dependency></dependencies>
</project>
`,
	"build.xml": `<project default="test"><target name="test"><junit fork="no"><classpath><pathelement location="classes"/><pathelement location="/usr/share/java/junit4.jar"/></classpath>
<formatter type="xml"/><test name="CalcTest"/></junit></target></project>
`,
}

var goFiles = map[string]string{
	"go.mod": "module example.com/t\ngo 1.24\n",
	"a/a_test.go": `package a
import ("fmt"; "testing")
func TestOK(t *testing.T) { fmt.Println("out") }
func TestSub(t *testing.T) {
	t.Run("x y", func(t *testing.T) { t.Parallel(); fmt.Println("printed"); t.Errorf("want %d\nsecond line", 3) })
	t.Run("ok", func(t *testing.T) { t.Parallel(); t.Log("hello") })
}
func TestSkip(t *testing.T) { t.Skip("no tool") }
`,
	"b/b_test.go": "package b\n\nimport \"testing\"\nfunc TestX(t *testing.T) { undefined() }\n",
	"c/c_test.go": "package c\nimport \"testing\"\nfunc TestFine(*testing.T) {}\nfunc TestPanic(t *testing.T) { var m map[string]int; m[\"a\"] = 1 }\n",
	"d/d_test.go": "package d\nimport (\"testing\"; \"time\")\nfunc TestSlow(t *testing.T) { t.Run(\"inner\", func(*testing.T) { time.Sleep(time.Minute) }) }\n",
	"e/e.go":      "package e\n",
}
