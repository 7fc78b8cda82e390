package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"syscall"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Item is one name to restore.
type Item struct {
	// Entry says what is to be there. A file's Size and Digest are checked as it
	// is written; a zero Digest is not known before that and is set then.
	*manifest.Entry
	// LinkTo is an earlier path that this is another name of; "" for none.
	LinkTo string
	// Content is what a file holds; nil where it has none or LinkTo is set. It
	// is called once at most and read before the next item is asked for.
	Content func() (io.ReadCloser, error)
	// Shared is set by Restore where the file is another name of one that
	// RestoreOptions.Same has named.
	Shared bool
}

// Items is a stream of names, each after the folder that holds it. An error ends it.
type Items = iter.Seq2[*Item, error]

// RestoreOptions say how a tree is written.
type RestoreOptions struct {
	// Into is the folder, of the file system written to, that becomes the tree's top; "" is ".".
	Into string
	// NoSync leaves what was written to be made durable by the caller.
	NoSync bool
	// Same, asked with a file whose digest is known, names another path of the
	// file system that is equal in all but its name and may be linked to, or "".
	Same func(e *manifest.Entry) string
	// Wrote hears of each entry once it is there, digest and size set (folders
	// too, whose metadata follow at the end). Changing e has no effect.
	Wrote func(it *Item) error
	// Changed hears of each file whose content was not as announced; what was
	// read is kept then. nil makes that an error.
	Changed func(path string)

	// place makes the file at path with its content, or tells false.
	place func(path string) (bool, error)
}

// smallFile bounds the files that are looked for (Same) before they are written.
const smallFile = 1 << 20

// Restore writes a tree, owners included: without root, what is another's is
// refused (failure.Refused); Disown makes it one's own. Names that exist already are an error, but for folders,
// which are taken over. Symlinks on the way are never followed, nothing is
// written outside Into, and each file's digest is verified while it is written.
// Folders get their metadata last, deepest first. Where it fails, what was
// written stays.
func Restore(ctx context.Context, fs fsys.FS, items Items, opts RestoreOptions) error {
	if opts.Into == "" {
		opts.Into = "."
	}
	r := &restore{fs: fs, opts: &opts, buf: make([]byte, smallFile)}
	inherited, err := fs.Xattrs(opts.Into)
	if err != nil {
		return err
	}
	r.inherits = len(inherited) > 0
	for it, err := range items {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			err = r.item(it)
		}
		if err != nil {
			return err
		}
	}
	if err := r.finishDirs(); err != nil {
		return err
	}
	if opts.NoSync {
		return nil
	}
	return fs.SyncFS(opts.Into)
}

type restore struct {
	fs   fsys.FS
	opts *RestoreOptions
	buf  []byte
	dirs []*manifest.Entry
	// inherits is set where new files may begin with attributes that nobody
	// asked for: a default ACL or a security label of the folder above.
	inherits bool
}

// at is where in the file system an entry's path is.
func (r *restore) at(path string) string {
	switch {
	case r.opts.Into == ".":
		return path
	case path == ".":
		return r.opts.Into
	}
	return r.opts.Into + "/" + path
}

func (r *restore) item(it *Item) error {
	if !manifest.ValidPath(it.Path) {
		return failure.Errorf(failure.Untrusted, "bad path %q", it.Path)
	}
	if err := r.make(it); err != nil {
		return fmt.Errorf("restoring %q: %w", it.Path, err)
	}
	if r.opts.Wrote != nil {
		return r.opts.Wrote(it)
	}
	return nil
}

// make makes the name with its metadata, a folder's aside.
func (r *restore) make(it *Item) error {
	name := r.at(it.Path)
	if it.LinkTo != "" {
		if !manifest.ValidPath(it.LinkTo) {
			return failure.Errorf(failure.Untrusted, "bad link target %q", it.LinkTo)
		}
		return r.fs.Link(r.at(it.LinkTo), name)
	}
	var err error
	switch it.Kind {
	case manifest.Dir:
		e := *it.Entry
		r.dirs = append(r.dirs, &e)
		return r.makeDir(name)
	case manifest.File:
		it.Shared, err = r.file(it, name)
		if err != nil || it.Shared {
			return err
		}
	case manifest.Symlink:
		err = r.fs.Symlink(it.Target, name)
	case manifest.CharDev, manifest.BlockDev, manifest.FIFO:
		err = r.fs.Mknod(name, it.Kind, 0o600, it.Major, it.Minor)
	default:
		err = fmt.Errorf("a %s cannot be restored", it.Kind)
	}
	if err != nil {
		return needsRoot(err, it.Kind.String()+" nodes")
	}
	return r.metadata(it.Entry)
}

func (r *restore) makeDir(name string) error {
	if name == r.opts.Into {
		return nil
	}
	err := r.fs.Mkdir(name, 0o700)
	if errors.Is(err, syscall.EEXIST) {
		if info, lerr := r.fs.Lstat(name); lerr == nil && info.Kind == manifest.Dir {
			return nil
		}
	}
	return err
}

// finishDirs gives the folders their metadata, deepest first: making a name
// moves its folder's time, and a mode may shut the writer out. Of a folder that
// came twice the later entry counts.
func (r *restore) finishDirs() error {
	slices.SortStableFunc(r.dirs, func(a, b *manifest.Entry) int { return manifest.Compare(a.Path, b.Path) })
	for i := len(r.dirs) - 1; i >= 0; i-- {
		if i+1 < len(r.dirs) && r.dirs[i+1].Path == r.dirs[i].Path {
			continue
		}
		if err := r.metadata(r.dirs[i]); err != nil {
			return fmt.Errorf("restoring %q: %w", r.dirs[i].Path, err)
		}
	}
	return nil
}

// metadata sets all but the content. The order matters: chown(2) clears
// capabilities and set-id bits, setting an ACL changes the mode, and all of
// them move the change time only, but the modification time goes last anyway.
func (r *restore) metadata(e *manifest.Entry) error {
	name := r.at(e.Path)
	if err := r.fs.Chown(name, e.UID, e.GID); err != nil {
		return needsRoot(err, fmt.Sprintf("files of %d:%d", e.UID, e.GID))
	}
	if err := r.xattrs(name, e); err != nil {
		return err
	}
	if e.Kind != manifest.Symlink {
		if err := r.fs.Chmod(name, e.Mode); err != nil {
			return err
		}
	}
	return r.fs.SetModTime(name, e.ModTime)
}

func (r *restore) xattrs(name string, e *manifest.Entry) error {
	if r.inherits || e.Path == "." {
		if err := r.dropXattrs(name, e); err != nil {
			return err
		}
	}
	for _, x := range e.Xattrs {
		if err := r.fs.SetXattr(name, x.Name, x.Value); err != nil {
			return needsRoot(fmt.Errorf("attribute %q: %w", x.Name, err), "such attributes")
		}
	}
	return nil
}

// dropXattrs removes what the name has and the entry has not. What cannot be
// removed is the kernel's: a security label.
func (r *restore) dropXattrs(name string, e *manifest.Entry) error {
	have, err := r.fs.Xattrs(name)
	if err != nil {
		return err
	}
	for _, x := range have {
		wanted := false
		for _, w := range e.Xattrs {
			wanted = wanted || w.Name == x.Name && bytes.Equal(w.Value, x.Value)
		}
		if wanted {
			continue
		}
		if err := r.fs.RemoveXattr(name, x.Name); err != nil && !strings.HasPrefix(x.Name, "security.") {
			return err
		}
	}
	return nil
}

// needsRoot says of an EPERM who could do it.
func needsRoot(err error, what string) error {
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) && strings.HasPrefix(what, "files of") {
		return failure.As(failure.Refused, fmt.Errorf("only root can make %s: %w", what, err))
	}
	return err
}

// Source is the items of a tree on disk, for entries that were read from it.
func Source(root fsys.FS, entries Entries) Items {
	return func(yield func(*Item, error) bool) {
		var first manifest.Firsts
		for e, err := range entries {
			if err != nil {
				yield(nil, err)
				return
			}
			it := &Item{Entry: e}
			switch it.LinkTo = first.Of(e.Link); {
			case it.LinkTo != "":
			case e.Kind == manifest.File:
				it.Content = func() (io.ReadCloser, error) { return root.Open(e.Path) }
			}
			if e.Link != 0 && it.LinkTo == "" {
				first.Set(e.Link, e.Path)
			}
			if !yield(it, nil) {
				return
			}
		}
	}
}
