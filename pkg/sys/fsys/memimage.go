package fsys

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// node is an inode of a volume in memory. Its id is never used again; its ino,
// which callers see, is, as on a real disk.
type node struct {
	id, ino      uint64
	birth        *node // as it was made; never changes
	kind         manifest.Kind
	mode         uint32
	uid, gid     uint32
	mtime, ctime manifest.Time
	major, minor uint32
	target       string
	xattrs       map[string]string
	links        int // names, of a folder too
	opens        int // open files: an inode without a name lives as long

	data   []byte
	shared bool // another image holds the same data
	gaps   []gap

	children map[string]uint64
	parent   uint64 // id, of a folder

	immutable, appendOnly, swap, inherits, lower bool
	project                                      uint32
	writers                                      int // files open for writing
}

func (n *node) clone() *node {
	c := *n
	n.shared, c.shared = true, true
	c.xattrs, c.children = maps.Clone(n.xattrs), maps.Clone(n.children)
	c.gaps = slices.Clone(n.gaps)
	c.opens, c.writers = 0, 0
	return &c
}

// gap is a hole of a file: bytes that are zeros and take no room.
type gap struct{ from, to int64 }

// fill makes bytes of a file data, or past its end nothing: no longer a hole.
func (n *node) fill(from, to int64) {
	var left []gap
	for _, g := range n.gaps {
		for _, part := range []gap{{g.from, min(g.to, from)}, {max(g.from, to), g.to}} {
			if part.from < part.to {
				left = append(left, part)
			}
		}
	}
	n.gaps = left
}

// taken is what a stretch of a file takes of the room, in bytes.
func (n *node) taken(from, to int64) int64 {
	to = min(to, int64(len(n.data)))
	sum := max(0, to-from)
	for _, g := range n.gaps {
		sum -= max(0, min(g.to, to)-max(g.from, from))
	}
	return sum
}

// own makes the data the node's to change.
func (n *node) own() {
	if n.shared {
		n.data, n.shared = slices.Clone(n.data), false
	}
}

func (n *node) resize(size int64) {
	n.own()
	if grow := int(size) - len(n.data); grow > 0 {
		n.gaps = append(n.gaps, gap{int64(len(n.data)), size})
		n.data = append(n.data, make([]byte, grow)...)
	}
	n.fill(size, math.MaxInt64)
	n.data = n.data[:size]
}

func (n *node) writeAt(p []byte, off int64) {
	if end := off + int64(len(p)); end > int64(len(n.data)) {
		n.resize(end)
	}
	n.own()
	n.fill(off, off+int64(len(p)))
	copy(n.data[off:], p)
}

// edit is one name of a folder that becomes another inode's, or nobody's.
type edit struct {
	dir      *node // births
	name     string
	old, new *node // births; nil for no name
}

// op is one change that a power cut loses or keeps as a whole, save for a write.
// It names inodes by their births, so that it can be done to any image.
type op struct {
	time  manifest.Time
	edits []edit // names: all of them or none
	xfs   bool   // an exchange as xfs does it

	inode  *node // the birth of the inode changed, for the rest
	attr   func(*node)
	write  []byte // written at off
	off    int64
	over   bool // over blocks that are there already: a sector is old or new
	resize bool // to size
	size   int64

	// needs are the earlier operations without which this one cannot be on the disk.
	needs   []*op
	durable bool
}

func (o *op) touchesDir(id uint64) bool {
	return slices.ContainsFunc(o.edits, func(e edit) bool { return e.dir.id == id })
}

// keep makes o durable, with what it needs.
func (o *op) keep() {
	if o.durable {
		return
	}
	o.durable = true
	for _, n := range o.needs {
		n.keep()
	}
	o.needs = nil
}

// image is the state of a volume: what the running machine sees, or what its
// disk holds.
type image struct {
	nodes map[uint64]*node
	root  uint64
}

func (im *image) clone() *image {
	c := &image{nodes: make(map[uint64]*node, len(im.nodes)), root: im.root}
	for id, n := range im.nodes {
		c.nodes[id] = n.clone()
	}
	return c
}

// ensure is the inode of a birth in this image, made where it is not yet there.
func (im *image) ensure(birth *node) *node {
	n := im.nodes[birth.id]
	if n == nil {
		n = birth.clone()
		n.birth = birth
		im.nodes[n.id] = n
	}
	return n
}

// apply does o.
func (im *image) apply(o *op) {
	if o.edits != nil {
		im.applyEdits(o)
		return
	}
	n := im.ensure(o.inode)
	n.ctime = o.time
	switch {
	case o.attr != nil:
		o.attr(n)
		return
	case o.resize:
		n.resize(o.size)
	default:
		n.writeAt(o.write, o.off)
	}
	n.mtime = o.time
	delete(n.xattrs, "security.capability") // file_remove_privs(), for root too
}

func (im *image) applyEdits(o *op) {
	var gone []*node
	for _, e := range o.edits {
		dir := im.ensure(e.dir)
		old, had := dir.children[e.name]
		if had != (e.old != nil) || had && old != e.old.id {
			panic(fmt.Sprintf("fsys: the crash model lost track of %q", e.name))
		}
		dir.mtime, dir.ctime = o.time, o.time
		if had {
			n := im.nodes[old]
			delete(dir.children, e.name)
			n.links--
			gone = append(gone, n)
			if !o.xfs {
				n.ctime = o.time
			}
		}
	}
	for _, e := range o.edits {
		if e.new == nil {
			continue
		}
		n := im.ensure(e.new)
		im.nodes[e.dir.id].children[e.name] = n.id
		n.links++
		switch {
		case !o.xfs:
			n.ctime = o.time
		case n.kind == manifest.Dir && n.parent != e.dir.id:
			n.mtime, n.ctime = o.time, o.time
		}
		n.parent = e.dir.id
	}
	for _, n := range gone {
		im.drop(n)
	}
}

// drop forgets n if nothing holds it any more.
func (im *image) drop(n *node) {
	if n.links == 0 && n.opens == 0 {
		delete(im.nodes, n.id)
	}
}

// sweep forgets every inode without a name below the root, as fsck(8) does, and
// counts the names of the others.
func (im *image) sweep() {
	for _, n := range im.nodes {
		n.links = 0
	}
	root := im.nodes[im.root]
	root.links = 1
	for todo := []*node{root}; len(todo) > 0; {
		dir := todo[0]
		todo = todo[1:]
		for _, id := range dir.children {
			n := im.nodes[id]
			n.links++
			if n.kind == manifest.Dir {
				todo = append(todo, n)
			}
		}
	}
	maps.DeleteFunc(im.nodes, func(_ uint64, n *node) bool { return n.links == 0 })
}

// used is the room taken: content by the byte, holes for nothing, and a little for each inode.
func (im *image) used() uint64 {
	const perInode = 256
	sum := uint64(0)
	for _, n := range im.nodes {
		sum += perInode + uint64(n.taken(0, int64(len(n.data))))
		for name, value := range n.xattrs {
			sum += uint64(len(name) + len(value))
		}
	}
	return sum
}
