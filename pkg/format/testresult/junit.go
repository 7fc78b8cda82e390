package testresult

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// MaxFile is how much of one result file is read, in bytes.
const MaxFile = 256 << 20

// maxDepth bounds how deep elements stand in each other.
const maxDepth = 64

// ReadJUnit reads JUnit XML, as surefire, Ant, gtest, ctest, bats and pytest
// write it: a root of testsuites or testsuite, suites in suites, any declared
// charset, and control characters that XML does not allow. There is no
// standard; what the runners agree on is at
// https://github.com/testmoapp/junitxml. Text beyond the bounds of a Case is
// dropped while it is read, so memory is bounded by the number of cases.
func ReadJUnit(r io.Reader) ([]Case, error) {
	limited := &io.LimitedReader{R: r, N: MaxFile + 1}
	clean, err := cleanXML(limited)
	if err != nil {
		return nil, fmt.Errorf("reading JUnit XML: %w", err)
	}
	d := xml.NewDecoder(clean)
	// cleanXML has made it UTF-8, whatever the declaration says.
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	j := &junit{}
	err = j.read(d)
	if err == nil && limited.N <= 0 {
		err = fmt.Errorf("more than %d bytes", MaxFile)
	}
	if err != nil {
		line, _ := d.InputPos()
		return nil, fmt.Errorf("reading JUnit XML: line %d: %w", line, err)
	}
	return j.cases, nil
}

// junit is a reader's state: the elements around the current place.
type junit struct {
	cases  []Case
	suites []string // names of the suites around
	stack  []string // names of the elements around
	// test is the case around; nil outside of one.
	test *Case
	// text takes character data of a failure, error or skipped element.
	text *strings.Builder
	root bool
}

func (j *junit) read(d *xml.Decoder) error {
	for {
		tok, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			switch {
			case len(j.stack) > 0:
				return fmt.Errorf("the file ends within element %q", j.stack[len(j.stack)-1])
			case !j.root:
				return errors.New("no testsuites or testsuite element")
			}
			return nil
		}
		if err != nil {
			return plainSyntax(err)
		}
		switch t := tok.(type) {
		case xml.StartElement:
			err = j.start(t)
		case xml.EndElement:
			err = j.end(t.Name.Local)
		case xml.CharData:
			if j.text != nil && j.text.Len() < MaxDetail {
				j.text.Write(t[:min(len(t), MaxDetail-j.text.Len())])
			}
		}
		if err != nil {
			return err
		}
	}
}

// plainSyntax drops the line number that the caller adds.
func plainSyntax(err error) error {
	var se *xml.SyntaxError
	if errors.As(err, &se) {
		return errors.New(se.Msg)
	}
	return err
}

func (j *junit) start(t xml.StartElement) error {
	name := t.Name.Local
	if len(j.stack) == maxDepth {
		return fmt.Errorf("elements stand more than %d deep", maxDepth)
	}
	if len(j.stack) == 0 {
		if j.root {
			return fmt.Errorf("second root element %q", name)
		}
		if name != "testsuites" && name != "testsuite" {
			return fmt.Errorf("root element %q, want testsuites or testsuite", name)
		}
		j.root = true
	}
	j.stack = append(j.stack, name)
	switch {
	case name == "testsuite":
		j.suites = append(j.suites, cut(attr(t, "name"), MaxName))
	case name == "testcase" && j.test == nil:
		return j.startCase(t)
	case j.parent() == "testcase" && j.test != nil:
		j.outcome(name, t)
	case j.parent() == "testsuite" && (name == "error" || name == "failure"):
		// A suite that broke outside of its tests.
		if err := j.startCase(xml.StartElement{}); err != nil {
			return err
		}
		j.test.Name = "(suite)"
		j.outcome(name, t)
	}
	return nil
}

// parent is the element around the one that was just opened.
func (j *junit) parent() string {
	if len(j.stack) < 2 {
		return ""
	}
	return j.stack[len(j.stack)-2]
}

func (j *junit) startCase(t xml.StartElement) error {
	if len(j.cases) == MaxCases {
		return fmt.Errorf("more than %d tests", MaxCases)
	}
	j.cases = append(j.cases, Case{
		Suite: cut(strings.Join(j.suites, "/"), MaxName), Class: cut(attr(t, "classname"), MaxName), Name: cut(attr(t, "name"), MaxName),
		Status: Passed, Duration: seconds(attr(t, "time")),
	})
	j.test = &j.cases[len(j.cases)-1]
	// gtest and ctest mark what did not run in attributes alone.
	switch strings.ToLower(attr(t, "status")) {
	case "notrun", "disabled", "skipped":
		j.test.Status = Skipped
	}
	switch strings.ToLower(attr(t, "result")) {
	case "skipped", "suppressed":
		j.test.Status = Skipped
	}
	return nil
}

// outcome takes an element directly below a testcase.
func (j *junit) outcome(name string, t xml.StartElement) {
	worst := func(s Status) bool {
		if rank(s) <= rank(j.test.Status) {
			return false
		}
		j.test.Status = s
		return true
	}
	said := false
	switch name {
	case "failure":
		said = worst(Failed)
	case "error":
		said = worst(Errored)
	case "skipped":
		said = worst(Skipped)
	case "flakyFailure", "flakyError": // surefire: failed, then passed
		j.test.Flaky = true
		said = j.test.Message == "" && j.test.Status == Passed
	}
	if !said {
		return
	}
	j.test.Message = cut(attr(t, "message"), MaxName)
	if kind := attr(t, "type"); j.test.Message == "" {
		j.test.Message = cut(kind, MaxName)
	}
	j.text = &strings.Builder{}
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

func (j *junit) end(name string) error {
	if len(j.stack) == 0 || j.stack[len(j.stack)-1] != name {
		return fmt.Errorf("unexpected end of element %q", name)
	}
	parent := j.parent()
	j.stack = j.stack[:len(j.stack)-1]
	if j.text != nil && (parent == "testcase" || parent == "testsuite") {
		j.test.Detail = cut(strings.TrimSpace(j.text.String()), MaxDetail)
		if j.test.Message == "" {
			j.test.Message, _, _ = strings.Cut(j.test.Detail, "\n")
			j.test.Message = cut(j.test.Message, MaxName)
		}
		j.text = nil
		if parent == "testsuite" {
			j.test = nil
		}
	}
	switch {
	case name == "testcase" && !within(j.stack, "testcase"):
		j.test = nil
	case name == "testsuite":
		j.suites = j.suites[:len(j.suites)-1]
	}
	return nil
}

func within(stack []string, name string) bool {
	for _, s := range stack {
		if s == name {
			return true
		}
	}
	return false
}

func attr(t xml.StartElement, name string) string {
	for _, a := range t.Attr {
		if a.Name.Local == name && a.Name.Space == "" {
			return a.Value
		}
	}
	return ""
}

// seconds reads a decimal number of seconds; surefire groups its digits
// ("1,234.5"). What is no number is 0.
func seconds(s string) time.Duration {
	f, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(s), ",", ""), 64)
	if err != nil || math.IsNaN(f) || f < 0 {
		return 0
	}
	return time.Duration(min(f, 1e9) * float64(time.Second))
}

// cut is at most n bytes of s, in whole characters, owned by nobody else.
func cut(s string, n int) string {
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return strings.Clone(s)
}
