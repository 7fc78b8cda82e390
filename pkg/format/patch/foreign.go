package patch

import (
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"
)

// HeadSize is how many bytes from the start of a file Kind looks at, at most.
const HeadSize = block

// tarKind is what Kind says of a tar.
const tarKind = "a tar archive"

// magics are how files that come in a patch's place begin.
var magics = []struct{ begins, is string }{
	{"\x1f\x8b", "a gzip-compressed file"},
	{"\x28\xb5\x2f\xfd", "a zstd-compressed file"},
	{"\xfd7zXZ\x00", "an xz-compressed file"},
	{"BZh", "a bzip2-compressed file"},
	{"PK\x03\x04", "a zip archive"},
	{"\x7fELF", "a program (ELF)"},
	{"!<arch>\n", "a Debian package or another ar archive"},
	{"\xed\xab\xee\xdb", "an RPM package"},
	{"#mtree\n", "a manifest"},
	{"#!", "a script"},
	{"-----BEGIN ", "a key or a signature"},
	{"version https://git-lfs.", "a pointer of Git LFS, in place of the file itself"},
}

// Kind says in words for people what the start of a file looks like, where that
// is no patch: "a gzip-compressed file", "an HTML page".
func Kind(head []byte) string {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.begins)) {
			return m.is
		}
	}
	text := bytes.ToLower(bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\ufeff")), " \t\r\n"))
	switch {
	case len(head) >= 262 && string(head[257:262]) == "ustar":
		return tarKind
	case bytes.HasPrefix(text, []byte("<!doctype html")) || bytes.HasPrefix(text, []byte("<html")):
		return "an HTML page, such as a server sends in place of a file"
	case bytes.HasPrefix(text, []byte("<?xml")):
		return "an XML document"
	case bytes.HasPrefix(text, []byte("{")):
		return "a JSON document"
	case len(bytes.Trim(head, "\x00")) == 0:
		return "nothing but zeros"
	case isText(head):
		return "text"
	}
	return "data of no known kind"
}

// isText tells whether b, which may end within a character, is UTF-8 without
// control characters.
func isText(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			return !utf8.FullRune(b)
		}
		if r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == 0x7f {
			return false
		}
		b = b[n:]
	}
	return true
}

// own refuses what does not begin as a patch does, and says what it looks like.
// What is shorter than the name of a patch's first member, and begins as that
// does, has been cut.
func (f *framing) own() error {
	head := make([]byte, HeadSize)
	n, err := io.ReadFull(f.r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return fmt.Errorf("member header: %w", err)
	}
	head = head[:n]
	f.r = io.MultiReader(bytes.NewReader(head), f.r)
	name := []byte(headerName + "\x00")
	switch kind := Kind(head); {
	case bytes.HasPrefix(head, name) || bytes.HasPrefix(name, head):
		return nil
	case kind == tarKind:
		return f.notFirst(string(bytes.TrimRight(head[:100], "\x00")))
	default:
		return untrusted("not a relkit patch: it looks like %s", kind)
	}
}

// notFirst refuses a tar that begins with another member.
func (f *framing) notFirst(member string) error {
	return untrusted("not a relkit patch: it is a tar archive whose first member is %q, want %q", member, headerName)
}
