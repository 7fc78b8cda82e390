package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/lock"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// Draft is an image in the making. No other draft of its name can be open.
type Draft struct {
	// Ref is what it will be; Parent the version it shares files with, zero for none.
	Ref, Parent Ref
	s           *Store
	lock        *lock.Lock
	dir         string  // below the store
	parent      *parent // nil for none
	done        bool
}

// Begin starts a new version. Without a version in ref it is the number after
// the largest; a version that exists is refused, for a stored one never changes.
// parent "" is the newest version of the same name, "none" no parent.
func (s *Store) Begin(ctx context.Context, ref Ref, parent string) (*Draft, error) {
	l, err := s.lock(ctx, ref.Name)
	if err != nil {
		return nil, err
	}
	d := &Draft{s: s, lock: l}
	if err := d.begin(ref, parent); err != nil {
		if d.dir != "" {
			err = errors.Join(err, s.discard(d.dir))
		}
		return nil, errors.Join(err, d.closeParent(), l.Release())
	}
	return d, nil
}

func (d *Draft) begin(ref Ref, parent string) error {
	versions, err := d.s.Versions(ref.Name)
	if err != nil {
		return err
	}
	if ref.Version == "" {
		ref.Version = next(versions)
	}
	d.Ref = ref
	if err := d.mustBeNew(); err != nil {
		return err
	}
	if parent == "" && len(versions) > 0 {
		parent = Ref{ref.Name, versions[len(versions)-1]}.String()
	}
	if parent != "" && parent != "none" {
		if err := d.readParent(parent); err != nil {
			return fmt.Errorf("reading the parent: %w", err)
		}
	}
	d.dir = ref.Name + "/" + newPrefix + ref.Version
	// 0700: set-id programs of a stored tree are not for the users of this host.
	if err := d.s.fs.Mkdir(d.dir, 0o700); err != nil {
		return err
	}
	return d.s.fs.Mkdir(d.Into(), 0o755)
}

func (d *Draft) mustBeNew() error {
	_, err := d.s.fs.Lstat(d.Ref.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = failure.WithHint(failure.Errorf(failure.Refused, "image %s is stored already, and stored images do not change", d.Ref),
			"give another version, or none for the next number: %s", d.Ref.Name)
	}
	return err
}

func (d *Draft) readParent(ref string) error {
	img, err := d.s.Resolve(ref)
	if err != nil {
		return err
	}
	f, err := d.s.fs.Open(img.dir() + "/" + ManifestName)
	if err != nil {
		return err
	}
	if d.parent, err = readParent(f); err != nil {
		return errors.Join(fmt.Errorf("image %s: reading %s: %w", img.Ref, ManifestName, err), f.Close())
	}
	d.Parent = img.Ref
	return nil
}

func (d *Draft) closeParent() error {
	if d.parent == nil {
		return nil
	}
	return d.parent.manifest.Close()
}

// FS is the store's file system, to write the tree in.
func (d *Draft) FS() fsys.FS { return d.s.fs }

// Into is the folder of FS that is to become the tree.
func (d *Draft) Into() string { return d.dir + "/" + TreeName }

// Scratch is the name of a file of FS that whoever writes the tree may make for
// notes of their own. It is no part of the image: Publish removes it.
func (d *Draft) Scratch() string { return d.dir + "/" + scratchName }

// Same names the file of the parent that is e, content and all metadata; "" for
// none. Where the parent's manifest cannot be read any more there is none: the
// file is then written like any other.
func (d *Draft) Same(e *manifest.Entry) string {
	if d.parent == nil {
		return ""
	}
	if same, err := d.parent.same(e); err != nil || !same {
		return ""
	}
	return d.Parent.dir() + "/" + TreeName + "/" + e.Path
}

// Publish writes the manifest of the entries and then the record, whose Tree,
// Name, Version and Parent it sets, so that the other fields may be set while the
// entries are asked for; makes all durable and puts the version in its place.
// machineJSON may be nil.
func (d *Draft) Publish(entries tree.Entries, machineJSON []byte, rec *record.Image) (Image, error) {
	sum, err := d.writeManifest(entries)
	if err != nil {
		return Image{}, fmt.Errorf("writing %s: %w", ManifestName, err)
	}
	rec.Schema, rec.Name, rec.Version, rec.Tree = record.ImageSchema, d.Ref.Name, d.Ref.Version, sum
	if d.Parent != (Ref{}) {
		rec.Parent = d.Parent.String()
	}
	b, err := rec.Encode()
	if err != nil {
		return Image{}, err
	}
	if err := d.s.fs.Unlink(d.Scratch()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Image{}, err
	}
	if machineJSON != nil {
		if err := fsys.WriteFile(d.s.fs, d.dir+"/"+MachineName, machineJSON, 0o644); err != nil {
			return Image{}, err
		}
	}
	if err := fsys.WriteFile(d.s.fs, d.dir+"/"+RecordName, b, 0o644); err != nil {
		return Image{}, err
	}
	if err := d.s.fs.SyncFS(d.dir); err != nil {
		return Image{}, err
	}
	if err := d.s.fs.Rename(d.dir, d.Ref.dir(), fsys.NoReplace); err != nil {
		return Image{}, err
	}
	d.done = true
	if err := d.s.fs.SyncDir(d.Ref.Name); err != nil {
		return Image{}, err
	}
	return d.s.image(d.Ref), nil
}

func (d *Draft) writeManifest(entries tree.Entries) (digest.Digest, error) {
	w, err := d.s.fs.Create(d.dir+"/"+ManifestName, 0o644)
	if err != nil {
		return digest.Digest{}, err
	}
	sum, err := tree.WriteManifest(w, entries)
	return sum, errors.Join(err, w.Close())
}

// Close ends the draft; what was not published is removed.
func (d *Draft) Close() error {
	var err error
	if !d.done {
		err = d.s.discard(d.dir)
	}
	return errors.Join(err, d.closeParent(), d.lock.Release())
}

// Prune removes all but the newest keep versions of each name (one name, or ""
// for all), and tells which. Each disappears as a whole.
func (s *Store) Prune(ctx context.Context, name string, keep int, dry bool) ([]Ref, error) {
	if keep < 1 {
		return nil, failure.Errorf(failure.Usage, "keeping %d versions: want 1 or more", keep)
	}
	names := []string{name}
	if name == "" {
		var err error
		if names, err = s.Names(); err != nil {
			return nil, err
		}
	}
	var gone []Ref
	for _, n := range names {
		removed, err := s.pruneName(ctx, n, keep, dry)
		gone = append(gone, removed...)
		if err != nil {
			return gone, err
		}
	}
	return gone, nil
}

func (s *Store) pruneName(ctx context.Context, name string, keep int, dry bool) ([]Ref, error) {
	if !dry {
		if v, err := s.Versions(name); err != nil || len(v) <= keep {
			return nil, err // no folder is made for a name that does not exist
		}
		l, err := s.lock(ctx, name)
		if err != nil {
			return nil, err
		}
		defer l.Release()
	}
	versions, err := s.Versions(name)
	if err != nil || len(versions) <= keep {
		return nil, err
	}
	var gone []Ref
	for _, v := range slices.Clip(versions[:len(versions)-keep]) {
		if err := ctx.Err(); err != nil {
			return gone, context.Cause(ctx)
		}
		if !dry {
			if err := s.remove(Ref{name, v}); err != nil {
				return gone, err
			}
		}
		gone = append(gone, Ref{name, v})
	}
	return gone, nil
}

func (s *Store) remove(r Ref) error {
	aside := r.Name + "/" + oldPrefix + r.Version
	if err := s.fs.Rename(r.dir(), aside, fsys.NoReplace); err != nil {
		return err
	}
	if err := s.fs.SyncDir(r.Name); err != nil {
		return err
	}
	return s.discard(aside)
}
