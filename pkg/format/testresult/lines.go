package testresult

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// lines reads text line by line. What is beyond max bytes of a line is dropped
// while it is read.
type lines struct {
	in  *bufio.Reader
	max int
	buf []byte
}

func newLines(r io.Reader, max int) *lines {
	return &lines{in: bufio.NewReaderSize(r, 4<<10), max: max}
}

// next is a line without its end, valid until the next call; whole is false
// where some of it was dropped. At the end it is io.EOF.
func (l *lines) next() (line []byte, whole bool, err error) {
	l.buf, whole = l.buf[:0], true
	for {
		part, err := l.in.ReadSlice('\n')
		if n := min(len(part), l.max+1-len(l.buf)); n > 0 {
			l.buf = append(l.buf, part[:n]...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(l.buf) > 0, err == nil:
			line = bytes.TrimSuffix(bytes.TrimSuffix(l.buf, []byte("\n")), []byte("\r"))
			whole = len(l.buf) <= l.max
			return line[:min(len(line), l.max)], whole, nil
		}
		return nil, true, err
	}
}
