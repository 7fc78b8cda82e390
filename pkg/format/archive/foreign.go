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
	r     *tar.Reader
	tail  *tail
	seen  map[name]manifest.Kind
	queue []*Item
	// most is how many names are taken.
	most int
}

// maxNames bounds what Foreign remembers: some 30 bytes a name.
const maxNames = 8 << 20

// name is a path by its digest: half of a SHA-256 tells any two apart.
type name [16]byte

func nameOf(path string) name {
	d := digest.Of([]byte(path))
	return name(d[:16])
}

// NewForeign reads an archive from r.
func NewForeign(r io.Reader) *Foreign {
	t := &tail{r: r}
	return &Foreign{r: tar.NewReader(t), tail: t, seen: map[name]manifest.Kind{}, most: maxNames}
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
	kind, again := f.seen[nameOf(e.Path)]
	if again && (kind != manifest.Dir || e.Kind != manifest.Dir) {
		return errors.New("the name is in the archive twice")
	}
	if it.LinkTo != "" {
		linked, ok := f.seen[nameOf(it.LinkTo)]
		if !ok || linked == manifest.Dir {
			return fmt.Errorf("a hard link to %q, which is not before it", h.Linkname)
		}
	}
	if err := f.folders(e); err != nil {
		return err
	}
	if len(f.seen) >= f.most {
		return fmt.Errorf("more than %d names", f.most)
	}
	f.seen[nameOf(e.Path)] = e.Kind
	f.queue = append(f.queue, it)
	return nil
}

// folders queues the folders above e that were not seen yet.
func (f *Foreign) folders(e *manifest.Entry) error {
	var missing []string
	for path := e.Path; path != "."; {
		path = manifest.Parent(path)
		kind, ok := f.seen[nameOf(path)]
		if ok && kind != manifest.Dir {
			return fmt.Errorf("%q is not a folder", path)
		}
		if ok {
			break
		}
		missing = append(missing, path)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		f.seen[nameOf(missing[i])] = manifest.Dir
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
