package fsys

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/manifest"
)

// beneath is how every path is resolved: never out of the root, never through
// a symlink, neither an ordinary one nor one of proc(5)'s.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// procFD names this process's descriptors as paths: what calls without an *at
// form go through (proc(5), /proc/pid/fd).
const procFD = "/proc/self/fd/"

// real is FS by the kernel.
//
// Each call opens the parent anew by openat2(2) and names the last component
// in an *at call, so a folder that another process moves or replaces by a
// symlink between two calls is seen as it then is. There is no cache of
// folders but of those that the caller holds (Hold): a hit could not be told
// from a folder that has since been moved out of the root.
type real struct {
	root int
	held atomic.Pointer[held]
}

// Open is the file tree at the folder dir; dir itself may lead through symlinks.
//
// It needs openat2(2), Linux 5.6, and /proc for extended attributes and, before
// Linux 6.6, for changing modes.
func Open(dir string) (FS, error) {
	root, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, pathError("open", dir, err)
	}
	r := &real{root: root}
	if err := r.probe(); err != nil {
		unix.Close(root)
		return nil, pathError("open", dir, err)
	}
	return r, nil
}

// probe finds out early what would otherwise fail at the first change.
func (r *real) probe() error {
	fd, err := r.openat2(r.root, ".", unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		return failure.WithHint(fmt.Errorf("the kernel or a seccomp filter refuses openat2(2): %w", err),
			"relkit changes trees on Linux 5.6 or newer only; in an old container runtime, update its seccomp profile")
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Stat(procFD+strconv.Itoa(fd), &st); err != nil {
		return failure.WithHint(fmt.Errorf("no /proc: %w", err), "mount -t proc proc /proc")
	}
	return nil
}

func (r *real) Close() error { return unix.Close(r.root) }

// retry repeats call while a signal interrupts it.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != unix.EINTR {
			return v, err
		}
	}
}

// pathError gives err its operation and name; nil stays nil.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func (r *real) openat2(dir int, name string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: beneath}
	for tries := 0; ; tries++ {
		fd, err := unix.Openat2(dir, name, &how)
		// EAGAIN: a rename elsewhere raced with the walk.
		if err == unix.EINTR || err == unix.EAGAIN && tries < 100 {
			continue
		}
		return fd, err
	}
}

// place is a name ready for an *at call: its parent's descriptor and its last
// component, "." for the root.
type place struct {
	dir  int
	base string
	own  bool // dir is to be closed
}

func (p place) close() {
	if p.own {
		unix.Close(p.dir)
	}
}

// proc is the place as a path for calls that have no *at form. The kernel walks
// from the descriptor, so the path races with nothing; the last component is
// followed or not as the call says.
func (p place) proc() string { return procFD + strconv.Itoa(p.dir) + "/" + p.base }

// place resolves name's parent.
func (r *real) place(name string) (place, error) {
	if !manifest.ValidPath(name) {
		return place{}, unix.EINVAL
	}
	parent, base := manifest.Parent(name), name[strings.LastIndexByte(name, '/')+1:]
	if parent == "." {
		return place{dir: r.root, base: base}, nil
	}
	if fd := r.held.Load().find(parent); fd >= 0 {
		return place{dir: fd, base: base}, nil
	}
	dir, err := r.openPath(parent, unix.O_PATH|unix.O_DIRECTORY)
	return place{dir: dir, base: base, own: true}, err
}

// openPath opens a name of any length: the kernel takes less than PATH_MAX
// bytes at a time.
func (r *real) openPath(name string, flags int) (int, error) {
	dir := r.root
	for len(name) >= unix.PathMax {
		i := strings.LastIndexByte(name[:unix.PathMax], '/')
		next, err := r.openat2(dir, name[:i], unix.O_PATH|unix.O_DIRECTORY)
		if dir != r.root {
			unix.Close(dir)
		}
		if err != nil {
			return -1, err
		}
		dir, name = next, name[i+1:]
	}
	fd, err := r.openat2(dir, name, flags)
	if dir != r.root {
		unix.Close(dir)
	}
	return fd, err
}

// at runs do on name's place.
func (r *real) at(op, name string, do func(place) error) error {
	p, err := r.place(name)
	if err == nil {
		_, err = retry(func() (struct{}, error) { return struct{}{}, do(p) })
		p.close()
	}
	return pathError(op, name, err)
}

// openDir opens a folder itself, for reading or fsync.
func (r *real) openDir(name string) (fd int, err error) {
	p, err := r.place(name)
	if err != nil {
		return -1, err
	}
	defer p.close()
	return retry(func() (int, error) {
		return unix.Openat(p.dir, p.base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}

// openPlace is an O_PATH descriptor of name itself, a symlink's too.
func (r *real) openPlace(name string) (int, error) {
	if !manifest.ValidPath(name) {
		return -1, unix.EINVAL
	}
	return r.openPath(name, unix.O_PATH|unix.O_NOFOLLOW)
}

// openRegular opens name as flags say if it is a regular file. It looks before
// it opens: opening a device can rewind a tape or start a watchdog.
func (r *real) openRegular(name string, flags int) (int, error) {
	path, err := r.openPlace(name)
	if err != nil {
		return -1, err
	}
	defer unix.Close(path)
	var st unix.Stat_t
	if err := unix.Fstat(path, &st); err != nil {
		return -1, err
	}
	if err := mustBeRegular(kindOf(st.Mode)); err != nil {
		return -1, err
	}
	return retry(func() (int, error) {
		return unix.Open(procFD+strconv.Itoa(path), flags|unix.O_CLOEXEC, 0)
	})
}

// mustBeRegular is the error of opening another kind.
func mustBeRegular(k manifest.Kind) error {
	switch k {
	case manifest.File:
		return nil
	case manifest.Dir:
		return unix.EISDIR
	case manifest.Symlink:
		return unix.ELOOP
	}
	return unix.EINVAL
}

func kindOf(mode uint32) manifest.Kind {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return manifest.File
	case unix.S_IFDIR:
		return manifest.Dir
	case unix.S_IFLNK:
		return manifest.Symlink
	case unix.S_IFCHR:
		return manifest.CharDev
	case unix.S_IFBLK:
		return manifest.BlockDev
	case unix.S_IFIFO:
		return manifest.FIFO
	case unix.S_IFSOCK:
		return manifest.Socket
	}
	return manifest.Unknown
}

func infoOf(st *unix.Stat_t) Info {
	i := Info{
		Kind: kindOf(st.Mode), Mode: st.Mode & 07777, UID: st.Uid, GID: st.Gid, Size: st.Size, Room: st.Blocks * 512,
		ModTime:    manifest.Time{Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec},
		ChangeTime: manifest.Time{Sec: st.Ctim.Sec, Nsec: st.Ctim.Nsec},
		Dev:        st.Dev, Ino: st.Ino, Links: uint64(st.Nlink),
		Allocated: st.Blocks * 512,
	}
	if i.Kind == manifest.CharDev || i.Kind == manifest.BlockDev {
		i.Major, i.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	return i
}

func (p place) lstat() (Info, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(p.dir, p.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return Info{}, err
	}
	return infoOf(&st), nil
}

func (r *real) Lstat(name string) (info Info, err error) {
	err = r.at("lstat", name, func(p place) (err error) {
		info, err = p.lstat()
		return err
	})
	return info, err
}

// realFile is an open file; its errors carry the name inside the root.
type realFile struct{ *os.File }

func (f realFile) Stat() (Info, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Info{}, pathError("fstat", f.Name(), err)
	}
	return infoOf(&st), nil
}

func (r *real) Open(name string) (File, error) {
	fd, err := r.openRegular(name, unix.O_RDONLY)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	f := realFile{os.NewFile(uintptr(fd), name)}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && sparse(&st) {
		return &sparseFile{realFile: f, holes: holes{fd: fd}}, nil
	}
	return f, nil
}

// sparseFile is a file whose holes Read does not read.
type sparseFile struct {
	realFile
	holes holes
}

func (f *sparseFile) Read(b []byte) (int, error) {
	n, err := f.holes.Read(b)
	if err != nil && err != io.EOF {
		err = pathError("read", f.Name(), err)
	}
	return n, err
}

// WriteTo is io.Copy's way; os.File's own would read the holes.
func (f *sparseFile) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(w, struct{ io.Reader }{f}, make([]byte, 256<<10))
}

// nextData moves the descriptor's place, which Read does not use.
func (f *sparseFile) nextData(off int64) (from, to int64) { return nextData(f.holes.fd, off) }

func (f *sparseFile) Close() error {
	f.holes.fd = -1 // a Read after this must not meet another file
	return f.realFile.Close()
}

func (r *real) ReadDir(name string) ([]string, error) {
	fd, err := r.openDir(name)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	defer unix.Close(fd)
	names, err := readNames(fd)
	return names, pathError("readdir", name, err)
}

// direntBuffer is what getdents64(2) fills at a time: some thousand names.
const direntBuffer = 64 << 10

// readNames reads a folder from where fd stands. The names of one call to the
// kernel share their memory, and the list is made when all are counted: a folder
// may hold a million.
func readNames(fd int) ([]string, error) {
	var packed []string // names, each behind its length in one byte
	count := 0
	text, buf := make([]byte, 0, 1024), make([]byte, direntBuffer)
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(fd, buf) })
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return unpackNames(packed, count), nil
		}
		text = text[:0]
		for entries := buf[:n]; len(entries) > 0; {
			var name []byte
			if name, entries = nextDirent(entries); name != nil {
				text = append(append(text, byte(len(name))), name...)
				count++
			}
		}
		packed = append(packed, string(text))
	}
}

// unpackNames is the sorted list of so many names.
func unpackNames(packed []string, count int) []string {
	names := make([]string, 0, count)
	for _, text := range packed {
		for len(text) > 0 {
			end := 1 + int(text[0])
			names = append(names, text[1:end])
			text = text[end:]
		}
	}
	slices.Sort(names)
	return names
}

// nextDirent is the name of the first of struct linux_dirent64 (getdents(2)), nil
// for "." and "..", and those that follow. Its length is at offset 16, its name,
// ended by a NUL, at 19.
func nextDirent(b []byte) (name, rest []byte) {
	size := binary.NativeEndian.Uint16(b[16:])
	name, _, _ = bytes.Cut(b[19:size], []byte{0})
	if s := string(name); s == "." || s == ".." {
		name = nil
	}
	return name, b[size:]
}

func (p place) readlink() (string, error) {
	buf := make([]byte, 256)
	for {
		n, err := unix.Readlinkat(p.dir, p.base, buf)
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
		buf = make([]byte, 2*len(buf))
	}
}

func (r *real) Readlink(name string) (target string, err error) {
	err = r.at("readlink", name, func(p place) (err error) {
		target, err = p.readlink()
		return err
	})
	return target, err
}

func (r *real) Space(name string) (Space, error) {
	fd, err := r.openPlace(name)
	if err != nil {
		return Space{}, pathError("statfs", name, err)
	}
	defer unix.Close(fd)
	var st unix.Statfs_t
	if _, err := retry(func() (struct{}, error) { return struct{}{}, unix.Fstatfs(fd, &st) }); err != nil {
		return Space{}, pathError("statfs", name, err)
	}
	unit := st.Frsize
	if unit == 0 {
		unit = st.Bsize
	}
	s := Space{FreeBytes: st.Bavail * uint64(unit), FreeInodes: st.Ffree, ReadOnly: st.Flags&unix.ST_RDONLY != 0}
	if st.Files == 0 { // btrfs, vfat: inodes are not counted
		s.FreeInodes = ^uint64(0)
	}
	return s, nil
}
