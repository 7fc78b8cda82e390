package notify

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
)

// maxErrors is how many lines of a log that tell of an error are shown beside its end.
const maxErrors = 5

// parts are what a text is made of. A mail of several builds says once what is the
// same of all, and less of each log.
type parts struct {
	Sentence string `json:"sentence"`
	Became   string `json:"became"`
	// Own are lines about this build alone, Shared about what was built, and
	// Changes of who has changed what, without the line Since above them.
	Own     string `json:"own"`
	Shared  string `json:"shared"`
	Since   string `json:"since,omitempty"`
	Changes string `json:"changes,omitempty"`
	// Commands reproduce the build and print its log.
	Commands string `json:"commands,omitempty"`
	// Says is the first line of the log that looks like an error.
	Says string `json:"says,omitempty"`
	// Step is whose log Errors and Tail are of: more lines that look like errors, and
	// the last ones, among which those are not.
	Step   string   `json:"step,omitempty"`
	Errors []string `json:"errors,omitempty"`
	Tail   []string `json:"tail,omitempty"`
}

// Text is the message, plain, and without the log where tail is false.
func (s *Situation) Text(f *Facts, tail bool) string { return s.parts(f, tail).text() }

func (s *Situation) parts(f *Facts, tail bool) *parts {
	p := &parts{Sentence: clean(s.sentence(), maxLine), Became: clean(s.became(), maxSubject), Shared: s.shared()}
	var errs []errorLine
	if tail {
		errs = errorsOf(f.Log)
	}
	if len(errs) > 0 {
		p.Says = errs[0].text
	}
	p.Own = s.own(f, p.Says)
	p.Since, p.Changes = s.changed()
	step := Step(s.Build)
	var t strings.Builder
	if s.Event != succeeded && s.Event != recovered {
		fmt.Fprintf(&t, "\nReproduce%s:\n  %s\n", on(f.Host), s.reproduce(f))
	}
	if step != nil && step.Log != "" {
		fmt.Fprintf(&t, "\nThe whole log%s:\n  %s\n", on(f.Host), f.command("--log", fmt.Sprintf("%s/%d/%s", s.Build.Builder, s.Build.Number, step.Name)))
	}
	p.Commands = t.String()
	if step != nil && tail {
		p.Step, p.Tail = step.Name, tailOf(f.Log)
		for _, l := range errs[min(1, len(errs)):] {
			if l.left >= len(p.Tail) {
				p.Errors = append(p.Errors, l.text)
			}
		}
	}
	return p
}

// on names a host.
func on(host string) string {
	if host == "" {
		return ""
	}
	return ", on " + clean(host, 80)
}

// text is the text of one build.
func (p *parts) text() string {
	var t strings.Builder
	fmt.Fprintf(&t, "%s\n\n%s%s", p.Sentence, p.Own, p.Shared)
	if p.Since != "" {
		fmt.Fprintf(&t, "\n%s\n%s", p.Since, p.Changes)
	}
	t.WriteString(p.Commands)
	p.log(&t, TailLines)
	return t.String()
}

// log writes the lines of the log, at most so many of its end.
func (p *parts) log(t *strings.Builder, most int) {
	if len(p.Errors) > 0 {
		fmt.Fprintf(t, "\nMore errors in the log of step %q:\n\n", p.Step)
		for _, l := range p.Errors {
			fmt.Fprintf(t, "  %s\n", l)
		}
	}
	if len(p.Tail) > 0 {
		fmt.Fprintf(t, "\nThe end of the log of step %q:\n\n", p.Step)
		for _, l := range p.Tail[max(0, len(p.Tail)-most):] {
			fmt.Fprintf(t, "  %s\n", l)
		}
	}
}

// own are the fields of this build.
func (s *Situation) own(f *Facts, says string) string {
	var t bytes.Buffer
	b := s.Build
	field := fields(&t)
	step := Step(b)
	switch {
	case step != nil:
		field("Step", "%s (%d of %d): %s", step.Name, step.Number, len(b.Steps), either(step.Error, string(step.Status)))
		if command := commandOf(step); command != "" {
			field("Command", "%s", command)
		}
		if says != "" {
			field("Says", "%s", says)
		}
	case b.Error != "":
		field("Error", "%s", b.Error)
	}
	if step != nil && s.Event == failedInfra {
		field("Error", "%s", b.Error)
	}
	s.testLines(&t, f, field)
	for _, d := range b.Try {
		field("Diff", "%s %s, %d bytes", d.Source, filepath.Join(f.Folder, d.Path), d.SizeBytes)
	}
	field("Worker", "%s (%s %s/%s)", b.Worker.Name, b.Worker.Host, b.Worker.OS, b.Worker.Arch)
	field("Built", "%s, %.1f s, reason: %s", b.Started.Format(time.RFC3339), b.DurationSeconds, b.Reason)
	if s.first != nil && s.first != b {
		s.since(field)
	}
	return t.String()
}

// fields writes lines "NAME     VALUE".
func fields(t *bytes.Buffer) func(name, format string, args ...any) {
	return func(name, format string, args ...any) {
		fmt.Fprintf(t, "%-9s %s\n", name, clean(fmt.Sprintf(format, args...), maxLine))
	}
}

// commandOf is what a step runs, as a shell takes it; of a script the first line.
func commandOf(step *record.BuildStep) string {
	if len(step.Argv) == 3 && step.Argv[0] == "/bin/sh" && strings.HasPrefix(step.Argv[1], "-e") {
		line, rest, _ := strings.Cut(strings.TrimSpace(step.Argv[2]), "\n")
		if strings.TrimSpace(rest) != "" {
			line += " …"
		}
		return line
	}
	words := make([]string, len(step.Argv))
	for i, w := range step.Argv {
		words[i] = failure.Word(w)
	}
	return strings.Join(words, " ")
}

// shared is what was built.
func (s *Situation) shared() string {
	var t bytes.Buffer
	field := fields(&t)
	for _, src := range s.Build.Sources {
		field("Revision", "%s %s %s", src.Name, src.Revision, src.Branch)
	}
	if s.Build.Version != "" {
		field("Version", "%s", s.Build.Version)
	}
	return t.String()
}

// changed are who has changed what, and the line above that.
func (s *Situation) changed() (since, changes string) {
	switch {
	case len(s.changes) == 0 && s.lastGood == nil:
		return "", ""
	case len(s.changes) == 0:
		return fmt.Sprintf("Nothing has changed since build %d, which was good.", s.lastGood.Number), ""
	case s.lastGood == nil:
		since = "Changes:"
	default:
		since = fmt.Sprintf("Changes since build %d, which was good:", s.lastGood.Number)
	}
	var t strings.Builder
	for i, c := range s.changes {
		if i == maxListed {
			fmt.Fprintf(&t, "  … and %d more\n", len(s.changes)-i)
			break
		}
		fmt.Fprintf(&t, "  %s\n", clean(fmt.Sprintf("%s %s %s <%s>: %s", c.Source, short(c.Revision), c.Author, c.Email, c.Subject), maxLine))
	}
	return since, t.String()
}

// wrong is a line of what compilers, linkers, make, tests and interpreters print
// where something goes wrong. "error" alone is too much: "-Werror", "error.o", "0 errors".
var wrong = regexp.MustCompile(`(?i)\b(fatal )?error: |\berror (ts|c|lnk|cs)?[0-9]+:|\bundefined reference to\b|\bcannot find -l|\bpanic: |^traceback |\bassert(ion)? .*fail|\bsegmentation fault\b|^\s*not ok [0-9]|^\s*--- fail: |^fatal: |\bno space left on device\b`)

// marks are what each line that wrong matches has one of, in lower case: looking
// for these takes a hundredth of the time, and a log is up to MaxLog bytes.
var marks = [][]byte{[]byte("error"), []byte("undefined reference"), []byte("cannot find -l"), []byte("panic: "), []byte("traceback "), []byte("assert"),
	[]byte("segmentation fault"), []byte("not ok "), []byte("--- fail: "), []byte("fatal: "), []byte("no space left on")}

// errorLine is a line of a log that tells of an error, left being how many are
// after it.
type errorLine struct {
	text string
	left int
}

// errorsOf are the first such lines of a log: where many compile at once, they are
// rarely at its end.
func errorsOf(log []byte) (found []errorLine) {
	log = bytes.TrimRight(log, "\n")
	left := bytes.Count(log, []byte("\n")) + 1
	for l := range bytes.Lines(log) {
		left--
		l = bytes.TrimRight(l[:min(len(l), 4*maxLine)], "\n")
		lower := bytes.ToLower(l)
		if !slices.ContainsFunc(marks, func(m []byte) bool { return bytes.Contains(lower, m) }) {
			continue
		}
		text := clean(string(l), maxLine)
		if !wrong.MatchString(text) {
			continue
		}
		found = append(found, errorLine{text, left})
		if len(found) == maxErrors {
			break
		}
	}
	return found
}
