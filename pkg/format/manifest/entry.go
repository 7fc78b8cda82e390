package manifest

import (
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
)

// Kind is what a tree entry is: mtree(5)'s type keyword.
type Kind uint8

// The kinds a manifest can hold. Socket is seen by walks and never written.
const (
	Unknown Kind = iota
	File
	Dir
	Symlink
	CharDev
	BlockDev
	FIFO
	Socket
)

var kindNames = [...]string{"unknown", "file", "dir", "link", "char", "block", "fifo", "socket"}

// String is mtree(5)'s word for the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Unknown]
}

// Time is a file time: seconds since 1970 (may be negative) and nanoseconds [0, 1e9).
type Time struct {
	Sec  int64
	Nsec int64
}

// Std is t as a time.Time in UTC.
func (t Time) Std() time.Time { return time.Unix(t.Sec, t.Nsec).UTC() }

// TimeOf is a time.Time as a Time.
func TimeOf(t time.Time) Time { return Time{Sec: t.Unix(), Nsec: int64(t.Nanosecond())} }

// Xattr is one extended attribute, full name ("user.x", "security.capability") and raw value.
type Xattr struct {
	Name  string
	Value []byte
}

// Entry is one name of a tree.
type Entry struct {
	// Path is relative, clean and slash-separated; "." is the tree itself.
	// It is raw bytes: not necessarily UTF-8.
	Path string
	Kind Kind
	// Mode is the permission bits, 0 to 07777.
	Mode     uint32
	UID, GID uint32
	ModTime  Time
	// Size in bytes and Digest of the content: files only.
	Size   int64
	Digest digest.Digest
	// Target is a symlink's text.
	Target string
	// Major and Minor number a device.
	Major, Minor uint32
	// Link is the ordinal (from 1, in order of first appearance) of the hard-link
	// group the name belongs to; 0 for a name with no other in the tree.
	Link int
	// Xattrs are sorted by name.
	Xattrs []Xattr
}

// Equal tells whether a and b would be written alike, link ordinals aside:
// they number groups within one tree and say nothing across two.
func (e *Entry) Equal(o *Entry) bool {
	if e.Path != o.Path || e.Kind != o.Kind || e.Mode != o.Mode || e.UID != o.UID || e.GID != o.GID ||
		e.ModTime != o.ModTime || e.Size != o.Size || e.Digest != o.Digest || e.Target != o.Target ||
		e.Major != o.Major || e.Minor != o.Minor || (e.Link != 0) != (o.Link != 0) || len(e.Xattrs) != len(o.Xattrs) {
		return false
	}
	for i, x := range e.Xattrs {
		if x.Name != o.Xattrs[i].Name || string(x.Value) != string(o.Xattrs[i].Value) {
			return false
		}
	}
	return true
}

// Compare orders paths as a walk meets them: component by component, bytewise,
// a folder before what it holds, "." before all.
func Compare(a, b string) int {
	if a == "." || b == "." {
		switch {
		case a == b:
			return 0
		case a == ".":
			return -1
		}
		return 1
	}
	n := min(len(a), len(b))
	for i := range n {
		ca, cb := a[i], b[i]
		if ca == cb {
			continue
		}
		// '/' ends a component and so sorts before every byte that goes on with one.
		if ca == '/' {
			return -1
		}
		if cb == '/' {
			return 1
		}
		if ca < cb {
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

// Parent is the folder that holds path; "." for a name at the top.
func Parent(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return "."
}

// MaxDepth is how many names a path may have, one below the other. Trees have a
// tenth of it; deeper ones only cost time, and many tools fail to remove them.
const MaxDepth = 512

// TooDeep tells whether path has more names than MaxDepth.
func TooDeep(path string) bool { return strings.Count(path, "/") >= MaxDepth }

// ValidPath tells whether path may stand in a manifest: ".", or relative and
// clean with no empty, "." or ".." component and no NUL.
func ValidPath(path string) bool {
	if path == "." {
		return true
	}
	if path == "" || len(path) > 1<<16 || strings.IndexByte(path, 0) >= 0 {
		return false
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." || len(part) > 255 {
			return false
		}
	}
	return true
}
