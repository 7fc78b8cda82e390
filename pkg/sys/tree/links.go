package tree

import (
	"context"
	"slices"
	"sync"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// inode is what the names of a hard-link group have in common.
type inode struct{ dev, ino uint64 }

// group is an inode with several names.
type group struct {
	names int // in the tree
	// queued is the producer's: a name of it has been met.
	queued bool
	// The rest is the consumer's: the names that were numbered, and the entry of
	// the first of them while more are to come.
	done  int
	first *manifest.Entry
}

// groups finds the hard-link groups of a tree. A group is numbered at its first
// name, and whether a second one comes is known at the end of the walk: an inode
// may have its other names elsewhere. The consumer waits for that; where the
// walk cannot go on meanwhile, the names are counted ahead of it.
type groups struct {
	known   map[inode]*group
	last    int // the number given last
	ask     chan struct{}
	settled chan struct{} // closed when known does not change any more
	once    sync.Once
}

func newGroups() *groups {
	return &groups{known: map[inode]*group{}, ask: make(chan struct{}), settled: make(chan struct{})}
}

// add is the producer's: it tells whether another name of the inode came before.
func (g *groups) add(key inode) bool {
	one := g.known[key]
	select {
	case <-g.settled:
		if one == nil {
			return false
		}
	default:
		if one == nil {
			one = &group{}
			g.known[key] = one
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
	if one := g.known[key]; one != nil && one.names > 1 {
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
	if e.Link == 0 {
		g.last++
		e.Link = g.last
		kept := *e
		one.first = &kept
	}
	if one.done == one.names {
		one.first = nil
	}
}

// count walks the tree for the names of linked inodes alone and settles the
// groups. It takes eight bytes a name.
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
	met := g.known
	g.known = map[inode]*group{}
	for dev, inos := range names {
		slices.Sort(inos)
		for start, i := 0, 1; i <= len(inos); i++ {
			if i < len(inos) && inos[i] == inos[start] {
				continue
			}
			if i-start > 1 {
				key := inode{dev, inos[start]}
				g.known[key] = &group{names: i - start, queued: met[key] != nil}
			}
			start = i
		}
	}
	g.settle()
	return nil
}
