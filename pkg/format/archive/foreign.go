package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
)

// Foreign reads an archive that some other tar has written: GNU, ustar, pax or
// v7, in any order. Names are cleaned ("./a/" and "/a" are "a"), folders that
// the archive does not name are made up, with the owner and time of what they
// hold, and extended headers that other programs use for themselves are passed
// over. It remembers the names it has seen, to refuse a second one.
type Foreign struct {
	r    *tar.Reader
	tail *tail
	// seen are the names of all kinds, dirs those of folders.
	seen, dirs map[name]struct{}
	queue      []*Item
	// most is how many names are taken.
	most int
}

// maxNames bounds what Foreign remembers: some 20 bytes a name.
const maxNames = 8 << 20

// name is a path by the first 96 bits of its SHA-256: of as many as are taken, no
// two are taken for one.
type name [12]byte

func nameOf(path string) name {
	d := digest.Of([]byte(path))
	return name(d[:len(name{})])
}

// see remembers a name.
func (f *Foreign) see(path string, kind manifest.Kind) {
	n := nameOf(path)
	f.seen[n] = struct{}{}
	if kind == manifest.Dir {
		f.dirs[n] = struct{}{}
	}
}

// met tells whether a name came before, and whether it is a folder's.
func (f *Foreign) met(path string) (seen, dir bool) {
	n := nameOf(path)
	_, seen = f.seen[n]
	_, dir = f.dirs[n]
	return seen, dir
}

// NewForeign reads an archive from r.
func NewForeign(r io.Reader) *Foreign {
	t := &tail{r: r}
	return &Foreign{r: tar.NewReader(t), tail: t, seen: map[name]struct{}{}, dirs: map[name]struct{}{}, most: maxNames}
}

// tail remembers the last block that was read: package tar takes an archive that
// is cut behind a member for a complete one.
type tail struct {
	r    io.Reader
	last [blockSize]byte
}

func (t *tail) Read(b []byte) (int, error) {
	n, err := t.r.Read(b)
	if n >= blockSize {
		copy(t.last[:], b[n-blockSize:n])
	} else {
		copy(t.last[:], t.last[n:])
		copy(t.last[blockSize-n:], b[:n])
	}
	return n, err
}

// Next is the next entry, its folder always before it, in the archive's order
// otherwise; io.EOF after the last. A folder may come twice.
func (f *Foreign) Next() (*Item, error) {
	for len(f.queue) == 0 {
		h, err := f.r.Next()
		if err == io.EOF && len(f.seen) == 0 {
			return nil, errors.New("no tree in the archive")
		}
		if err == io.EOF && f.tail.last != [blockSize]byte{} {
			return nil, fmt.Errorf("the archive is cut short: no blocks of zeros end it: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return nil, err
		}
		if err := f.take(h); err != nil {
			return nil, fmt.Errorf("member %q: %w", short(h.Name), err)
		}
	}
	it := f.queue[0]
	f.queue = f.queue[1:]
	return it, nil
}

// take queues a member, behind the folders it needs.
func (f *Foreign) take(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	it, err := f.item(h)
	if err != nil {
		return err
	}
	e := &it.Entry
	if isReserved(e.Path) {
		return nil
	}
	again, dir := f.met(e.Path)
	if again && (!dir || e.Kind != manifest.Dir) {
		return errors.New("the name is in the archive twice")
	}
	if it.LinkTo != "" {
		if seen, dir := f.met(it.LinkTo); !seen || dir {
			return fmt.Errorf("a hard link to %q, which is not before it", h.Linkname)
		}
	}
	if err := f.folders(e); err != nil {
		return err
	}
	if len(f.seen) >= f.most {
		return fmt.Errorf("more than %d names", f.most)
	}
	f.see(e.Path, e.Kind)
	f.queue = append(f.queue, it)
	return nil
}

// folders queues the folders above e that were not seen yet.
func (f *Foreign) folders(e *manifest.Entry) error {
	var missing []string
	for path := e.Path; path != "."; {
		path = manifest.Parent(path)
		seen, dir := f.met(path)
		if seen && !dir {
			return fmt.Errorf("%q is not a folder", path)
		}
		if seen {
			break
		}
		missing = append(missing, path)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		f.see(missing[i], manifest.Dir)
		f.queue = append(f.queue, &Item{Entry: manifest.Entry{Path: missing[i], Kind: manifest.Dir, Mode: 0o755,
			UID: e.UID, GID: e.GID, ModTime: e.ModTime}})
	}
	return nil
}

func (f *Foreign) item(h *tar.Header) (*Item, error) {
	path, err := clean(h.Name)
	if err != nil {
		return nil, err
	}
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > 1<<32-1 || int64(h.Gid) > 1<<32-1 {
		return nil, fmt.Errorf("bad owner %d:%d", h.Uid, h.Gid)
	}
	it := &Item{Entry: manifest.Entry{Path: path, Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid),
		ModTime: manifest.TimeOf(h.ModTime)}}
	e := &it.Entry
	if e.Xattrs, err = xattrsOf(h.PAXRecords); err != nil {
		return nil, err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		e.Kind, e.Size, it.Content = manifest.File, h.Size, f.r
	case tar.TypeLink:
		if it.LinkTo, err = clean(h.Linkname); err != nil {
			return nil, err
		}
		return it, nil
	case tar.TypeSymlink:
		e.Kind, e.Target, e.Mode = manifest.Symlink, h.Linkname, 0o777
	case tar.TypeDir:
		e.Kind = manifest.Dir
	case tar.TypeFifo:
		e.Kind = manifest.FIFO
	case tar.TypeChar, tar.TypeBlock:
		e.Kind = manifest.CharDev
		if h.Typeflag == tar.TypeBlock {
			e.Kind = manifest.BlockDev
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	default:
		return nil, fmt.Errorf("unknown type %q", h.Typeflag)
	}
	return it, e.ValidateMeta()
}

// short is a name for a message.
func short(name string) string {
	if len(name) > 200 {
		return name[:200] + "…"
	}
	return name
}

// clean makes a member's name a path: without "./" and slashes at either end.
// ".." is an error.
func clean(name string) (string, error) {
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	path := strings.Join(parts, "/")
	if path == "" {
		path = "."
	}
	if manifest.TooDeep(path) {
		return "", fmt.Errorf("a path more than %d folders deep", manifest.MaxDepth)
	}
	if !manifest.ValidPath(path) {
		return "", fmt.Errorf("bad path %q", name)
	}
	return path, nil
}
