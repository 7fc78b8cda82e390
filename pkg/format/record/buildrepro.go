package record

import (
	"fmt"
	"path"
	"strings"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
)

// The results of building twice.
const (
	ReproSame        = "same"        // every artifact is what it was
	ReproDifferent   = "different"   // at least one is not
	ReproFailed      = "failed"      // the second build failed
	ReproInterrupted = "interrupted" // it came to no answer
)

// MaxBuildDifferences bounds the differences in a build record.
const MaxBuildDifferences = 100

// BuildRepro is the second of two builds of the same, and how its artifacts compare
// with the first's.
type BuildRepro struct {
	Result string      `json:"result"`
	Worker BuildWorker `json:"worker"`
	// Vary are the circumstances that were to differ from those of the first.
	Vary []BuildVariation `json:"vary"`
	// Steps are those of the second build; their logs are below "repro/log/".
	Steps []BuildStep `json:"steps"`
	// Differ counts the artifacts that differ, Differences holds at most
	// MaxBuildDifferences of them.
	Differ      int               `json:"differ"`
	Differences []BuildDifference `json:"differences"`
	// Report is where diffoscope(1) says more, from the build's folder.
	Report string `json:"report,omitempty"`
}

// BuildVariation is a circumstance of the second build.
type BuildVariation struct {
	// What is as builder.repro.vary has it: "time".
	What   string `json:"what"`
	Varied bool   `json:"varied"`
	// How says what was different, or why nothing was.
	How string `json:"how"`
}

// BuildDifference is an artifact that came out different.
type BuildDifference struct {
	// Path is as in BuildArtifact.
	Path string `json:"path"`
	// What is content, mode, target, kind, or missing from the second build or extra in it.
	What string `json:"what"`
	// First and Second are the digests, modes or targets; "" for none.
	First  string `json:"first"`
	Second string `json:"second"`
	// Offset is where content begins to differ, in bytes; null for other differences.
	Offset *int64 `json:"offset"`
	// Inside says what stands there: `section ".rodata"`, `member "x": time`.
	Inside string `json:"inside,omitempty"`
	// FirstText and SecondText are what stands there, fit to print.
	FirstText  string `json:"first_text,omitempty"`
	SecondText string `json:"second_text,omitempty"`
}

func (r *BuildRepro) check() error {
	switch r.Result {
	case ReproSame, ReproDifferent, ReproFailed, ReproInterrupted:
	default:
		return fmt.Errorf("unknown result %q", r.Result)
	}
	for i, s := range r.Steps {
		if !s.Status.valid() && s.Status != BuildSkipped {
			return fmt.Errorf("step %d: unknown status %q", i+1, s.Status)
		}
		if err := checkLog(s.Log, "repro/log/"); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	if r.Differ < len(r.Differences) {
		return fmt.Errorf("%d differences, and %d are listed", r.Differ, len(r.Differences))
	}
	for _, d := range r.Differences {
		name, err := manifest.Unescape(d.Path)
		if err != nil || !manifest.ValidPath(name) || !strings.HasPrefix(name, "artifacts/") {
			return fmt.Errorf("bad path %q of an artifact", d.Path)
		}
		if d.What == "content" {
			for _, text := range []string{d.First, d.Second} {
				if _, err := digest.Parse(text); err != nil {
					return fmt.Errorf("artifact %q: %w", d.Path, err)
				}
			}
		}
	}
	if r.Report != "" && (!strings.HasPrefix(r.Report, "repro/") || path.Clean(r.Report) != r.Report) {
		return fmt.Errorf("bad path %q of a report", r.Report)
	}
	return nil
}

// full gives lists that are empty their brackets.
func (r *BuildRepro) full() *BuildRepro {
	if r == nil {
		return nil
	}
	c := *r
	c.Vary, c.Steps, c.Differences = full(r.Vary), full(r.Steps), full(r.Differences)
	return &c
}
