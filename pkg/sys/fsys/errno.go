package fsys

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// IsAbsent tells whether err says that a name is not there: it, or a folder
// above it, does not exist or is no folder.
func IsAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// IsUnsupported tells whether err says that the file system cannot do what was asked.
func IsUnsupported(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EOPNOTSUPP)
}

// IsCrossDevice tells whether err says that a rename or link would lead to another
// file system, mount or project.
func IsCrossDevice(err error) bool { return errors.Is(err, syscall.EXDEV) }

// IsNotEmpty tells whether err says that a folder holds something.
func IsNotEmpty(err error) bool { return errors.Is(err, syscall.ENOTEMPTY) }

// IsNameTooLong tells whether err says that a name is longer than its file system takes,
// or a path than the kernel does.
func IsNameTooLong(err error) bool { return errors.Is(err, syscall.ENAMETOOLONG) }

// IsLinkless tells whether err, of a Link within a folder, says that the file system
// has no hard links: link(2) answers EPERM there.
func IsLinkless(err error) bool { return errors.Is(err, syscall.EPERM) || IsUnsupported(err) }

// Privileged tells whether this process may write into folders whatever their modes say.
func Privileged() bool { return os.Geteuid() == 0 }

// IsUnreachable tells whether err says that no name can be there: it is absent,
// or a folder above it is a link.
func IsUnreachable(err error) bool { return IsAbsent(err) || errors.Is(err, syscall.ELOOP) }
