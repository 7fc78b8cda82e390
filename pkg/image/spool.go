package image

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// spool keeps the entries of a tree that is being written in any order, and
// gives them back in canonical order: they go to a file in sorted runs. In memory
// are one run and, of the names that are hard links or have some, 40 bytes each.
//
// A record in the file is its length, the length of its path, the path, its
// flags, and the lines of the entry (manifest.AppendEntry) without a group; of a
// hard link there are no lines. Lengths are varints.
type spool struct {
	fs    fsys.FS
	name  string
	w     fsys.Writer
	run   []byte   // the records of the run in the making
	at    []placed // where in it they are
	ends  []int64  // of the runs in the file
	line  []byte
	links links
}

// placed is where in a run a record and its path are.
type placed struct{ start, path, rest, end int }

// What a record says of its name.
const (
	isLink   = 1 << iota // a further name of a hard-link group
	isShared             // a file whose inode the parent has too
)

// runSize is how many bytes of records are sorted at once.
const runSize = 2 << 20

func newSpool(fs fsys.FS, name string) (*spool, error) {
	w, err := fs.Create(name, 0o600)
	if err != nil {
		return nil, err
	}
	return &spool{fs: fs, name: name, w: w, run: make([]byte, 0, runSize+runSize/4)}, nil
}

// add keeps the entry of a name. Of a name that is added again, as a folder that
// an archive names twice, the later entry counts.
func (s *spool) add(it *tree.Item) error {
	flags := byte(0)
	s.line = s.line[:0]
	if it.LinkTo != "" {
		flags = isLink
		s.links.add(it.Path, it.LinkTo)
	} else {
		if it.Shared {
			flags = isShared
		}
		e := *it.Entry
		e.Link = 0
		s.line = manifest.AppendEntry(s.line, &e)
	}
	r := placed{start: len(s.run)}
	body := uvarintSize(len(it.Path)) + len(it.Path) + 1 + len(s.line)
	s.run = binary.AppendUvarint(s.run, uint64(body))
	s.run = binary.AppendUvarint(s.run, uint64(len(it.Path)))
	r.path = len(s.run)
	s.run = append(s.run, it.Path...)
	r.rest = len(s.run)
	s.run = append(s.run, flags)
	s.run = append(s.run, s.line...)
	r.end = len(s.run)
	s.at = append(s.at, r)
	if len(s.run) >= runSize {
		return s.flush()
	}
	return nil
}

func uvarintSize(n int) int { return len(binary.AppendUvarint(nil, uint64(n))) }

// flush sorts the run in the making and puts it behind the others.
func (s *spool) flush() error {
	text := string(s.run) // not a copy of each path
	path := func(r placed) string { return text[r.path:r.rest] }
	slices.SortStableFunc(s.at, func(a, b placed) int { return manifest.Compare(path(a), path(b)) })
	w := bufio.NewWriterSize(s.w, 256<<10)
	for _, r := range s.at {
		if _, err := w.Write(s.run[r.start:r.end]); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	end := int64(len(s.run))
	if n := len(s.ends); n > 0 {
		end += s.ends[n-1]
	}
	s.ends = append(s.ends, end)
	s.run, s.at = s.run[:0], s.at[:0]
	return nil
}

// close ends the writing; what was added stays in the file.
func (s *spool) close() error {
	if s.w == nil {
		return nil
	}
	err := s.w.Close()
	s.w = nil
	return err
}

// entries are all that were added, in canonical order, hard-link groups
// numbered. shared tells of a file that its inode is one of the parent's.
func (s *spool) entries(visit func(e *manifest.Entry, shared bool)) tree.Entries {
	return func(yield func(*manifest.Entry, error) bool) {
		if err := s.read(func(e *manifest.Entry, shared bool) bool {
			visit(e, shared)
			return yield(e, nil)
		}); err != nil {
			yield(nil, err)
		}
	}
}

func (s *spool) read(yield func(e *manifest.Entry, shared bool) bool) error {
	if err := errors.Join(s.flush(), s.close()); err != nil {
		return err
	}
	f, err := s.fs.Open(s.name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.links.find(f, s.ends[len(s.ends)-1]); err != nil {
		return err
	}
	m, err := newMerge(f, s.ends)
	if err != nil {
		return err
	}
	for {
		r, err := m.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading what was noted: %w", err)
		}
		e, shared, err := s.links.entry(f, r)
		if err != nil {
			return fmt.Errorf("reading what was noted of %q: %w", r.path, err)
		}
		if !yield(e, shared) {
			return nil
		}
	}
}
