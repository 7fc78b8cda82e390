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

func (r *real) Xattrs(name string) ([]manifest.Xattr, error) {
	var attrs []manifest.Xattr
	err := r.at("listxattr", name, func(p place) error {
		attrs = nil
		path := p.proc()
		names, err := grow(func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) })
		if err == unix.EOPNOTSUPP {
			return nil
		}
		if err != nil {
			return err
		}
		for attr := range strings.SplitSeq(string(names), "\x00") {
			if attr == "" {
				continue
			}
			value, err := grow(func(buf []byte) (int, error) { return unix.Lgetxattr(path, attr, buf) })
			if err == unix.ENODATA { // removed meanwhile
				continue
			}
			if err != nil {
				return err
			}
			attrs = append(attrs, manifest.Xattr{Name: attr, Value: value})
		}
		slices.SortFunc(attrs, func(a, b manifest.Xattr) int { return strings.Compare(a.Name, b.Name) })
		return nil
	})
	if err != nil {
		return nil, err
	}
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
