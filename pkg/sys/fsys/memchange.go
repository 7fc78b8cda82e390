package fsys

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// add makes a new inode at a free name; fill completes its birth.
func (f *memFS) add(op_, name string, kind manifest.Kind, mode uint32, fill func(*node)) error {
	p, err := f.find(name)
	switch {
	case err != nil:
	case p.node != nil:
		err = unix.EEXIST
	case p.dir.takesName() != nil:
		err = p.dir.takesName()
	case p.vol.fat && kind != manifest.File && kind != manifest.Dir:
		err = unix.EPERM
	case p.dir.vol.limited && p.dir.vol.room() == 0:
		err = unix.ENOSPC
	}
	if err != nil {
		return pathError(op_, name, err)
	}
	if p.vol.fat {
		mode = fatMode
	}
	birth := p.dir.vol.newNode(kind, mode&07777, f.m.tick())
	if p.dir.node.inherits {
		birth.project, birth.inherits = p.dir.node.project, kind == manifest.Dir
	}
	if fill != nil {
		fill(birth)
	}
	p.dir.vol.do(&op{time: birth.ctime, edits: []edit{{dir: p.dir.node.birth, name: p.base, new: birth}}})
	return nil
}

func (f *memFS) Create(name string, mode uint32) (Writer, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.add("create", name, manifest.File, mode, nil); err != nil {
		return nil, err
	}
	p, err := f.get(name)
	if err != nil {
		return nil, pathError("create", name, err)
	}
	return f.openToWrite(p, name), nil
}

func (f *memFS) openToWrite(p found, name string) *memFile {
	file := f.open(p, name)
	file.put = true
	p.node.writers++
	return file
}

func (f *memFS) Append(name string) (Writer, error) {
	var file *memFile
	err := f.on("append", name, func(p found) error {
		if err := mustBeRegular(p.node.kind); err != nil {
			return err
		}
		if p.readOnly() {
			return unix.EROFS
		}
		if p.node.immutable {
			return unix.EPERM
		}
		file = f.openToWrite(p, name)
		file.end = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

func (f *memFS) Overwrite(name string) (Writer, error) {
	w, err := f.Append(name)
	if err != nil {
		return nil, err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	file := w.(*memFile)
	file.end, file.over = false, true
	return w, nil
}

func (f *memFS) Truncate(name string, size int64) error {
	return f.on("truncate", name, func(p found) error {
		if err := mustBeRegular(p.node.kind); err != nil {
			return err
		}
		if size < 0 {
			return unix.EINVAL
		}
		if p.readOnly() {
			return unix.EROFS
		}
		if err := p.node.frozen(); err != nil {
			return err
		}
		p.vol.do(&op{time: f.m.tick(), inode: p.node.birth, resize: true, size: size})
		return nil
	})
}

func (f *memFS) Mkdir(name string, mode uint32) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.add("mkdir", name, manifest.Dir, mode, nil)
}

func (f *memFS) Symlink(target, name string) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	switch {
	case target == "":
		return pathError("symlink", name, unix.ENOENT)
	case strings.IndexByte(target, 0) >= 0:
		return pathError("symlink", name, unix.EINVAL)
	case len(target) >= unix.PathMax:
		return pathError("symlink", name, unix.ENAMETOOLONG)
	}
	return f.add("symlink", name, manifest.Symlink, 0777, func(n *node) { n.target = target })
}

func (f *memFS) Mknod(name string, kind manifest.Kind, mode, major, minor uint32) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if _, ok := modeBits[kind]; !ok {
		return pathError("mknod", name, unix.EINVAL)
	}
	return f.add("mknod", name, kind, mode, func(n *node) {
		if kind != manifest.FIFO {
			n.major, n.minor = major, minor
		}
	})
}

func (f *memFS) Link(oldname, newname string) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return pathError("link", pair(oldname, newname), f.link(oldname, newname))
}

func (f *memFS) link(oldname, newname string) error {
	o, err := f.find(oldname)
	if err != nil {
		return err
	}
	n, err := f.find(newname)
	switch {
	case err != nil:
		return err
	case newname == ".":
		return unix.EEXIST
	case o.node == nil:
		return unix.ENOENT
	case n.node != nil:
		return unix.EEXIST
	case n.dir.vol != o.vol || n.dir.mount != o.mount:
		return unix.EXDEV
	case n.dir.takesName() != nil:
		return n.dir.takesName()
	case o.node.kind == manifest.Dir || o.vol.fat || f.m.noLink || o.node.frozen() != nil:
		return unix.EPERM
	case n.dir.inheritsOther(o.node):
		return unix.EXDEV
	}
	f.copyUp(o)
	o.vol.do(&op{time: f.m.tick(), edits: []edit{{dir: n.dir.node.birth, name: n.base, new: o.node.birth}}})
	return nil
}

func (f *memFS) Unlink(name string) error {
	return f.on("unlink", name, func(p found) error {
		if p.node.kind == manifest.Dir {
			return unix.EISDIR
		}
		return f.remove(p)
	})
}

func (f *memFS) Rmdir(name string) error {
	return f.on("rmdir", name, func(p found) error {
		switch {
		case p.base == "." || p.mounted():
			return unix.EBUSY
		case p.node.kind != manifest.Dir:
			return unix.ENOTDIR
		case len(p.node.children) > 0:
			return unix.ENOTEMPTY
		}
		return f.remove(p)
	})
}

func (f *memFS) remove(p found) error {
	if err := p.dir.leavesName(); err != nil {
		return err
	}
	if err := p.node.frozen(); err != nil || p.node.swap {
		return unix.EPERM
	}
	p.base = p.vol.spelled(p.dir.node, p.base)
	p.vol.do(&op{time: f.m.tick(), edits: []edit{{dir: p.dir.node.birth, name: p.base, old: p.node.birth}}})
	return nil
}

func (f *memFS) Rename(oldname, newname string, mode RenameMode) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return pathError("rename", pair(oldname, newname), f.rename(oldname, newname, mode))
}

// rename asks in the kernel's order (do_renameat2, vfs_rename), so that the
// error is the kernel's too.
func (f *memFS) rename(oldname, newname string, mode RenameMode) error {
	if oldname == "." || newname == "." {
		return unix.EBUSY
	}
	o, err := f.find(oldname)
	if err != nil {
		return err
	}
	n, err := f.find(newname)
	switch {
	case err != nil:
		return err
	case mode > Exchange:
		return unix.EINVAL
	case o.dir.vol != n.dir.vol || o.dir.mount != n.dir.mount:
		return unix.EXDEV
	case o.dir.readOnly():
		return unix.EROFS
	case o.node == nil:
		return unix.ENOENT
	case mode == NoReplace && n.node != nil:
		return unix.EEXIST
	case mode == Exchange && n.node == nil:
		return unix.ENOENT
	case o.dir.vol.inside(n.dir.node, o.node):
		return unix.EINVAL
	case n.node != nil && o.dir.vol.inside(o.dir.node, n.node) && mode == Exchange:
		return unix.EINVAL
	case n.node != nil && o.dir.vol.inside(o.dir.node, n.node):
		return unix.ENOTEMPTY
	case o.node == n.node:
		return nil // two names of one inode, or one name: both stay
	}
	if err := mayReplace(o, n, mode); err != nil {
		return err
	}
	if mode != Replace && f.m.noExchange {
		return unix.EINVAL
	}
	if n.dir.inheritsOther(o.node) || mode == Exchange && o.dir.inheritsOther(n.node) {
		return unix.EXDEV
	}
	for _, p := range []found{o, n} {
		if p.node != nil && p.node.lower && p.node.kind == manifest.Dir {
			return unix.EXDEV
		}
	}
	f.copyUp(o)
	f.copyUp(n)
	o.base, n.base = o.dir.vol.spelled(o.dir.node, o.base), n.dir.vol.spelled(n.dir.node, n.base)
	edits := []edit{
		{dir: o.dir.node.birth, name: o.base, old: o.node.birth},
		{dir: n.dir.node.birth, name: n.base, new: o.node.birth},
	}
	if n.node != nil {
		edits[1].old = n.node.birth
		if mode == Exchange {
			edits[0].new = n.node.birth
		}
	}
	o.dir.vol.do(&op{time: f.m.tick(), edits: edits, xfs: f.m.likeXFS && mode == Exchange})
	return nil
}

func mayReplace(o, n found, mode RenameMode) error {
	for _, p := range []found{o, n} {
		err := p.dir.takesName()
		if p.node != nil {
			err = p.dir.leavesName()
			if p.node.frozen() != nil || p.node.swap {
				err = unix.EPERM
			}
		}
		if err != nil {
			return err
		}
	}
	switch {
	case o.mounted() || n.mounted():
		return unix.EBUSY
	case n.node == nil || mode == Exchange:
		return nil
	case o.node.kind == manifest.Dir && n.node.kind != manifest.Dir:
		return unix.ENOTDIR
	case o.node.kind != manifest.Dir && n.node.kind == manifest.Dir:
		return unix.EISDIR
	case len(n.node.children) > 0:
		return unix.ENOTEMPTY
	}
	return nil
}

// inside tells whether dir is ancestor or below it.
func (v *volume) inside(dir, ancestor *node) bool {
	for {
		if dir == ancestor {
			return true
		}
		if dir.id == v.now.root {
			return false
		}
		dir = v.now.nodes[dir.parent]
	}
}

// set changes an inode's attributes.
func (f *memFS) set(p found, change func(*node)) error {
	if p.readOnly() {
		return unix.EROFS
	}
	if err := p.node.frozen(); err != nil {
		return err
	}
	f.copyUp(p)
	p.vol.do(&op{time: f.m.tick(), inode: p.node.birth, attr: change})
	return nil
}

// Chown takes away what the kernel takes away, from root too: the setuid bit,
// the setgid bit of what the group may run, and capabilities.
func (f *memFS) Chown(name string, uid, gid uint32) error {
	return f.on("chown", name, func(p found) error {
		if p.vol.fat && (uid != p.node.uid || gid != p.node.gid) {
			return unix.EPERM
		}
		return f.set(p, func(n *node) {
			n.uid, n.gid = uid, gid
			if n.kind == manifest.Dir {
				return
			}
			n.mode &^= 04000
			if n.mode&0010 != 0 {
				n.mode &^= 02000
			}
			delete(n.xattrs, "security.capability")
		})
	})
}

func (f *memFS) Chmod(name string, mode uint32) error {
	return f.on("chmod", name, func(p found) error {
		if p.node.kind == manifest.Symlink {
			return unix.EOPNOTSUPP
		}
		if p.vol.fat && mode != fatMode {
			return unix.EPERM
		}
		return f.set(p, func(n *node) { n.mode = mode & 07777 })
	})
}

func (f *memFS) SetModTime(name string, t manifest.Time) error {
	return f.on("utimens", name, func(p found) error {
		if t.Nsec < 0 || t.Nsec >= 1e9 {
			return unix.EINVAL
		}
		if p.vol.fat {
			t = manifest.Time{Sec: t.Sec &^ 1}
		}
		return f.set(p, func(n *node) { n.mtime = t })
	})
}

// xattrError is the kernel's answer to an attribute that n cannot have.
func xattrError(n *node, attr string) error {
	space, rest, _ := strings.Cut(attr, ".")
	plain := n.kind == manifest.File || n.kind == manifest.Dir
	switch {
	case attr == "" || len(attr) > 255:
		return unix.ERANGE
	case space == "user" && !plain:
		return unix.EPERM
	case space == "user" || space == "trusted" || space == "security":
		if rest == "" {
			return unix.EINVAL
		}
		return nil
	case attr == "system.posix_acl_access" && n.kind != manifest.Symlink,
		attr == "system.posix_acl_default" && n.kind == manifest.Dir:
		return nil
	}
	return unix.EOPNOTSUPP
}

func (f *memFS) SetXattr(name, attr string, value []byte) error {
	return f.on("setxattr", name, func(p found) error {
		if err := xattrError(p.node, attr); err != nil {
			return err
		}
		if p.vol.fat {
			return unix.EOPNOTSUPP
		}
		if len(value) > 1<<16 {
			return unix.E2BIG
		}
		if p.vol.limited && p.vol.room() < uint64(len(attr)+len(value)) {
			return unix.ENOSPC
		}
		held := string(value)
		return f.set(p, func(n *node) { n.xattrs[attr] = held })
	})
}

func (f *memFS) RemoveXattr(name, attr string) error {
	return f.on("removexattr", name, func(p found) error {
		if err := xattrError(p.node, attr); err != nil {
			return err
		}
		if _, ok := p.node.xattrs[attr]; !ok {
			return unix.ENODATA
		}
		return f.set(p, func(n *node) { delete(n.xattrs, attr) })
	})
}

func (f *memFS) SyncFile(name string) error {
	return f.on("fsync", name, func(p found) error {
		if err := mustBeRegular(p.node.kind); err != nil {
			return err
		}
		p.vol.syncInode(p.node.id)
		return nil
	})
}

func (f *memFS) SyncDir(name string) error {
	return f.on("fsync", name, func(p found) error {
		if p.node.kind != manifest.Dir {
			return unix.ENOTDIR
		}
		p.vol.syncDir(p.node.id)
		return nil
	})
}

func (f *memFS) SyncFS(name string) error {
	return f.on("syncfs", name, func(p found) error {
		p.vol.syncAll()
		return nil
	})
}

// SettleFS: a machine in memory has no journal.
func (f *memFS) SettleFS(name string) error { return f.SyncFS(name) }
