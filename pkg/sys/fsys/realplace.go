package fsys

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/octal"
)

// minSwap is the least size of a swap file: a header and nine pages (mkswap(8)).
const minSwap = 10 * 4096

func (r *real) Place(name string) (at Place, err error) {
	err = r.at("statx", name, func(p place) (err error) {
		at, err = p.look()
		return err
	})
	return at, err
}

// look asks for all that Place says.
func (p place) look() (at Place, err error) {
	var st unix.Statx_t
	const flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if err := unix.Statx(p.dir, p.base, flags, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st); err != nil {
		return at, err
	}
	if st.Mask&unix.STATX_MNT_ID != 0 {
		at.Mount = st.Mnt_id
	}
	at.MountPoint = st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	at.Immutable = st.Attributes&unix.STATX_ATTR_IMMUTABLE != 0
	at.AppendOnly = st.Attributes&unix.STATX_ATTR_APPEND != 0
	kind := kindOf(uint32(st.Mode))
	if kind == manifest.File && st.Size >= minSwap {
		at.Swap = isSwap(unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino)
	}
	if kind == manifest.File || kind == manifest.Dir {
		at.Project, at.Inherits = p.project()
	}
	return at, nil
}

// fsxattr is struct fsxattr of linux/fs.h.
type fsxattr struct {
	xflags, extsize, nextents, projid, cowextsize uint32
	_                                             [8]byte
}

const (
	fsGetXattr   = 0x801c581f // FS_IOC_FSGETXATTR, ioctl_getfsmap(2) and ioctl_xfs_fsgetxattr(2)
	xflagInherit = 0x200      // FS_XFLAG_PROJINHERIT
)

// project is the quota project of a file or folder; 0 where there are none. The
// descriptor must be one that can be read from, and opening a file that has just
// become a pipe must not wait for its writer.
func (p place) project() (id uint32, inherits bool) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(p.dir, p.base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	var x fsxattr
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsGetXattr, uintptr(unsafe.Pointer(&x))); errno != 0 {
		return 0, false
	}
	return x.projid, x.xflags&xflagInherit != 0
}

// isSwap tells whether an inode is one of proc(5)'s swaps.
func isSwap(dev, ino uint64) bool {
	b, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		name, _, _ := strings.Cut(line, " ")
		if fields := strings.Fields(line); len(fields) < 2 || fields[1] != "file" {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(octal.Unescape(name), &st) == nil && st.Ino == ino && st.Dev == dev {
			return true
		}
	}
	return false
}

// magics are the types that relkit treats apart, so that they are known also
// where mountinfo does not have the mount: in a chroot(2) that is none.
var magics = map[int64]string{
	unix.MSDOS_SUPER_MAGIC: "vfat", unix.EXFAT_SUPER_MAGIC: "exfat", unix.OVERLAYFS_SUPER_MAGIC: "overlay",
}

func (r *real) Mount(name string) (m Mount, err error) {
	fd, err := r.openPlace(name)
	if err != nil {
		return m, pathError("statfs", name, err)
	}
	defer unix.Close(fd)
	m, err = mountOf(fd)
	return m, pathError("statfs", name, err)
}

// mountOf is the mount that a descriptor lies on.
func mountOf(fd int) (m Mount, err error) {
	var fs unix.Statfs_t
	if _, err := retry(func() (struct{}, error) { return struct{}{}, unix.Fstatfs(fd, &fs) }); err != nil {
		return m, err
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return m, err
	}
	if st.Mask&unix.STATX_MNT_ID != 0 {
		table, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return m, err
		}
		m, _ = findMount(table, st.Mnt_id)
	}
	if kind := magics[int64(fs.Type)]; kind != "" {
		m.Type = kind
	}
	if fs.Flags&unix.ST_RDONLY != 0 && !m.Any() {
		m.ReadOnly.Mount = true // and nobody says in which way
	}
	return m, nil
}

// findMount finds a mount in proc(5)'s mountinfo: field 1 is its number, 6 its
// own options; after the lone dash follow type, source and the file system's options.
func findMount(table []byte, id uint64) (m Mount, found bool) {
	number := strconv.AppendUint(nil, id, 10)
	for line := range bytes.Lines(table) {
		if first, _, _ := bytes.Cut(line, []byte(" ")); !bytes.Equal(first, number) {
			continue
		}
		before, after, _ := strings.Cut(string(line), " - ")
		own, super := strings.Fields(before), strings.Fields(after)
		if len(own) < 6 || len(super) < 1 {
			return m, false
		}
		m.Type = super[0]
		if len(super) > 2 {
			m.Options = super[2]
		}
		m.ReadOnly = ReadOnly{Mount: hasWord(own[5], "ro"), FileSystem: hasWord(m.Options, "ro")}
		return m, true
	}
	return m, false
}

// hasWord tells whether a list with commas has a word.
func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// Remount goes by fspick(2) and mount_setattr(2), Linux 5.2 and 5.12, which change
// the one flag: mount(2) would take away every other option that is not given again.
func (r *real) Remount(name string, to ReadOnly) error {
	fd, err := r.openPlace(name)
	if err == nil {
		err = remount(fd, to)
		unix.Close(fd)
	}
	return pathError("remount", name, err)
}

func remount(fd int, to ReadOnly) error {
	is, err := mountOf(fd)
	if err != nil {
		return err
	}
	// Towards read-only the mount goes first: it is refused while it is written to,
	// and no writer comes in behind it.
	if is.ReadOnly.Mount != to.Mount {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if !to.Mount {
			attr = unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
		}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			return err
		}
	}
	if is.FileSystem == to.FileSystem {
		return nil
	}
	pick, err := unix.Fspick(fd, "", unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(pick)
	flag := "rw"
	if to.FileSystem {
		flag = "ro"
	}
	return errors.Join(unix.FsconfigSetFlag(pick, flag), unix.FsconfigReconfigure(pick))
}
