package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/strict"
)

// The schemas of what a build leaves, relkit-build-record(5).
const (
	BuildSchema        = "relkit.build/v1"
	BuildTestsSchema   = "relkit.build-tests/v1"
	BuildHistorySchema = "relkit.build-history/v1"
)

// Limits on what is read, in bytes.
const (
	MaxBuild        = 16 << 20
	MaxBuildTests   = 256 << 20
	MaxBuildHistory = 64 << 10 // one line
)

// BuildStatus is how a build, or a step of one, ended.
type BuildStatus string

// The ways a build ends. A step is skipped when one before it failed.
const (
	BuildSuccess     BuildStatus = "success"
	BuildFailed      BuildStatus = "failed"      // a step or a test: the code's fault
	BuildError       BuildStatus = "error"       // the infrastructure's fault
	BuildInterrupted BuildStatus = "interrupted" // stopped by a signal, or killed
	BuildSkipped     BuildStatus = "skipped"
)

func (s BuildStatus) valid() bool {
	switch s {
	case BuildSuccess, BuildFailed, BuildError, BuildInterrupted:
		return true
	}
	return false
}

// Build is build.json: what was built from what, how, and what came of it.
type Build struct {
	Schema  string `json:"schema"`
	Project string `json:"project"`
	// Builder is the builder's name, with its cell of a matrix: "fw[cc=gcc,os=el9]".
	Builder string      `json:"builder"`
	Number  int         `json:"number"`
	Status  BuildStatus `json:"status"`
	// Reason is why it was built: "asked", "change", "forced", "try", or "schedule"
	// or "dependent" where a time or another build made it due.
	Reason string `json:"reason"`
	// Schedule is the schedule that had it built.
	Schedule string `json:"schedule,omitempty"`
	// Error says what went wrong where Status is error or interrupted, and
	// which step failed where it is failed.
	Error string `json:"error,omitempty"`
	// Version is the project's version, where it configures one.
	Version         string    `json:"version,omitempty"`
	Started         time.Time `json:"started"`
	Finished        time.Time `json:"finished"`
	DurationSeconds float64   `json:"duration_seconds"`
	// SourceDateEpoch is what SOURCE_DATE_EPOCH was for the steps, in seconds.
	SourceDateEpoch int64             `json:"source_date_epoch"`
	Relkit          BuildRelkit       `json:"relkit"`
	Worker          BuildWorker       `json:"worker"`
	Matrix          map[string]string `json:"matrix,omitempty"`
	// Set holds what --set gave.
	Set     map[string]string `json:"set,omitempty"`
	Sources []BuildSource     `json:"sources"`
	// Try are the diffs that were applied to the sources: what was built is of no
	// revision, and is neither a builder's last build nor what others go by.
	Try     []BuildDiff   `json:"try,omitempty"`
	Needs   []BuildNeed   `json:"needs,omitempty"`
	Changes []BuildChange `json:"changes"`
	Steps   []BuildStep   `json:"steps"`
	Tests   *BuildTests   `json:"tests,omitempty"`
	// Slower holds at most MaxBuildTestNames steps and tests.
	Slower    []BuildSlower   `json:"slower,omitempty"`
	Artifacts []BuildArtifact `json:"artifacts"`
	// Repro is the second build that this one was compared with, where it was.
	Repro *BuildRepro `json:"repro,omitempty"`
	// SBOM are the bills of materials.
	SBOM []BuildSBOM `json:"sbom,omitempty"`
	// Provenance is what was signed about the build, where it was.
	Provenance *BuildProvenance `json:"provenance,omitempty"`
}

// BuildSBOM is a bill of materials of the artifacts.
type BuildSBOM struct {
	// Format is cyclonedx or spdx.
	Format string `json:"format"`
	// Path is SBOMFile of the format.
	Path      string        `json:"path"`
	SizeBytes int64         `json:"size_bytes"`
	Digest    digest.Digest `json:"digest"`
}

// SBOMFile is the bill of a format, in the build's folder.
func SBOMFile(format string) string { return "sbom." + format + ".json" }

// ProvenanceFile is a build's signed provenance, in the build's folder.
const ProvenanceFile = "provenance.dsse.json"

// BuildProvenance is the signed provenance of a build.
type BuildProvenance struct {
	// Path is ProvenanceFile.
	Path      string        `json:"path"`
	SizeBytes int64         `json:"size_bytes"`
	Digest    digest.Digest `json:"digest"`
	// Key is the fingerprint of the key that signed.
	Key string `json:"key"`
}

// BuildRelkit is the relkit that built.
type BuildRelkit struct {
	Version string `json:"version"`
}

// BuildWorker is where it was built.
type BuildWorker struct {
	Name string `json:"name"`
	Kind string `json:"kind"` // local, ssh, openssh or slurm
	Host string `json:"host,omitempty"`
	OS   string `json:"os"`   // as GOOS has it
	Arch string `json:"arch"` // as GOARCH has it
	// Slots is how many things the steps were told to do at a time.
	Slots int `json:"slots"`
	// MemoryBound is how limits.mem was held: "cgroup", or "address-space" of each process.
	MemoryBound string `json:"memory_bound,omitempty"`
}

// BuildSource is the exact state of one source.
type BuildSource struct {
	Name     string    `json:"name"`
	VCS      string    `json:"vcs"`
	URL      string    `json:"url"`
	Branch   string    `json:"branch,omitempty"`
	Revision string    `json:"revision"`
	Time     time.Time `json:"time"`
	Checkout string    `json:"checkout"`
	// Count is the number of commits up to Revision, where the source can tell.
	Count int `json:"count,omitempty"`
}

// BuildDiff is a diff that a try build was made with.
type BuildDiff struct {
	Source string `json:"source"`
	// Path is where it is kept, from the build's folder: "try/01-fw.diff".
	Path      string        `json:"path"`
	SizeBytes int64         `json:"size_bytes"`
	Digest    digest.Digest `json:"digest"`
}

// BuildNeed is a build whose artifacts this one was given.
type BuildNeed struct {
	Builder string `json:"builder"`
	Number  int    `json:"number"`
	// Artifacts are as that build's record has them.
	Artifacts []BuildArtifact `json:"artifacts"`
}

// BuildChange is one commit since the builder's previous build, newest first.
type BuildChange struct {
	Source   string    `json:"source"`
	Revision string    `json:"revision"`
	Author   string    `json:"author"`
	Email    string    `json:"email"`
	Time     time.Time `json:"time"`
	Subject  string    `json:"subject"`
}

// BuildStep is how one step went.
type BuildStep struct {
	Number int         `json:"number"`
	Name   string      `json:"name"`
	Argv   []string    `json:"argv"`
	Status BuildStatus `json:"status"`
	// Reason is why it ended: exit, timeout, idle, output, canceled, start; or
	// tests, where the program succeeded and a test did not; or flaky, where the
	// program failed because of flaky tests alone, which the step does not mind.
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
	// Exit is the exit status, 128+n after signal n; null for a step that did not run.
	Exit *int `json:"exit"`
	// Attempts counts how often it was run; the rest is of the last time.
	Attempts        int     `json:"attempts"`
	DurationSeconds float64 `json:"duration_seconds"`
	UserSeconds     float64 `json:"user_seconds"`
	SystemSeconds   float64 `json:"system_seconds"`
	MaxRSSBytes     int64   `json:"max_rss_bytes"`
	// Swept counts processes that the step left behind and that were killed.
	Swept int `json:"swept,omitempty"`
	// Log is the log's path from the build's folder; "" for a step that did not run.
	Log string `json:"log,omitempty"`
}

// BuildTests sums up the tests of all steps; tests.json has each.
type BuildTests struct {
	Total   int `json:"total"`
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Errored int `json:"errored"`
	Skipped int `json:"skipped"`
	Flaky   int `json:"flaky"`
	// Excused counts those of Failed and Errored that are known to be flaky and were
	// not held against the build.
	Excused int `json:"excused,omitempty"`
	// NewlyFailing and NewlyFixed compare with the newest of the builder's last
	// builds that ran the test; at most MaxBuildTestNames each.
	NewlyFailing []string `json:"newly_failing"`
	NewlyFixed   []string `json:"newly_fixed"`
	// FlakyTests are those that Flaky counts: they passed only when they were run
	// again, or failed, are known to do both, and were not held against the build.
	FlakyTests []string `json:"flaky_tests"`
}

// BuildSlower is a step, or a test of one, that took much longer than it used to.
type BuildSlower struct {
	Step string `json:"step"`
	// Test is the test's ID; "" for the step itself.
	Test            string  `json:"test,omitempty"`
	DurationSeconds float64 `json:"duration_seconds"`
	// MedianSeconds is of the last builds in which it succeeded; Builds counts them.
	MedianSeconds float64 `json:"median_seconds"`
	Builds        int     `json:"builds"`
}

// MaxBuildTestNames bounds the names of tests in a build record.
const MaxBuildTestNames = 100

// BuildArtifact is a file, or a symlink, that the build is kept for.
type BuildArtifact struct {
	// Path is vis(3)-escaped, from the build's folder: "artifacts/out/fw.img".
	Path      string        `json:"path"`
	SizeBytes int64         `json:"size_bytes"`
	Digest    digest.Digest `json:"digest"`
	// Mode is four octal digits.
	Mode string `json:"mode"`
	// Target is a symlink's text, escaped; its size is 0 and its digest "".
	Target string `json:"target,omitempty"`
}

// DecodeBuild reads build.json strictly.
func DecodeBuild(data []byte) (*Build, error) {
	b := &Build{}
	if err := strict.Decode(data, MaxBuild, b); err != nil {
		return nil, fmt.Errorf("reading a build record: %w", err)
	}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("reading a build record: %w", err)
	}
	return b, nil
}

// Encode writes the record as relkit writes build.json: indented, for people
// read it. It is an error where DecodeBuild would not take it back.
func (b *Build) Encode() ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("writing a build record: %w", err)
	}
	c := *b
	c.Sources, c.Changes, c.Steps, c.Artifacts = full(b.Sources), full(b.Changes), full(b.Steps), full(b.Artifacts)
	c.Needs = slices.Clone(b.Needs)
	for i := range c.Needs {
		c.Needs[i].Artifacts = full(c.Needs[i].Artifacts)
	}
	if b.Tests != nil {
		t := *b.Tests
		t.NewlyFailing, t.NewlyFixed, t.FlakyTests = full(t.NewlyFailing), full(t.NewlyFixed), full(t.FlakyTests)
		c.Tests = &t
	}
	c.Repro = b.Repro.full()
	line, err := strict.Encode(&c)
	if err != nil {
		return nil, fmt.Errorf("writing a build record: %w", err)
	}
	return indent(line)
}

func (b *Build) check() error {
	switch {
	case b.Schema != BuildSchema:
		return fmt.Errorf("schema %q, want %q", b.Schema, BuildSchema)
	case b.Builder == "":
		return errors.New("no builder")
	case b.Number < 1:
		return fmt.Errorf("build number %d", b.Number)
	case !b.Status.valid():
		return fmt.Errorf("unknown status %q", b.Status)
	}
	for i, s := range b.Steps {
		if !s.Status.valid() && s.Status != BuildSkipped {
			return fmt.Errorf("step %d: unknown status %q", i+1, s.Status)
		}
		if err := checkLog(s.Log, "log/"); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	for _, d := range b.Try {
		if !strings.HasPrefix(d.Path, "try/") || path.Clean(d.Path) != d.Path || d.Source == "" || d.SizeBytes < 0 || d.Digest.IsZero() {
			return fmt.Errorf("try: bad diff %q of source %q", d.Path, d.Source)
		}
	}
	for _, n := range b.Needs {
		if n.Builder == "" || n.Number < 1 {
			return fmt.Errorf("need: bad build %q %d", n.Builder, n.Number)
		}
		if err := checkArtifacts(n.Artifacts); err != nil {
			return fmt.Errorf("need %s/%d: %w", n.Builder, n.Number, err)
		}
	}
	if b.Repro != nil {
		if err := b.Repro.check(); err != nil {
			return fmt.Errorf("repro: %w", err)
		}
	}
	for i, s := range b.SBOM {
		if s.Format != "cyclonedx" && s.Format != "spdx" || s.Path != SBOMFile(s.Format) || s.SizeBytes < 1 || s.Digest.IsZero() || i > 0 && b.SBOM[i-1].Format >= s.Format {
			return fmt.Errorf("sbom: bad file %q", s.Path)
		}
	}
	if p := b.Provenance; p != nil && (p.Path != ProvenanceFile || p.SizeBytes < 1 || p.Digest.IsZero()) {
		return fmt.Errorf("provenance: bad file %q", p.Path)
	}
	return checkArtifacts(b.Artifacts)
}

// IsTry tells whether it is a try build.
func (b *Build) IsTry() bool { return len(b.Try) > 0 }

func checkLog(log, dir string) error {
	if log != "" && !strings.HasPrefix(log, dir) || log != "" && path.Clean(log) != log {
		return fmt.Errorf("bad log path %q", log)
	}
	return nil
}

func checkArtifacts(list []BuildArtifact) error {
	for _, a := range list {
		name, err := manifest.Unescape(a.Path)
		if err != nil {
			return fmt.Errorf("artifact: %w", err)
		}
		if !manifest.ValidPath(name) || !strings.HasPrefix(name, "artifacts/") {
			return fmt.Errorf("artifact: bad path %q", a.Path)
		}
		if a.SizeBytes < 0 || (a.Target == "") == a.Digest.IsZero() {
			return fmt.Errorf("artifact %q: want a size and a digest, or a target", a.Path)
		}
	}
	return nil
}

// indent lays out one line of JSON over several.
func indent(line []byte) ([]byte, error) {
	var b bytes.Buffer
	err := json.Indent(&b, line, "", "  ")
	return b.Bytes(), err
}

// full gives lists that are empty their brackets: null is for what is not known.
func full[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
