package testresult

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// maxTAPLine is how much of a line of TAP is looked at, in bytes.
const maxTAPLine = 64 << 10

// maxTAPDepth is how deep subtests stand in each other.
const maxTAPDepth = 32

// ReadTAP reads the Test Anything Protocol, versions 12 to 14, with subtests:
// bats --tap, perl's Test::More, node's and many others'. What is not TAP is
// the tests' own output and passed over. Several runs may follow each other,
// each with a plan of its own, and so may prove -v show them. Too few or too
// many tests, tests out of order, a missing plan and "Bail out!" are cases of
// status Errored; a test that is still to do is skipped while it fails.
func ReadTAP(suite string, r io.Reader) ([]Case, error) {
	t := &tap{suite: cut(suite, MaxName)}
	l := newLines(r, maxTAPLine)
	var err error
	for err == nil {
		var line []byte
		if line, _, err = l.next(); err == nil {
			err = t.line(line)
		}
	}
	if errors.Is(err, io.EOF) {
		err = t.shrink(0)
	}
	if err == nil && !t.any {
		err = ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("reading TAP: %w", err)
	}
	return t.cases, nil
}

// tap is a reader's state.
type tap struct {
	keeper
	suite string
	// docs are the runs around: docs[0] is the one at the margin, each other the
	// subtests of a test of the one before it, whose own line is yet to come.
	docs []*tapDoc
	any  bool // something was TAP
	over bool // the tests have bailed out
	// yaml reads the block around; why is what the last test's block and comments
	// say, and message the line of it that matters.
	yaml    *tapYAML
	why     clip
	message string
}

// tapDoc is a run of tests under one plan.
type tapDoc struct {
	first  int // index of its first case
	points int // tests so far
	plan   int // -1 until there is one
	closed bool
	// seen are the tests' numbers, kept only once they are out of order.
	seen    map[int]bool
	highest int
	wrong   string // the first thing wrong with them
	last    int    // index of the case that comments and YAML are about, or -1
	// name is what a comment called it; next what a comment calls the subtests to come.
	name, next string
	// children is where the cases of subtests begin whose test is yet to come, -1
	// where there are none; childName is what a comment called them.
	children  int
	childName string
}

func (d *tapDoc) complete() bool { return d.plan >= 0 && d.points == d.plan }

// proveHeader is what prove -v prints in front of a file's tests: "t/a.t .. ".
var proveHeader = regexp.MustCompile(`^(\S+) \.{2,} ?$`)

func (t *tap) line(raw []byte) error {
	if t.over {
		return nil
	}
	text := bytes.TrimLeft(raw, " ")
	indent := len(raw) - len(text)
	if in, err := t.block(text, indent); in || err != nil {
		return err
	}
	l := parseTAP(text)
	depth := indent / 4
	switch {
	case l.kind == tapComment && indent%4 == 0 && depth < maxTAPDepth:
		t.comment(depth, l.comment)
		return nil
	case l.kind == tapOther || indent%4 != 0 || depth > len(t.docs) || depth >= maxTAPDepth:
		between := len(t.docs) == 0 || t.docs[0].complete()
		if m := proveHeader.FindSubmatch(raw); m != nil && between {
			name := label(string(m[1]))
			err := t.shrink(0)
			t.suite = name
			return err
		}
		return nil
	case l.kind == tapComment:
		return nil
	}
	t.any = true
	if err := t.shrink(depth + 1); err != nil {
		return err
	}
	switch l.kind {
	case tapVersion:
		return t.version(depth)
	case tapPlan:
		return t.plan(depth, l)
	case tapBail:
		t.over = true
		return t.add(Case{Suite: t.suite, Name: "(bail out)", Status: Errored, Message: l.text})
	}
	return t.point(depth, l)
}

// at is the run at a depth, begun if there is none.
func (t *tap) at(depth int) *tapDoc {
	if depth == len(t.docs) {
		d := &tapDoc{first: len(t.cases), plan: -1, last: -1, children: -1}
		if depth > 0 {
			parent := t.docs[depth-1]
			t.flush(parent)
			d.name, parent.childName, parent.next = parent.next, parent.next, ""
			if parent.children < 0 {
				parent.children = d.first
			}
		}
		t.docs = append(t.docs, d)
	}
	return t.docs[depth]
}

// version begins a run: also one that follows a run that was cut short.
func (t *tap) version(depth int) error {
	if d := t.at(depth); d.points > 0 || d.plan >= 0 {
		if err := t.shrink(depth); err != nil {
			return err
		}
		t.at(depth)
	}
	return nil
}

func (t *tap) plan(depth int, l tapLine) error {
	d := t.at(depth)
	if depth == 0 && d.complete() {
		if err := t.shrink(0); err != nil {
			return err
		}
		d = t.at(0)
	}
	t.flush(d)
	d.last = -1
	if d.plan >= 0 {
		d.wrong = "there is a second plan"
		return nil
	}
	d.plan, d.closed = l.plan, d.points > 0
	if l.plan == 0 && depth == 0 {
		return t.add(Case{Suite: t.suite, Name: "(all tests)", Status: Skipped, Message: l.reason})
	}
	return nil
}

func (t *tap) point(depth int, l tapLine) error {
	d := t.at(depth)
	if depth == 0 && d.complete() {
		switch {
		case l.ok && l.number == 0 && l.text == "" && l.directive == "":
			return nil // the verdict of prove -v
		case l.number == 1 && d.points > 0:
			if err := t.shrink(0); err != nil {
				return err
			}
			d = t.at(0)
		}
	}
	t.flush(d)
	d.count(l.number)
	c := Case{Suite: t.suite, Name: l.text, Status: Passed}
	c.Name, c.Duration = cutBatsTime(c.Name)
	if c.Name == "" {
		c.Name = fmt.Sprintf("test %d", d.points)
	}
	switch {
	case l.directive == "SKIP", l.directive == "TODO" && !l.ok:
		c.Status, c.Message = Skipped, l.reason
		if l.directive == "TODO" {
			c.Message = label("TODO " + l.reason)
		}
	case !l.ok:
		c.Status = Failed
	}
	if d.children >= 0 {
		if err := t.adopt(d.children, c.Name, c.Status == Skipped); err != nil {
			return err
		}
		d.children = -1
	}
	d.last, d.next = len(t.cases), ""
	return t.add(c)
}

// count checks a test's number, 0 where it has none.
func (d *tapDoc) count(number int) {
	if number == 0 {
		number = d.points + 1
	}
	if number != d.points+1 && d.seen == nil {
		d.seen = map[int]bool{}
		for i := range d.points {
			d.seen[i+1] = true
		}
	}
	switch {
	case d.wrong != "":
	case d.seen != nil && d.seen[number]:
		d.wrong = fmt.Sprintf("test %d came twice", number)
	case d.closed:
		d.wrong = fmt.Sprintf("test %d came after the plan at the end", number)
	}
	if d.seen != nil {
		d.seen[number] = true
	}
	d.points++
	d.highest = max(d.highest, number)
}

// adopt names the cases from first on after the test that they belong to; what
// fails in a test that is skipped or still to do does not count.
func (t *tap) adopt(first int, name string, skipped bool) error {
	was, is := "", "" // the suite of the case before, and what became of it
	for i := first; i < len(t.cases); i++ {
		c := &t.cases[i]
		if i == first || c.Suite != was {
			parts := []string{t.suite, name, strings.TrimPrefix(c.Suite[len(t.suite):], "/")}
			parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
			was, is = c.Suite, cut(strings.Join(parts, "/"), MaxName)
		}
		t.names += len(is) - len(c.Suite)
		c.Suite = is
		if skipped && c.Status.Bad() {
			c.Status = Skipped
		}
	}
	if t.names > maxNames {
		return errNames
	}
	return nil
}

// shrink ends the runs from a depth on.
func (t *tap) shrink(depth int) error {
	for len(t.docs) > depth {
		d := t.docs[len(t.docs)-1]
		t.flush(d)
		if d.children >= 0 { // whose own line never came
			if err := t.adopt(d.children, d.childName, false); err != nil {
				return err
			}
		}
		if err := t.check(d); err != nil {
			return err
		}
		t.docs = t.docs[:len(t.docs)-1]
	}
	return nil
}

// check compares a run that has ended with its plan.
func (t *tap) check(d *tapDoc) error {
	var wrong string
	switch {
	case t.over || d.points == 0 && d.plan < 0:
	case d.plan < 0 && len(t.docs) > 1 && d.name == "":
		// Output that looks like a subtest.
		for _, c := range t.cases[d.first:] {
			t.names -= len(c.Suite) + len(c.Name)
			t.details -= len(c.Message) + len(c.Detail)
		}
		t.cases = t.cases[:d.first]
		if parent := t.docs[len(t.docs)-2]; parent.children == d.first {
			parent.children = -1
		}
	case d.plan < 0:
		wrong = fmt.Sprintf("there is no plan after %d tests: the output may be cut short", d.points)
	case d.plan != d.points:
		wrong = fmt.Sprintf("%d tests were planned and %d ran", d.plan, d.points)
	case d.wrong != "":
		wrong = d.wrong
	case d.highest > d.plan:
		wrong = fmt.Sprintf("test %d is beyond the plan of %d", d.highest, d.plan)
	}
	if wrong == "" {
		return nil
	}
	return t.add(Case{Suite: t.suite, Name: "(plan)", Status: Errored, Message: wrong})
}
