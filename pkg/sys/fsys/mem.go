package fsys

import (
	"slices"
	"strings"
	"sync"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// Mem is a machine whose file systems are in memory, and which knows what a
// power cut would leave of them.
//
// A change is seen at once and is on the disk only when something made it so:
//
//   - fsync of a file (Writer.Sync, SyncFile): its content and inode; not its names.
//   - SyncDir: the names in that folder, and the folder's own inode; not the
//     folder's own name, nor the inodes the names lead to. A rename is one
//     operation, over two folders too: SyncDir of either makes both sides
//     durable, with the earlier operations on the same names.
//   - SyncFS: everything on that file system. It is the only way for the owner,
//     times and attributes of symlinks, devices and FIFOs.
//
// That is what POSIX and the manual pages promise, and less than what ext4, xfs
// and btrfs do. What is not yet on the disk may or may not survive a Crash, as
// its Policy says. An operation that cannot stand without an earlier one (a
// second change of one name, a folder's removal without that of its content, a
// move into a folder that would not be there) is lost with it.
//
// The numbers of inodes that are durably gone are used again, as on ext4. There
// are no permission checks: everybody is root.
type Mem struct {
	mu         sync.Mutex
	volumes    []*volume
	mounts     map[mountPoint]*mounted
	clock      manifest.Time
	noExchange bool
	noLink     bool
	likeXFS    bool
}

type mountPoint struct {
	on  *volume
	dir uint64
}

// volume is one file system.
type volume struct {
	dev     uint64
	now     *image // what the machine sees
	disk    *image // what is on the disk before log
	log     []*op  // in order; the first is not durable
	nextID  uint64
	free    []uint64 // inode numbers to be used again
	limited bool
	limit   uint64
	// ro says that it is mounted read-only, bootRO that it comes up so.
	ro, bootRO   bool
	fat, overlay bool

	// Found in log: the last operation on a name, the one that made a folder,
	// the last that moved a folder.
	bySlot map[slot]*op
	made   map[uint64]*op
	moved  *op
}

type slot struct {
	dir  uint64
	name string
}

// NewMem is a machine with one empty file system.
func NewMem() *Mem {
	m := &Mem{mounts: map[mountPoint]*mounted{}, clock: manifest.Time{Sec: 1767225600}} // 2026
	m.addVolume()
	return m
}

func (m *Mem) addVolume() *volume {
	v := &volume{dev: 0x800 + uint64(len(m.volumes)), nextID: 2}
	root := v.newNode(manifest.Dir, 0755, m.tick())
	root.links = 1
	v.disk = &image{nodes: map[uint64]*node{root.id: root.clone()}, root: root.id}
	v.disk.nodes[root.id].birth = root
	v.now = v.disk.clone()
	v.forget()
	m.volumes = append(m.volumes, v)
	return v
}

// forget clears the finding aids of an empty log.
func (v *volume) forget() {
	v.log, v.moved = nil, nil
	v.bySlot, v.made = map[slot]*op{}, map[uint64]*op{}
}

// tick is the time of the next change: no two are alike.
func (m *Mem) tick() manifest.Time {
	if m.clock.Nsec += 1000; m.clock.Nsec >= 1e9 {
		m.clock.Nsec -= 1e9
		m.clock.Sec++
	}
	return m.clock
}

// newNode is the birth of an inode.
func (v *volume) newNode(kind manifest.Kind, mode uint32, now manifest.Time) *node {
	n := &node{id: v.nextID, ino: v.nextID, kind: kind, mode: mode, mtime: now, ctime: now, xattrs: map[string]string{}}
	v.nextID++
	if k := len(v.free); k > 0 {
		n.ino, v.free = v.free[k-1], v.free[:k-1]
	}
	if kind == manifest.Dir {
		n.children = map[string]uint64{}
	}
	return n
}

// FS is the whole machine's tree.
func (m *Mem) FS() FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.volumes[0]
	return &memFS{m: m, vol: v, root: v.now.root}
}

// Sub is the tree at a folder, which is made, as if long there, where missing.
func (m *Mem) Sub(name string) FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, n := m.folder(name)
	return &memFS{m: m, vol: v, root: n.id}
}

// Mount makes a second, empty file system appear at a folder, which is made
// where missing: links and renames across answer EXDEV.
func (m *Mem) Mount(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.addVolume()
	m.mount(name, v, v.now.root)
}

// folder finds or makes a folder, durably. The name must be valid and lead
// through folders only: anything else is an error of the test.
func (m *Mem) folder(name string) (*volume, *node) {
	at := m.rootPlace()
	if name == "." {
		return at.vol, at.node
	}
	for part := range strings.SplitSeq(name, "/") {
		next := m.child(at, part)
		if next.node == nil {
			birth := at.vol.newNode(manifest.Dir, 0755, m.tick())
			at.vol.do(&op{time: birth.ctime, edits: []edit{{dir: at.node.birth, name: part, new: birth}}}).keep()
			at.vol.fold()
			next = m.child(at, part)
		}
		if next.node.kind != manifest.Dir {
			panic("fsys: not a folder: " + name)
		}
		at = next
	}
	return at.vol, at.node
}

// SyncAll makes everything durable.
func (m *Mem) SyncAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.volumes {
		v.syncAll()
	}
}

// SetNoExchange makes renames with flags answer EINVAL, as on a file system
// whose driver does not know them.
func (m *Mem) SetNoExchange(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noExchange = on
}

// SetNoLink makes link(2) answer EPERM, as on a file system without hard links.
func (m *Mem) SetNoLink(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noLink = on
}

// SetLikeXFS makes exchanges change times as xfs does (xfs_cross_rename): a file
// keeps its ctime, a folder that comes to another parent gets a new mtime.
func (m *Mem) SetLikeXFS(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.likeXFS = on
}

// SetSpace leaves so many bytes free on each file system from now on.
func (m *Mem) SetSpace(free uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.volumes {
		v.limited, v.limit = true, v.now.used()+free
	}
}

func (v *volume) room() uint64 {
	if !v.limited {
		return 1 << 50
	}
	if used := v.now.used(); used < v.limit {
		return v.limit - used
	}
	return 0
}

// do makes a change that the machine sees and the disk does not have yet.
func (v *volume) do(o *op) *op {
	v.link(o)
	v.log = append(v.log, o)
	v.now.apply(o)
	return o
}

// link finds what o needs, and makes o findable.
func (v *volume) link(o *op) {
	need := func(p *op) {
		if p != nil && !p.durable && p != o && !slices.Contains(o.needs, p) {
			o.needs = append(o.needs, p)
		}
	}
	if o.edits == nil {
		for _, p := range v.log {
			// An inode is written as a whole, so a later state holds the earlier
			// one; a block is not given to new data before the old has let go.
			if p.inode != nil && p.inode.id == o.inode.id && (o.attr != nil && p.attr != nil || p.resize) {
				need(p)
			}
		}
		return
	}
	for _, e := range o.edits {
		s := slot{e.dir.id, e.name}
		need(v.bySlot[s])
		v.bySlot[s] = o
		if e.new != nil && o.takes(e.new) {
			v.needFolders(e.dir.id, need) // it must not move to where nothing will be
		}
	}
	for _, e := range o.edits {
		switch {
		case e.new != nil && e.new.kind == manifest.Dir && v.now.nodes[e.new.id] == nil:
			v.made[e.new.id] = o
		case e.new != nil && e.new.kind == manifest.Dir:
			need(v.moved) // or two moves could tie a knot
			v.moved = o
		}
		if e.old != nil && e.old.kind == manifest.Dir && !o.places(e.old) {
			v.needEmpty(e.old.id, need)
		}
	}
}

// places tells whether o gives n a name.
func (o *op) places(n *node) bool {
	return slices.ContainsFunc(o.edits, func(e edit) bool { return e.new != nil && e.new.id == n.id })
}

// takes tells whether o takes a name from n.
func (o *op) takes(n *node) bool {
	return slices.ContainsFunc(o.edits, func(e edit) bool { return e.old != nil && e.old.id == n.id })
}

// needFolders needs a folder and those above it to have been made.
func (v *volume) needFolders(dir uint64, need func(*op)) {
	for dir != v.now.root {
		need(v.made[dir])
		dir = v.now.nodes[dir].parent
	}
}

// needEmpty needs everything that was done in a folder.
func (v *volume) needEmpty(dir uint64, need func(*op)) {
	for _, p := range v.log {
		if p.touchesDir(dir) {
			need(p)
		}
	}
}

func (v *volume) syncAll() {
	for _, o := range v.log {
		o.keep()
	}
	v.fold()
}

func (v *volume) syncInode(id uint64) {
	for _, o := range v.log {
		if o.inode != nil && o.inode.id == id {
			o.keep()
		}
	}
	v.fold()
}

func (v *volume) syncDir(id uint64) {
	for _, o := range v.log {
		if o.touchesDir(id) || o.inode != nil && o.inode.id == id {
			o.keep()
		}
	}
	v.fold()
}

// fold moves the durable beginning of the log to the disk.
func (v *volume) fold() {
	k := 0
	for k < len(v.log) && v.log[k].durable {
		o := v.log[k]
		v.disk.apply(o)
		for _, e := range o.edits {
			if e.old != nil && v.disk.nodes[e.old.id] == nil && v.now.nodes[e.old.id] == nil {
				v.free = append(v.free, e.old.ino)
			}
		}
		k++
	}
	if v.log = v.log[k:]; len(v.log) == 0 {
		v.forget()
	}
}
