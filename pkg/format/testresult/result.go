// Package testresult reads what test runners write. It holds what a result is
// and a reader for each format.
package testresult

import "time"

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
	// Message is the first line of why it did not pass; Detail is the rest, at
	// most MaxDetail bytes of it.
	Message string
	Detail  string
}

// Bounds on what a reader keeps, in bytes.
const (
	MaxName   = 1 << 10
	MaxDetail = 16 << 10
)

// MaxCases bounds the cases of one file.
const MaxCases = 1_000_000

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
