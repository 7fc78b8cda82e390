package manifest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/format/digest"
)

// The comment lines before an entry that carry what mtree(5) has no keyword
// for, or one that its readers disagree on.
const (
	notePrefix = "#relkit "
	noteLink   = "#relkit hardlink="
	noteXattr  = "#relkit xattr="
)

// AppendEntry appends e's lines, the last with its newline:
//
//	#relkit hardlink=1
//	#relkit xattr=security.capability,AQAAAgAgAAAAAAAAAAAAAAAAAAA=
//	./bin/ping type=file uid=0 gid=0 mode=0755 time=1700000000.000000000 size=9 sha256digest=…
//
// The notes stand in this order, xattrs sorted by name, values in base64. After
// time come size and sha256digest (files), link (symlinks) or
// device=native,MAJOR,MINOR. e must be valid (Validate).
func AppendEntry(b []byte, e *Entry) []byte {
	if e.Link != 0 {
		b = append(b, noteLink...)
		b = strconv.AppendInt(b, int64(e.Link), 10)
		b = append(b, '\n')
	}
	for _, x := range e.Xattrs {
		b = append(b, noteXattr...)
		b = appendEscaped(b, x.Name)
		b = append(b, ',')
		b = base64.StdEncoding.AppendEncode(b, x.Value)
		b = append(b, '\n')
	}
	b = appendPath(b, e.Path)
	b = append(b, " type="...)
	b = append(b, e.Kind.String()...)
	b = append(b, " uid="...)
	b = strconv.AppendUint(b, uint64(e.UID), 10)
	b = append(b, " gid="...)
	b = strconv.AppendUint(b, uint64(e.GID), 10)
	b = append(b, " mode="...)
	if e.Mode != 0 {
		b = append(b, '0') // as C's %#o has it: go-mtree compares the text
	}
	b = strconv.AppendUint(b, uint64(e.Mode), 8)
	b = append(b, " time="...)
	b = AppendTime(b, e.ModTime)
	switch e.Kind {
	case File:
		b = append(b, " size="...)
		b = strconv.AppendInt(b, e.Size, 10)
		b = append(b, " sha256digest="...)
		b = append(b, e.Digest.Hex()...)
	case Symlink:
		b = append(b, " link="...)
		b = appendEscaped(b, e.Target)
	case CharDev, BlockDev:
		b = append(b, " device=native,"...)
		b = strconv.AppendUint(b, uint64(e.Major), 10)
		b = append(b, ',')
		b = strconv.AppendUint(b, uint64(e.Minor), 10)
	}
	return append(b, '\n')
}

// appendPath writes "." as itself and every other path behind "./": mtree(5)
// takes a name without a slash as relative to the folder before it.
func appendPath(b []byte, path string) []byte {
	if path == "." {
		return append(b, '.')
	}
	b = append(b, "./"...)
	return appendEscaped(b, path)
}

// AppendTime appends SECONDS.NANOSECONDS with nine digits. The nanoseconds
// always count forwards, as in struct timespec: half a second before 1970 is
// -1.500000000.
func AppendTime(b []byte, t Time) []byte {
	b = strconv.AppendInt(b, t.Sec, 10)
	b = append(b, '.')
	var digits [9]byte
	n := t.Nsec
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = '0' + byte(n%10)
		n /= 10
	}
	return append(b, digits[:]...)
}

// ParseTime reads what AppendTime writes.
func ParseTime(s string) (Time, error) {
	secs, nanos, ok := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(secs, 10, 64)
	nsec, nerr := strconv.ParseUint(nanos, 10, 32)
	if !ok || err != nil || nerr != nil || len(nanos) != 9 {
		return Time{}, fmt.Errorf("bad time %q: want SECONDS and nine digits", s)
	}
	t := Time{Sec: sec, Nsec: int64(nsec)}
	if string(AppendTime(nil, t)) != s {
		return Time{}, fmt.Errorf("bad time %q: not in its shortest form", s)
	}
	return t, nil
}

// ParseEntry reads the entry at the start of b and tells how many bytes of b it
// took. Anything but what AppendEntry writes for a valid entry is an error.
func ParseEntry(b []byte) (Entry, int, error) {
	var e Entry
	n := 0
	for {
		end := bytes.IndexByte(b[n:], '\n')
		if end < 0 {
			return Entry{}, 0, errors.New("line without its end")
		}
		line := string(b[n : n+end])
		n += end + 1
		if strings.HasPrefix(line, notePrefix) {
			if err := e.parseNote(line); err != nil {
				return Entry{}, 0, err
			}
			continue
		}
		if err := e.parseLine(line); err != nil {
			return Entry{}, 0, err
		}
		break
	}
	if err := e.Validate(); err != nil {
		return Entry{}, 0, err
	}
	// One check holds the order of notes and keywords, leading zeros, blanks,
	// doubled keywords and the padding of base64.
	if !bytes.Equal(AppendEntry(make([]byte, 0, n), &e), b[:n]) {
		return Entry{}, 0, fmt.Errorf("entry %q is not in canonical form", e.Path)
	}
	return e, n, nil
}

func (e *Entry) parseNote(line string) error {
	if v, ok := strings.CutPrefix(line, noteLink); ok {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || n < 1 {
			return fmt.Errorf("bad hard-link group %q", v)
		}
		e.Link = int(n)
		return nil
	}
	v, ok := strings.CutPrefix(line, noteXattr)
	comma := strings.LastIndexByte(v, ',')
	if !ok || comma < 0 {
		return fmt.Errorf("unknown note %q", clip(line))
	}
	name, err := Unescape(v[:comma])
	if err != nil {
		return err
	}
	value, err := base64.StdEncoding.DecodeString(v[comma+1:])
	if err != nil {
		return fmt.Errorf("xattr %q: %w", name, err)
	}
	e.Xattrs = append(e.Xattrs, Xattr{Name: name, Value: value})
	return nil
}

func (e *Entry) parseLine(line string) error {
	name, rest, ok := strings.Cut(line, " ")
	if !ok {
		return fmt.Errorf("bad entry %q: want a path and keywords", clip(line))
	}
	if name == "." {
		e.Path = name
	} else {
		path, ok := strings.CutPrefix(name, "./")
		if !ok {
			return fmt.Errorf("bad path %q: want ./NAME", clip(name))
		}
		var err error
		if e.Path, err = Unescape(path); err != nil {
			return err
		}
	}
	for word := range strings.SplitSeq(rest, " ") {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return fmt.Errorf("entry %q: bad keyword %q", e.Path, clip(word))
		}
		if err := e.set(key, value); err != nil {
			return fmt.Errorf("entry %q: %w", e.Path, err)
		}
	}
	return nil
}

// set takes one keyword=value of an entry line.
func (e *Entry) set(key, value string) (err error) {
	switch key {
	case "type":
		e.Kind, err = parseKind(value)
	case "uid":
		e.UID, err = parseUint32(key, value, 10)
	case "gid":
		e.GID, err = parseUint32(key, value, 10)
	case "mode":
		e.Mode, err = parseUint32(key, value, 8)
	case "time":
		e.ModTime, err = ParseTime(value)
	case "size":
		if e.Size, err = strconv.ParseInt(value, 10, 64); err != nil {
			err = fmt.Errorf("bad size %q", clip(value))
		}
	case "sha256digest":
		e.Digest, err = digest.ParseHex(value)
	case "link":
		e.Target, err = Unescape(value)
	case "device":
		format, numbers, _ := strings.Cut(value, ",")
		major, minor, ok := strings.Cut(numbers, ",")
		if !ok || format != "native" {
			return fmt.Errorf("bad device %q: want native,MAJOR,MINOR", clip(value))
		}
		if e.Major, err = parseUint32(key, major, 10); err == nil {
			e.Minor, err = parseUint32(key, minor, 10)
		}
	default:
		err = fmt.Errorf("unknown keyword %q", clip(key))
	}
	return err
}

func parseKind(s string) (Kind, error) {
	for k := File; k <= FIFO; k++ {
		if kindNames[k] == s {
			return k, nil
		}
	}
	return Unknown, fmt.Errorf("unknown type %q", clip(s))
}

func parseUint32(key, s string, base int) (uint32, error) {
	n, err := strconv.ParseUint(s, base, 32)
	if err != nil {
		return 0, fmt.Errorf("bad %s %q", key, clip(s))
	}
	return uint32(n), nil
}

// clip keeps what an error quotes of a hostile line to a readable length.
func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
