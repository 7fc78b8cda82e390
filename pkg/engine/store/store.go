// Package store keeps images: <store>/NAME/VERSION/ with the tree, its manifest,
// the description of the machine it is from and a record.
//
// A stored version never changes: it is made in a folder of its own beside the
// others and renamed into place when it is complete and durable. Files that are
// alike in content and all metadata share one inode between versions.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/machine"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/format/version"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// What a version's folder holds.
const (
	TreeName     = "tree"
	ManifestName = "manifest.mtree"
	MachineName  = "machine.json"
	RecordName   = "image.json"
)

// Work in progress: names that no image or version has.
const (
	newPrefix   = ".new-"
	scratchName = "scratch" // in a draft's folder
	oldPrefix   = ".old-"
	lockName    = ".lock"
)

// Ref names a stored image.
type Ref struct{ Name, Version string }

// String is NAME:VERSION, or NAME where no version is said.
func (r Ref) String() string {
	if r.Version == "" {
		return r.Name
	}
	return r.Name + ":" + r.Version
}

// dir is where the image is below the store.
func (r Ref) dir() string { return r.Name + "/" + r.Version }

// ParseRef reads NAME or NAME:VERSION; the name ends at the first colon, so a
// version may have an epoch.
func ParseRef(s string) (Ref, error) {
	name, v, colon := strings.Cut(s, ":")
	if err := record.ValidImageName(name); err != nil {
		return Ref{}, failure.As(failure.Usage, err)
	}
	if !colon {
		return Ref{Name: name}, nil
	}
	if err := version.Valid(v); err != nil {
		return Ref{}, failure.As(failure.Usage, fmt.Errorf("image %q: %w", s, err))
	}
	return Ref{name, v}, nil
}

// Image is a stored image and where its parts are on the host.
type Image struct {
	Ref
	Dir      string
	Tree     string
	Manifest string
}

// Store is an open store.
type Store struct {
	fs  fsys.FS
	dir string
}

// Open opens the store at dir, a folder that exists.
func Open(dir string) (*Store, error) {
	files, err := fsys.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, failure.WithHint(failure.Errorf(failure.Refused, "no store at %q", dir),
			"relkit getimage --store %s SOURCE NAME", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	return &Store{fs: files, dir: dir}, nil
}

// Create is Open, making the folder where it is missing.
func Create(dir string) (*Store, error) {
	if err := makeFolder(dir); err != nil {
		return nil, fmt.Errorf("making the store: %w", err)
	}
	return Open(dir)
}

// makeFolder makes a folder of the host and those above it.
func makeFolder(dir string) error {
	files, err := fsys.Open(dir)
	if err == nil {
		return files.Close()
	}
	parent := filepath.Dir(dir)
	if !errors.Is(err, fs.ErrNotExist) || parent == dir {
		return err
	}
	if err := makeFolder(parent); err != nil {
		return err
	}
	files, err = fsys.Open(parent)
	if err != nil {
		return err
	}
	defer files.Close()
	err = fsys.MkdirAll(files, filepath.Base(dir), 0o755)
	if p := new(fs.PathError); errors.As(err, &p) {
		p.Path = dir // from the root, not from its parent
	}
	return err
}

// Close lets go of the store.
func (s *Store) Close() error { return s.fs.Close() }

// image is where a version is.
func (s *Store) image(r Ref) Image {
	dir := filepath.Join(s.dir, r.Name, r.Version)
	return Image{Ref: r, Dir: dir, Tree: filepath.Join(dir, TreeName), Manifest: filepath.Join(dir, ManifestName)}
}

// Names are the names that have at least one version, sorted.
func (s *Store) Names() ([]string, error) {
	all, err := s.fs.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("reading the store: %w", err)
	}
	var names []string
	for _, n := range all {
		versions, err := s.Versions(n)
		if err != nil {
			return nil, err
		}
		if len(versions) > 0 {
			names = append(names, n)
		}
	}
	return names, nil
}

// Versions are the versions of a name, oldest first as deb-version(7) orders
// them; none where there is no such name.
func (s *Store) Versions(name string) ([]string, error) {
	if record.ValidImageName(name) != nil {
		return nil, nil
	}
	all, err := s.fs.ReadDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the store: %w", err)
	}
	var versions []string
	for _, v := range all {
		if version.Valid(v) != nil {
			continue
		}
		if _, err := s.fs.Lstat(name + "/" + v + "/" + RecordName); err == nil {
			versions = append(versions, v)
		}
	}
	slices.SortFunc(versions, func(a, b string) int {
		if c := version.Compare(a, b); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	return versions, nil
}

// Resolve finds a stored image by NAME:VERSION, or the newest version by NAME.
func (s *Store) Resolve(ref string) (Image, error) {
	r, err := ParseRef(ref)
	if err != nil {
		return Image{}, err
	}
	versions, err := s.Versions(r.Name)
	if err != nil {
		return Image{}, err
	}
	switch {
	case len(versions) == 0:
		err = failure.Errorf(failure.Refused, "no image %q in the store %q", r.Name, s.dir)
	case r.Version == "":
		r.Version = versions[len(versions)-1]
	case !slices.Contains(versions, r.Version):
		err = failure.Errorf(failure.Refused, "no version %q of image %q in the store %q", r.Version, r.Name, s.dir)
	}
	if err != nil {
		return Image{}, failure.WithHint(err, "relkit getimage --store %s --list", s.dir)
	}
	return s.image(r), nil
}

// next is the version after the largest whole number among those there are.
func next(versions []string) string {
	largest := uint64(0)
	for _, v := range versions {
		if n, err := strconv.ParseUint(v, 10, 63); err == nil {
			largest = max(largest, n)
		}
	}
	return strconv.FormatUint(largest+1, 10)
}

// Record reads an image's record.
func (s *Store) Record(r Ref) (*record.Image, error) {
	b, err := fsys.ReadFile(s.fs, r.dir()+"/"+RecordName, record.MaxImage)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", r, err)
	}
	i, err := record.DecodeImage(b)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", r, err)
	}
	if i.Name != r.Name || i.Version != r.Version {
		return nil, fmt.Errorf("image %s: its record is of %s:%s", r, i.Name, i.Version)
	}
	return i, nil
}

// Machine reads the description of the machine that an image is from; nil where
// the image has none.
func (s *Store) Machine(r Ref) (*machine.Machine, error) {
	b, err := fsys.ReadFile(s.fs, r.dir()+"/"+MachineName, machine.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", r, err)
	}
	return machine.Decode(b)
}

// List reads the records of all images, by name and then version.
func (s *Store) List() ([]*record.Image, error) {
	names, err := s.Names()
	if err != nil {
		return nil, err
	}
	var all []*record.Image
	for _, name := range names {
		versions, err := s.Versions(name)
		if err != nil {
			return nil, err
		}
		for _, v := range versions {
			i, err := s.Record(Ref{name, v})
			if err != nil {
				return nil, err
			}
			all = append(all, i)
		}
	}
	return all, nil
}

// lock keeps other writers of a name out; failure.Busy where there is one. What
// an interrupted one has left is removed.
func (s *Store) lock(ctx context.Context, name string) (*lock.Lock, error) {
	if err := fsys.MkdirAll(s.fs, name, 0o755); err != nil {
		return nil, fmt.Errorf("opening image %q: %w", name, err)
	}
	l, err := lock.Acquire(ctx, filepath.Join(s.dir, name, lockName), false)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", name, err)
	}
	all, err := s.fs.ReadDir(name)
	for _, n := range all {
		if err == nil && (strings.HasPrefix(n, newPrefix) || strings.HasPrefix(n, oldPrefix)) {
			err = s.discard(name + "/" + n)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("image %q: %w", name, err), l.Release())
	}
	return l, nil
}

// discard removes a folder of the store whose tree may have folders that shut
// their owner out.
func (s *Store) discard(dir string) error {
	err := fsys.RemoveAll(s.fs, dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err := s.unlock(dir); err != nil {
		return err
	}
	return fsys.RemoveAll(s.fs, dir)
}

func (s *Store) unlock(dir string) error {
	info, err := s.fs.Lstat(dir)
	if err != nil || info.Kind != manifest.Dir {
		return err
	}
	if info.Mode&0o700 != 0o700 {
		if err := s.fs.Chmod(dir, 0o700); err != nil {
			return err
		}
	}
	names, err := s.fs.ReadDir(dir)
	for _, n := range names {
		if err == nil {
			err = s.unlock(dir + "/" + n)
		}
	}
	return err
}
