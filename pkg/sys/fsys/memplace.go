package fsys

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// mounted is one mount of a volume, or of a folder of it.
type mounted struct {
	vol  *volume
	root uint64
	id   uint64 // never that of another mount; 1 is the root's
	ro   bool
}

// Bind makes the folder at from appear at to as well, as mount(8) --bind does.
// Both are made where missing.
func (m *Mem) Bind(from, to string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, n := m.folder(from)
	m.mount(to, v, n.id)
}

func (m *Mem) mount(at string, v *volume, root uint64) {
	on, n := m.folder(at)
	m.mounts[mountPoint{on, n.id}] = &mounted{vol: v, root: root, id: uint64(len(m.mounts)) + 2}
}

// SetFlags sets chattr(1)'s i and a of what is at name, durably. The name must be there.
func (m *Mem) SetFlags(name string, immutable, appendOnly bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep(name, func(n *node) { n.immutable, n.appendOnly = immutable, appendOnly })
}

// SetProject sets the quota project of what is at name, durably.
func (m *Mem) SetProject(name string, project uint32, inherits bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep(name, func(n *node) { n.project, n.inherits = project, inherits })
}

// SetSwap has the kernel swap to the file at name.
func (m *Mem) SetSwap(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep(name, func(n *node) { n.swap = true })
}

// keep changes an inode as if it had long been so.
func (m *Mem) keep(name string, change func(*node)) {
	p := m.mustGet(name)
	p.vol.do(&op{time: p.node.ctime, inode: p.node.birth, attr: change}).keep()
	p.vol.fold()
}

// SetBootReadOnly has the file system at name come up read-only, now and after each
// power cut.
func (m *Mem) SetBootReadOnly(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.mustGet(name)
	p.vol.bootRO, p.vol.ro = true, true
}

// SetFAT makes the file system at name like vfat: it keeps no owner, mode or
// attribute, no link and no special file, tells names apart without regard to case,
// and times to two seconds; the numbers of its inodes do not outlive a mount.
func (m *Mem) SetFAT(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.mustGet(name)
	p.vol.fat = true
	for _, im := range []*image{p.vol.now, p.vol.disk} {
		for _, n := range im.nodes {
			n.mode, n.uid, n.gid, n.xattrs = fatMode, 0, 0, map[string]string{}
			n.mtime = manifest.Time{Sec: n.mtime.Sec &^ 1}
		}
	}
}

// SetOverlay makes the file system at name like overlayfs: all that is on it is of a
// lower layer, from which no folder can be renamed, and where a file gets another
// number when it is changed or given a name.
func (m *Mem) SetOverlay(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.mustGet(name)
	p.vol.overlay = true
	for _, im := range []*image{p.vol.now, p.vol.disk} {
		for _, n := range im.nodes {
			n.lower = true
		}
	}
}

// copyUp gives a file of a lower layer its upper inode. It is a change of its own,
// and durable at once: overlayfs syncs it.
func (f *memFS) copyUp(p found) {
	if p.node == nil || !p.node.lower || p.node.kind == manifest.Dir {
		return
	}
	ino := p.vol.newNode(manifest.FIFO, 0, f.m.tick()).ino
	p.vol.do(&op{time: f.m.tick(), inode: p.node.birth, attr: func(n *node) { n.ino, n.lower = ino, false }}).keep()
	p.vol.fold()
}

// fatMode is what everything on such a file system shows.
const fatMode = 0o755

// frozen is the error of changing an inode or its names, 0 for none.
func (n *node) frozen() error {
	if n.immutable || n.appendOnly {
		return unix.EPERM
	}
	return nil
}

// takesName is the error of giving a new name in the folder, leaves of taking one away.
func (s spot) takesName() error {
	switch {
	case s.readOnly():
		return unix.EROFS
	case s.node.immutable:
		return unix.EPERM
	}
	return nil
}

func (s spot) leavesName() error {
	if err := s.takesName(); err != nil {
		return err
	}
	return s.node.frozen()
}

func (s spot) readOnly() bool { return s.vol.ro || s.mount != nil && s.mount.ro }

// mountID numbers the mount that a spot lies on.
func (s spot) mountID() uint64 {
	if s.mount == nil {
		return 1
	}
	return s.mount.id
}

// inheritsOther tells whether the folder takes n in only where it is of its own project.
func (s spot) inheritsOther(n *node) bool {
	return s.node.inherits && n != nil && n.project != s.node.project
}

func (f *memFS) Place(name string) (at Place, err error) {
	err = f.on("statx", name, func(p found) error {
		at = Place{
			Mount: p.mountID(), MountPoint: p.mounted() || name == "." && f.root == f.vol.now.root,
			Immutable: p.node.immutable, AppendOnly: p.node.appendOnly, Swap: p.node.swap,
		}
		if p.node.kind == manifest.File || p.node.kind == manifest.Dir {
			at.Project, at.Inherits = p.node.project, p.node.inherits
		}
		return nil
	})
	return at, err
}

func (f *memFS) Mount(name string) (m Mount, err error) {
	err = f.on("statfs", name, func(p found) error {
		m = Mount{Type: "mem", ReadOnly: ReadOnly{FileSystem: p.vol.ro, Mount: p.mount != nil && p.mount.ro}}
		switch {
		case p.vol.fat:
			m.Type = "vfat"
		case p.vol.overlay:
			m.Type = "overlay"
		}
		return nil
	})
	return m, err
}

func (f *memFS) Remount(name string, to ReadOnly) error {
	return f.on("remount", name, func(p found) error {
		if to.FileSystem && p.vol.writers() {
			return unix.EBUSY
		}
		if p.mount != nil {
			p.mount.ro = to.Mount
		}
		p.vol.ro = to.FileSystem
		return nil
	})
}

// writers tells whether something is open for writing.
func (v *volume) writers() bool {
	for _, n := range v.now.nodes {
		if n.writers > 0 {
			return true
		}
	}
	return false
}

// spelled is how the folder has a name, or as it is given where it does not: on
// vfat a name is found however its letters are written.
func (v *volume) spelled(dir *node, name string) string {
	if _, ok := dir.children[name]; ok || !v.fat {
		return name
	}
	for has := range dir.children {
		if strings.EqualFold(has, name) {
			return has
		}
	}
	return name
}

// renumber gives every inode the number of another, as vfat may when it is mounted.
func (v *volume) renumber() {
	ids := slices.Sorted(maps.Keys(v.now.nodes))
	for i, id := range ids {
		n := ids[(i+1)%len(ids)]
		v.now.nodes[id].ino, v.disk.nodes[id].ino = n, n
	}
	v.free = nil
}

// mustGet is what stands at name; there has to be something, or the test that
// sets the machine up is wrong.
func (m *Mem) mustGet(name string) found {
	f := &memFS{m: m, vol: m.volumes[0], root: m.volumes[0].now.root}
	p, err := f.get(name)
	if err != nil {
		panic("fsys: " + name + ": " + err.Error())
	}
	return p
}
