package fsys

import (
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// memFS is the tree at one folder of a machine in memory.
type memFS struct {
	m    *Mem
	vol  *volume
	root uint64
	// mount is the one that root lies on, nil for the machine's root.
	mount *mounted
}

func (f *memFS) Close() error { return nil }

// found is a name resolved: the folder it is in, and what is there.
type found struct {
	spot        // nil node where the name is free
	dir  spot   // the folder; the root's is itself
	base string // "." for the root
}

// mounted tells whether another volume is mounted at the name.
func (p found) mounted() bool { return p.node != nil && p.mount != p.dir.mount }

func (f *memFS) find(name string) (found, error) {
	if !manifest.ValidPath(name) {
		return found{}, unix.EINVAL
	}
	at := spot{f.vol, f.vol.now.nodes[f.root], f.mount}
	if at.node == nil {
		return found{}, unix.ENOENT // the view's folder has been removed
	}
	if name == "." {
		return found{at, at, "."}, nil
	}
	for {
		part, rest, more := strings.Cut(name, "/")
		if !more {
			return found{f.m.child(at, part), at, part}, nil
		}
		next, err := f.m.enter(at, part)
		if err != nil {
			return found{}, err
		}
		at, name = next, rest
	}
}

// get is find of a name that must exist.
func (f *memFS) get(name string) (found, error) {
	p, err := f.find(name)
	if err == nil && p.node == nil {
		err = unix.ENOENT
	}
	return p, err
}

// on runs do, under the machine's lock, on a name that must exist.
func (f *memFS) on(op, name string, do func(found) error) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	p, err := f.get(name)
	if err == nil {
		err = do(p)
	}
	return pathError(op, name, err)
}

// spot is a name found: its volume, and its inode, nil where the name is free.
type spot struct {
	vol   *volume
	node  *node
	mount *mounted // nil for the root
}

func (m *Mem) rootPlace() spot {
	v := m.volumes[0]
	return spot{vol: v, node: v.now.nodes[v.now.root]}
}

// child is a name of a folder, or the root of what is mounted there.
func (m *Mem) child(at spot, name string) spot {
	id, ok := at.node.children[at.vol.spelled(at.node, name)]
	if !ok {
		return spot{vol: at.vol, mount: at.mount}
	}
	if mnt := m.mounts[mountPoint{at.vol, id}]; mnt != nil {
		return spot{mnt.vol, mnt.vol.now.nodes[mnt.root], mnt}
	}
	return spot{at.vol, at.vol.now.nodes[id], at.mount}
}

// enter is a folder's child that is to be walked through.
func (m *Mem) enter(at spot, name string) (spot, error) {
	next := m.child(at, name)
	switch {
	case next.node == nil:
		return next, unix.ENOENT
	case next.node.kind == manifest.Symlink:
		return next, unix.ELOOP
	case next.node.kind != manifest.Dir:
		return next, unix.ENOTDIR
	}
	return next, nil
}

func (v *volume) info(n *node) Info {
	i := Info{
		Kind: n.kind, Mode: n.mode, UID: n.uid, GID: n.gid, Size: int64(len(n.data)), Room: n.taken(0, int64(len(n.data))), ModTime: n.mtime, ChangeTime: n.ctime,
		Dev: v.dev, Ino: n.ino, Links: uint64(n.links), Major: n.major, Minor: n.minor,
	}
	i.Allocated = (i.Size + 4095) &^ 4095
	switch n.kind {
	case manifest.Symlink:
		i.Mode, i.Size = 0777, int64(len(n.target))
	case manifest.Dir:
		i.Size = 4096
		for _, id := range n.children {
			if v.now.nodes[id].kind == manifest.Dir {
				i.Links++
			}
		}
		i.Links++ // its own "."
	}
	return i
}

func (f *memFS) Lstat(name string) (info Info, err error) {
	err = f.on("lstat", name, func(p found) error {
		info = p.vol.info(p.node)
		return nil
	})
	return info, err
}

func (f *memFS) ReadDir(name string) (names []string, err error) {
	err = f.on("readdir", name, func(p found) error {
		if p.node.kind != manifest.Dir {
			return unix.ENOTDIR
		}
		for base := range p.node.children {
			names = append(names, base)
		}
		slices.Sort(names)
		return nil
	})
	return names, err
}

func (f *memFS) Readlink(name string) (target string, err error) {
	err = f.on("readlink", name, func(p found) error {
		if p.node.kind != manifest.Symlink {
			return unix.EINVAL
		}
		target = p.node.target
		return nil
	})
	return target, err
}

func (f *memFS) Xattrs(name string) (attrs []manifest.Xattr, err error) {
	err = f.on("listxattr", name, func(p found) error {
		for attr, value := range p.node.xattrs {
			attrs = append(attrs, manifest.Xattr{Name: attr, Value: []byte(value)})
		}
		slices.SortFunc(attrs, func(a, b manifest.Xattr) int { return strings.Compare(a.Name, b.Name) })
		return nil
	})
	return attrs, err
}

func (f *memFS) Space(name string) (s Space, err error) {
	err = f.on("statfs", name, func(p found) error {
		s = Space{FreeBytes: p.vol.room(), FreeInodes: 1 << 20}
		return nil
	})
	return s, err
}

// memFile is an open file, for reading or writing.
type memFile struct {
	m    *Mem
	vol  *volume
	node *node
	name string
	off  int64
	end  bool // write at the end (O_APPEND)
	over bool // write over what is there
	put  bool // open for writing
	shut bool
}

func (f *memFS) open(p found, name string) *memFile {
	p.node.opens++
	return &memFile{m: f.m, vol: p.vol, node: p.node, name: name}
}

func (f *memFS) Open(name string) (File, error) {
	var file *memFile
	err := f.on("open", name, func(p found) error {
		if err := mustBeRegular(p.node.kind); err != nil {
			return err
		}
		file = f.open(p, name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

func (f *memFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.off)
	f.off += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if off < 0 {
		return 0, pathError("read", f.name, unix.EINVAL)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Stat() (Info, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.vol.info(f.node), nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.shut {
		return pathError("close", f.name, unix.EBADF)
	}
	f.shut = true
	f.node.opens--
	if f.put {
		f.node.writers--
	}
	f.vol.now.drop(f.node)
	return nil
}

// Write writes as much as there is room for.
func (f *memFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	if f.end {
		f.off = int64(len(f.node.data))
	}
	fits := len(p)
	if f.vol.limited {
		// What is overwritten needs no room.
		fits = int(min(uint64(len(p)), f.vol.room()+uint64(f.node.taken(f.off, f.off+int64(len(p))))))
	}
	if fits > 0 {
		over := f.over && f.off+int64(fits) <= int64(len(f.node.data))
		f.vol.do(&op{time: f.m.tick(), inode: f.node.birth, write: slices.Clone(p[:fits]), off: f.off, over: over})
		f.off += int64(fits)
	}
	if fits < len(p) {
		return fits, pathError("write", f.name, unix.ENOSPC)
	}
	return fits, nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.vol.syncInode(f.node.id)
	return nil
}
