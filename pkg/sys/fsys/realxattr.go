package fsys

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// The calls that take a folder's descriptor (setxattrat and its kin) came with
// Linux 6.13; the path under /proc serves every kernel and every kind of inode,
// symlinks too.

func (r *real) Xattrs(name string) (attrs []manifest.Xattr, err error) {
	err = r.at("listxattr", name, func(p place) (err error) {
		attrs, err = p.xattrs()
		return err
	})
	return attrs, err
}

func (p place) xattrs() ([]manifest.Xattr, error) {
	path := p.proc()
	return xattrsOf(
		func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) },
		func(attr string, buf []byte) (int, error) { return unix.Lgetxattr(path, attr, buf) })
}

// xattrsOf reads the attributes of an inode by the two calls for it.
func xattrsOf(list func([]byte) (int, error), get func(string, []byte) (int, error)) ([]manifest.Xattr, error) {
	// Most have none: the size alone is asked for first.
	if n, err := list(nil); err == unix.EOPNOTSUPP || err == nil && n == 0 {
		return nil, nil
	}
	names, err := grow(list)
	if err != nil {
		return nil, err
	}
	var attrs []manifest.Xattr
	for attr := range strings.SplitSeq(string(names), "\x00") {
		if attr == "" || attr == "trusted.SGI_ACL_FILE" || attr == "trusted.SGI_ACL_DEFAULT" {
			continue // xfs shows root each ACL a second time
		}
		value, err := grow(func(buf []byte) (int, error) { return get(attr, buf) })
		if err == unix.ENODATA { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		attrs = append(attrs, manifest.Xattr{Name: attr, Value: value})
	}
	slices.SortFunc(attrs, func(a, b manifest.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return attrs, nil
}

// grow calls get with a buffer that is large enough, however the answer grows
// meanwhile; the result is at most 64 KiB (XATTR_SIZE_MAX, XATTR_LIST_MAX).
func grow(get func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 256)
	for {
		n, err := get(buf)
		if err == nil {
			return buf[:n:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || len(buf) > 1<<16 {
			return nil, err
		}
		buf = make([]byte, 4*len(buf))
	}
}

func (r *real) SetXattr(name, attr string, value []byte) error {
	return r.at("setxattr", name, func(p place) error { return unix.Lsetxattr(p.proc(), attr, value, 0) })
}

func (r *real) RemoveXattr(name, attr string) error {
	return r.at("removexattr", name, func(p place) error { return unix.Lremovexattr(p.proc(), attr) })
}
