// Package manifest is the written form of a tree: one text file in mtree(5)
// syntax with everything about every name, in one canonical form.
//
// Two captures of one tree give the same bytes, so the digest of a manifest is
// the digest of its tree. bsdtar(1) and other readers of mtree(5) read it; what
// they have no keyword for stands in comment lines that begin with #relkit.
// The page is relkit-manifest(5).
package manifest

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/relkit/relkit/pkg/format/digest"
)

// signature is the first line; bsdtar knows the format by it.
const signature = "#mtree\n"

// Writer writes a manifest, entry by entry.
type Writer struct {
	w     *bufio.Writer
	hash  digest.Hash
	check checker
	line  []byte
	err   error
}

// NewWriter starts a manifest on w. Nothing is sure to be written before Close.
func NewWriter(w io.Writer) *Writer {
	m := &Writer{hash: digest.New()}
	m.w = bufio.NewWriterSize(io.MultiWriter(w, m.hash), 64<<10)
	_, m.err = m.w.WriteString(signature)
	return m
}

// Write adds the next entry: "." first, then in the order of Compare, each
// below a folder that was written, hard-link groups numbered as they appear.
func (m *Writer) Write(e *Entry) error {
	if m.err != nil {
		return m.err
	}
	if m.err = e.Validate(); m.err != nil {
		return m.err
	}
	if m.err = m.check.next(e); m.err != nil {
		return m.err
	}
	m.line = AppendEntry(m.line[:0], e)
	_, m.err = m.w.Write(m.line)
	return m.err
}

// Close flushes what is buffered, checks that the tree is whole, and returns
// the digest of all that was written: the digest of the tree. It does not close
// the writer beneath.
func (m *Writer) Close() (digest.Digest, error) {
	if m.err == nil {
		m.err = m.check.end()
	}
	if m.err == nil {
		m.err = m.w.Flush()
	}
	if m.err != nil {
		return digest.Digest{}, m.err
	}
	d := m.hash.Digest()
	m.err = errors.New("write to a closed manifest")
	return d, nil
}

// checker holds what a tree's entries must be among each other. Its memory is
// the depth of the tree and 16 bytes a hard-link group.
type checker struct {
	last   string
	dirs   []string // the folders that hold the next entry or may
	groups []group
	line   []byte
}

// group is what the names of a hard-link group have in common, all of an entry
// but its path, by its digest: half of a SHA-256 is enough to tell two apart.
// The lowest bit of the last byte, which is no part of it, is set by a second name.
type group [16]byte

func (g *group) second() bool { return g[15]&1 != 0 }

func (c *checker) next(e *Entry) error {
	if c.last == "" {
		if e.Path != "." {
			return fmt.Errorf("entry %q: a tree begins with \".\"", e.Path)
		}
		c.last, c.dirs = ".", append(c.dirs, ".")
		return nil
	}
	if Compare(c.last, e.Path) >= 0 {
		return fmt.Errorf("entry %q is not after %q", e.Path, c.last)
	}
	parent := Parent(e.Path)
	for len(c.dirs) > 0 && c.dirs[len(c.dirs)-1] != parent {
		c.dirs = c.dirs[:len(c.dirs)-1]
	}
	if len(c.dirs) == 0 {
		return fmt.Errorf("entry %q: its folder is not in the tree", e.Path)
	}
	if e.Kind == Dir {
		c.dirs = append(c.dirs, e.Path)
	}
	c.last = e.Path
	return c.link(e)
}

// link holds that the names of a hard-link group agree in all but the path.
func (c *checker) link(e *Entry) error {
	if e.Link == 0 {
		return nil
	}
	if e.Link > len(c.groups)+1 {
		return fmt.Errorf("entry %q: hard-link group %d, want at most %d", e.Path, e.Link, len(c.groups)+1)
	}
	alike := *e
	alike.Path = "."
	c.line = AppendEntry(c.line[:0], &alike)
	d := digest.Of(c.line)
	sum := group(d[:16])
	sum[15] &^= 1
	if e.Link == len(c.groups)+1 {
		c.groups = append(c.groups, sum)
		return nil
	}
	g := &c.groups[e.Link-1]
	sum[15] |= 1
	g[15] |= 1
	if *g != sum {
		return fmt.Errorf("entry %q differs from the first name of its hard-link group %d", e.Path, e.Link)
	}
	return nil
}

func (c *checker) end() error {
	if c.last == "" {
		return errors.New("a tree has at least the entry \".\"")
	}
	for i := range c.groups {
		if !c.groups[i].second() {
			return fmt.Errorf("hard-link group %d has one name alone", i+1)
		}
	}
	return nil
}
