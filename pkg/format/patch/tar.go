package patch

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The tar of a patch is POSIX.1-1988 ustar (pax(1)); a member of 8 GiB and more
// has a PAX record for its size. Every header has one spelling, made by
// tarHeader: mode 0644, owner and time 0. A reader compares with it, so that
// no bit of a header is without meaning.
const (
	block    = 512
	trailer  = 2 * block
	maxOctal = 1<<33 - 1 // what eleven octal digits hold
)

// tarHeader is the header of a regular file: one block, or three with a PAX record.
func tarHeader(name string, size int64) []byte {
	if size <= maxOctal {
		return ustarBlock(name, size, '0')
	}
	record := paxRecord("size", strconv.FormatInt(size, 10))
	b := ustarBlock("PaxHeaders/"+strings.ReplaceAll(name, "/", "-"), int64(len(record)), 'x')
	b = append(b, record...)
	b = append(b, make([]byte, padding(int64(len(record))))...)
	return append(b, ustarBlock(name, 0, '0')...)
}

// paxRecord is "LENGTH KEY=VALUE\n" where LENGTH counts all of it.
func paxRecord(key, value string) string {
	n := len(key) + len(value) + 3
	for {
		s := fmt.Sprintf("%d %s=%s\n", n, key, value)
		if len(s) == n {
			return s
		}
		n = len(s)
	}
}

func ustarBlock(name string, size int64, kind byte) []byte {
	b := make([]byte, block)
	copy(b[0:100], name)
	copy(b[100:], "0000644\x00")
	copy(b[108:], "0000000\x00")
	copy(b[116:], "0000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00", size))
	copy(b[136:], "00000000000\x00")
	copy(b[148:], "        ") // the checksum is taken over blanks here
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	copy(b[329:], "0000000\x00")
	copy(b[337:], "0000000\x00")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// padding is the zeros between n bytes and the next block.
func padding(n int64) int64 { return -n & (block - 1) }

// framing walks a tar member by member, counting bytes for its errors.
type framing struct {
	r   io.Reader
	off int64
}

// read fills b; what names the place in errors.
func (f *framing) read(b []byte, what string) error {
	n, err := io.ReadFull(f.r, b)
	f.off += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return untrusted("%s: truncated at offset %d", what, f.off)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// next reads a member's header. At the two zero blocks it answers name "".
func (f *framing) next() (name string, size int64, err error) {
	at := f.off
	b := make([]byte, block)
	if err := f.read(b, "member header"); err != nil {
		return "", 0, err
	}
	if b[0] == 0 {
		return "", 0, f.end(b)
	}
	have := b
	if b[156] == 'x' {
		rest := make([]byte, 2*block)
		if err := f.read(rest, "member header"); err != nil {
			return "", 0, err
		}
		have = append(have, rest...)
		b = rest[block:]
		size, err = paxSize(rest[:block])
	} else {
		size, err = strconv.ParseInt(string(b[124:135]), 8, 64)
	}
	nul := bytes.IndexByte(b[:100], 0)
	if err == nil && nul > 0 && size >= 0 {
		name = string(b[:nul])
		if bytes.Equal(have, tarHeader(name, size)) {
			return name, size, nil
		}
	}
	return "", 0, untrusted("member at offset %d: header not in canonical form", at)
}

func paxSize(record []byte) (int64, error) {
	_, value, ok := strings.Cut(string(record), " size=")
	digits, _, ok2 := strings.Cut(value, "\n")
	if !ok || !ok2 {
		return 0, fmt.Errorf("no size record")
	}
	size, err := strconv.ParseInt(digits, 10, 64)
	if err == nil && size <= maxOctal {
		err = fmt.Errorf("size %d fits the header", size)
	}
	return size, err
}

// end checks the trailer, whose first block is b, and that nothing follows.
func (f *framing) end(b []byte) error {
	second := make([]byte, block)
	if err := f.read(second, "end of the archive"); err != nil {
		return err
	}
	if !allZero(b) || !allZero(second) {
		return untrusted("end of the archive: offset %d: blocks are not zero", f.off-trailer)
	}
	n, err := io.ReadFull(f.r, b[:1])
	if n > 0 {
		return untrusted("bytes after the end of the archive, offset %d", f.off)
	}
	if err != io.EOF {
		return fmt.Errorf("end of the archive: %w", err)
	}
	return nil
}

// pad reads the zeros after a member of size bytes.
func (f *framing) pad(name string, size int64) error {
	at := f.off
	b := make([]byte, padding(size))
	if err := f.read(b, fmt.Sprintf("member %q", name)); err != nil {
		return err
	}
	if !allZero(b) {
		return untrusted("member %q: offset %d: padding is not zero", name, at)
	}
	return nil
}

// body reads a whole member of at most limit bytes, padding included. The
// buffer grows with what really arrives, so a lie about size costs nothing.
func (f *framing) body(name string, size, limit int64) ([]byte, error) {
	if size > limit {
		return nil, untrusted("member %q at offset %d: %d bytes: at most %d", name, f.off, size, limit)
	}
	var b bytes.Buffer
	n, err := io.CopyN(&b, f.r, size)
	f.off += n
	if err == io.EOF {
		return nil, untrusted("member %q: truncated at offset %d", name, f.off)
	}
	if err != nil {
		return nil, fmt.Errorf("member %q: %w", name, err)
	}
	return b.Bytes(), f.pad(name, size)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
