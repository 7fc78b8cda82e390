package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"sync"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

const (
	// readTries is how often a file that changes while it is read is read.
	readTries = 3
	readSize  = 256 << 10
	// ahead is how many names the walk may be in front of the stream.
	ahead = 1024
)

// Capture reads a tree: one entry a name, with the SHA-256 of each file, in
// canonical order. Files are read by Options.Jobs at once; what is held in
// memory does not grow with the tree but for its hard-linked inodes. A file
// that vanishes meanwhile is left out.
func Capture(ctx context.Context, root fsys.FS, opts Options) Entries {
	return entries(ctx, root, opts, true)
}

// Walk is Capture without reading the files: their digests are zero.
func Walk(ctx context.Context, root fsys.FS, opts Options) Entries {
	return entries(ctx, root, opts, false)
}

func entries(ctx context.Context, root fsys.FS, opts Options, hash bool) Entries {
	if opts.Jobs <= 0 {
		opts.Jobs = runtime.GOMAXPROCS(0)
	}
	return func(yield func(*manifest.Entry, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		linked, err := countLinks(ctx, root, &opts)
		if err != nil {
			yield(nil, err)
			return
		}
		c := &capture{fs: root, opts: &opts, hash: hash, linked: linked,
			queue: make(chan *item, ahead), work: make(chan *item, ahead)}
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel() // before the wait, when the consumer stops early
		wg.Go(func() { c.produce(ctx) })
		for range opts.Jobs {
			wg.Go(c.worker)
		}
		c.consume(ctx, yield)
	}
}

// inode is what a hard-link group has in common.
type inode struct{ dev, ino uint64 }

func inodeOf(i fsys.Info) inode { return inode{i.Dev, i.Ino} }

// countLinks finds the inodes with two names or more in the tree: a group is
// numbered at its first name, and whether there will be a second is not known then.
func countLinks(ctx context.Context, root fsys.FS, opts *Options) (map[inode]int, error) {
	names := map[inode]int{}
	w := walker{fs: root, opts: opts, visit: linkCounter(names)}
	if err := w.walk(ctx); err != nil {
		return nil, err
	}
	for k, n := range names {
		if n < 2 {
			delete(names, k)
		}
	}
	return names, nil
}

func linkCounter(names map[inode]int) func(string, fsys.Info) error {
	return func(_ string, i fsys.Info) error {
		if i.Kind != manifest.Dir && i.Links > 1 {
			names[inodeOf(i)]++
		}
		return nil
	}
}

// capture is one run: a walk that goes ahead, workers that complete entries,
// and a consumer that hands them out in the order of the walk.
type capture struct {
	fs     fsys.FS
	opts   *Options
	hash   bool
	linked map[inode]int
	queue  chan *item
	work   chan *item
}

// item is a name on its way through. done is closed when the rest is set; it is
// nil for a further name of a hard-link group, which nobody reads again.
type item struct {
	path  string
	info  fsys.Info
	done  chan struct{}
	entry *manifest.Entry // nil: the name vanished
	// changed is set when the file did not hold still.
	changed bool
	err     error
}

// produce walks the tree and queues its names.
func (c *capture) produce(ctx context.Context) {
	defer close(c.queue)
	defer close(c.work)
	seen := map[inode]bool{}
	w := walker{fs: c.fs, opts: c.opts, loud: true, visit: func(path string, info fsys.Info) error {
		it := &item{path: path, info: info}
		key := inodeOf(info)
		again := info.Kind != manifest.Dir && seen[key]
		if !again {
			if info.Kind != manifest.Dir && c.linked[key] > 1 {
				seen[key] = true
			}
			it.done = make(chan struct{})
			if err := send(ctx, c.work, it); err != nil {
				return err
			}
		}
		return send(ctx, c.queue, it)
	}}
	if err := w.walk(ctx); err != nil {
		// When ctx is over the consumer may be gone.
		_ = send(ctx, c.queue, &item{err: err})
	}
}

func send(ctx context.Context, ch chan<- *item, it *item) error {
	select {
	case ch <- it:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *capture) worker() {
	buf := make([]byte, readSize)
	for it := range c.work {
		c.complete(it, buf)
		close(it.done)
	}
}

// consume yields the queued entries in order, numbering hard-link groups.
func (c *capture) consume(ctx context.Context, yield func(*manifest.Entry, error) bool) {
	groups := map[inode]*manifest.Entry{}
	for it := range c.queue {
		if it.done != nil {
			<-it.done
		} else if it.err == nil {
			c.again(it, groups)
		}
		if it.err != nil {
			yield(nil, it.err)
			return
		}
		if it.entry == nil {
			c.opts.note(it.path, "it vanished while the tree was read")
			continue
		}
		if it.changed {
			if c.opts.Changed == nil {
				yield(nil, failure.Errorf(failure.No, "file %q changes while it is read", it.path))
				return
			}
			c.opts.Changed(it.path)
		}
		if key := inodeOf(it.info); it.entry.Link == 0 && it.entry.Kind != manifest.Dir && c.linked[key] > 1 {
			it.entry.Link = len(groups) + 1
			kept := *it.entry
			groups[key] = &kept
		}
		if !yield(it.entry, nil) {
			return
		}
	}
	if err := context.Cause(ctx); err != nil {
		yield(nil, err)
	}
}

// again makes the entry of a further name of a group out of the first one's.
func (c *capture) again(it *item, groups map[inode]*manifest.Entry) {
	first := groups[inodeOf(it.info)]
	if first == nil { // the first name vanished
		c.complete(it, make([]byte, readSize))
		return
	}
	e := *first
	e.Path = it.path
	it.entry = &e
}

// complete reads what lstat does not tell.
func (c *capture) complete(it *item, buf []byte) {
	e := entryOf(it.path, it.info)
	it.err = c.read(it, e, buf)
	switch {
	case errors.Is(it.err, fs.ErrNotExist):
		it.err = nil
	case it.err == nil:
		it.entry = e
	}
}

func (c *capture) read(it *item, e *manifest.Entry, buf []byte) (err error) {
	switch {
	case e.Kind == manifest.File && c.hash:
		if err := c.readFile(it, e, buf); err != nil {
			return err
		}
	case e.Kind == manifest.Symlink:
		if e.Target, err = c.fs.Readlink(e.Path); err != nil {
			return err
		}
	}
	e.Xattrs, err = c.fs.Xattrs(e.Path)
	return err
}

// readFile sets the digest of a file and the metadata that goes with it: those
// of the moment it was read, in which nothing may have changed.
func (c *capture) readFile(it *item, e *manifest.Entry, buf []byte) error {
	for range readTries {
		info, d, n, still, err := c.readOnce(e.Path, buf)
		if err != nil {
			return err
		}
		*e = *entryOf(e.Path, info)
		e.Digest, e.Size, it.changed = d, n, !still
		if still {
			break
		}
	}
	return nil
}

// readOnce hashes a file. still tells that it was the same before and after.
func (c *capture) readOnce(path string, buf []byte) (info fsys.Info, d digest.Digest, n int64, still bool, err error) {
	f, err := c.fs.Open(path)
	if err != nil {
		return info, d, 0, false, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return info, d, 0, false, err
	}
	h := digest.New()
	for {
		k, err := f.Read(buf)
		h.Write(buf[:k])
		n += int64(k)
		if err == io.EOF {
			break
		}
		if err != nil {
			return info, d, 0, false, fmt.Errorf("reading %q: %w", path, err)
		}
	}
	after, err := f.Stat()
	if err != nil {
		return info, d, 0, false, err
	}
	still = Unchanged(info, after) && n == after.Size
	return info, h.Digest(), n, still, nil
}

// Unchanged tells whether an inode was not touched between two looks at it.
func Unchanged(a, b fsys.Info) bool {
	return a.SameInode(b) && a.ChangeTime == b.ChangeTime && a.ModTime == b.ModTime && a.Size == b.Size
}

// entryOf is what lstat(2) alone tells of an entry.
func entryOf(path string, i fsys.Info) *manifest.Entry {
	e := &manifest.Entry{Path: path, Kind: i.Kind, Mode: i.Mode, UID: i.UID, GID: i.GID, ModTime: i.ModTime}
	switch i.Kind {
	case manifest.File:
		e.Size = i.Size
	case manifest.Symlink:
		e.Mode = 0o777
	case manifest.CharDev, manifest.BlockDev:
		e.Major, e.Minor = i.Major, i.Minor
	}
	return e
}

// WriteManifest writes a stream of entries as a manifest and returns the
// tree's digest.
func WriteManifest(w io.Writer, entries Entries) (digest.Digest, error) {
	m := manifest.NewWriter(w)
	for e, err := range entries {
		if err != nil {
			return digest.Digest{}, err
		}
		if err := m.Write(e); err != nil {
			return digest.Digest{}, err
		}
	}
	return m.Close()
}

// ReadManifest is the entries of a manifest as a stream.
func ReadManifest(r *manifest.Reader) Entries {
	return func(yield func(*manifest.Entry, error) bool) {
		for {
			e, err := r.Next()
			if err == io.EOF || !yield(e, err) || err != nil {
				return
			}
		}
	}
}
