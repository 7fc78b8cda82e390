package fsys

// Place is what decides, beside Info, whether a name can be given to something
// else and which renames reach it.
type Place struct {
	// Mount tells the mounts of a machine apart for as long as they last; 0 where
	// the kernel does not say (before Linux 5.8). Two mounts of one file system have
	// the same Info.Dev, and no rename leads from one to the other.
	Mount uint64
	// MountPoint says that something is mounted at the name, on a file too.
	MountPoint bool
	// Immutable and AppendOnly are chattr(1)'s i and a: whatever has one of them is
	// neither renamed nor given other metadata, and no name in such a folder is
	// given to anything else.
	Immutable, AppendOnly bool
	// Swap says that the kernel is swapping to the file: it cannot be renamed.
	Swap bool
	// Project is the project that a file or folder is accounted to, where the file
	// system keeps projects (xfs, ext4). A folder that Inherits takes in nothing of
	// another one: renames to it answer EXDEV.
	Project  uint32
	Inherits bool
}

// Mount is what is mounted somewhere.
type Mount struct {
	// Type is the file system's, as in /proc/filesystems.
	Type string
	// Options are those of the file system, as in /proc/self/mountinfo; "" where
	// they are not known.
	Options string
	ReadOnly
}

// ReadOnly is in which of two ways a mount refuses changes: as a mount, or with
// all other mounts of its file system.
type ReadOnly struct {
	Mount      bool `json:"mount,omitempty"`
	FileSystem bool `json:"file_system,omitempty"`
}

// Any tells whether changes are refused in either way.
func (r ReadOnly) Any() bool { return r.Mount || r.FileSystem }

// Has tells whether an option is among the file system's.
func (m Mount) Has(option string) bool { return hasWord(m.Options, option) }
