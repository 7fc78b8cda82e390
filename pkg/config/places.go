package config

import (
	"strconv"
	"strings"
)

// place names a value of a TOML file, elements of arrays by their index.
type place struct{ path string }

// key is the place of a key of the table at p.
func (p place) key(k string) place { return place{p.path + "." + strconv.Quote(k)} }

// index is the place of an element of the array at p.
func (p place) index(i int) place { return place{p.path + "[" + strconv.Itoa(i) + "]"} }

func (p place) parent() place {
	if i := strings.LastIndexAny(p.path, ".["); i >= 0 {
		return place{p.path[:i]}
	}
	return place{}
}

// places maps each value of a file to the byte where its key, or the element of
// an array, begins.
type places map[place]int

// offset is where p begins; where that is not known, where the nearest value
// around it does.
func (m places) offset(p place) int {
	for p.path != "" {
		if off, ok := m[p]; ok {
			return off
		}
		p = p.parent()
	}
	return 0
}

// scanner finds the places in a file that the TOML parser has accepted; what
// it does not understand it leaves out, which costs a line number and no more.
type scanner struct {
	data  string
	i     int
	found places
	// last is the index of the newest element of each [[array of tables]].
	last map[place]int
}

func findPlaces(data []byte) places {
	s := &scanner{data: string(data), found: places{}, last: map[place]int{}}
	table := place{}
	for s.skipBlank(); s.i < len(s.data); s.skipBlank() {
		if s.data[s.i] == '[' {
			table = s.header()
		} else if !s.keyValue(table) {
			break
		}
	}
	return s.found
}

// header reads "[a.b]" or "[[a.b]]" and returns the place of the table it opens.
func (s *scanner) header() place {
	array := strings.HasPrefix(s.data[s.i:], "[[")
	start := s.i
	for s.peek() == '[' {
		s.i++
	}
	keys := s.keys()
	at := place{}
	for n, k := range keys {
		at = at.key(k)
		s.mark(at, start)
		if n == len(keys)-1 {
			break
		}
		if i, ok := s.last[at]; ok {
			at = at.index(i)
		}
	}
	if array {
		if i, ok := s.last[at]; ok {
			s.last[at] = i + 1
		} else {
			s.last[at] = 0
		}
		at = at.index(s.last[at])
		s.mark(at, start)
	}
	for s.i < len(s.data) && s.data[s.i] != '\n' {
		s.i++
	}
	return at
}

// keyValue reads "key = value"; false where there is none.
func (s *scanner) keyValue(table place) bool {
	start := s.i
	keys := s.keys()
	if len(keys) == 0 || s.peek() != '=' {
		return false
	}
	s.i++
	for _, k := range keys {
		table = table.key(k)
		s.mark(table, start)
	}
	return s.value(table)
}

func (s *scanner) mark(at place, offset int) {
	if _, ok := s.found[at]; !ok {
		s.found[at] = offset
	}
}

// goEscapes makes of a TOML string's escapes those of Go, which has no \e.
var goEscapes = strings.NewReplacer(`\\`, `\\`, `\e`, `\x1b`)

// keys reads a dotted key and the blanks behind it.
func (s *scanner) keys() []string {
	var out []string
	for {
		s.skipSpaces()
		start := s.i
		switch c := s.peek(); {
		case c == '"' || c == '\'':
			s.quoted()
			raw := s.data[start:s.i]
			k, err := strconv.Unquote(goEscapes.Replace(raw))
			if c == '\'' || err != nil {
				k = raw[1:max(1, len(raw)-1)]
			}
			out = append(out, k)
		default:
			for isBare(s.peek()) {
				s.i++
			}
			if s.i == start {
				return out
			}
			out = append(out, s.data[start:s.i])
		}
		s.skipSpaces()
		if s.peek() != '.' {
			return out
		}
		s.i++
	}
}

func isBare(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c >= 0x80
}

// value reads one value; false at the end of the data.
func (s *scanner) value(at place) bool {
	s.skipSpaces()
	switch s.peek() {
	case '"', '\'':
		s.quoted()
	case '[':
		return s.array(at)
	case '{':
		return s.inlineTable(at)
	default:
		for s.i < len(s.data) && !strings.ContainsRune(",]}#\n", rune(s.data[s.i])) {
			s.i++
		}
	}
	return s.i <= len(s.data)
}

func (s *scanner) array(at place) bool {
	s.i++
	for n := 0; ; n++ {
		s.skipBlank()
		switch s.peek() {
		case ']':
			s.i++
			return true
		case 0:
			return false
		}
		element := at.index(n)
		s.mark(element, s.i)
		if !s.value(element) || !s.separator(']') {
			return false
		}
	}
}

func (s *scanner) inlineTable(at place) bool {
	s.i++
	for {
		s.skipBlank()
		switch s.peek() {
		case '}':
			s.i++
			return true
		case 0:
			return false
		}
		if !s.keyValue(at) || !s.separator('}') {
			return false
		}
	}
}

// separator reads the comma between two values, or stops before the bracket
// that closes them.
func (s *scanner) separator(closing byte) bool {
	s.skipBlank()
	switch s.peek() {
	case ',':
		s.i++
		return true
	case closing:
		return true
	}
	return false
}

// quoted reads a string of any of the four forms.
func (s *scanner) quoted() {
	quote := s.data[s.i : s.i+1]
	if strings.HasPrefix(s.data[s.i:], strings.Repeat(quote, 3)) {
		quote = strings.Repeat(quote, 3)
	}
	s.i += len(quote)
	for s.i < len(s.data) {
		switch {
		case s.data[s.i] == '\\' && quote[0] == '"':
			s.i += 2
		case strings.HasPrefix(s.data[s.i:], quote):
			s.i += len(quote)
			for len(quote) == 3 && s.peek() == quote[0] {
				s.i++ // up to two quotes may stand before the closing three
			}
			return
		default:
			s.i++
		}
	}
	s.i = len(s.data)
}

// peek is the byte at hand, 0 at the end.
func (s *scanner) peek() byte {
	if s.i < len(s.data) {
		return s.data[s.i]
	}
	return 0
}

func (s *scanner) skipSpaces() {
	for s.peek() == ' ' || s.peek() == '\t' {
		s.i++
	}
}

// skipBlank skips blanks, line ends and comments.
func (s *scanner) skipBlank() {
	for s.i < len(s.data) {
		switch s.data[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		case '#':
			for s.i < len(s.data) && s.data[s.i] != '\n' {
				s.i++
			}
		default:
			return
		}
	}
}
