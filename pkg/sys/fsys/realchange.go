package fsys

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// notRoot answers err where name is the root itself, which cannot be made,
// removed or renamed from inside.
func notRoot(op, name string, err error) error {
	if name == "." {
		return pathError(op, name, err)
	}
	return nil
}

func (r *real) Create(name string, mode uint32) (Writer, error) {
	if err := notRoot("create", name, unix.EEXIST); err != nil {
		return nil, err
	}
	fd := -1
	err := r.at("create", name, func(p place) (err error) {
		const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
		if fd, err = unix.Openat(p.dir, p.base, flags, mode&0777); err != nil {
			return err
		}
		// The umask may have taken bits away.
		if err = unix.Fchmod(fd, mode&07777); err == unix.EPERM && keepsNoModes(fd) {
			err = nil
		}
		if err != nil {
			unix.Close(fd)
			unix.Unlinkat(p.dir, p.base, 0)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (r *real) Append(name string) (Writer, error) {
	fd, err := r.openRegular(name, unix.O_WRONLY|unix.O_APPEND)
	if err != nil {
		return nil, pathError("append", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (r *real) Overwrite(name string) (Writer, error) {
	fd, err := r.openRegular(name, unix.O_WRONLY)
	if err != nil {
		return nil, pathError("overwrite", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (r *real) Truncate(name string, size int64) error {
	if size < 0 {
		return pathError("truncate", name, unix.EINVAL)
	}
	fd, err := r.openRegular(name, unix.O_WRONLY)
	if err != nil {
		return pathError("truncate", name, err)
	}
	defer unix.Close(fd)
	_, err = retry(func() (struct{}, error) { return struct{}{}, unix.Ftruncate(fd, size) })
	return pathError("truncate", name, err)
}

func (r *real) Mkdir(name string, mode uint32) error {
	if err := notRoot("mkdir", name, unix.EEXIST); err != nil {
		return err
	}
	return r.at("mkdir", name, func(p place) error {
		if err := unix.Mkdirat(p.dir, p.base, mode&0777); err != nil {
			return err
		}
		err := p.chmod(mode) // umask, and a setgid bit inherited from the parent
		if err == unix.EPERM && keepsNoModes(p.dir) {
			err = nil
		}
		return err
	})
}

// keepsNoModes tells whether a file system shows the modes that its mount has for
// all: new files and folders have no others there, and chmod(2) of one that was just
// made answers EPERM.
func keepsNoModes(fd int) bool {
	var st unix.Statfs_t
	err := unix.Fstatfs(fd, &st)
	return err == nil && (st.Type == unix.MSDOS_SUPER_MAGIC || st.Type == unix.EXFAT_SUPER_MAGIC)
}

func (r *real) Symlink(target, name string) error {
	if err := notRoot("symlink", name, unix.EEXIST); err != nil {
		return err
	}
	return r.at("symlink", name, func(p place) error { return unix.Symlinkat(target, p.dir, p.base) })
}

// modeBits is a kind as mknod(2) and stat(2) write it.
var modeBits = map[manifest.Kind]uint32{
	manifest.CharDev: unix.S_IFCHR, manifest.BlockDev: unix.S_IFBLK, manifest.FIFO: unix.S_IFIFO,
}

func (r *real) Mknod(name string, kind manifest.Kind, mode, major, minor uint32) error {
	if err := notRoot("mknod", name, unix.EEXIST); err != nil {
		return err
	}
	bits, ok := modeBits[kind]
	if !ok {
		return pathError("mknod", name, unix.EINVAL)
	}
	var dev int
	if kind != manifest.FIFO {
		dev = int(unix.Mkdev(major, minor))
	}
	return r.at("mknod", name, func(p place) error {
		if err := unix.Mknodat(p.dir, p.base, bits|mode&0777, dev); err != nil {
			return err
		}
		return p.chmod(mode)
	})
}

// pair is two names as one for an error.
func pair(oldname, newname string) string { return oldname + " to " + newname }

// at2 runs do on two places.
func (r *real) at2(op, oldname, newname string, do func(o, n place) error) error {
	err := r.at(op, oldname, func(o place) error {
		n, err := r.place(newname)
		if err != nil {
			return err
		}
		defer n.close()
		return do(o, n)
	})
	return pathError(op, pair(oldname, newname), err)
}

func (r *real) Link(oldname, newname string) error {
	return r.at2("link", oldname, newname, func(o, n place) error {
		if newname == "." {
			return unix.EEXIST
		}
		return unix.Linkat(o.dir, o.base, n.dir, n.base, 0)
	})
}

func (r *real) Unlink(name string) error {
	if err := notRoot("unlink", name, unix.EISDIR); err != nil {
		return err
	}
	return r.at("unlink", name, func(p place) error { return unix.Unlinkat(p.dir, p.base, 0) })
}

func (r *real) Rmdir(name string) error {
	if err := notRoot("rmdir", name, unix.EBUSY); err != nil {
		return err
	}
	return r.at("rmdir", name, func(p place) error {
		return notEmpty(unix.Unlinkat(p.dir, p.base, unix.AT_REMOVEDIR))
	})
}

func (r *real) Rename(oldname, newname string, mode RenameMode) error {
	if oldname == "." || newname == "." {
		return pathError("rename", pair(oldname, newname), unix.EBUSY)
	}
	return r.at2("rename", oldname, newname, func(o, n place) error {
		var flags uint
		switch mode {
		case Replace:
		case NoReplace:
			flags = unix.RENAME_NOREPLACE
		case Exchange:
			flags = unix.RENAME_EXCHANGE
		default:
			return unix.EINVAL
		}
		err := unix.Renameat2(o.dir, o.base, n.dir, n.base, flags)
		switch {
		case err == unix.ENOSYS:
			return unix.EINVAL
		case mode == Replace:
			return notEmpty(err)
		}
		return err
	})
}

// notEmpty is the one of the two errors for a folder that still holds something
// that most file systems give: rename(2) on xfs says EEXIST.
func notEmpty(err error) error {
	if err == unix.EEXIST {
		return unix.ENOTEMPTY
	}
	return err
}

func (r *real) Chown(name string, uid, gid uint32) error {
	return r.at("chown", name, func(p place) error {
		return unix.Fchownat(p.dir, p.base, int(int32(uid)), int(int32(gid)), unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (r *real) Chmod(name string, mode uint32) error {
	return r.at("chmod", name, func(p place) error { return p.chmod(mode) })
}

// chmod sets the mode of the place itself, by fchmodat2(2), Linux 6.6. Where
// that is missing or filtered it does as glibc does: an O_PATH descriptor pins
// the inode, and chmod(2) of its path under /proc changes just that inode.
func (p place) chmod(mode uint32) error {
	err := unix.Fchmodat(p.dir, p.base, mode&07777, unix.AT_SYMLINK_NOFOLLOW)
	if err != unix.EOPNOTSUPP && err != unix.EPERM {
		return err
	}
	fd, err := unix.Openat(p.dir, p.base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if kindOf(st.Mode) == manifest.Symlink {
		return unix.EOPNOTSUPP
	}
	return unix.Chmod(procFD+strconv.Itoa(fd), mode&07777)
}

func (r *real) SetModTime(name string, t manifest.Time) error {
	if t.Nsec < 0 || t.Nsec >= 1e9 { // UTIME_NOW and UTIME_OMIT are above
		return pathError("utimens", name, unix.EINVAL)
	}
	return r.at("utimens", name, func(p place) error {
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(0)}
		times[1].Sec, times[1].Nsec = t.Sec, t.Nsec
		return unix.UtimesNanoAt(p.dir, p.base, times, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (r *real) SyncFile(name string) error {
	fd, err := r.openRegular(name, unix.O_RDONLY)
	if err != nil {
		return pathError("fsync", name, err)
	}
	defer unix.Close(fd)
	_, err = retry(func() (struct{}, error) { return struct{}{}, unix.Fsync(fd) })
	return pathError("fsync", name, err)
}

func (r *real) SyncDir(name string) error {
	fd, err := r.openDir(name)
	if err != nil {
		return pathError("fsync", name, err)
	}
	defer unix.Close(fd)
	_, err = retry(func() (struct{}, error) { return struct{}{}, unix.Fsync(fd) })
	return pathError("fsync", name, err)
}

// SyncFS needs a descriptor that can be read from: name itself where it is a
// folder, which may be a mount point, else its parent, which is on the same
// file system unless a file is bind-mounted over name.
func (r *real) SyncFS(name string) error {
	fd, err := r.openFS(name)
	if err != nil {
		return pathError("syncfs", name, err)
	}
	defer unix.Close(fd)
	_, err = retry(func() (struct{}, error) { return struct{}{}, unix.Syncfs(fd) })
	return pathError("syncfs", name, err)
}

// openFS opens a folder of the file system that holds name.
func (r *real) openFS(name string) (int, error) {
	if _, err := r.Lstat(name); err != nil {
		return -1, err
	}
	fd, err := r.openDir(name)
	if err == unix.ENOTDIR {
		fd, err = r.openDir(manifest.Parent(name))
	}
	return fd, err
}
