package testresult

import (
	"encoding/xml"
	"io"
	"slices"
	"strings"
)

// ReadJUnit reads JUnit XML, as surefire, Ant, gtest, ctest, bats and pytest
// write it: a root of testsuites or testsuite, suites in suites, any declared
// charset, and control characters that XML does not allow. There is no
// standard; what the runners agree on is at
// https://github.com/testmoapp/junitxml, and what surefire adds for tests that
// are run again at
// https://maven.apache.org/surefire/maven-surefire-plugin/xsd/surefire-test-report.xsd.
// Properties are passed over: surefire's are the whole environment.
func ReadJUnit(r io.Reader) ([]Case, error) {
	j := &junit{}
	if err := readXML("JUnit XML", r, j, "testsuites", "testsuite"); err != nil {
		return nil, err
	}
	return j.cases, nil
}

// junit is a reader's state.
type junit struct {
	keeper
	suites []string // the suites around, each with the names of those around it
	test   Case     // the case around
	depth  int      // of the test's element; 0 outside of one
	kind   string   // type of what decided its status
	// broken is a test that stands for its suite: it ends one element earlier.
	broken bool
	// detail is the text of what decided the test's status, output that of its
	// system-out and system-err.
	detail, output clip
	// taking is which of them takes the text of the element at depth from.
	taking *clip
	from   int
	// ofCTest is a file of ctest --output-junit.
	ofCTest bool
}

func (j *junit) start(e *elements, name string, t xml.StartElement) error {
	depth := len(e.stack)
	switch {
	case j.depth > 0 && depth == j.depth+1:
		j.inCase(depth, name, t)
	case j.depth > 0:
	case name == "testsuite":
		j.suites = append(j.suites, cut(strings.Join(append(slices.Clip(j.suites[max(0, len(j.suites)-1):]), attr(t, "name")), "/"), MaxName))
	case name == "testcase":
		j.begin(depth, t)
	case depth > 1 && e.stack[depth-2] == "testsuite" && (name == "error" || name == "failure"):
		// A suite that broke outside of its tests.
		j.begin(depth-1, xml.StartElement{})
		j.test.Name, j.broken = "(suite)", true
		j.outcome(depth, name, t)
	}
	return nil
}

func (j *junit) begin(depth int, t xml.StartElement) {
	j.depth, j.broken, j.kind = depth, false, ""
	j.detail, j.output = clip{head: j.detail.head[:0], tail: j.detail.tail[:0]}, clip{head: j.output.head[:0], tail: j.output.tail[:0]}
	j.test = Case{
		Class: cut(attr(t, "classname"), MaxName), Name: cut(attr(t, "name"), MaxName),
		Status: Passed, Duration: seconds(attr(t, "time")),
	}
	if len(j.suites) > 0 {
		j.test.Suite = j.suites[len(j.suites)-1]
	}
	// gtest and ctest mark what did not run in attributes alone.
	switch strings.ToLower(attr(t, "status")) {
	case "notrun", "disabled", "skipped":
		j.test.Status = Skipped
	}
	switch strings.ToLower(attr(t, "result")) {
	case "skipped", "suppressed":
		j.test.Status = Skipped
	}
}

// inCase takes an element directly below a testcase.
func (j *junit) inCase(depth int, name string, t xml.StartElement) {
	switch name {
	case "system-out", "system-err":
		j.take(&j.output, depth)
	default:
		j.outcome(depth, name, t)
	}
}

func (j *junit) take(c *clip, depth int) {
	if c.size() > 0 {
		c.write([]byte("\n"))
	}
	j.taking, j.from = c, depth
}

// outcome takes an element that may say how the test ended. The worst one
// decides; gtest writes several failures of one test. rerunFailure and
// rerunError, which stand beside the failure that they repeat, say nothing new.
func (j *junit) outcome(depth int, name string, t xml.StartElement) {
	s := Passed
	switch name {
	case "failure":
		s = Failed
	case "error":
		s = Errored
	case "skipped":
		s = Skipped
		if j.ofCTest && !leftOut(attr(t, "message")) {
			s = Errored
		}
	case "flakyFailure", "flakyError": // surefire: it failed, then passed
		if j.test.Flaky || j.test.Status != Passed {
			return
		}
		j.test.Flaky = true
	default:
		return
	}
	switch {
	case rank(s) < rank(j.test.Status):
		return
	case rank(s) > rank(j.test.Status), j.test.Message == "" && j.detail.size() == 0:
		j.test.Status = s
		j.test.Flaky = j.test.Flaky && !s.Bad()
		j.detail = clip{}
		j.test.Message, j.kind = cut(attr(t, "message"), MaxName), cut(attr(t, "type"), MaxName)
	}
	j.take(&j.detail, depth)
}

func rank(s Status) int {
	switch s {
	case Skipped:
		return 1
	case Failed:
		return 2
	case Errored:
		return 3
	}
	return 0
}

// text takes the text of an element, and of surefire's stackTrace within it.
func (j *junit) text(e *elements, data []byte) {
	if j.taking != nil && (len(e.stack) == j.from || len(e.stack) == j.from+1 && e.top() == "stackTrace") {
		j.taking.write(data)
	}
}

func (j *junit) end(e *elements, name string) error {
	depth := len(e.stack) + 1 // of the element that ends
	if j.taking != nil && depth == j.from {
		j.taking = nil
	}
	switch {
	case j.depth > 0 && (depth == j.depth || j.broken && depth == j.depth+1):
		j.depth = 0
		if err := j.close(); err != nil {
			return err
		}
	case j.depth > 0:
		return nil
	}
	if name == "testsuite" {
		j.suites = j.suites[:len(j.suites)-1]
	}
	return nil
}

// close ends the case around. What a failing test wrote is its detail where
// the failure itself has none, as ctest's never has.
func (j *junit) close() error {
	c := j.test
	detail := strings.TrimSpace(j.detail.String())
	if c.Message == "" {
		c.Message, _, _ = strings.Cut(detail, "\n")
		c.Message = cut(c.Message, MaxName)
	}
	if c.Message == "" && c.Status != Passed {
		c.Message = j.kind
	}
	if c.Status.Bad() && detail == "" {
		detail = strings.TrimSpace(j.output.String())
	}
	c.Detail = detail
	return j.add(c)
}
