package patch

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
)

// maxEntry bounds the lines of one change in bytes, as pkg/format/manifest
// bounds an entry's, twice.
const maxEntry = 8 << 20

// EntryReader reads entries change by change, from their text. It accepts what
// Entries.Encode writes, byte for byte, and nothing else. Its memory is the
// bases, 64 bytes a file with content, and one change.
type EntryReader struct {
	r     *bufio.Reader
	check *entryCheck
	bases []Base
	buf   []byte // the line or lines being read
	line  int    // lines read so far
	ahead *side  // the side read ahead
	err   error  // what Next answers from now on
}

// side is one side of a change as it stands in the text.
type side struct {
	sign                 byte // '-' or '+'
	entry                manifest.Entry
	content, holes, base int64
}

// NewEntryReader reads the text from r: the first line and the bases at once,
// so that Bases answers before the first Next.
func NewEntryReader(r io.Reader) (*EntryReader, error) {
	e := &EntryReader{r: bufio.NewReaderSize(r, 64<<10), check: newEntryCheck()}
	err := e.start()
	if err == io.EOF {
		err = errors.New("no first line")
	}
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", e.line, err)
	}
	return e, nil
}

func (e *EntryReader) start() error {
	line, err := e.readLine()
	if err != nil {
		return err
	}
	if string(line) != entriesMagic+"\n" {
		if bytes.HasPrefix(line, []byte("#relkit-entries v")) {
			return failure.Errorf(failure.Refused, "%q: this relkit reads %q", clip(bytes.TrimSpace(line)), entriesMagic)
		}
		return fmt.Errorf("want %q", entriesMagic)
	}
	for {
		next, err := e.r.Peek(1)
		if err != nil || next[0] != 'b' {
			break
		}
		line, err := e.readLine()
		if err != nil {
			return err
		}
		b, err := parseBase(line)
		if err == nil {
			err = e.check.base(&b)
		}
		if err != nil {
			return err
		}
		e.bases = append(e.bases, b)
	}
	return e.advance()
}

// Bases are the old files that content is copied from.
func (e *EntryReader) Bases() []Base { return e.bases }

// Output is the length of all content; it stands after Next has answered io.EOF.
func (e *EntryReader) Output() int64 {
	n, _ := e.check.output()
	return n
}

// Next is the next change; io.EOF after the last, when the whole has been
// checked. Other errors name the line.
func (e *EntryReader) Next() (Change, error) {
	if e.err != nil {
		return Change{}, e.err
	}
	c, err := e.change()
	switch {
	case err == nil:
		return c, nil
	case err == io.EOF:
		e.err = e.check.end()
		if e.err == nil {
			e.err = io.EOF
		}
	default:
		e.err = fmt.Errorf("line %d: %w", e.line, err)
	}
	return Change{}, e.err
}

// change takes the side read ahead, and the one after it where both are of one path.
func (e *EntryReader) change() (Change, error) {
	c := Change{Content: -1, Base: -1}
	if e.ahead == nil {
		return c, io.EOF
	}
	if e.ahead.sign == '-' {
		c.Old = &e.ahead.entry
		if err := e.advance(); err != nil {
			return c, err
		}
	}
	if s := e.ahead; s != nil && s.sign == '+' && (c.Old == nil || c.Old.Path == s.entry.Path) {
		c.New, c.Content, c.Holes, c.Base = &s.entry, s.content, s.holes, int(s.base)
		if err := e.advance(); err != nil {
			return c, err
		}
	}
	return c, e.check.change(&c)
}

// advance reads the next side ahead; nil at the end.
func (e *EntryReader) advance() error {
	e.ahead = nil
	e.buf = e.buf[:0]
	for {
		line, err := e.readLine()
		if err == io.EOF && len(e.buf) == 0 {
			return nil
		}
		if err == io.EOF {
			return errors.New("notes without their entry")
		}
		if err != nil {
			return err
		}
		sign := line[0]
		switch {
		case sign != '-' && sign != '+':
			return fmt.Errorf("bad line %q: want - or + in front", clip(line))
		case len(e.buf) > 0 && e.buf[0] != sign:
			return errors.New("notes without their entry")
		case len(e.buf)+len(line) > maxEntry:
			return fmt.Errorf("more than %d bytes in one entry", maxEntry)
		}
		e.buf = append(e.buf, line...)
		if !bytes.HasPrefix(line[1:], []byte("#")) {
			break
		}
	}
	s, err := parseSide(e.buf)
	e.ahead = s
	return err
}

// readLine is the next line with its newline; it is valid until the next call.
func (e *EntryReader) readLine() ([]byte, error) {
	line, err := e.r.ReadSlice('\n')
	if err == nil {
		e.line++
		return line, nil
	}
	long := bytes.Clone(line)
	for err == bufio.ErrBufferFull && len(long) <= maxEntry {
		line, err = e.r.ReadSlice('\n')
		long = append(long, line...)
	}
	if len(long) > 0 {
		e.line++
	}
	switch {
	case len(long) > maxEntry:
		return nil, fmt.Errorf("more than %d bytes in one line", maxEntry)
	case err == io.EOF && len(long) > 0:
		return nil, errors.New("line without its end")
	}
	return long, err
}

// parseSide reads the lines of one side; lines is overwritten.
func parseSide(lines []byte) (*side, error) {
	s := &side{sign: lines[0], content: -1, base: -1}
	plain := lines[:0] // without the signs: never ahead of what is read
	for len(lines) > 0 {
		end := bytes.IndexByte(lines, '\n') + 1
		plain = append(plain, lines[1:end]...)
		lines = lines[end:]
	}
	if s.sign == '+' {
		var err error
		if plain, err = s.cutSource(plain); err != nil {
			return nil, err
		}
	}
	var n int
	var err error
	if s.entry, n, err = manifest.ParseEntry(plain); err != nil {
		return nil, err
	}
	if n != len(plain) {
		return nil, errors.New("more than one entry")
	}
	return s, nil
}

// cutSource takes what appendSource writes off the end of the last line.
func (s *side) cutSource(lines []byte) ([]byte, error) {
	plain, found, err := cutNumber(lines, holesField, 64, &s.holes)
	switch {
	case err != nil:
		return nil, err
	case found && s.holes == 0:
		return nil, errors.New("0 holes are not written")
	}
	plain, found, err = cutNumber(plain, contentField, 64, &s.content)
	if err != nil || found {
		return plain, err
	}
	if s.holes > 0 {
		return nil, errors.New("holes without content")
	}
	plain, _, err = cutNumber(plain, baseField, 32, &s.base)
	return plain, err
}

// cutNumber takes the field of that name off the end of a line, where it is there.
func cutNumber(line []byte, name string, bits int, value *int64) (plain []byte, found bool, err error) {
	field := bytes.LastIndexByte(line, ' ')
	if field < 0 {
		return line, false, nil
	}
	digits, ok := bytes.CutPrefix(line[field:len(line)-1], []byte(name))
	if !ok {
		return line, false, nil
	}
	v, err := strconv.ParseInt(string(digits), 10, bits)
	if err != nil || v < 0 || strconv.FormatInt(v, 10) != string(digits) {
		return nil, false, fmt.Errorf("bad number in %q", clip(line[field:len(line)-1]))
	}
	*value = v
	return append(line[:field], '\n'), true, nil
}

// parseBase reads what appendBase writes.
func parseBase(line []byte) (Base, error) {
	var b Base
	words := strings.Split(strings.TrimSuffix(string(line), "\n"), " ")
	if len(words) != 5 || words[0] != "base" {
		return b, fmt.Errorf("bad base %q", clip(line))
	}
	var err error
	if b.Ordinal, err = strconv.Atoi(words[1]); err != nil {
		return b, fmt.Errorf("bad base number %q", clip([]byte(words[1])))
	}
	if b.Path, err = manifest.Unescape(strings.TrimPrefix(words[2], "./")); err != nil {
		return b, err
	}
	if b.Size, err = strconv.ParseInt(strings.TrimPrefix(words[3], "size="), 10, 64); err != nil {
		return b, fmt.Errorf("bad base size %q", clip([]byte(words[3])))
	}
	if b.Digest, err = digest.ParseHex(strings.TrimPrefix(words[4], "sha256digest=")); err != nil {
		return b, err
	}
	if !bytes.Equal(appendBase(nil, &b), line) {
		return b, fmt.Errorf("base %q is not in canonical form", b.Path)
	}
	return b, nil
}

// clip keeps what an error quotes of a hostile line to a readable length.
func clip(s []byte) string {
	if len(s) > 80 {
		return string(s[:77]) + "..."
	}
	return string(s)
}

// DecodeEntries reads all entries from their text.
func DecodeEntries(r io.Reader) (*Entries, error) {
	er, err := NewEntryReader(r)
	if err != nil {
		return nil, err
	}
	all := &Entries{Bases: er.Bases()}
	for {
		c, err := er.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all.Changes = append(all.Changes, c)
	}
}
