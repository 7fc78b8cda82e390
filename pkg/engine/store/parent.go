package store

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"io"
	"slices"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// parent is the manifest of a stored image to look files up in, in any order. Of
// each it keeps where in the manifest it is, in 16 bytes.
type parent struct {
	manifest fsys.File
	seed     maphash.Seed
	files    []parentFile // by sum
	// claimed maps a hard-link group to the file whose inode the new tree shares:
	// two groups of the new tree must not become one.
	claimed map[int]span
	buf     []byte
}

// parentFile is a file's lines and the hash of its path, which others may have too.
type parentFile struct {
	sum uint64
	at  span
}

// span is an entry's lines: an offset in the manifest and, in the lowest 24
// bits, a length. An entry is shorter than that (manifest.Reader).
type span uint64

func (s span) offset() int64 { return int64(s >> 24) }
func (s span) length() int   { return int(s & (1<<24 - 1)) }

// readParent reads a manifest, all of it, and keeps it open.
func readParent(f fsys.File) (*parent, error) {
	p := &parent{manifest: f, seed: maphash.MakeSeed(), claimed: map[int]span{}}
	m := manifest.NewReader(io.NewSectionReader(f, 0, 1<<62))
	for {
		e, err := m.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if e.Kind == manifest.File {
			start, end := m.Offsets()
			p.files = append(p.files, parentFile{maphash.String(p.seed, e.Path), span(start<<24 | (end - start))})
		}
	}
	slices.SortFunc(p.files, func(a, b parentFile) int { return cmp.Compare(a.sum, b.sum) })
	p.files = slices.Clone(p.files) // without the room that growing has left
	return p, nil
}

// same tells whether the parent has the file e, content and all metadata, in an
// inode that no other file of the new tree has taken for its own.
func (p *parent) same(e *manifest.Entry) (bool, error) {
	sum := maphash.String(p.seed, e.Path)
	i, _ := slices.BinarySearchFunc(p.files, sum, func(f parentFile, sum uint64) int { return cmp.Compare(f.sum, sum) })
	for ; i < len(p.files) && p.files[i].sum == sum; i++ {
		at := p.files[i].at
		old, err := p.entry(at)
		if err != nil {
			return false, err
		}
		if old.Path != e.Path {
			continue
		}
		if !old.Equal(e) {
			return false, nil
		}
		if old.Link != 0 {
			if by, ok := p.claimed[old.Link]; ok && by != at {
				return false, nil
			}
			p.claimed[old.Link] = at
		}
		return true, nil
	}
	return false, nil
}

func (p *parent) entry(at span) (manifest.Entry, error) {
	p.buf = slices.Grow(p.buf[:0], at.length())[:at.length()]
	if _, err := p.manifest.ReadAt(p.buf, at.offset()); err != nil && err != io.EOF {
		return manifest.Entry{}, err
	}
	e, _, err := manifest.ParseEntry(p.buf)
	if err != nil {
		err = fmt.Errorf("offset %d: %w", at.offset(), err)
	}
	return e, err
}
