package archive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// Item is a member of an archive.
type Item struct {
	// Entry has no Digest, and no Link: ordinals are not written down. Of a
	// further name of a hard-link group it has the path alone for certain.
	Entry manifest.Entry
	// LinkTo is the earlier path that this is another name of; "" for none.
	LinkTo string
	// Content is what a file holds, until the next item is asked for.
	Content io.Reader
}

// Reader reads an archive. It is strict: it accepts what Writer writes, byte
// for byte, and nothing else. Its memory does not grow with the archive.
type Reader struct {
	r       *bufio.Reader
	offset  int64
	left    int64 // bytes of content that are not read yet
	padding int64 // zeros after them
	block   []byte
	raw     []byte // the blocks of the header being read
	last    string
	began   bool
	machine []byte
	changed []byte
	err     error
}

// NewReader reads an archive from r, to its end.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 1<<20), block: make([]byte, blockSize)}
}

// Machine is the machine description; it stands after the first Next. nil: there is none.
func (a *Reader) Machine() []byte { return a.machine }

// Changed is the list of inconsistent files; it stands after Next has answered
// io.EOF. nil: there are none.
func (a *Reader) Changed() []byte { return a.changed }

// Next is the next entry; io.EOF after the last, when the whole has been
// checked. Other errors name the offset in the archive.
func (a *Reader) Next() (*Item, error) {
	if a.err != nil {
		return nil, a.err
	}
	it, err := a.next()
	switch {
	case err == io.EOF:
		a.err = err
	case err == io.ErrUnexpectedEOF:
		a.err = fmt.Errorf("offset %d: the archive is cut short: %w", a.offset, err)
	case err != nil:
		a.err = fmt.Errorf("offset %d: %w", a.offset, err)
	}
	return it, a.err
}

func (a *Reader) next() (*Item, error) {
	for {
		if err := a.skip(); err != nil {
			return nil, err
		}
		h, err := a.header()
		if err != nil {
			return nil, err
		}
		if h == nil {
			return nil, a.end()
		}
		first := !a.began
		a.began = true
		if strings.HasPrefix(h.name, reserved+"/") {
			if err := a.document(h, first); err != nil {
				return nil, err
			}
			continue
		}
		return a.entry(h)
	}
}

// skip passes over what the caller did not read of the content before.
func (a *Reader) skip() error {
	if _, err := io.Copy(io.Discard, content{a}); err != nil {
		return err
	}
	for ; a.padding > 0; a.padding-- {
		c, err := a.r.ReadByte()
		if err != nil {
			return unexpected(err)
		}
		if c != 0 {
			return errors.New("padding that is not zero")
		}
		a.offset++
	}
	return nil
}

// content reads the content of the member at hand.
type content struct{ a *Reader }

func (c content) Read(b []byte) (int, error) {
	if c.a.left == 0 {
		return 0, io.EOF
	}
	n, err := c.a.r.Read(b[:min(int64(len(b)), c.a.left)])
	c.a.left -= int64(n)
	c.a.offset += int64(n)
	if c.a.left > 0 {
		err = unexpected(err)
	}
	return n, err
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// header reads the next header; nil at the blocks of zeros.
func (a *Reader) header() (*header, error) {
	a.raw = a.raw[:0]
	if err := a.readBlock(); err != nil {
		return nil, err
	}
	if bytes.Count(a.block, []byte{0}) == blockSize {
		return nil, nil
	}
	h, err := parseBlock(a.block)
	if err != nil {
		return nil, err
	}
	records := map[string]string{}
	if h.typ == typePAX {
		if records, err = a.extended(h); err != nil {
			return nil, err
		}
		if err := a.readBlock(); err != nil {
			return nil, err
		}
		if h, err = parseBlock(a.block); err != nil {
			return nil, err
		}
	}
	if err := h.extend(records); err != nil {
		return nil, err
	}
	// One check holds everything that could be written in two ways.
	canonical, err := h.append(make([]byte, 0, len(a.raw)))
	if err != nil || !bytes.Equal(canonical, a.raw) {
		return nil, fmt.Errorf("the header of %q is not in canonical form", h.name)
	}
	if h.size < 0 || h.size > 0 && h.typ != typeFile {
		return nil, fmt.Errorf("%q: bad size %d", h.name, h.size)
	}
	a.left, a.padding = h.size, -h.size&(blockSize-1)
	return h, nil
}

func (a *Reader) readBlock() error {
	n, err := io.ReadFull(a.r, a.block)
	a.offset += int64(n)
	a.raw = append(a.raw, a.block[:n]...)
	return unexpected(err)
}

func (a *Reader) extended(h *header) (map[string]string, error) {
	if h.size <= 0 || h.size > maxPAX {
		return nil, fmt.Errorf("extended header of %d bytes, at most %d", h.size, maxPAX)
	}
	start := len(a.raw)
	for n := int64(0); n < h.size; n += blockSize {
		if err := a.readBlock(); err != nil {
			return nil, err
		}
	}
	return parseRecords(string(a.raw[start : start+int(h.size)]))
}

// document keeps a member beside the tree.
func (a *Reader) document(h *header, first bool) error {
	want := &header{name: h.name, typ: typeFile, mode: 0o644, size: h.size}
	switch {
	case !bytes.Equal(want.appendBlock(nil), a.raw) || h.size > MaxDocument:
		return fmt.Errorf("%q: not a member of an archive", h.name)
	case h.name == MachineName && first:
		return a.readDocument(&a.machine)
	case h.name == ChangedName && a.last != "" && a.changed == nil:
		return a.readDocument(&a.changed)
	}
	return fmt.Errorf("%q has no place here", h.name)
}

func (a *Reader) readDocument(into *[]byte) error {
	data, err := io.ReadAll(content{a})
	*into = data
	return err
}

func (a *Reader) entry(h *header) (*Item, error) {
	if a.changed != nil {
		return nil, fmt.Errorf("%q after the end of the tree", h.name)
	}
	it := &Item{Entry: manifest.Entry{Path: h.name, Mode: h.mode, UID: h.uid, GID: h.gid, ModTime: h.time, Size: h.size,
		Major: h.major, Minor: h.minor, Xattrs: h.xattrs}}
	e := &it.Entry
	switch h.typ {
	case typeLink:
		it.LinkTo = h.link
		if !manifest.ValidPath(h.link) || h.link == "." || manifest.Compare(h.link, h.name) >= 0 ||
			!manifest.ValidPath(h.name) || len(h.xattrs) > 0 || h.mode > 0o7777 {
			return nil, fmt.Errorf("%q: bad hard link to %q", h.name, h.link)
		}
	case typeDir:
		e.Path = strings.TrimSuffix(h.name, "/")
		fallthrough
	default:
		e.Target = h.link
		for kind, typ := range kindTypes {
			if typ == h.typ {
				e.Kind = kind
			}
		}
		if err := e.ValidateMeta(); err != nil {
			return nil, err
		}
		// A folder without its slash, a file's link field and the like.
		if again, err := headerOf(e, "").append(nil); err != nil || !bytes.Equal(again, a.raw) {
			return nil, fmt.Errorf("the header of %q is not in canonical form", h.name)
		}
	}
	switch {
	case a.last == "" && e.Path != ".":
		return nil, fmt.Errorf("entry %q: a tree begins with \".\"", e.Path)
	case a.last != "" && manifest.Compare(a.last, e.Path) >= 0:
		return nil, fmt.Errorf("entry %q is not after %q", e.Path, a.last)
	case isReserved(e.Path):
		return nil, fmt.Errorf("entry %q: the name is reserved", e.Path)
	}
	a.last = e.Path
	if h.typ == typeFile {
		it.Content = content{a}
	}
	return it, nil
}

// end checks what comes after the first block of zeros.
func (a *Reader) end() error {
	if a.last == "" {
		return errors.New("no tree in the archive")
	}
	if err := a.readBlock(); err != nil {
		return err
	}
	if bytes.Count(a.block, []byte{0}) != blockSize {
		return errors.New("one block of zeros where two end the archive")
	}
	if _, err := a.r.ReadByte(); err != io.EOF {
		if err == nil {
			err = errors.New("bytes after the end of the archive")
		}
		return err
	}
	return io.EOF
}
