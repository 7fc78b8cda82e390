// Package archive is a tree with its content as one stream: a tar archive
// (POSIX pax) in one canonical form, readable by every tar.
//
// The same entries and content give the same bytes: names sorted as
// manifest.Compare has it, numeric owners, nothing about the writer or the
// moment, each value in the ustar header where it fits and in a pax record where
// it does not. The page is relkit-archive(5).
package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// The members beside the tree. Their folder is reserved: a tree has no such name.
const (
	reserved = ".relkit"
	// MachineName is the first member, where there is one: the description of
	// the machine that the tree is from (machine.json).
	MachineName = ".relkit/machine.json"
	// ChangedName is the last member, where there is one: a JSON array of the
	// paths (escaped as manifest.Escape does) whose files changed while they
	// were read.
	ChangedName = ".relkit/changed.json"
)

// MaxDocument bounds the members beside the tree, in bytes.
const MaxDocument = 16 << 20

// Writer writes an archive.
type Writer struct {
	w     *bufio.Writer
	buf   []byte
	last  string          // the path written last
	first manifest.Firsts // of each hard-link group
	began bool
	err   error
}

// NewWriter starts an archive on w. Nothing is sure to be written before Close.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: bufio.NewWriterSize(w, 1<<20)}
}

// Machine writes the machine description, before any entry.
func (a *Writer) Machine(json []byte) error {
	if a.began {
		return a.fail(errors.New("the machine description comes first"))
	}
	return a.document(MachineName, json)
}

// Changed writes the list of inconsistent files, after the last entry.
func (a *Writer) Changed(json []byte) error { return a.document(ChangedName, json) }

func (a *Writer) document(name string, data []byte) error {
	if len(data) > MaxDocument {
		return a.fail(fmt.Errorf("%s: %d bytes, at most %d", name, len(data), MaxDocument))
	}
	h := &header{name: name, typ: typeFile, mode: 0o644, size: int64(len(data))}
	return a.member(h, strings.NewReader(string(data)))
}

// Write adds the next entry, in the order of manifest.Compare. content is what a
// file holds, exactly e.Size bytes; it is not read for other kinds nor for a
// further name of a hard-link group, which needs none. e.Digest is not looked at.
func (a *Writer) Write(e *manifest.Entry, content io.Reader) error {
	if a.err != nil {
		return a.err
	}
	if err := a.check(e); err != nil {
		return a.fail(err)
	}
	linkTo := ""
	if e.Link != 0 {
		if linkTo = a.first.Of(e.Link); linkTo == "" {
			a.first.Set(e.Link, e.Path)
		}
	}
	if e.Kind != manifest.File || linkTo != "" {
		content = nil
	}
	return a.member(headerOf(e, linkTo), content)
}

// HasContent tells whether a name of e's hard-link group is written, so that e
// needs no content.
func (a *Writer) HasContent(e *manifest.Entry) bool { return a.first.Has(e.Link) }

func (a *Writer) check(e *manifest.Entry) error {
	if err := e.ValidateMeta(); err != nil {
		return err
	}
	switch {
	case a.last == "" && e.Path != ".":
		return fmt.Errorf("entry %q: a tree begins with \".\"", e.Path)
	case a.last != "" && manifest.Compare(a.last, e.Path) >= 0:
		return fmt.Errorf("entry %q is not after %q", e.Path, a.last)
	case isReserved(e.Path):
		return fmt.Errorf("entry %q: the name is reserved", e.Path)
	}
	a.last = e.Path
	return nil
}

func isReserved(path string) bool {
	return path == reserved || strings.HasPrefix(path, reserved+"/")
}

func (a *Writer) member(h *header, content io.Reader) error {
	if a.err != nil {
		return a.err
	}
	a.began = true
	a.buf, a.err = h.append(a.buf[:0])
	if a.err != nil {
		return a.err
	}
	if _, a.err = a.w.Write(a.buf); a.err != nil || content == nil {
		return a.err
	}
	n, err := io.Copy(a.w, io.LimitReader(content, h.size))
	if err == nil && n < h.size {
		err = fmt.Errorf("entry %q: %d bytes of content, want %d", h.name, n, h.size)
	}
	if err != nil {
		return a.fail(err)
	}
	_, a.err = a.w.Write(pad(nil, n))
	return a.err
}

func (a *Writer) fail(err error) error {
	if a.err == nil {
		a.err = err
	}
	return a.err
}

// Close ends the archive: two blocks of zeros, and nothing after them. It does
// not close the writer beneath.
func (a *Writer) Close() error {
	if a.err == nil && a.last == "" {
		a.fail(errors.New("a tree has at least the entry \".\""))
	}
	if a.err == nil {
		_, a.err = a.w.Write(make([]byte, 2*blockSize))
	}
	if a.err == nil {
		a.err = a.w.Flush()
	}
	if a.err != nil {
		return a.err
	}
	a.err = errors.New("write to a closed archive")
	return nil
}
