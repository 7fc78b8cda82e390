package fsys

import (
	"io"
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// Folder is a folder held open to read what is in it. Its path is resolved
// once, as every path of an FS is; a name in it is one component, never
// followed when it is a symlink, and "." is the folder itself. So no call leads
// to anything but what the folder holds, wherever it has been moved meanwhile.
//
// It is for readers of many names: to resolve the way to each anew takes
// longer than to read a small file.
type Folder interface {
	// ReadDir lists the names, sorted bytewise.
	ReadDir() ([]string, error)
	Lstat(base string) (Info, error)
	// Open opens a regular file; the caller has seen by Lstat that it is one.
	// Where it no longer is, the answer is an error.
	Open(base string) (FolderFile, error)
	Readlink(base string) (string, error)
	Xattrs(base string) ([]manifest.Xattr, error)
	io.Closer
}

// FolderFile is a file that was opened through its folder. It is not for
// several goroutines at once.
type FolderFile interface {
	File
	// Xattrs lists the extended attributes, as FS.Xattrs does.
	Xattrs() ([]manifest.Xattr, error)
}

// OpenFolder opens a folder of f. Where f can hold none open, one that calls f
// with the whole path of each name stands in.
func OpenFolder(f FS, name string) (Folder, error) {
	if o, ok := f.(interface {
		OpenFolder(name string) (Folder, error)
	}); ok {
		return o.OpenFolder(name)
	}
	return &pathFolder{f, name}, nil
}

// pathFolder is Folder by an FS.
type pathFolder struct {
	fs   FS
	name string
}

func (p *pathFolder) ReadDir() ([]string, error)           { return p.fs.ReadDir(p.name) }
func (p *pathFolder) Lstat(base string) (Info, error)      { return p.fs.Lstat(join(p.name, base)) }
func (p *pathFolder) Readlink(base string) (string, error) { return p.fs.Readlink(join(p.name, base)) }
func (p *pathFolder) Close() error                         { return nil }

func (p *pathFolder) Xattrs(base string) ([]manifest.Xattr, error) {
	return p.fs.Xattrs(join(p.name, base))
}

func (p *pathFolder) Open(base string) (FolderFile, error) {
	name := join(p.name, base)
	f, err := p.fs.Open(name)
	if err != nil {
		return nil, err
	}
	return pathFile{f, p.fs, name}, nil
}

type pathFile struct {
	File
	fs   FS
	name string
}

func (f pathFile) Xattrs() ([]manifest.Xattr, error) { return f.fs.Xattrs(f.name) }

// realFolder is Folder by the kernel.
type realFolder struct {
	fd   int
	name string
}

// OpenFolder opens a folder to read what is in it.
func (r *real) OpenFolder(name string) (Folder, error) {
	fd, err := r.openDir(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &realFolder{fd, name}, nil
}

func (f *realFolder) Close() error { return unix.Close(f.fd) }

// at runs do on a name of the folder.
func (f *realFolder) at(op, base string, do func(place) error) error {
	if !manifest.ValidPath(base) || strings.IndexByte(base, '/') >= 0 {
		return pathError(op, join(f.name, base), unix.EINVAL)
	}
	for {
		err := do(place{dir: f.fd, base: base})
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return pathError(op, join(f.name, base), err)
		}
	}
}

func (f *realFolder) ReadDir() ([]string, error) {
	_, err := unix.Seek(f.fd, 0, io.SeekStart)
	var names []string
	if err == nil {
		names, err = readNames(f.fd)
	}
	return names, pathError("readdir", f.name, err)
}

func (f *realFolder) Lstat(base string) (info Info, err error) {
	err = f.at("lstat", base, func(p place) (err error) {
		info, err = p.lstat()
		return err
	})
	return info, err
}

func (f *realFolder) Readlink(base string) (target string, err error) {
	err = f.at("readlink", base, func(p place) (err error) {
		target, err = p.readlink()
		return err
	})
	return target, err
}

func (f *realFolder) Xattrs(base string) (attrs []manifest.Xattr, err error) {
	err = f.at("listxattr", base, func(p place) (err error) {
		attrs, err = p.xattrs()
		return err
	})
	return attrs, err
}

func (f *realFolder) Open(base string) (FolderFile, error) {
	file := &rawFile{name: base, dir: f.name}
	err := f.at("open", base, func(p place) (err error) {
		// What has become another kind meanwhile must not be waited for, nor become
		// the terminal of this process.
		file.fd, err = unix.Openat(p.dir, p.base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(file.fd, &st)
	if err == nil {
		err = mustBeRegular(kindOf(st.Mode))
	}
	if err != nil {
		file.Close()
		return nil, pathError("open", file.path(), err)
	}
	if sparse(&st) {
		file.holes = &holes{fd: file.fd}
	}
	return file, nil
}

// rawFile is a regular file without what os.File does for pipes and sockets.
type rawFile struct {
	fd        int
	dir, name string
	holes     *holes // nil: it has none
}

func (f *rawFile) path() string { return join(f.dir, f.name) }

func (f *rawFile) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if f.holes != nil {
		n, err := f.holes.Read(b)
		if err != nil && err != io.EOF {
			err = pathError("read", f.path(), err)
		}
		return n, err
	}
	n, err := retry(func() (int, error) { return unix.Read(f.fd, b) })
	if err != nil {
		return 0, pathError("read", f.path(), err)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (f *rawFile) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) {
		k, err := retry(func() (int, error) { return unix.Pread(f.fd, b[n:], off+int64(n)) })
		if err != nil {
			return n, pathError("read", f.path(), err)
		}
		if k == 0 {
			return n, io.EOF
		}
		n += k
	}
	return n, nil
}

func (f *rawFile) nextData(off int64) (from, to int64) {
	if f.holes == nil {
		return off, math.MaxInt64
	}
	return nextData(f.fd, off) // moves its place, which holes does not use
}

func (f *rawFile) Stat() (Info, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return Info{}, pathError("fstat", f.path(), err)
	}
	return infoOf(&st), nil
}

func (f *rawFile) Xattrs() ([]manifest.Xattr, error) {
	attrs, err := xattrsOf(
		func(buf []byte) (int, error) { return unix.Flistxattr(f.fd, buf) },
		func(attr string, buf []byte) (int, error) { return unix.Fgetxattr(f.fd, attr, buf) })
	return attrs, pathError("listxattr", f.path(), err)
}

func (f *rawFile) Close() error {
	err := unix.Close(f.fd)
	f.fd, f.holes = -1, nil // a call after this must not meet another file
	return pathError("close", f.path(), err)
}
