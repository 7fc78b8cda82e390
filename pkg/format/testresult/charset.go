package testresult

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// encodingPattern finds the charset in an XML declaration.
var encodingPattern = regexp.MustCompile(`^\s*<\?xml\s[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']`)

// cleanXML makes UTF-8 of any XML that test runners write, and U+FFFD of what
// XML does not allow: bytes that are no text and control characters, raw or as
// references. Bytes above ASCII of a charset it does not know become U+FFFD too.
func cleanXML(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(1 << 10)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	c := &cleaner{in: b, next: nextUTF8}
	switch {
	case bytes.HasPrefix(head, []byte{0xFF, 0xFE}):
		c.next = nextUTF16(func(p []byte) uint16 { return uint16(p[0]) | uint16(p[1])<<8 })
	case bytes.HasPrefix(head, []byte{0xFE, 0xFF}):
		c.next = nextUTF16(func(p []byte) uint16 { return uint16(p[1]) | uint16(p[0])<<8 })
	default:
		if m := encodingPattern.FindSubmatch(bytes.TrimPrefix(head, []byte("\xEF\xBB\xBF"))); m != nil {
			c.next = charset(strings.ToLower(string(m[1])))
		}
	}
	return c, nil
}

func charset(name string) func(*bufio.Reader) (rune, error) {
	switch name {
	case "utf-8", "utf8":
		return nextUTF8
	case "iso-8859-1", "latin1", "iso8859-1", "iso_8859-1":
		return nextByte(func(c byte) rune { return rune(c) })
	}
	if next := nextOf(name); next != nil {
		return next
	}
	return nextByte(func(c byte) rune {
		if c < utf8.RuneSelf {
			return rune(c)
		}
		return utf8.RuneError
	})
}

func nextUTF8(in *bufio.Reader) (rune, error) {
	r, _, err := in.ReadRune() // U+FFFD for a byte that is no UTF-8
	return r, err
}

func nextByte(decode func(byte) rune) func(*bufio.Reader) (rune, error) {
	return func(in *bufio.Reader) (rune, error) {
		c, err := in.ReadByte()
		return decode(c), err
	}
}

func nextUTF16(unit func([]byte) uint16) func(*bufio.Reader) (rune, error) {
	return func(in *bufio.Reader) (rune, error) {
		var p [2]byte
		if _, err := io.ReadFull(in, p[:]); err != nil {
			return 0, io.EOF // a lone last byte is no character
		}
		r := rune(unit(p[:]))
		if !utf16.IsSurrogate(r) {
			return r, nil
		}
		low, err := in.Peek(2)
		if err != nil {
			return utf8.RuneError, nil
		}
		if full := utf16.DecodeRune(r, rune(unit(low))); full != utf8.RuneError {
			_, err = in.Discard(2)
			return full, err
		}
		return utf8.RuneError, nil
	}
}

// cleaner is cleanXML's reader.
type cleaner struct {
	in    *bufio.Reader
	next  func(*bufio.Reader) (rune, error)
	began bool
	// ref holds the characters of a reference that may have to be replaced.
	ref   []byte
	short shortener
	ready []byte // UTF-8 that goes out next
	err   error
}

// maxReference is the longest character reference that is looked at, "&#x10FFFF;".
const maxReference = 12

func (c *cleaner) Read(p []byte) (int, error) {
	for len(c.ready) == 0 && c.err == nil {
		c.fill()
	}
	if len(c.ready) == 0 {
		return 0, c.err
	}
	n := copy(p, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

// fill makes some UTF-8 ready.
func (c *cleaner) fill() {
	c.short.out = c.short.out[:0]
	for len(c.short.out) < 4<<10 && c.err == nil {
		var r rune
		if r, c.err = c.next(c.in); c.err != nil {
			c.flush()
			break
		}
		first := !c.began
		c.began = true
		if first && r == '\uFEFF' {
			continue
		}
		if !allowed(r) {
			r = utf8.RuneError
		}
		c.put(r)
		if c.short.markup > maxMarkup {
			c.err = fmt.Errorf("an element of more than %d bytes", maxMarkup)
		}
	}
	c.ready = c.short.out
}

// put appends a character, with "&#" held back until its ";".
func (c *cleaner) put(r rune) {
	switch {
	case r == '&':
		c.flush()
		c.ref = append(c.ref, '&')
	case len(c.ref) == 0:
		c.rune(r)
	case r == ';':
		c.ref = append(c.ref, ';')
		if len(c.ref) > len("&#;") && forbiddenReference(c.ref) {
			c.ref = c.ref[:0]
			c.rune(utf8.RuneError)
			return
		}
		c.flush()
	default:
		c.ref = utf8.AppendRune(c.ref, r)
		if len(c.ref) > maxReference || len(c.ref) == 2 && r != '#' {
			c.flush()
		}
	}
}

func (c *cleaner) rune(r rune) {
	var b [utf8.UTFMax]byte
	c.short.put(b[:utf8.EncodeRune(b[:], r)])
}

// flush passes on what was held back: as one piece, so that a reference is
// never cut, unless it is none.
func (c *cleaner) flush() {
	if len(c.ref) > 0 {
		c.short.put(c.ref)
		c.ref = c.ref[:0]
	}
}

// forbiddenReference tells whether "&#27;" or "&#x1b;" names what XML does not allow.
func forbiddenReference(ref []byte) bool {
	digits, base := ref[2:len(ref)-1], rune(10)
	if len(digits) > 0 && digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	var v rune
	for _, d := range digits {
		var n rune
		switch {
		case d >= '0' && d <= '9':
			n = rune(d - '0')
		case base == 16 && d|0x20 >= 'a' && d|0x20 <= 'f':
			n = rune(d|0x20-'a') + 10
		default:
			return false // malformed: the parser says so
		}
		if v = v*base + n; v > utf8.MaxRune {
			return true
		}
	}
	return len(digits) > 0 && !allowed(v)
}

// allowed is production Char of XML 1.0.
func allowed(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000 && r <= utf8.MaxRune
}
