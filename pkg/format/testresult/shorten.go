package testresult

import (
	"bytes"
	"unicode/utf8"
)

// Bounds on what the XML parser gets to hold at a time, in bytes.
const (
	maxText   = 4 * MaxDetail // between two tags
	maxMarkup = 1 << 20       // one tag with its attributes
)

// shortener drops the middles of long texts, CDATA sections and comments from XML
// that passes through it: test runners put whole logs into system-out, and the
// parser keeps a text as a whole.
type shortener struct {
	out    []byte
	state  byte // one of the states below
	length int  // bytes of the text or section so far
	// end is what is last of those beyond maxText/2; dropped tells whether some
	// before it are gone.
	end     []byte
	dropped bool
	markup  int // bytes of the tag so far
	head    []byte
	quote   byte
	// run counts the "]" or "-" that may begin the end of a section.
	run int
}

const (
	inText byte = iota
	inMarkup
	inCDATA
	inComment
)

// put takes one character, or one reference as a whole.
func (s *shortener) put(unit []byte) {
	switch s.state {
	case inText:
		if unit[0] == '<' {
			s.flush()
			s.state, s.markup, s.quote = inMarkup, 1, 0
			s.head = append(s.head[:0], '<')
			s.out = append(s.out, '<')
			return
		}
		s.keep(unit)
	case inMarkup:
		s.tag(unit)
	case inCDATA:
		s.section(unit, ']')
	case inComment:
		s.section(unit, '-')
	}
}

// keep passes a unit on unless the text is long enough; then it may belong to
// the end of the text, which says more than the middle.
func (s *shortener) keep(unit []byte) {
	s.length += len(unit)
	if s.length <= maxText/2 {
		s.out = append(s.out, unit...)
		return
	}
	s.end = append(s.end, unit...)
	if len(s.end) >= maxText {
		s.end, s.dropped = append(s.end[:0], s.end[len(s.end)-maxText/2:]...), true
	}
}

// flush passes on the end of a text. Where it begins within a reference, the
// rest of that is text like any other; within a character, it is left out.
func (s *shortener) flush() {
	if s.dropped {
		s.out = append(s.out, clipMark...)
		for len(s.end) > 0 && !utf8.RuneStart(s.end[0]) {
			s.end = s.end[1:]
		}
	}
	s.out = append(s.out, s.end...)
	s.end, s.dropped, s.length = s.end[:0], false, 0
}

// tag takes a unit of "<…>".
func (s *shortener) tag(unit []byte) {
	s.out = append(s.out, unit...)
	s.markup += len(unit)
	if len(s.head) < len("<![CDATA[") {
		s.head = append(s.head, unit...)
		switch {
		case bytes.Equal(s.head, []byte("<![CDATA[")):
			s.state, s.length, s.run, s.markup = inCDATA, 0, 0, 0
			return
		case bytes.Equal(s.head, []byte("<!--")):
			s.state, s.length, s.run, s.markup = inComment, 0, 0, 0
			return
		}
	}
	switch c := unit[0]; {
	case s.quote != 0:
		if c == s.quote {
			s.quote = 0
		}
	case c == '"' || c == '\'':
		s.quote = c
	case c == '>':
		s.state, s.length, s.markup = inText, 0, 0
	}
}

// section takes a unit of a CDATA section or a comment, which ends with two of
// mark and ">".
func (s *shortener) section(unit []byte, mark byte) {
	switch {
	case unit[0] == mark:
		s.run++
		return
	case unit[0] == '>' && s.run >= 2:
		for ; s.run > 2; s.run-- {
			s.keep([]byte{mark})
		}
		s.flush()
		s.out = append(s.out, mark, mark, '>')
		s.state, s.length, s.run = inText, 0, 0
		return
	}
	for ; s.run > 0; s.run-- {
		s.keep([]byte{mark})
	}
	s.keep(unit)
}
