package tree

import (
	"fmt"
	"io"
	"strings"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

const readSize = 256 << 10

// reader reads names one after another. It holds the folder of the last one
// open, for the next is mostly in it too, and never another.
type reader struct {
	fs     fsys.FS
	dir    string
	folder fsys.Folder // of dir; nil before the first
	buf    []byte
}

// enter is the folder at dir. It is good until the next call.
func (r *reader) enter(dir string) (fsys.Folder, error) {
	if r.folder != nil && r.dir == dir {
		return r.folder, nil
	}
	r.close()
	folder, err := fsys.OpenFolder(r.fs, dir)
	if err != nil {
		return nil, err
	}
	r.dir, r.folder = dir, folder
	return folder, nil
}

// at is the folder that holds path and the name there.
func (r *reader) at(path string) (folder fsys.Folder, base string, err error) {
	folder, err = r.enter(manifest.Parent(path))
	return folder, path[strings.LastIndexByte(path, '/')+1:], err
}

func (r *reader) close() {
	if r.folder != nil {
		r.folder.Close()
		r.folder = nil
	}
}

// file reads a file whole, digest and attributes included. still tells that it
// was the same before and after.
func (r *reader) file(path string) (e manifest.Entry, still bool, err error) {
	folder, base, err := r.at(path)
	if err != nil {
		return e, false, err
	}
	f, err := folder.Open(base)
	if err != nil {
		return e, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return e, false, err
	}
	e = entryOf(path, info)
	if e.Xattrs, err = f.Xattrs(); err != nil {
		return e, false, err
	}
	if e.Digest, e.Size, err = r.hash(f, info.Size); err != nil {
		return e, false, fmt.Errorf("reading %q: %w", path, err)
	}
	after, err := f.Stat()
	return e, err == nil && Unchanged(info, after) && e.Size == after.Size, err
}

// hash reads a file to its end, which is taken to be at size where it is when
// that many bytes are read: the look at the file afterwards tells.
func (r *reader) hash(f io.Reader, size int64) (d digest.Digest, n int64, err error) {
	if r.buf == nil {
		r.buf = make([]byte, readSize)
	}
	h := digest.New()
	for n == 0 || n != size {
		k, err := f.Read(r.buf)
		h.Write(r.buf[:k])
		n += int64(k)
		if err == io.EOF {
			break
		}
		if err != nil {
			return d, n, err
		}
	}
	return h.Digest(), n, nil
}
