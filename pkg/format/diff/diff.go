// Package diff reads as much of a unified diff as tells how it is applied: which
// files it changes, and how much of their names is the diff's own. Applying it is
// left to git apply and patch(1).
package diff

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxSize bounds a diff, in bytes.
const MaxSize = 64 << 20

// Diff is what is known of a diff.
type Diff struct {
	// Files are the names of the files that it changes, each once, in its order,
	// without what Strip takes off.
	Files []string
	// Strip is how many leading folders of the names are the diff's own: 1 for
	// "a/src/x.c" of git, hg and diff -ru, 0 for "src/x.c" of svn.
	Strip int
}

// errNone is a text that is no diff.
var errNone = errors.New("it changes nothing: want a unified diff, as git diff, svn diff, hg diff and diff -ru make it")

// Parse reads a diff, as git diff, git format-patch, svn diff, hg diff and diff
// -ru write it. What stands between the files, such as the words of a mail, is
// passed over. It is an error where a hunk has fewer lines than it says: the end
// is missing.
func Parse(text string) (*Diff, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("got %d bytes, want at most %d", len(text), MaxSize)
	}
	p := parser{seen: map[string]bool{}, example: map[int]string{}}
	for text != "" {
		line, rest, _ := strings.Cut(text, "\n")
		next, _, _ := strings.Cut(rest, "\n")
		p.number++
		if err := p.line(strings.TrimSuffix(line, "\r"), strings.TrimSuffix(next, "\r")); err != nil {
			return nil, fmt.Errorf("line %d: %w", p.number, err)
		}
		text = rest
	}
	switch {
	case p.old > 0 || p.new > 0:
		return nil, fmt.Errorf("line %d: the end of the hunk that begins at line %d is missing", p.number, p.hunk)
	case len(p.files) == 0:
		return nil, errNone
	case len(p.example) > 1:
		return nil, fmt.Errorf("%q has a leading folder that is the diff's own, %q has none: want all files of a diff to be named alike", p.example[1], p.example[0])
	}
	d := &Diff{Files: p.files}
	if _, ok := p.example[1]; ok {
		d.Strip = 1
	}
	return d, nil
}

// parser goes through the lines of a diff.
type parser struct {
	files []string
	seen  map[string]bool
	// example is a name that stands in the diff with so much to strip.
	example map[int]string
	number  int
	// told says that the file's "diff --git" line has told its name, which is surer
	// than what follows: there a new file stands with one name alone.
	told bool
	// old and new are how many lines of the hunk that began at line hunk are to come.
	old, new, hunk int
}

var hunkHead = regexp.MustCompile(`^@@ -[0-9]{1,9}(?:,([0-9]{1,9}))? \+[0-9]{1,9}(?:,([0-9]{1,9}))? @@`)

func (p *parser) line(line, next string) error {
	if p.old > 0 || p.new > 0 {
		return p.inHunk(line)
	}
	if m := hunkHead.FindStringSubmatch(line); m != nil {
		if len(p.files) == 0 {
			return errors.New("a hunk of no file")
		}
		p.old, p.new, p.hunk = count(m[1]), count(m[2]), p.number
		return nil
	}
	switch {
	case strings.HasPrefix(line, "diff --cc "), strings.HasPrefix(line, "diff --combined "):
		return errors.New("a merge's combined diff, which cannot be applied")
	case strings.HasPrefix(line, "*** ") && strings.HasPrefix(next, "--- "):
		return errors.New("a context diff: want a unified one, diff -u")
	case strings.HasPrefix(line, "diff --git "):
		p.told = p.git(strings.TrimPrefix(line, "diff --git "))
	case strings.HasPrefix(line, "--- ") && strings.HasPrefix(next, "+++ "):
		if !p.told {
			p.pair(name(line[4:]), name(next[4:]))
		}
		p.told = false
	}
	return nil
}

func (p *parser) inHunk(line string) error {
	kind := byte(' ')
	if line != "" { // an editor that removes blanks at the ends of lines leaves none
		kind = line[0]
	}
	switch kind {
	case ' ':
		p.old, p.new = p.old-1, p.new-1
	case '-':
		p.old--
	case '+':
		p.new--
	case '\\':
	default:
		return fmt.Errorf("the hunk that begins at line %d has a line that begins with %q", p.hunk, kind)
	}
	if p.old < 0 || p.new < 0 {
		return fmt.Errorf("the hunk that begins at line %d has more lines than it says", p.hunk)
	}
	return nil
}

// count is a number of lines in a hunk's head; 1 where it is left out.
func count(text string) int {
	if text == "" {
		return 1
	}
	n, _ := strconv.Atoi(text) // nine digits, the pattern says
	return n
}

// name is a file's name after "--- ": up to a tab, or in quotes.
func name(text string) string {
	text, _, _ = strings.Cut(text, "\t")
	return unquote(strings.TrimRight(text, " "))
}

// unquote takes off the quotes in which git puts names with odd characters; those
// that are not UTF-8 it escapes, so that a name with such bytes has quotes of its own.
func unquote(text string) string {
	if strings.HasPrefix(text, `"`) && utf8.ValidString(text) {
		if s, err := strconv.Unquote(text); err == nil {
			return s
		}
	}
	return text
}

const nowhere = "/dev/null"

// git reads "a/X b/X", the only place where a file stands of which no more than
// the mode or bytes that are no text change. It answers whether it is told by that:
// of a file that is renamed, the names that follow tell more.
func (p *parser) git(both string) bool {
	half := len(both) / 2
	if len(both)%2 == 0 || half == 0 || both[half] != ' ' {
		if a, _, ok := strings.Cut(both, " "); ok && strings.HasPrefix(a, "a/") {
			p.add(a, 1)
		}
		return false
	}
	a, b := unquote(both[:half]), unquote(both[half+1:])
	_, after, _ := strings.Cut(a, "/")
	if a != b && (after == "" || !strings.HasSuffix(b, "/"+after)) {
		return false
	}
	p.pair(a, b)
	return true
}

// pair takes the names of a file before and after.
func (p *parser) pair(a, b string) {
	_, afterA, okA := strings.Cut(a, "/")
	_, afterB, okB := strings.Cut(b, "/")
	prefixed := func(n string) bool { return strings.HasPrefix(n, "a/") || strings.HasPrefix(n, "b/") }
	switch {
	case a == nowhere && b == nowhere:
	case a == nowhere || b == nowhere:
		if a == nowhere {
			a = b
		}
		if prefixed(a) {
			p.add(a, 1)
		} else {
			p.add(a, 0)
		}
	case a == b:
		p.add(a, 0)
	case okA && okB && (afterA == afterB || prefixed(a) && prefixed(b)):
		p.add(b, 1)
	default: // "x.c.orig" and "x.c"
		p.add(b, 0)
	}
}

func (p *parser) add(name string, strip int) {
	if strip == 1 {
		_, after, ok := strings.Cut(name, "/")
		if !ok || after == "" {
			return
		}
		p.example[1] = name
		name = after
	} else if name != "" {
		p.example[0] = name
	}
	if name != "" && !p.seen[name] {
		p.seen[name] = true
		p.files = append(p.files, name)
	}
}
