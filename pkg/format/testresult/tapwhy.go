package testresult

import (
	"bytes"
	"strings"
)

// comment takes a comment: the name of subtests, or why a test has failed.
func (t *tap) comment(depth int, text []byte) {
	name, subtest := bytes.CutPrefix(text, []byte("Subtest: "))
	switch {
	case !subtest && depth == len(t.docs)-1:
		t.say(t.docs[depth], text)
	case subtest:
		l := tapLine{}
		l.describe(string(name))
		t.announce(depth, l.text)
	}
}

// announce takes the name of subtests. It stands at the margin of the test that
// they belong to, or, as old versions of Test::More have it, at their own: then
// it is the first that is said of them.
func (t *tap) announce(depth int, name string) {
	n := len(t.docs)
	switch {
	case depth < n:
		t.docs[depth].next = name
	case n == 0 && depth == 0:
		t.at(0).next = name
	case n > 0 && depth <= n+1 && t.docs[n-1].next != "": // subtests that begin with one that has its own
		t.at(n).next = name
	case n > 0 && depth == n:
		t.docs[n-1].next = name
	}
}

// say notes a line about the last test, unless it passed.
func (t *tap) say(d *tapDoc, line []byte) {
	if d.last >= 0 && t.cases[d.last].Status != Passed {
		t.why.write(line)
		t.why.write([]byte("\n"))
	}
}

// flush gives the last test what was said of it.
func (t *tap) flush(d *tapDoc) {
	if d.last >= 0 && t.why.size() > 0 {
		c := &t.cases[d.last]
		detail, message := t.why.String(), t.message
		if message == "" {
			message, _, _ = strings.Cut(detail, "\n")
		}
		if c.Message != "" { // the reason of a directive
			message = c.Message
		}
		t.explain(c, label(message), detail)
	}
	t.why, t.message = clip{}, ""
}

// block takes the lines of a YAML block, two blanks in from its test.
func (t *tap) block(text []byte, indent int) (in bool, err error) {
	mark := string(bytes.TrimRight(text[:min(len(text), 8)], " "))
	if t.yaml == nil {
		depth := (indent - 2) / 4
		if mark != "---" || indent%4 != 2 || depth >= len(t.docs) || t.docs[depth].last < 0 {
			return false, nil
		}
		if err := t.shrink(depth + 1); err != nil {
			return false, err
		}
		t.yaml = &tapYAML{margin: -1}
		return true, nil
	}
	d := t.docs[len(t.docs)-1]
	margin := 4*len(t.docs) - 2
	switch {
	case mark == "..." && indent == margin:
		t.endBlock(d)
		return true, nil
	case indent < margin && len(text) > 0: // a block that nobody ended
		t.endBlock(d)
		return false, nil
	}
	line := append(bytes.Repeat([]byte(" "), max(0, indent-margin)), text...)
	t.yaml.line(line)
	t.say(d, line)
	return true, nil
}

func (t *tap) endBlock(d *tapDoc) {
	t.message = t.yaml.message
	t.cases[d.last].Duration = max(t.cases[d.last].Duration, t.yaml.took)
	t.yaml = nil
}
