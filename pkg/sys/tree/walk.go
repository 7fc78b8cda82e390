// Package tree reads and writes whole trees of files with all their metadata:
// captures one as manifest entries, restores one from any source, copies one,
// and tells how two differ.
package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Slots is the folder at the top of each file system where the transaction
// engine keeps staged and replaced files. It is never part of a tree.
const Slots = ".relkit"

// DefaultState is where relkit keeps its state within a tree. It is never part of the tree.
const DefaultState = "var/lib/relkit"

// Entries is a stream of entries in canonical order. An error ends it.
type Entries = iter.Seq2[*manifest.Entry, error]

// Options say what of a tree is read, and how. The zero Options reads all of it.
type Options struct {
	// Jobs is how many files are read at once; 0 is one a processor.
	Jobs int
	// Skip leaves a name out, and all below it; nil skips nothing.
	Skip func(path string, kind manifest.Kind) bool
	// State is the folder of relkit's own state, relative to the top; "" is DefaultState.
	State string
	// Except, where it is not zero, is a folder that is left out wherever it is:
	// the one that the tree is being copied to.
	Except fsys.Info
	// OneFileSystem leaves out what is mounted below the top, whatever it is.
	OneFileSystem bool
	// FSType names the file system type of a device number as mount(8) does,
	// "" where it does not know; nil knows none. What is mounted below the top
	// from a type in memory, of the kernel or of the network stays out.
	FSType func(dev uint64) string
	// Note hears what was left out, and why; nil does not want to.
	Note func(path, why string)
	// Changed hears of each file that kept changing while it was read, so that
	// its entry may fit no moment; nil makes such a file an error.
	Changed func(path string)

	// ahead is how many names the walk may be in front of the stream; 0 is farAhead.
	ahead int
}

func (o *Options) note(path, why string) {
	if o.Note != nil {
		o.Note(path, why)
	}
}

// walker walks a tree in canonical order.
type walker struct {
	fs   fsys.FS
	opts *Options
	// loud is set in the pass whose notes count: a capture may walk twice.
	loud   bool
	visit  func(path string, info fsys.Info) error
	reader reader
}

func (w *walker) walk(ctx context.Context) error {
	w.reader.fs = w.fs
	defer w.reader.close()
	info, err := w.fs.Lstat(".")
	if err != nil {
		return err
	}
	if info.Kind != manifest.Dir {
		return fmt.Errorf("the top of a tree is a folder, not a %s", info.Kind)
	}
	if err := w.visit(".", info); err != nil {
		return err
	}
	return w.folder(ctx, ".", info, true)
}

// folder walks what a folder holds. top tells that a file system begins there.
func (w *walker) folder(ctx context.Context, dir string, dirInfo fsys.Info, top bool) error {
	names, err := w.list(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		path := name
		if dir != "." {
			path = dir + "/" + name
		}
		if top && name == Slots {
			continue
		}
		info, err := w.lstat(dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since the folder was read
		}
		if err != nil {
			return err
		}
		if name == Slots {
			slots, err := w.isSlots(path, info)
			if err != nil {
				return err
			}
			if slots {
				continue
			}
		}
		if err := w.name(ctx, path, info, dirInfo); err != nil {
			return err
		}
	}
	return nil
}

// isSlots tells of a folder by the name of Slots, where no file system begins,
// whether it is one all the same: of a bind mount, a quota project, or what is seen
// of a bind mount by its other name. Those have mode 0700 and hold slots alone,
// which are named by 16 hexadecimal digits.
func (w *walker) isSlots(path string, info fsys.Info) (bool, error) {
	if info.Kind != manifest.Dir || info.Mode != 0o700 {
		return false, nil
	}
	names, err := w.list(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return err == nil && !slices.ContainsFunc(names, func(name string) bool {
		return len(name) != 16 || strings.Trim(name, "0123456789abcdef") != ""
	}), err
}

func (w *walker) list(dir string) ([]string, error) {
	folder, err := w.reader.enter(dir)
	if err != nil {
		return nil, err
	}
	return folder.ReadDir()
}

func (w *walker) lstat(dir, name string) (fsys.Info, error) {
	folder, err := w.reader.enter(dir)
	if err != nil {
		return fsys.Info{}, err
	}
	return folder.Lstat(name)
}

// name visits one name and, where it is a folder to go into, all below it.
func (w *walker) name(ctx context.Context, path string, info, dirInfo fsys.Info) error {
	state := w.opts.State
	if state == "" {
		state = DefaultState
	}
	switch {
	case path == state, w.opts.Skip != nil && w.opts.Skip(path, info.Kind):
		return nil
	case w.opts.Except.Kind == manifest.Dir && info.SameInode(w.opts.Except):
		w.note(path, "the tree is being copied there")
		return nil
	case info.Kind == manifest.Socket || info.Kind == manifest.Unknown:
		w.note(path, "a "+info.Kind.String()+" cannot be kept")
		return nil
	}
	if err := w.visit(path, info); err != nil || info.Kind != manifest.Dir {
		return err
	}
	mounted := info.Dev != dirInfo.Dev
	if mounted {
		if why := w.leaveOut(path, info.Dev); why != "" {
			w.note(path, why)
			return nil
		}
	}
	return w.folder(ctx, path, info, mounted)
}

// leaveOut tells why what is mounted at path stays out; "" where it does not.
func (w *walker) leaveOut(path string, dev uint64) string {
	if w.opts.OneFileSystem {
		return "what is mounted there is left out"
	}
	if w.opts.FSType != nil {
		if t := w.opts.FSType(dev); notKept(t) {
			return "the " + t + " mounted there is left out"
		}
	}
	// By name too: a device number that the mount table does not list is common in containers.
	switch path {
	case "proc", "sys", "dev", "run":
		return "what is mounted there is left out"
	}
	return ""
}

func (w *walker) note(path, why string) {
	if w.loud {
		w.opts.note(path, why)
	}
}
