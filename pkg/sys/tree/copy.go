package tree

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Copy makes dst, a folder that exists and is empty, an exact copy of the tree
// src. Content is shared by reflink where the file system can (ioctl_ficlone(2)),
// else copied inside the kernel (copy_file_range(2)).
func Copy(ctx context.Context, dst, src string, opts Options) error {
	to, err := fsys.Open(dst)
	if err != nil {
		return err
	}
	defer to.Close()
	from, err := fsys.Open(src)
	if err != nil {
		return err
	}
	defer from.Close()
	place := func(path string) (bool, error) { return true, clone(dst, src, path) }
	items := Source(from, Walk(ctx, from, opts))
	return Restore(ctx, to, items, RestoreOptions{NoSync: true, place: place})
}

// clone makes a file of dst from the one of src. Both are opened below their
// roots only.
func clone(dst, src, path string) error {
	in, err := os.OpenInRoot(src, filepath.FromSlash(path))
	if err != nil {
		return err
	}
	defer in.Close()
	root, err := os.OpenRoot(dst)
	if err != nil {
		return err
	}
	defer root.Close()
	out, err := root.OpenFile(filepath.FromSlash(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return out.Close()
	}
	if err := copyData(out, in); err != nil {
		return err
	}
	return out.Close()
}

// copyData copies a file and leaves its holes.
func copyData(out, in *os.File) error {
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Blocks*512 >= st.Size {
		_, err := io.Copy(out, in)
		return err
	}
	for at := int64(0); at < info.Size(); {
		data, err := in.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil { // a file system that knows of no holes
			data = at
		}
		end, err := in.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			end = info.Size()
		}
		_, err1 := in.Seek(data, io.SeekStart)
		_, err2 := out.Seek(data, io.SeekStart)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if n, err := io.CopyN(out, in, end-data); err == io.EOF {
			return out.Truncate(data + n) // it got shorter
		} else if err != nil {
			return err
		}
		at = end
	}
	return out.Truncate(info.Size())
}
