package fsys

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// From linux/fs.h and fs/ext4/ext4.h.
const (
	ioctlFreeze         = 0xc0045877 // FIFREEZE
	ioctlThaw           = 0xc0045878 // FITHAW
	ioctlExt4Checkpoint = 0x4004662b // EXT4_IOC_CHECKPOINT, Linux 5.14
)

// SettleFS empties the journal into its place: of ext4 by the call that is made
// for it, of xfs (and of ext4 on an older kernel) by freezing the file system and
// thawing it again. What else boot loaders read (btrfs, vfat) has no such journal:
// syncfs is all there is to do.
//
// A SIGKILL between freeze and thaw would leave the file system frozen: hence the
// other way first, and nothing between the two.
func (r *real) SettleFS(name string) error {
	fd, err := r.openFS(name)
	if err != nil {
		return pathError("settlefs", name, err)
	}
	defer unix.Close(fd)
	_, err = retry(func() (struct{}, error) { return struct{}{}, settle(fd) })
	return pathError("settlefs", name, err)
}

func settle(fd int) error {
	if err := unix.Syncfs(fd); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return err
	}
	switch uint32(st.Type) {
	case unix.EXT4_SUPER_MAGIC: // ext2's and ext3's too
		switch err := unix.IoctlSetPointerInt(fd, ioctlExt4Checkpoint, 0); err {
		case nil, unix.ENODEV: // ENODEV: there is no journal
			return nil
		case unix.ENOTTY:
			return freezeThaw(fd)
		default:
			return err
		}
	case unix.XFS_SUPER_MAGIC:
		return freezeThaw(fd)
	}
	return nil
}

// freezeThaw keeps its thread, so that nothing of this process comes between.
func freezeThaw(fd int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.IoctlSetInt(fd, ioctlFreeze, 0); err != nil {
		return err
	}
	return unix.IoctlSetInt(fd, ioctlThaw, 0)
}
