// Package static keeps artifacts as plain files in the layout that a registry
// serves (OCI distribution specification 1.1), so that any web server over the
// folder is a registry to pull from:
//
//	v2/index.html                     "{}", what GET /v2/ answers
//	v2/REPO/manifests/TAG             manifests, by tag and by digest
//	v2/REPO/manifests/sha256:HEX
//	v2/REPO/blobs/sha256:HEX
//	v2/REPO/tags/list                 {"name":REPO,"tags":[…]}
//
// Files appear whole, and only after all that they point to: blobs, manifests
// by digest, tags. A reader at any moment sees artifacts that are complete.
package static

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/artifact"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/strict"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// lockFile is the publisher lock, at the top; web servers hide names with a dot.
const lockFile = ".relkit.lock"

// Dir is the folder over which "v2" stands.
type Dir struct{ path string }

// Open opens an existing folder for reading.
func Open(path string) (*Dir, error) {
	info, err := os.Stat(filepath.Join(path, "v2"))
	if err == nil && !info.IsDir() {
		err = errors.New("v2 is not a folder")
	}
	if err != nil {
		err = fmt.Errorf("opening the repositories in %q: %w", path, err)
		if _, missing := os.Stat(path); missing != nil {
			err = failure.As(failure.Usage, err)
		}
		return nil, err
	}
	return &Dir{path}, nil
}

// Create makes the folder and its layout where missing.
func Create(path string) (*Dir, error) {
	if err := mkdirAll(filepath.Join(path, "v2")); err != nil {
		return nil, err
	}
	d := &Dir{path}
	index := filepath.Join(path, "v2", "index.html")
	if _, err := os.Stat(index); err == nil {
		return d, nil
	}
	return d, writeFile(index, []byte("{}\n"))
}

// Lock keeps other publishers out until unlock is called. It waits for them, up
// to wait; the error is then a failure.Busy.
func (d *Dir) Lock(ctx context.Context, wait time.Duration) (unlock func() error, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	l, err := lock.Acquire(ctx, filepath.Join(d.path, lockFile), true)
	if err != nil {
		return nil, err
	}
	return l.Release, nil
}

// Repo is one repository in it.
type Repo struct {
	dir  string // PATH/v2/REPO
	name string
}

// Repo names a repository, which need not exist.
func (d *Dir) Repo(name string) (*Repo, error) {
	if err := artifact.ValidRepo(name); err != nil {
		return nil, failure.As(failure.Usage, err)
	}
	return &Repo{filepath.Join(d.path, "v2", filepath.FromSlash(name)), name}, nil
}

// Repos lists the repositories, sorted.
func (d *Dir) Repos() ([]string, error) {
	top := filepath.Join(d.path, "v2")
	var names []string
	err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() || e.Name() != "manifests" {
			return err
		}
		if dir := filepath.Dir(path); dir != top {
			names = append(names, filepath.ToSlash(strings.TrimPrefix(dir, top+string(filepath.Separator))))
		}
		return fs.SkipDir
	})
	slices.Sort(names)
	return names, err
}

// Manifest is the raw manifest by tag or digest; fs.ErrNotExist where there is
// none. By digest it is checked.
func (r *Repo) Manifest(_ context.Context, ref string) ([]byte, error) {
	path, want, err := r.manifestPath(ref)
	if err != nil {
		return nil, err
	}
	raw, err := readFile(path, artifact.MaxManifest)
	if err != nil {
		return nil, fmt.Errorf("reading manifest %s of %s: %w", ref, r.name, err)
	}
	if got := digest.Of(raw); !want.IsZero() && got != want {
		return nil, failure.Errorf(failure.Untrusted, "manifest %s of %s has digest %s", ref, r.name, got)
	}
	return raw, nil
}

func (r *Repo) manifestPath(ref string) (path string, want digest.Digest, err error) {
	if strings.HasPrefix(ref, "sha256:") {
		want, err = digest.Parse(ref)
	} else {
		err = artifact.ValidTag(ref)
	}
	return filepath.Join(r.dir, "manifests", ref), want, failure.As(failure.Usage, err)
}

// Blob opens a blob to be read from an offset on. Its content is for the reader
// to check.
func (r *Repo) Blob(_ context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	f, err := os.Open(r.blobPath(d))
	if err != nil {
		return nil, fmt.Errorf("reading blob of %s: %w", r.name, err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (r *Repo) blobPath(d digest.Digest) string { return filepath.Join(r.dir, "blobs", d.String()) }

// HasBlob tells whether the blob is there with the right content. It reads all
// of it: a torn or rotten copy under that name would be served for ever.
func (r *Repo) HasBlob(d digest.Digest, size int64) (bool, error) {
	f, err := os.Open(r.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != size {
		return false, err
	}
	got, _, err := digest.OfReader(f)
	return got == d, err
}

// BlobSize is the size of a blob, whatever its content; fs.ErrNotExist where there is none.
func (r *Repo) BlobSize(d digest.Digest) (int64, error) {
	info, err := os.Stat(r.blobPath(d))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// PutBlob stores what open reads under its digest and size, which must be so;
// written is false where it was there already.
func (r *Repo) PutBlob(ctx context.Context, d digest.Digest, size int64, open func() (io.ReadCloser, error)) (written bool, err error) {
	if has, err := r.HasBlob(d, size); err != nil || has {
		return false, err
	}
	if err := mkdirAll(filepath.Join(r.dir, "blobs")); err != nil {
		return false, err
	}
	src, err := open()
	if err != nil {
		return false, err
	}
	defer src.Close()
	out, err := fsys.NewAtomic(r.blobPath(d), 0o644)
	if err != nil {
		return false, err
	}
	defer out.Abort()
	h := digest.New()
	n, err := io.Copy(io.MultiWriter(out, h), io.LimitReader(&contextReader{ctx, src}, size+1))
	if err != nil {
		return false, fmt.Errorf("writing blob %s: %w", d, err)
	}
	if n != size || h.Digest() != d {
		return false, fmt.Errorf("writing blob %s: the file has changed meanwhile", d)
	}
	return true, out.Commit()
}

// PutManifest stores a manifest under its digest, whose blobs must be there
// already, and then points the tags at it.
func (r *Repo) PutManifest(raw []byte, tags ...string) (digest.Digest, error) {
	d := digest.Of(raw)
	for _, t := range tags {
		if err := artifact.ValidTag(t); err != nil {
			return d, err
		}
	}
	if err := mkdirAll(filepath.Join(r.dir, "manifests")); err != nil {
		return d, err
	}
	for _, name := range append([]string{d.String()}, tags...) {
		path := filepath.Join(r.dir, "manifests", name)
		if old, err := readFile(path, artifact.MaxManifest); err == nil && digest.Of(old) == d {
			continue
		}
		if err := writeFile(path, raw); err != nil {
			return d, err
		}
	}
	return d, r.writeTags()
}

// Tags lists the tags, sorted.
func (r *Repo) Tags() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.dir, "manifests"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var tags []string
	for _, e := range entries {
		if artifact.ValidTag(e.Name()) == nil {
			tags = append(tags, e.Name())
		}
	}
	return tags, err
}

type tagList struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

// writeTags writes tags/list from the manifests' names, so that it cannot part from them.
func (r *Repo) writeTags() error {
	tags, err := r.Tags()
	if err != nil {
		return err
	}
	b, err := strict.Encode(tagList{r.name, slices.Concat([]string{}, tags)})
	if err != nil {
		return err
	}
	path := filepath.Join(r.dir, "tags", "list")
	if old, err := readFile(path, int64(len(b))); err == nil && string(old) == string(b) {
		return nil
	}
	if err := mkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	return writeFile(path, b)
}
