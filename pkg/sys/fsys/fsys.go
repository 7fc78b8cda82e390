// Package fsys is the only door to the file system for everything that changes
// a target or relkit's own state about it.
//
// One small interface, several implementations: Open (the real thing), Mem (a
// file system in memory that knows what a power cut would leave), DryRun (says
// what would be done) and Watch (counts the changes, and fails, kills or stops
// at the one asked for).
package fsys

import (
	"errors"
	"io"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// ErrCrashed is what every call answers after a simulated power cut.
var ErrCrashed = errors.New("crashed")

// Info is what lstat(2) says of a name.
type Info struct {
	Kind     manifest.Kind
	Mode     uint32 // 0 to 07777
	UID, GID uint32
	Size     int64 // bytes; a symlink's is the length of its text
	// Room is what the content takes on the disk, in bytes: of a file with holes
	// less than Size. File systems round it up, and count it late.
	Room    int64
	ModTime manifest.Time
	// ChangeTime is st_ctime: it moves with every change to the inode. A new name
	// moves it too, on most file systems (an Exchange on xfs does not), and two
	// changes within a tick of the kernel's clock, some 4 ms, may show one time.
	ChangeTime   manifest.Time
	Dev          uint64 // st_dev: equal within one mounted file system
	Ino          uint64
	Links        uint64
	Major, Minor uint32 // devices
	// Allocated is what the inode takes on its file system, in bytes: st_blocks.
	// What it shares with another (FICLONE) counts for both.
	Allocated int64
}

// SameInode tells whether a and b are the same inode of the same file system.
func (a Info) SameInode(b Info) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

// Space is the free room of a file system as an unprivileged writer sees it.
type Space struct {
	FreeBytes, FreeInodes uint64
	ReadOnly              bool
}

// File is a regular file open for reading.
type File interface {
	io.Reader
	io.ReaderAt
	io.Closer
	Stat() (Info, error)
}

// Writer is a regular file open for writing.
type Writer interface {
	io.Writer
	// Sync is fsync(2): content and inode are durable when it returns. The
	// name is not, until SyncDir of the folder.
	Sync() error
	Close() error
}

// RenameMode says what Rename does about an existing new name.
type RenameMode uint8

const (
	// Replace is plain rename(2).
	Replace RenameMode = iota
	// NoReplace fails with EEXIST where the new name exists (RENAME_NOREPLACE).
	NoReplace
	// Exchange swaps two existing names atomically (RENAME_EXCHANGE). On xfs a
	// folder that so comes to another parent gets a new modification time.
	Exchange
)

// String is the mode in a word, as plans and traces say it.
func (m RenameMode) String() string {
	switch m {
	case Replace:
		return "rename"
	case NoReplace:
		return "rename-noreplace"
	case Exchange:
		return "exchange"
	}
	return "rename?"
}

// FS is a tree of files rooted at a folder.
//
// Names are slash-separated, relative to the root and valid for
// manifest.ValidPath; "." is the root. The last component is never followed
// when it is a symlink, and a symlink before it is an error (ELOOP), so no name
// leads out of the root. Errors are *fs.PathError wrapping a syscall.Errno.
// A file system that cannot do a mode of Rename answers EINVAL.
type FS interface {
	Lstat(name string) (Info, error)
	// Open opens a regular file for reading; any other kind is an error.
	Open(name string) (File, error)
	// ReadDir lists a folder's names, sorted bytewise.
	ReadDir(name string) ([]string, error)
	Readlink(name string) (string, error)
	// Xattrs lists the extended attributes, sorted by name; none where the
	// file system has no extended attributes.
	Xattrs(name string) ([]manifest.Xattr, error)
	// Space tells the free room of the file system that holds name.
	Space(name string) (Space, error)
	// Place tells what stands in the way of changing name.
	Place(name string) (Place, error)
	// Mount tells what is mounted where name is.
	Mount(name string) (Mount, error)

	// Create makes a new regular file; EEXIST where the name exists.
	Create(name string, mode uint32) (Writer, error)
	// Append opens an existing regular file to write at its end.
	Append(name string) (Writer, error)
	// Overwrite opens an existing regular file to write over what it holds, from
	// its beginning: for what a boot loader reads and writes by the blocks it lies
	// in, and which a rename would move away. A power cut leaves each aligned 512
	// bytes of what was there as they were or as written.
	Overwrite(name string) (Writer, error)
	Truncate(name string, size int64) error
	Mkdir(name string, mode uint32) error
	Symlink(target, name string) error
	// Mknod makes a CharDev, BlockDev or FIFO.
	Mknod(name string, kind manifest.Kind, mode, major, minor uint32) error
	// Link gives the inode at oldname (a symlink itself, too) a second name.
	Link(oldname, newname string) error
	Unlink(name string) error
	Rmdir(name string) error
	Rename(oldname, newname string, mode RenameMode) error
	Chown(name string, uid, gid uint32) error
	// Chmod sets the permission bits; it is an error on a symlink.
	Chmod(name string, mode uint32) error
	// SetModTime sets the modification time, to the nanosecond; the access time is left.
	SetModTime(name string, t manifest.Time) error
	SetXattr(name, attr string, value []byte) error
	RemoveXattr(name, attr string) error
	// SyncFile is fsync(2) of an existing regular file by name.
	SyncFile(name string) error
	// SyncDir makes a folder's names durable.
	SyncDir(name string) error
	// SyncFS is syncfs(2) of the file system that holds name.
	SyncFS(name string) error
	// SettleFS is SyncFS, and puts what the journal holds in its place, so that
	// a boot loader, which replays no journal, sees it.
	SettleFS(name string) error
	// Remount makes the mount that holds name, and its file system, read-only or
	// writable; EBUSY where something on it is open for writing. It does not
	// outlive a power cut.
	Remount(name string, to ReadOnly) error
	io.Closer
}
