package tree

import (
	"context"
	"io"
	"os"
	"path/filepath"

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
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
