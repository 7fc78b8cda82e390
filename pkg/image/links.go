package image

import (
	"bufio"
	"errors"
	"io"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
)

// links are the hard-link groups of a tree that is being written in any order.
// A name is known by its digest: a million names take some 30 MB.
type links struct {
	member map[name]uint32 // the group, an index, of all its names
	groups []linkGroup
	last   int           // the ordinal given last
	near   *bufio.Reader // at the first name of a group
}

type linkGroup struct {
	at      int64 // where in the spool its first name is, from 1; 0: not found yet
	ordinal int   // 0: none of its names was given back yet
}

// name is a path by its digest: half of a SHA-256 tells any two apart.
type name [16]byte

func nameOf(path string) name {
	d := digest.Of([]byte(path))
	return name(d[:16])
}

// add notes that path is another name of the inode at to.
func (l *links) add(path, to string) {
	if l.member == nil {
		l.member = map[name]uint32{}
	}
	first := nameOf(to)
	group, ok := l.member[first]
	if !ok {
		group = uint32(len(l.groups))
		l.groups = append(l.groups, linkGroup{})
		l.member[first] = group
	}
	l.member[nameOf(path)] = group
}

// of is the group of a name, nil for none.
func (l *links) of(path string) *linkGroup {
	if len(l.member) == 0 {
		return nil
	}
	if i, ok := l.member[nameOf(path)]; ok {
		return &l.groups[i]
	}
	return nil
}

// find looks in a spool, size bytes long, for the first name of each group.
func (l *links) find(spool io.ReaderAt, size int64) error {
	if len(l.member) == 0 {
		return nil
	}
	r := bufio.NewReaderSize(io.NewSectionReader(spool, 0, size), 256<<10)
	for at := int64(0); ; {
		n, err := readNoted(r)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if n.flags&isLink == 0 {
			if g := l.of(n.path); g != nil {
				g.at = at + 1
			}
		}
		at += n.size
	}
	return nil
}

// entry makes a record of the spool an entry: of a hard link, that of its
// group's first name. shared tells that the inode is one of the parent's.
func (l *links) entry(spool io.ReaderAt, n noted) (e *manifest.Entry, shared bool, err error) {
	path, g := n.path, l.of(n.path)
	if n.flags&isLink != 0 {
		if n, err = l.first(spool, g); err != nil {
			return nil, false, err
		}
	}
	one, _, err := manifest.ParseEntry(n.lines)
	if err != nil {
		return nil, false, err
	}
	one.Path = path
	if g != nil {
		if g.ordinal == 0 {
			l.last++
			g.ordinal = l.last
		}
		one.Link = g.ordinal
	}
	return &one, n.flags&isShared != 0, nil
}

// first reads the record of a group's first name.
func (l *links) first(spool io.ReaderAt, g *linkGroup) (noted, error) {
	if g == nil || g.at == 0 {
		return noted{}, errors.New("a hard link to what is not in the tree")
	}
	if l.near == nil {
		l.near = bufio.NewReaderSize(nil, 4096)
	}
	l.near.Reset(io.NewSectionReader(spool, g.at-1, 1<<40))
	return readNoted(l.near)
}
