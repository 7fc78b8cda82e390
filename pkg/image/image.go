// Package image takes images: from a folder or a tar stream into the store.
package image

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/relkit/relkit/pkg/engine/store"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/archive"
	"github.com/relkit/relkit/pkg/format/glob"
	"github.com/relkit/relkit/pkg/format/machine"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// Progress shows how far a capture is, in bytes.
type Progress interface {
	Start(total int64, what string)
	Add(n int64)
	Done()
}

// Source is where an image comes from: one of Dir and Stream is set.
type Source struct {
	// Name is for the record: the operand.
	Name string
	// Dir is the folder that is the tree's top.
	Dir string
	// Stream is a tar archive, plain or packed by gzip or zstd.
	Stream io.Reader
}

// Options say how an image is taken.
type Options struct {
	// Ref is what it is to be called; without a version it is the next number.
	Ref store.Ref
	// Parent is the image whose equal files are shared: "" for the newest of
	// the same name, "none" for no sharing.
	Parent string
	// Exclude are patterns (package glob) of what is left out.
	Exclude []string
	// ResetIdentity empties or leaves out what makes a machine that one machine.
	ResetIdentity bool
	// NoOwner gives everything to the user who takes the image, and leaves out
	// what only root can make.
	NoOwner bool
	// Jobs is how many files are read at once; 0 is one a processor.
	Jobs int
	// Created is the time to record.
	Created  time.Time
	Log      *slog.Logger
	Progress Progress
}

// Get takes an image into the store. Where files changed while they were read
// the image is stored all the same, its record lists them, and the error,
// beside the image, is failure.No.
func Get(ctx context.Context, st *store.Store, src Source, opts Options) (store.Image, *record.Image, error) {
	exclude, err := glob.ParseSet(opts.Exclude)
	if err != nil {
		return store.Image{}, nil, failure.As(failure.Usage, err)
	}
	draft, err := st.Begin(ctx, opts.Ref, opts.Parent)
	if err != nil {
		return store.Image{}, nil, err
	}
	g := &get{opts: &opts, draft: draft, exclude: exclude, rec: &record.Image{Source: src.Name, Created: opts.Created.UTC().Truncate(time.Second),
		Identity: record.IdentityKeep, NoOwner: opts.NoOwner, Excluded: opts.Exclude}}
	if opts.ResetIdentity {
		g.rec.Identity = record.IdentityReset
	}
	opts.Progress.Start(0, "taking "+draft.Ref.String())
	img, err := g.run(ctx, src)
	opts.Progress.Done()
	if cerr := draft.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return store.Image{}, nil, err
	}
	if n := len(g.rec.Inconsistent); n > 0 {
		err = failure.Errorf(failure.No, "%d files changed while they were read; the record of image %s lists them", n, img.Ref)
	}
	return img, g.rec, err
}

// get is one image being taken.
type get struct {
	opts    *Options
	draft   *store.Draft
	exclude glob.Set
	rec     *record.Image
	spool   *spool
}

func (g *get) run(ctx context.Context, src Source) (store.Image, error) {
	var machineJSON []byte
	spool, err := newSpool(g.draft.FS(), g.draft.Scratch())
	if err != nil {
		return store.Image{}, err
	}
	defer spool.close() // before the draft ends
	g.spool = spool
	if src.Stream != nil {
		machineJSON, err = g.stream(ctx, src.Stream)
	} else {
		err = g.folder(ctx, src.Dir)
	}
	if err != nil {
		return store.Image{}, err
	}
	return g.draft.Publish(spool.entries(g.count), machineJSON, g.rec)
}

// count counts an entry of the image for its record.
func (g *get) count(e *manifest.Entry, shared bool) {
	g.rec.Entries++
	if e.Kind == manifest.File {
		g.rec.Files++
		g.rec.Bytes += e.Size
	}
	if shared {
		g.rec.SharedFiles++
		g.rec.SharedBytes += e.Size
	}
}

// folder takes the image from a folder of this host.
func (g *get) folder(ctx context.Context, dir string) error {
	root, err := fsys.Open(dir)
	if err != nil {
		return failure.As(failure.Usage, fmt.Errorf("opening the source: %w", err))
	}
	defer root.Close()
	changed := func(path string) {
		g.rec.Inconsistent = append(g.rec.Inconsistent, manifest.Escape(path))
		g.opts.Log.Warn("a file changed while it was read", "path", manifest.Escape(path))
	}
	store, err := g.draft.FS().Lstat(".")
	if err != nil {
		return err
	}
	entries := tree.Capture(ctx, root, tree.Options{Jobs: g.opts.Jobs, FSType: tree.MountTypes(), Note: g.note, Changed: changed, Except: store,
		Skip: func(path string, _ manifest.Kind) bool { return g.leftOut(path) }})
	return g.restore(ctx, tree.Source(root, entries), changed)
}

// maxBehind is how many bytes may follow an archive: some records of any tar.
const maxBehind = 64 << 20

// stream takes the image from a tar archive and returns the machine description in it.
func (g *get) stream(ctx context.Context, r io.Reader) ([]byte, error) {
	r, stop := interruptible(ctx, r)
	defer stop()
	plain, err := archive.Unpack(r)
	if err != nil {
		return nil, fmt.Errorf("reading the stream: %w", err)
	}
	defer plain.Close()
	space, err := g.draft.FS().Space(g.draft.Into())
	if err != nil {
		return nil, err
	}
	members := archive.Any(bufio.NewReaderSize(plain, 1<<20))
	if err := g.restore(ctx, g.items(members, int64(min(space.FreeBytes, math.MaxInt64))), nil); err != nil {
		return nil, cut(err)
	}
	// What is packed with a checksum or a length behind the archive is checked
	// only by reading to its end. GNU tar fills its last record with zeros.
	switch n, err := io.CopyN(io.Discard, plain, maxBehind+1); {
	case n > maxBehind:
		return nil, failure.Errorf(failure.Refused, "reading the stream: more than %d bytes behind the archive", maxBehind)
	case err != io.EOF:
		return nil, cut(fmt.Errorf("reading the stream: %w", err))
	}
	if changed := members.Changed(); changed != nil {
		if err := json.Unmarshal(changed, &g.rec.Inconsistent); err != nil {
			return nil, fmt.Errorf("reading %s: %w", archive.ChangedName, err)
		}
	}
	if members.Machine() == nil {
		return nil, nil
	}
	_, err = machine.Decode(members.Machine())
	return members.Machine(), err
}

// cut gives a stream that ended early or was altered on its way its exit status.
func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, archive.ErrChecksum) {
		return failure.As(failure.Untrusted, err)
	}
	return err
}

func (g *get) restore(ctx context.Context, items tree.Items, changed func(string)) error {
	items = g.identity(items)
	if g.opts.NoOwner {
		top, err := g.draft.FS().Lstat(g.draft.Into())
		if err != nil {
			return err
		}
		items = tree.Disown(items, top.UID, top.GID, g.note)
	}
	err := tree.Restore(ctx, g.draft.FS(), items, tree.RestoreOptions{
		Into: g.draft.Into(), NoSync: true, Same: g.draft.Same, Wrote: g.wrote, Changed: changed})
	if failure.Of(err) == failure.Refused && failure.Hint(err) == "" {
		err = failure.WithHint(err, "take the image as root, or with --no-owner, as a tree of your own files")
	}
	return err
}

// wrote notes an entry for the manifest.
func (g *get) wrote(it *tree.Item) error {
	g.opts.Progress.Add(it.Size)
	return g.spool.add(it)
}

func (g *get) note(path, why string) {
	g.opts.Log.Info("left out", "path", manifest.Escape(path), "why", why)
}

// leftOut tells whether a pattern leaves path out.
func (g *get) leftOut(path string) bool { return g.exclude.Covers(path) }
