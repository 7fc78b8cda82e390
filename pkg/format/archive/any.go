package archive

import (
	"bufio"
	"strings"
)

// Members are the entries of an archive, whoever wrote it.
type Members interface {
	// Next is the next entry; io.EOF after the last.
	Next() (*Item, error)
	// Machine is the machine description; it stands after the first Next. nil: there is none.
	Machine() []byte
	// Changed is the list of inconsistent files; it stands after Next has
	// answered io.EOF. nil: there is none.
	Changed() []byte
}

// Any reads an archive: by Reader where it begins with a machine description, as
// only relkit's do, else by Foreign.
func Any(b *bufio.Reader) Members {
	name, _ := b.Peek(len(MachineName) + 1)
	if strings.TrimSuffix(string(name), "\x00") == MachineName {
		return NewReader(b)
	}
	return NewForeign(b)
}

// Machine is nil: other tars have no such member.
func (f *Foreign) Machine() []byte { return nil }

// Changed is nil: other tars have no such member.
func (f *Foreign) Changed() []byte { return nil }
