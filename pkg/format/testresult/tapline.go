package testresult

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// tapKind is what a line of TAP is.
type tapKind int

const (
	tapOther tapKind = iota // a test's own output
	tapVersion
	tapPlan
	tapPoint
	tapBail
	tapComment
)

// tapLine is one line of TAP without its indentation.
type tapLine struct {
	kind tapKind
	// plan is N of "1..N"; number that of a test point, 0 where it has none.
	plan, number int
	ok           bool
	// text is a description, or why the tests stopped; comment that of a comment.
	text    string
	comment []byte
	// directive is "TODO", "SKIP" or ""; reason what stands behind it.
	directive, reason string
}

var (
	tapPlanLine  = regexp.MustCompile(`^1\.\.(\d{1,9})\s*(?:#\s*(.*))?$`)
	tapPointLine = regexp.MustCompile(`^(not )?ok(?:\s+(\d{1,9}))?(?:\s+(.*)|\s*)$`)
	// batsTime is what bats --timing appends to a description.
	batsTime = regexp.MustCompile(` in (\d{1,9})(ms|sec)$`)
)

// parseTAP reads a line as https://testanything.org/tap-version-14-specification.html
// and the version 13 before it have it.
func parseTAP(line []byte) tapLine {
	switch {
	case bytes.HasPrefix(line, []byte("TAP version ")):
		return tapLine{kind: tapVersion}
	case len(line) > 0 && line[0] == '#':
		return tapLine{kind: tapComment, comment: bytes.TrimPrefix(line[1:], []byte(" "))}
	case len(line) >= len("Bail out!") && strings.EqualFold(string(line[:len("Bail out!")]), "Bail out!"):
		return tapLine{kind: tapBail, text: label(string(line[len("Bail out!"):]))}
	}
	if m := tapPlanLine.FindSubmatch(line); m != nil {
		l := tapLine{kind: tapPlan}
		l.plan, _ = strconv.Atoi(string(m[1])) // at most nine digits
		l.directive, l.reason = tapDirective(string(m[2]))
		return l
	}
	m := tapPointLine.FindSubmatch(line)
	if m == nil {
		return tapLine{}
	}
	l := tapLine{kind: tapPoint, ok: len(m[1]) == 0}
	l.number, _ = strconv.Atoi(string(m[2]))
	l.describe(string(m[3]))
	return l
}

// describe takes what follows a test point's number: "- text # SKIP reason".
// A "#" or a "\" of the text itself is escaped by a "\".
func (l *tapLine) describe(s string) {
	if s == "-" {
		s = ""
	}
	s = strings.TrimPrefix(s, "- ")
	var text strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '#' || s[i+1] == '\\'):
			i++
			text.WriteByte(s[i])
			continue
		case s[i] == '#' && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t'):
			if l.directive, l.reason = tapDirective(s[i+1:]); l.directive != "" {
				l.text = label(text.String())
				return
			}
		}
		text.WriteByte(s[i])
	}
	l.text = label(text.String())
}

// tapDirective reads "SKIP reason", "skipped: reason" or "TODO reason", in any case.
func tapDirective(s string) (directive, reason string) {
	s = strings.TrimSpace(s)
	word, rest, _ := strings.Cut(s, " ")
	switch up := strings.ToUpper(word); {
	case strings.HasPrefix(up, "SKIP"):
		return "SKIP", label(rest)
	case strings.TrimRight(up, ":") == "TODO":
		return "TODO", label(rest)
	}
	return "", ""
}

// cutBatsTime takes the time out of a description, which would otherwise be
// that of another test each time.
func cutBatsTime(text string) (string, time.Duration) {
	m := batsTime.FindStringSubmatch(text)
	if m == nil {
		return text, 0
	}
	n, _ := strconv.Atoi(m[1])
	unit := time.Millisecond
	if m[2] == "sec" {
		unit = time.Second
	}
	return strings.TrimSuffix(text, m[0]), time.Duration(n) * unit
}

// tapYAML reads the lines of a YAML block that say why a test failed and how
// long it took. It is no YAML parser: of keys at the left margin it takes
// scalars, as the runners write them.
type tapYAML struct {
	margin int // of the first line; -1 before it
	// block is the key whose text follows on the next lines, as after "|".
	block   string
	message string
	took    time.Duration
}

func (y *tapYAML) line(line []byte) {
	text := bytes.TrimLeft(line, " ")
	indent := len(line) - len(text)
	if len(text) == 0 {
		return
	}
	if y.margin < 0 {
		y.margin = indent
	}
	if indent > y.margin {
		if y.block != "" {
			y.set(y.block, string(bytes.TrimSpace(text)))
			y.block = ""
		}
		return
	}
	y.block = ""
	key, value, ok := strings.Cut(string(text[:min(len(text), 2*MaxName)]), ":")
	if !ok {
		return
	}
	value = strings.TrimSpace(value)
	if value != "" && strings.Trim(value, "|>+-0123456789") == "" && strings.ContainsAny(value[:1], "|>") {
		y.block = key
		return
	}
	y.set(key, value)
}

func (y *tapYAML) set(key, value string) {
	switch key {
	case "message", "error":
		if y.message == "" {
			y.message = label(unquoteYAML(value))
		}
	case "duration_ms":
		y.took = seconds(value) / 1000
	}
}

// unquoteYAML takes the quotes off a scalar.
func unquoteYAML(s string) string {
	switch {
	case len(s) >= 2 && s[0] == '\'' && s[len(s)-1] == '\'':
		return strings.ReplaceAll(s[1:len(s)-1], "''", "'")
	case len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"':
		if u, err := strconv.Unquote(s); err == nil {
			return u
		}
		return s[1 : len(s)-1]
	}
	return s
}
