package build

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/build/notify"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
)

// Explain tells what became of the build that BUILDER/N names, and why: what
// [[notify]] tells, and how each step went.
func (p *Project) Explain(ref string) (text string, notice *record.BuildNotice, err error) {
	builder, n, step, err := p.logRef(ref, false)
	if err != nil {
		return "", nil, err
	}
	if step != "" {
		return "", nil, failure.Errorf(failure.Usage, "bad build %q, want BUILDER/N", ref)
	}
	b, err := p.state.load(builder, n)
	if errors.Is(err, fs.ErrNotExist) {
		if cut, cerr := p.state.cutOff(builder, n); cut || cerr != nil {
			return "", nil, errors.Join(cerr, p.interruptedError(builder, n))
		}
		err = failure.Errorf(failure.Usage, "build %s/%d has not ended", builder, n)
		return "", nil, failure.WithHint(err, "relkit build --log %s --follow%s", failure.Word(fmt.Sprintf("%s/%d", builder, n)), p.given)
	}
	if err != nil {
		return "", nil, err
	}
	numbers, err := p.state.numbers(builder)
	if err != nil {
		return "", nil, err
	}
	at, _ := slices.BinarySearch(numbers, n)
	s, f := notify.Judge(b, p.state.before(builder, numbers[:at])), p.facts(b)
	return s.Text(f, true) + stepTable(b), s.Notice(f, true), nil
}

// reproLines tell of a second build and what it was built under.
func reproLines(t *strings.Builder, r *record.BuildRepro) {
	fmt.Fprintf(t, "\nBuilt again on %s: %s\n", r.Worker.Name, r.Result)
	for _, v := range r.Vary {
		not := ""
		if !v.Varied {
			not = "not varied: "
		}
		fmt.Fprintf(t, "  %-9s  %s%s\n", v.What, not, v.How)
	}
	for i := range r.Differences[:min(len(r.Differences), maxListedDifferences)] {
		fmt.Fprintf(t, "  differs: %s\n", differenceLine(&r.Differences[i]))
	}
	if n := r.Differ - maxListedDifferences; n > 0 {
		fmt.Fprintf(t, "  … and %d more\n", n)
	}
}

// maxListedDifferences is how many differences are told one by one.
const maxListedDifferences = 20

// stepTable is a line for each step, and what the build made.
func stepTable(b *record.Build) string {
	var t strings.Builder
	if len(b.Steps) > 0 {
		fmt.Fprintln(&t, "\nSteps:")
	}
	name := 0
	for _, s := range b.Steps {
		name = max(name, len(s.Name))
	}
	for _, s := range b.Steps {
		took := ""
		if s.Attempts > 0 {
			took = fmt.Sprintf("%.1f s", s.DurationSeconds)
		}
		line := fmt.Sprintf("  %-*s  %-11s %10s", name, s.Name, s.Status, took)
		if s.Attempts > 1 {
			line += fmt.Sprintf("  %d attempts", s.Attempts)
		}
		fmt.Fprintln(&t, strings.TrimRight(line, " "))
	}
	if b.Repro != nil {
		reproLines(&t, b.Repro)
	}
	for _, s := range b.Slower {
		what := "step " + s.Step
		if s.Test != "" {
			what = "test " + s.Test
		}
		fmt.Fprintf(&t, "  slower: %s: %.1f s, usually %.1f s\n", what, s.DurationSeconds, s.MedianSeconds)
	}
	if n := len(b.Artifacts); n > 0 {
		var size int64
		for _, a := range b.Artifacts {
			size += a.SizeBytes
		}
		fmt.Fprintf(&t, "\nArtifacts: %d files, %d bytes, after %v\n", n, size, b.Finished.Sub(b.Started).Round(100*time.Millisecond))
	}
	return t.String()
}
