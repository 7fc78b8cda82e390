package notify

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
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
	// Step is whose log Errors and Tail are of: lines that look like errors before
	// Tail, which are its last.
	Step   string   `json:"step,omitempty"`
	Errors []string `json:"errors,omitempty"`
	Tail   []string `json:"tail,omitempty"`
}

// Text is the message, plain, and without the log where tail is false.
func (s *Situation) Text(f *Facts, tail bool) string { return s.parts(f, tail).text() }

func (s *Situation) parts(f *Facts, tail bool) *parts {
	p := &parts{Sentence: clean(s.sentence(), maxLine), Became: clean(s.became(), maxSubject), Own: s.own(f), Shared: s.shared()}
	p.Since, p.Changes = s.changed()
	step := Step(s.Build)
	var t strings.Builder
	if s.Event != succeeded && s.Event != recovered {
		fmt.Fprintf(&t, "\nReproduce%s:\n  %s\n", on(f.Host), s.reproduce(f))
		for _, src := range s.Build.Sources[min(1, len(s.Build.Sources)):] {
			fmt.Fprintf(&t, "  (source %s is then at its newest revision; it was at %s)\n", src.Name, short(src.Revision))
		}
	}
	if step != nil && step.Log != "" {
		fmt.Fprintf(&t, "\nThe whole log%s:\n  %s\n", on(f.Host), f.command("--log", fmt.Sprintf("%s/%d/%s", s.Build.Builder, s.Build.Number, step.Name)))
	}
	p.Commands = t.String()
	if step != nil && tail {
		p.Step, p.Tail = step.Name, tailOf(f.Log)
		p.Errors, p.Says = errorsOf(f.Log, len(p.Tail)), says(f.Log)
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
		fmt.Fprintf(t, "\nThe first errors in the log of step %q:\n\n", p.Step)
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
func (s *Situation) own(f *Facts) string {
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
		if line := says(f.Log); line != "" {
			field("Says", "%s", line)
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

// errorsOf are the first lines of a log that tell of an error, before its last ones:
// where many compile at once, they are rarely at its end.
func errorsOf(log []byte, last int) []string {
	lines := bytes.Split(bytes.TrimRight(log, "\n"), []byte("\n"))
	var found []string
	for _, l := range lines[:max(0, len(lines)-last)] {
		if len(l) > maxLine*4 {
			l = l[:maxLine*4]
		}
		if text := clean(string(l), maxLine); wrong.MatchString(text) {
			if found = append(found, text); len(found) == maxErrors {
				break
			}
		}
	}
	return found
}

// says is the first line of a log that tells of an error; "" where none does.
func says(log []byte) string {
	for _, l := range errorsOf(log, 0) {
		return l
	}
	return ""
}
