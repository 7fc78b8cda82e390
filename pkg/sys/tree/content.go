package tree

import (
	"errors"
	"io"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// file puts a file's content at name. shared tells that it is the same inode
// as another, with all its metadata.
func (r *restore) file(it *Item, name string) (shared bool, err error) {
	if !it.Digest.IsZero() && r.share(it.Entry, name) {
		return true, nil
	}
	if r.opts.place != nil {
		if done, err := r.opts.place(it.Path); done || err != nil {
			return false, err
		}
	}
	if it.Content == nil {
		return false, errors.New("a file without its content")
	}
	content, err := it.Content()
	if err != nil {
		return false, err
	}
	defer content.Close()
	return r.write(it, name, content)
}

// write writes the content, looking first whether a small one is there already.
func (r *restore) write(it *Item, name string, content io.Reader) (shared bool, err error) {
	n, end, err := fill(content, r.buf)
	if err != nil {
		return false, err
	}
	h := digest.New()
	h.Write(r.buf[:n])
	if end {
		if err := r.verify(it, h.Digest(), int64(n)); err != nil || r.share(it.Entry, name) {
			return err == nil, err
		}
	}
	w, err := fsys.CreateSparse(r.fs, name, 0o600)
	if err != nil {
		return false, err
	}
	size := int64(n)
	for !end && err == nil {
		if _, err = w.Write(r.buf[:n]); err == nil {
			n, end, err = fill(content, r.buf)
			h.Write(r.buf[:n])
			size += int64(n)
		}
	}
	if err == nil {
		_, err = w.Write(r.buf[:n])
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil || size == int64(n) {
		return false, err
	}
	if err := r.verify(it, h.Digest(), size); err != nil {
		return false, err
	}
	return r.swap(it.Entry, name)
}

// fill reads until buf is full or, with end set, until there is no more. A
// stream that is cut, io.ErrUnexpectedEOF, is an error like any other.
func fill(r io.Reader, buf []byte) (n int, end bool, err error) {
	for n < len(buf) {
		k, err := r.Read(buf[n:])
		n += k
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// swap replaces a large file, just written, by one that is already there.
func (r *restore) swap(e *manifest.Entry, name string) (shared bool, err error) {
	if r.opts.Same == nil || r.opts.Same(e) == "" {
		return false, nil
	}
	spare := name + ".relkit-new"
	if len(spare)-strings.LastIndexByte(spare, '/') > 255 || !r.share(e, spare) {
		return false, nil
	}
	return true, r.fs.Rename(spare, name, fsys.Replace)
}

// verify holds the content against the entry, or completes the entry.
func (r *restore) verify(it *Item, d digest.Digest, size int64) error {
	if it.Size != size || !it.Digest.IsZero() && it.Digest != d {
		if r.opts.Changed == nil {
			return failure.Errorf(failure.Untrusted, "got %d bytes with %s, want %d bytes %s", size, d, it.Size, it.Digest)
		}
		r.opts.Changed(it.Path)
	}
	it.Digest, it.Size = d, size
	return nil
}

// share makes name another name of an equal file, if there is one. Where that
// cannot be (another file system, too many links, another's file) the file is
// written like any other.
func (r *restore) share(e *manifest.Entry, name string) bool {
	if r.opts.Same == nil {
		return false
	}
	old := r.opts.Same(e)
	return old != "" && r.fs.Link(old, name) == nil
}
