// Package testresult reads what test runners write. It holds what a result is
// and a reader for each format.
package testresult

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Format is how results are written down.
type Format string

// The formats, each with a reader of its own.
const (
	JUnit  Format = "junit"
	TAP    Format = "tap"
	GoTest Format = "gotest"
	CTest  Format = "ctest"
)

// ErrNone is text that holds nothing of the format.
var ErrNone = errors.New("no test results in it")

// Read reads results. Suite names those whose format does not: TAP has no name
// for a file of tests. What the runner's output itself shows to be wrong - fewer
// tests than planned, a package that does not build - is a Case of status
// Errored whose name stands in parentheses, so that the tests that did run are
// not lost; an error is text that cannot be read, and comes without cases.
func Read(f Format, suite string, r io.Reader) ([]Case, error) {
	switch f {
	case JUnit:
		return ReadJUnit(r)
	case TAP:
		return ReadTAP(suite, r)
	case GoTest:
		return ReadGoTest(r)
	case CTest:
		return ReadCTest(r)
	}
	return nil, fmt.Errorf("reading test results: unknown format %q", f)
}

// Status is how a test ended.
type Status string

// The ways a test ends. Errored is a test that broke instead of failing.
const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	Errored Status = "error"
	Skipped Status = "skipped"
)

// Bad tells whether the status makes a build fail.
func (s Status) Bad() bool { return s == Failed || s == Errored }

// Case is one test of one run.
type Case struct {
	// Suite, Class and Name together tell a test from all others of a build.
	// Nested suites are joined by "/".
	Suite  string
	Class  string
	Name   string
	Status Status
	// Flaky is a test that passed only when it was run again.
	Flaky    bool
	Duration time.Duration
	// Message is why it did not pass, in a line where the runner has one; Detail
	// is the rest or the test's output, at most MaxDetail bytes of it.
	Message string
	Detail  string
}

// Bounds on what a reader keeps, in bytes.
const (
	MaxName   = 1 << 10
	MaxDetail = 16 << 10
)

// Bounds on one file: the number of its cases, and the bytes of all their names
// and of all their messages and details together. Without the latter two a file
// of 256 MiB that repeats one long suite name would fill the memory of a build host.
const (
	MaxCases   = 1_000_000
	maxNames   = 64 << 20
	maxDetails = 64 << 20
)

// ID names the test within its build: class and name as runners print it, with
// the suite in front where that says more than the class does.
func (c *Case) ID() string {
	id := c.Name
	if c.Class != "" {
		id = c.Class + "." + c.Name
	}
	if c.Suite != "" && c.Suite != c.Class {
		id = c.Suite + ": " + id
	}
	return id
}

// Counts sums up cases.
type Counts struct{ Total, Passed, Failed, Errored, Skipped, Flaky int }

// Add counts a case.
func (n *Counts) Add(c *Case) {
	n.Total++
	switch c.Status {
	case Passed:
		n.Passed++
	case Failed:
		n.Failed++
	case Errored:
		n.Errored++
	case Skipped:
		n.Skipped++
	}
	if c.Flaky {
		n.Flaky++
	}
}

var errNames = fmt.Errorf("names of tests of more than %d bytes together", maxNames)

// keeper collects the cases of one file within its bounds.
type keeper struct {
	cases          []Case
	names, details int
}

func (k *keeper) add(c Case) error {
	k.names += len(c.Suite) + len(c.Class) + len(c.Name)
	switch {
	case len(k.cases) == MaxCases:
		return fmt.Errorf("more than %d tests", MaxCases)
	case k.names > maxNames:
		return errNames
	}
	message, detail := c.Message, c.Detail
	c.Message, c.Detail = "", ""
	k.cases = append(k.cases, c)
	k.explain(&k.cases[len(k.cases)-1], message, detail)
	return nil
}

// explain sets why a case did not pass, unless others have said too much already.
func (k *keeper) explain(c *Case, message, detail string) {
	k.details -= len(c.Message) + len(c.Detail)
	c.Message, c.Detail = "", ""
	if k.details+len(message)+len(detail) > maxDetails {
		return
	}
	c.Message, c.Detail = message, detail
	k.details += len(message) + len(detail)
}

// cut is at most n bytes of s, in whole characters, owned by nobody else.
func cut(s string, n int) string {
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return strings.Clone(s)
}

// label makes one line of text that is fit for a name: UTF-8 without control
// characters, at most MaxName bytes.
func label(s string) string {
	if len(s) > 2*MaxName {
		s = s[:2*MaxName]
	}
	s = strings.Map(func(r rune) rune {
		if r != '\t' && unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return cut(strings.TrimSpace(s), MaxName)
}

// clip keeps the beginning and the end of a text that comes in pieces: a test's
// first words and its last say more than its middle.
type clip struct {
	head, tail []byte
	dropped    bool
}

const clipMark = "\n[...]\n"

// clipHalf is how much of either end is kept, in bytes.
const clipHalf = (MaxDetail - len(clipMark)) / 2

func (c *clip) write(p []byte) {
	if n := min(clipHalf-len(c.head), len(p)); n > 0 {
		c.head = append(c.head, p[:n]...)
		p = p[n:]
	}
	if len(p) > clipHalf {
		p, c.dropped = p[len(p)-clipHalf:], true
		c.tail = c.tail[:0]
	}
	c.tail = append(c.tail, p...)
	if len(c.tail) >= 2*clipHalf { // moving the end once in a while is cheap
		c.tail = append(c.tail[:0], c.tail[len(c.tail)-clipHalf:]...)
		c.dropped = true
	}
}

// size is how many bytes are held.
func (c *clip) size() int { return len(c.head) + len(c.tail) }

func (c *clip) String() string {
	head, tail, mark := c.head, c.tail, ""
	if len(tail) > clipHalf {
		tail = tail[len(tail)-clipHalf:]
	}
	if c.dropped || len(tail) < len(c.tail) {
		mark = clipMark
		// What was cut within a character begins or ends with a part of it.
		for i := 0; i < utf8.UTFMax-1 && len(tail) > 0 && !utf8.RuneStart(tail[0]); i++ {
			tail = tail[1:]
		}
		head = bytes.TrimSuffix(head, partOfRune(head))
	}
	text := string(head) + mark + string(tail)
	if !utf8.ValidString(text) {
		// A replacement is longer than what it replaces.
		text = cut(strings.ToValidUTF8(text, "\uFFFD"), MaxDetail)
	}
	return strings.Trim(text, "\n")
}

// partOfRune is the beginning of a character at the end of b.
func partOfRune(b []byte) []byte {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if last := b[len(b)-n:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				return last
			}
			break
		}
	}
	return nil
}
