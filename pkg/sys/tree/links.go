package tree

import (
	"context"
	"slices"
	"sync"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// inode is what the names of a hard-link group have in common.
type inode struct{ dev, ino uint64 }

// group is an inode with several names. There may be as many as the tree has
// names, so that it is kept small: some 80 bytes.
type group struct {
	names uint32 // in the tree
	// queued is the producer's: a name of it has been met.
	queued bool
	// The rest is the consumer's: the names that were numbered, and what they have
	// in common.
	kind     manifest.Kind
	mode     uint16
	done     uint32
	link     uint32 // the number; 0 before the first name has it
	uid, gid uint32
	modNsec  uint32
	modSec   int64
	size     int64
	digest   digest.Digest
}

// linked is what the names of a group have in common with the first: all of an
// entry but its path. rare holds it for what has more to it than most files.
func (g *groups) linked(one *group, path string) manifest.Entry {
	e := manifest.Entry{Path: path, Kind: one.kind, Mode: uint32(one.mode), UID: one.uid, GID: one.gid, Size: one.size,
		ModTime: manifest.Time{Sec: one.modSec, Nsec: int64(one.modNsec)}, Digest: one.digest, Link: int(one.link)}
	if r, ok := g.rare[one.link]; ok {
		e.Target, e.Major, e.Minor, e.Xattrs = r.Target, r.Major, r.Minor, r.Xattrs
	}
	return e
}

func (g *groups) keep(one *group, e *manifest.Entry) {
	one.kind, one.mode, one.uid, one.gid = e.Kind, uint16(e.Mode), e.UID, e.GID
	one.modSec, one.modNsec, one.size, one.digest = e.ModTime.Sec, uint32(e.ModTime.Nsec), e.Size, e.Digest
	if e.Kind != manifest.File || len(e.Xattrs) > 0 {
		r := *e
		g.rare[one.link] = &r
	}
}

// groups finds the hard-link groups of a tree. A group is numbered at its first
// name, and whether a second one comes is known at the end of the walk: an inode
// may have its other names elsewhere. The consumer waits for that; where the
// walk cannot go on meanwhile, the names are counted ahead of it.
type groups struct {
	met     map[inode]*group   // by the walk
	counted map[uint64]counted // ahead of it, by device; nil: they were not
	last    uint32             // the number given last
	rare    map[uint32]*manifest.Entry
	ask     chan struct{}
	settled chan struct{} // closed when no group comes or goes any more
	once    sync.Once
}

// counted are the groups of one device, by inode numbers in order.
type counted struct {
	inos   []uint64
	groups []group
}

// find is the group of an inode, nil for none.
func (g *groups) find(key inode) *group {
	if g.counted == nil {
		return g.met[key]
	}
	c := g.counted[key.dev]
	if i, ok := slices.BinarySearch(c.inos, key.ino); ok {
		return &c.groups[i]
	}
	return nil
}

func newGroups() *groups {
	return &groups{met: map[inode]*group{}, rare: map[uint32]*manifest.Entry{}, ask: make(chan struct{}), settled: make(chan struct{})}
}

// add is the producer's: it tells whether another name of the inode came before.
func (g *groups) add(key inode) bool {
	one := g.find(key)
	select {
	case <-g.settled:
		if one == nil {
			return false
		}
	default:
		if one == nil {
			one = &group{}
			g.met[key] = one
		}
		one.names++
	}
	before := one.queued
	one.queued = true
	return before
}

// wanted is readable where the consumer waits for groups that are not settled.
func (g *groups) wanted() <-chan struct{} {
	select {
	case <-g.settled:
		return nil
	default:
		return g.ask
	}
}

// settle is the producer's: there are no groups but those that are known.
func (g *groups) settle() {
	select {
	case <-g.settled:
	default:
		close(g.settled)
	}
}

// of is the consumer's: the group of an inode, nil where it has one name in the tree.
func (g *groups) of(ctx context.Context, key inode) (*group, error) {
	select {
	case <-g.settled:
	default:
		g.once.Do(func() { close(g.ask) })
		select {
		case <-g.settled:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if one := g.find(key); one != nil && one.names > 1 {
		return one, nil
	}
	return nil, nil
}

// number is the consumer's: it gives an entry its group's number. one is nil
// for a name with no other in the tree.
func (g *groups) number(one *group, e *manifest.Entry) {
	if one == nil || one.names < 2 || one.done == one.names { // names came or went while the tree was read
		e.Link = 0
		return
	}
	one.done++
	if one.link == 0 {
		g.last++
		one.link = g.last
		g.keep(one, e)
	}
	e.Link = int(one.link)
	if one.done == one.names {
		delete(g.rare, one.link)
	}
}

// count walks the tree for the names of linked inodes alone and settles the
// groups. It takes eight bytes a name, and a group for each inode with several.
func (g *groups) count(ctx context.Context, root fsys.FS, opts *Options) error {
	names := map[uint64][]uint64{} // the inodes of each device
	w := walker{fs: root, opts: opts, visit: func(_ string, i fsys.Info) error {
		if i.Kind != manifest.Dir && i.Links > 1 {
			names[i.Dev] = append(names[i.Dev], i.Ino)
		}
		return nil
	}}
	if err := w.walk(ctx); err != nil {
		return err
	}
	g.counted = map[uint64]counted{}
	for dev, inos := range names {
		g.counted[dev] = g.several(dev, inos)
	}
	g.met = nil
	g.settle()
	return nil
}

// several are the groups among the inodes of a device, one a name.
func (g *groups) several(dev uint64, inos []uint64) counted {
	slices.Sort(inos)
	n := 0
	each := func(visit func(ino uint64, names int)) {
		for start, i := 0, 1; i <= len(inos); i++ {
			if i < len(inos) && inos[i] == inos[start] {
				continue
			}
			if i-start > 1 {
				visit(inos[start], i-start)
			}
			start = i
		}
	}
	each(func(uint64, int) { n++ })
	c := counted{make([]uint64, 0, n), make([]group, 0, n)}
	each(func(ino uint64, names int) {
		c.inos = append(c.inos, ino)
		c.groups = append(c.groups, group{names: uint32(names), queued: g.met[inode{dev, ino}] != nil})
	})
	return c
}
