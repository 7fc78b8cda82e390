package tree

import (
	"context"
	"errors"
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
	// farAhead is how many names the walk may be in front of the stream: some
	// 400 bytes each.
	farAhead = 1 << 13
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
	if opts.ahead == 0 {
		opts.ahead = farAhead
	}
	return func(yield func(*manifest.Entry, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		c := &capture{fs: root, opts: &opts, hash: hash, groups: newGroups(),
			queue: make(chan *item, opts.ahead), work: make(chan *item, opts.ahead)}
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

// capture is one run: a walk that goes ahead, workers that complete entries,
// and a consumer that hands them out in the order of the walk.
type capture struct {
	fs     fsys.FS
	opts   *Options
	hash   bool
	groups *groups
	queue  chan *item
	work   chan *item
	err    error // of the walk; it stands when queue is closed
}

// item is a name on its way through.
type item struct {
	entry manifest.Entry
	inode inode
	// linked is set where the inode has other names, in the tree or out of it;
	// again where one of them came before, so that nobody needs to read this one.
	linked, again bool
	// done is over when a worker has set what follows.
	done sync.WaitGroup
	// gone is set when the name vanished, changed when the file did not hold still.
	gone, changed bool
	err           error
}

// produce walks the tree and queues its names.
func (c *capture) produce(ctx context.Context) {
	defer close(c.queue)
	defer close(c.work)
	w := walker{fs: c.fs, opts: c.opts, loud: true, visit: func(path string, info fsys.Info) error {
		it := &item{entry: entryOf(path, info), inode: inode{info.Dev, info.Ino}}
		it.linked = info.Kind != manifest.Dir && info.Links > 1
		it.again = it.linked && c.groups.add(it.inode)
		if !it.again {
			it.done.Add(1)
			if err := c.send(ctx, c.work, it); err != nil {
				it.done.Done()
				return err
			}
		}
		return c.send(ctx, c.queue, it)
	}}
	c.err = w.walk(ctx)
	c.groups.settle()
}

// send queues an item. Where the queues are full because the consumer waits to
// know the hard-link groups, they are counted in a walk of their own.
func (c *capture) send(ctx context.Context, ch chan<- *item, it *item) error {
	for {
		select {
		case ch <- it:
			return nil
		default:
		}
		select {
		case ch <- it:
			return nil
		case <-c.groups.wanted():
			if err := c.groups.count(ctx, c.fs, c.opts); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *capture) worker() {
	r := &reader{fs: c.fs}
	defer r.close()
	for it := range c.work {
		c.complete(it, r)
		it.done.Done()
	}
}

// consume yields the queued entries in order, numbering hard-link groups.
func (c *capture) consume(ctx context.Context, yield func(*manifest.Entry, error) bool) {
	for it := range c.queue {
		err := c.finish(ctx, it)
		switch {
		case err != nil:
			yield(nil, err)
			return
		case it.gone:
			c.opts.note(it.entry.Path, "it vanished while the tree was read")
			continue
		case it.changed && c.opts.Changed == nil:
			yield(nil, failure.Errorf(failure.No, "file %q changes while it is read", it.entry.Path))
			return
		case it.changed:
			c.opts.Changed(it.entry.Path)
		}
		if !yield(&it.entry, nil) {
			return
		}
	}
	if c.err != nil {
		yield(nil, c.err)
	}
}

// finish waits until an item is complete. A further name of a group is made out
// of the first one's entry.
func (c *capture) finish(ctx context.Context, it *item) error {
	var g *group
	if it.linked {
		var err error
		if g, err = c.groups.of(ctx, it.inode); err != nil {
			return err
		}
	}
	switch {
	case !it.again:
		it.done.Wait()
	case g != nil && g.link != 0 && g.done < g.names:
		it.entry = c.groups.linked(g, it.entry.Path)
	default: // the first name vanished
		r := &reader{fs: c.fs}
		defer r.close()
		c.complete(it, r)
	}
	switch {
	case it.err != nil:
	case !it.gone:
		c.groups.number(g, &it.entry)
	case g != nil:
		g.names--
	}
	return it.err
}

// complete reads what lstat does not tell.
func (c *capture) complete(it *item, r *reader) {
	it.err = c.read(it, r)
	if errors.Is(it.err, fs.ErrNotExist) {
		it.err, it.gone = nil, true
	}
}

func (c *capture) read(it *item, r *reader) error {
	e := &it.entry
	if e.Kind == manifest.File && c.hash {
		return c.readFile(it, r)
	}
	folder, base, err := r.at(e.Path)
	if err == nil && e.Kind == manifest.Symlink {
		e.Target, err = folder.Readlink(base)
	}
	if err == nil {
		e.Xattrs, err = folder.Xattrs(base)
	}
	return err
}

// readFile sets the digest of a file and the metadata that goes with it: those
// of the moment it was read, in which nothing may have changed.
func (c *capture) readFile(it *item, r *reader) error {
	for range readTries {
		e, still, err := r.file(it.entry.Path)
		if err != nil {
			return err
		}
		it.entry, it.changed = e, !still
		if still {
			break
		}
	}
	return nil
}

// Unchanged tells whether an inode was not touched between two looks at it.
func Unchanged(a, b fsys.Info) bool {
	return a.SameInode(b) && a.ChangeTime == b.ChangeTime && a.ModTime == b.ModTime && a.Size == b.Size
}

// entryOf is what lstat(2) alone tells of an entry.
func entryOf(path string, i fsys.Info) manifest.Entry {
	e := manifest.Entry{Path: path, Kind: i.Kind, Mode: i.Mode, UID: i.UID, GID: i.GID, ModTime: i.ModTime}
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
