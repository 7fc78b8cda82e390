package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Info is a file, folder or symlink on a worker.
type Info struct {
	// Path is as it was asked for; from Find it is slash-separated, from the root.
	Path string
	Mode fs.FileMode
	// Size is in bytes.
	Size    int64
	ModTime time.Time
	// Target is a symlink's text.
	Target string
}

// Files are a worker's files. Paths are the worker's, absolute; errors are
// fs.ErrNotExist where nothing is there.
type Files interface {
	// Mkdir makes a folder, and those above it.
	Mkdir(ctx context.Context, dir string) error
	// Folders makes folders, and those above them, in one go: those that are to be
	// empty, without what is there, and others as they are.
	Folders(ctx context.Context, empty, others []string) error
	// Remove removes trees, also what a build has made read-only; what is not there is gone.
	Remove(ctx context.Context, paths ...string) error
	// RemoveNamed removes everything of these names anywhere below root.
	RemoveNamed(ctx context.Context, root string, names ...string) error
	// Stat looks at names below root without following symlinks, in their order.
	Stat(ctx context.Context, root string, names ...string) ([]Info, error)
	// Find lists what matches a pattern below root, as config.CheckGlob has it.
	Find(ctx context.Context, root, pattern string) (Found, error)
	// Get reads regular files below root, one after the other; each reads r to its end.
	Get(ctx context.Context, root string, names []string, each func(info Info, r io.Reader) error) error
	// Space tells how much room there is where a folder is or is to be.
	Space(ctx context.Context, dir string) (Space, error)
	// Put writes a file below an existing folder, whole or not at all.
	Put(ctx context.Context, path string, mode fs.FileMode, r io.Reader) error
}

// Found is what Find lists, each sorted by path. Of a folder that matches, all
// that is below it is listed.
type Found struct{ Files, Folders []Info }

// Space is the room of a file system, in bytes. Where it has no inode left, none is free.
type Space struct {
	Free uint64 `json:"free"` // for everybody, not only for root
	Size uint64 `json:"size"`
}

// localFiles are this machine's.
type localFiles struct{}

func (localFiles) Mkdir(_ context.Context, dir string) error { return os.MkdirAll(dir, 0o755) }

func (f localFiles) Folders(ctx context.Context, empty, others []string) error {
	if err := f.Remove(ctx, empty...); err != nil {
		return err
	}
	for _, dir := range slices.Concat(empty, others) {
		if err := f.Mkdir(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

func (localFiles) Remove(ctx context.Context, paths ...string) error {
	for _, p := range paths {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := RemoveAll(p); err != nil {
			return err
		}
	}
	return nil
}

// RemoveAll is os.RemoveAll that also removes what a build has made read-only,
// as module caches are.
func RemoveAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	werr := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	return errors.Join(werr, os.RemoveAll(dir))
}

func (localFiles) RemoveNamed(ctx context.Context, root string, names ...string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !slices.Contains(names, d.Name()) || path == root {
			return errors.Join(err, ctx.Err())
		}
		if err := RemoveAll(path); err != nil || !d.IsDir() {
			return err
		}
		return fs.SkipDir
	})
}

func (localFiles) Stat(_ context.Context, root string, names ...string) ([]Info, error) {
	var list []Info
	for _, name := range names {
		info, err := lstat(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		info.Path = name
		list = append(list, info)
	}
	return list, nil
}

func lstat(path string) (Info, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return Info{}, err
	}
	i := Info{Path: path, Mode: info.Mode(), Size: info.Size(), ModTime: info.ModTime()}
	if i.Mode&fs.ModeSymlink != 0 {
		if i.Target, err = os.Readlink(path); err != nil {
			return Info{}, err
		}
	}
	return i, nil
}

func (localFiles) Get(ctx context.Context, root string, names []string, each func(Info, io.Reader) error) error {
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := getLocal(root, name, each); err != nil {
			return err
		}
	}
	return nil
}

func getLocal(root, name string, each func(Info, io.Reader) error) error {
	path := filepath.Join(root, filepath.FromSlash(name))
	// Before it is opened: a FIFO would never let go.
	info, err := lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode.IsRegular() {
		return fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info.Path = name
	return each(info, f)
}

func (localFiles) Space(_ context.Context, dir string) (Space, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if err == nil {
			break
		}
		if above := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && above != dir {
			dir = above
			continue
		}
		return Space{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	s := Space{Free: st.Bavail * uint64(st.Bsize), Size: st.Blocks * uint64(st.Bsize)}
	if st.Files > 0 && st.Ffree == 0 {
		s.Free = 0
	}
	return s, nil
}

func (localFiles) Put(_ context.Context, path string, mode fs.FileMode, r io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".put-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Chmod(mode.Perm()), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
