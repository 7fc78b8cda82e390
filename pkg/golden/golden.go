// Package golden describes the machine that images are taken from, and writes it
// as one stream.
package golden

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"runtime"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/archive"
	"github.com/relkit/relkit/pkg/format/glob"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// Progress shows how far a capture is, in bytes.
type Progress interface {
	Start(total int64, what string)
	Add(n int64)
	Done()
}

// Options say what of the machine is written.
type Options struct {
	// Root is the top of the tree, "/" for the running machine.
	Root string
	// Exclude are patterns (package glob) of what is left out.
	Exclude []string
	// Jobs is how many processors the packing may take; 0 is all.
	Jobs     int
	Log      *slog.Logger
	Progress Progress
}

const (
	// smallFile bounds the files that are read whole before they are written,
	// so that one that changes meanwhile can be read again.
	smallFile = 1 << 20
	readTries = 3
)

// Write writes the image as one stream: an archive with the machine's
// description first, packed by zstd. Where files changed while they were read
// the stream is whole all the same and lists them at its end; the error is then
// failure.No.
func Write(ctx context.Context, w io.Writer, opts Options) error {
	exclude, err := glob.ParseSet(opts.Exclude)
	if err != nil {
		return failure.As(failure.Usage, err)
	}
	m, err := Describe(opts.Root)
	if err != nil {
		return err
	}
	description, err := m.Encode()
	if err != nil {
		return err
	}
	root, err := fsys.Open(opts.Root)
	if err != nil {
		return failure.As(failure.Usage, fmt.Errorf("opening the root: %w", err))
	}
	defer root.Close()
	jobs := opts.Jobs
	if jobs == 0 {
		jobs = runtime.GOMAXPROCS(0)
	}
	packed, err := archive.Pack(w, jobs)
	if err != nil {
		return err
	}
	opts.Progress.Start(0, "reading "+opts.Root)
	defer opts.Progress.Done()
	s := &sender{root: root, opts: &opts, out: archive.NewWriter(packed), buf: make([]byte, smallFile+1)}
	if err := s.out.Machine(description); err != nil {
		return err
	}
	if err := s.tree(ctx, exclude); err != nil {
		return err
	}
	if err := packed.Close(); err != nil {
		return err
	}
	if n := len(s.changed); n > 0 {
		return failure.Errorf(failure.No, "%d files changed while they were read; the image lists them", n)
	}
	return nil
}

// sender writes one tree into an archive.
type sender struct {
	root    fsys.FS
	opts    *Options
	out     *archive.Writer
	buf     []byte
	changed []string
}

func (s *sender) tree(ctx context.Context, exclude glob.Set) error {
	note := func(path, why string) { s.opts.Log.Info("left out", "path", manifest.Escape(path), "why", why) }
	entries := tree.Walk(ctx, s.root, tree.Options{FSType: tree.MountTypes(), Note: note,
		Skip: func(path string, _ manifest.Kind) bool { return exclude.Match(path) }})
	for e, err := range entries {
		if err == nil {
			err = s.entry(e)
		}
		if err != nil {
			return err
		}
	}
	if len(s.changed) > 0 {
		list, err := json.Marshal(s.changed)
		if err != nil {
			return err
		}
		if err := s.out.Changed(list); err != nil {
			return err
		}
	}
	return s.out.Close()
}

func (s *sender) entry(e *manifest.Entry) error {
	if e.Kind != manifest.File || s.out.HasContent(e) {
		return s.out.Write(e, nil)
	}
	err := s.file(e)
	if errors.Is(err, fs.ErrNotExist) {
		s.opts.Log.Info("left out", "path", manifest.Escape(e.Path), "why", "it vanished while the tree was read")
		return nil
	}
	return err
}

// file writes a file as it is at one moment, if it holds still for one.
func (s *sender) file(e *manifest.Entry) error {
	for try := 1; ; try++ {
		f, err := s.root.Open(e.Path)
		if err != nil {
			return err
		}
		again, err := s.once(e, f, try < readTries)
		f.Close()
		if err != nil || !again {
			return err
		}
	}
}

// once reads a file and writes it. A small one that changed meanwhile is not
// written but to be read again, where more tries are left; the header of a large
// one is on its way by then, so it is cut or filled to the size that says.
func (s *sender) once(e *manifest.Entry, f fsys.File, more bool) (again bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	e.Mode, e.UID, e.GID, e.ModTime, e.Size = info.Mode, info.UID, info.GID, info.ModTime, info.Size
	if e.Size > smallFile {
		err := s.out.Write(e, io.MultiReader(s.count(f), zeros{}))
		return false, errors.Join(err, s.hold(e, f, info))
	}
	n, err := io.ReadFull(f, s.buf)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return false, fmt.Errorf("reading %q: %w", e.Path, err)
	}
	after, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !tree.Unchanged(info, after) || int64(n) != info.Size {
		if more {
			return true, nil
		}
		n = min(n, smallFile)
		e.Size = int64(n)
		s.inconsistent(e.Path)
	}
	return false, s.out.Write(e, s.count(bytes.NewReader(s.buf[:n])))
}

// hold looks whether a large file held still while it was written.
func (s *sender) hold(e *manifest.Entry, f fsys.File, before fsys.Info) error {
	after, err := f.Stat()
	if err == nil && !tree.Unchanged(before, after) {
		s.inconsistent(e.Path)
	}
	return err
}

func (s *sender) inconsistent(path string) {
	path = manifest.Escape(path)
	s.changed = append(s.changed, path)
	s.opts.Log.Warn("a file changed while it was read", "path", path)
}

func (s *sender) count(r io.Reader) io.Reader { return counter{r, s.opts.Progress} }

// counter shows what is read as progress.
type counter struct {
	r io.Reader
	p Progress
}

func (c counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.p.Add(int64(n))
	return n, err
}

// zeros is an endless file of them.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
