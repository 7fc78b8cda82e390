package record

import (
	"fmt"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/format/strict"
)

// BuildTestResults is tests.json.
type BuildTestResults struct {
	Schema  string      `json:"schema"`
	Builder string      `json:"builder"`
	Number  int         `json:"number"`
	Tests   []BuildTest `json:"tests"`
}

// BuildTest is one test.
type BuildTest struct {
	// ID tells the test from all others of the builder.
	ID     string `json:"id"`
	Step   string `json:"step"`
	Suite  string `json:"suite,omitempty"`
	Class  string `json:"class,omitempty"`
	Name   string `json:"name"`
	Status string `json:"status"` // passed, failed, error, skipped
	// Flaky is a test that passed only when it was run again, or that failed, is
	// known to do both, and was not held against the build.
	Flaky           bool    `json:"flaky,omitempty"`
	DurationSeconds float64 `json:"duration_seconds"`
	// MedianSeconds is of the last builds in which it passed, where it is much
	// slower now.
	MedianSeconds float64 `json:"median_seconds,omitempty"`
	Message       string  `json:"message,omitempty"`
	Detail        string  `json:"detail,omitempty"`
	// File is where the result stood, escaped, from the work tree; "-" is the
	// step's standard output.
	File string `json:"file"`
}

// DecodeBuildTests reads tests.json strictly.
func DecodeBuildTests(data []byte) (*BuildTestResults, error) {
	t := &BuildTestResults{}
	if err := strict.Decode(data, MaxBuildTests, t); err != nil {
		return nil, fmt.Errorf("reading test results: %w", err)
	}
	if t.Schema != BuildTestsSchema {
		return nil, fmt.Errorf("reading test results: schema %q, want %q", t.Schema, BuildTestsSchema)
	}
	return t, nil
}

// Encode writes tests.json.
func (t *BuildTestResults) Encode() ([]byte, error) {
	c := *t
	c.Tests = full(t.Tests)
	line, err := strict.Encode(&c)
	if err != nil {
		return nil, fmt.Errorf("writing test results: %w", err)
	}
	return indent(line)
}

// BuildEvent is one line of history.jsonl: a build that has ended.
type BuildEvent struct {
	Schema          string      `json:"schema"`
	Builder         string      `json:"builder"`
	Number          int         `json:"number"`
	Status          BuildStatus `json:"status"`
	Reason          string      `json:"reason"`
	Error           string      `json:"error,omitempty"`
	Version         string      `json:"version,omitempty"`
	Started         time.Time   `json:"started"`
	DurationSeconds float64     `json:"duration_seconds"`
	Worker          string      `json:"worker"`
	// Revisions maps the names of sources to what was built of them.
	Revisions   map[string]string `json:"revisions"`
	TestsTotal  int               `json:"tests_total"`
	TestsFailed int               `json:"tests_failed"`
	Artifacts   int               `json:"artifacts"`
	// Untold says whom the build could not be told to, and why: a line each,
	// "mail by smtp://mx: connection refused".
	Untold []string `json:"untold,omitempty"`
}

// maxEventText bounds the free text of a line of history, in bytes.
const maxEventText = 1 << 10

// Event is the build's line of history.
func (b *Build) Event() BuildEvent {
	e := BuildEvent{Schema: BuildHistorySchema, Builder: b.Builder, Number: b.Number, Status: b.Status, Reason: b.Reason,
		Error: b.Error, Version: b.Version, Started: b.Started, DurationSeconds: b.DurationSeconds, Worker: b.Worker.Name,
		Revisions: map[string]string{}, Artifacts: len(b.Artifacts)}
	if len(e.Error) > maxEventText {
		e.Error = strings.ToValidUTF8(e.Error[:maxEventText], "")
	}
	for _, s := range b.Sources {
		e.Revisions[s.Name] = s.Revision
	}
	if b.Tests != nil {
		e.TestsTotal, e.TestsFailed = b.Tests.Total, b.Tests.Failed+b.Tests.Errored
	}
	return e
}

// Encode writes the line, its newline included.
func (e BuildEvent) Encode() ([]byte, error) {
	line, err := strict.Encode(e)
	if err != nil {
		return nil, fmt.Errorf("writing history: %w", err)
	}
	return line, nil
}

// DecodeBuildEvent reads one line of history.
func DecodeBuildEvent(line []byte) (BuildEvent, error) {
	var e BuildEvent
	if err := strict.Decode(line, MaxBuildHistory, &e); err != nil {
		return e, fmt.Errorf("reading history: %w", err)
	}
	if e.Schema != BuildHistorySchema || e.Builder == "" || e.Number < 1 || !e.Status.valid() {
		return e, fmt.Errorf("reading history: not a build: schema %q, builder %q, number %d, status %q", e.Schema, e.Builder, e.Number, e.Status)
	}
	return e, nil
}
