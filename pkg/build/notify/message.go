package notify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
)

// How much of things a message says; the record has the rest.
const (
	maxTests   = 20
	maxListed  = 25 // changes
	maxSubject = 120
	maxLine    = 300
	// TailLines and MaxTail bound the log in a text, MaxLog the one beside it.
	TailLines = 40
	MaxTail   = 16 << 10
	MaxLog    = 1 << 20
)

// Facts are what a message says that no record has.
type Facts struct {
	// Config is relkit.toml and State, where it is not the one configured, the
	// state folder: absolute paths, for commands to paste.
	Config, State string
	// Folder is the build's; Host is the machine that has it and where the commands
	// are to be pasted.
	Folder, Host string
	// Failing are the tests that failed and are held against the build.
	Failing []Failing
	// Log is the end of the log of Step, at most MaxLog bytes.
	Log []byte
}

// Failing is a test that failed.
type Failing struct {
	ID string
	// Why is what the test says of it; "" for nothing.
	Why string
}

// command is a relkit build for the same project, to be pasted.
func (f *Facts) command(args ...string) string {
	words := append([]string{"relkit", "build", "--config", f.Config}, args...)
	if f.State != "" {
		words = append(words[:4:4], append([]string{"--state", f.State}, args...)...)
	}
	for i, w := range words {
		words[i] = failure.Word(w)
	}
	return strings.Join(words, " ")
}

// reproduce builds the revisions again.
func (s *Situation) reproduce(f *Facts) string {
	var args []string
	for i, src := range s.Build.Sources {
		switch {
		case src.Revision == "":
		case i == 0:
			args = append(args, "--rev", src.Revision)
		default:
			args = append(args, "--rev", src.Name+"="+src.Revision)
		}
	}
	for _, d := range s.Build.Try {
		args = append(args, "--patch", d.Source+"="+filepath.Join(f.Folder, d.Path))
	}
	for _, k := range slices.Sorted(maps.Keys(s.Build.Set)) {
		args = append(args, "--set", k+"="+s.Build.Set[k])
	}
	return f.command(append(args, s.Build.Builder)...)
}

// Step is the step that the build ended at; nil where it was none.
func Step(b *record.Build) *record.BuildStep {
	for i := range b.Steps {
		if b.Steps[i].Status == record.BuildFailed {
			return &b.Steps[i]
		}
	}
	for i := len(b.Steps) - 1; i >= 0 && b.Status != record.BuildSuccess; i-- {
		if s := &b.Steps[i]; s.Log != "" && s.Status != record.BuildSuccess {
			return s
		}
	}
	return nil
}

// subject is one line that tells builds apart in a list of mails.
func (s *Situation) subject() string {
	b := s.Build
	return clean(fmt.Sprintf("[%s] %s/%d %s", b.Project, b.Builder, b.Number, s.became()), maxSubject)
}

// became is what became of the build, in a few words.
func (s *Situation) became() string {
	switch s.Event {
	case broke:
		return "fails: " + s.what()
	case failing:
		return fmt.Sprintf("still fails, since %d: %s", s.first.Number, s.what())
	case recovered:
		return "works again, after " + count(s.failures, "failed build")
	case succeeded:
		return "succeeded"
	case failedInfra:
		return "could not be built: " + s.Build.Error
	}
	return "was interrupted"
}

// what broke, in a few words.
func (s *Situation) what() string {
	b := s.Build
	step := Step(b)
	switch {
	case b.Tests != nil && len(b.Tests.NewlyFailing) > 0:
		return s.stepName(step) + count(len(b.Tests.NewlyFailing), "test") + " newly failing"
	case b.Tests != nil && heldAgainst(b.Tests) > 0:
		return s.stepName(step) + count(heldAgainst(b.Tests), "test") + " failed"
	case step != nil:
		return step.Name + ", " + step.Error
	}
	return b.Error
}

func (s *Situation) stepName(step *record.BuildStep) string {
	if step == nil {
		return ""
	}
	return step.Name + ", "
}

// sentence is the first line of the text.
func (s *Situation) sentence() string {
	name := fmt.Sprintf("%s/%d of %s", s.Build.Builder, s.Build.Number, s.Build.Project)
	if s.Build.IsTry() {
		name += ", with a diff that is tried,"
	}
	switch s.Event {
	case broke:
		if s.lastGood == nil {
			return "Build " + name + " fails."
		}
		return fmt.Sprintf("Build %s fails; build %d was good.", name, s.lastGood.Number)
	case failing:
		return fmt.Sprintf("Build %s fails, as it has since build %d.", name, s.first.Number)
	case recovered:
		return fmt.Sprintf("Build %s works again.", name)
	case succeeded:
		return fmt.Sprintf("Build %s succeeded.", name)
	case failedInfra:
		return fmt.Sprintf("Build %s could not be completed: the infrastructure failed, not the code.", name)
	}
	return fmt.Sprintf("Build %s was interrupted.", name)
}

func (s *Situation) since(field func(string, string, ...any)) {
	rev := ""
	if src := s.first.Sources; len(src) > 0 {
		rev = " (" + src[0].Name + " " + short(src[0].Revision) + ")"
	}
	name, end := "Failing", s.Build.Finished
	if s.Event == recovered {
		name = "Failed"
	}
	field(name, "since build %d%s of %s: for %s, %s", s.first.Number, rev, s.first.Started.Format(time.RFC3339),
		span(end.Sub(s.first.Started)), count(s.failures, "failed build"))
}

// Notice is what is told, complete but for its ID; lists are empty, never nil,
// as JSON has them.
func (s *Situation) Notice(f *Facts, tail bool) *record.BuildNotice {
	b := s.Build
	n := &record.BuildNotice{Schema: record.BuildNoticeSchema, Event: s.Event, Subject: s.subject(), Text: s.Text(f, tail),
		Project: b.Project, Builder: b.Builder, Number: b.Number, Status: b.Status, Reason: b.Reason, Error: clean(b.Error, 1<<10),
		Version: b.Version, Started: b.Started, DurationSeconds: b.DurationSeconds, Worker: b.Worker.Name,
		Revisions: map[string]string{}, Changes: append([]record.BuildChange{}, s.changes...),
		Blame: append([]string{}, s.blame()...), NewlyFailing: []string{}, NewlyFixed: []string{}, Reproduce: s.reproduce(f), Folder: f.Folder}
	for _, src := range b.Sources {
		n.Revisions[src.Name] = src.Revision
	}
	if step := Step(b); step != nil {
		n.Step = step.Name
	}
	if b.Tests != nil {
		n.NewlyFailing, n.NewlyFixed = append(n.NewlyFailing, b.Tests.NewlyFailing...), append(n.NewlyFixed, b.Tests.NewlyFixed...)
	}
	if s.lastGood != nil {
		n.LastGood = s.lastGood.Number
	}
	if s.first != nil {
		n.FailingSince = &record.BuildNoticeSince{Number: s.first.Number, Started: s.first.Started, Builds: s.failures}
	}
	return n
}

// id names what one [[notify]] tells of one build. It is made of what does not
// change from one try to the next, and of the time, as numbers begin anew in
// another state folder.
func id(b *record.Build, key string) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d\x00%d\x00%s", b.Project, b.Builder, b.Number, b.Started.UnixNano(), key))
	return fmt.Sprintf("%06d-%s", b.Number, hex.EncodeToString(h[:12]))
}

// tailOf is the last lines of a log, fit to print.
func tailOf(log []byte) []string {
	if len(log) > MaxTail {
		log = log[len(log)-MaxTail:]
		_, log, _ = bytes.Cut(log, []byte("\n"))
	}
	log = bytes.TrimRight(log, "\n")
	if len(log) == 0 {
		return nil
	}
	raw := bytes.Split(log, []byte("\n"))
	var lines []string
	for _, l := range raw[max(0, len(raw)-TailLines):] {
		lines = append(lines, clean(string(l), maxLine))
	}
	return lines
}

// clean makes text of others fit for a line of a mail: valid UTF-8 without
// control characters, the escape sequences of terminals (ECMA-48) left out, at
// most limit bytes.
func clean(text string, limit int) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		if text[i] == 0x1b {
			i = afterEscape(text, i)
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		i += n
		switch {
		case r == '\t' || r == '\n':
			r = ' '
		case r == '\r':
			continue
		case r == utf8.RuneError && n == 1 || unicode.IsControl(r) || !unicode.IsGraphic(r):
			r = utf8.RuneError
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			cut := b.String()
			for len(cut)+len("…") > limit {
				_, last := utf8.DecodeLastRuneInString(cut)
				cut = cut[:len(cut)-last]
			}
			return cut + "…"
		}
		b.WriteRune(r)
	}
	return b.String()
}

// afterEscape is where the escape sequence at i ends.
func afterEscape(text string, i int) int {
	i++
	if i == len(text) || text[i] != '[' {
		return min(i+1, len(text))
	}
	for i++; i < len(text); i++ {
		if text[i] >= 0x40 && text[i] <= 0x7e {
			return i + 1
		}
	}
	return i
}

// short is a revision for a list.
func short(revision string) string { return revision[:min(12, len(revision))] }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// span is a time as people say it.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(max(d, 0).Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
