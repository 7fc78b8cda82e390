package source

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/build/worker"
)

// files is the driver of files that are on this machine: those that a pattern
// matches, told apart by their digests. They are put on the worker.
type files struct {
	pristine
	pattern string // absolute
	memory  Memory
	name    string // of the source
}

// found is a file that the pattern matches.
type found struct {
	listed
	full string
	mode fs.FileMode
	size int64
}

// base divides a pattern into the folder before its first wildcard and the rest;
// "" where it has none.
func (f *files) base() (dir, rest string) {
	parts := strings.Split(f.pattern, "/")
	i := slices.IndexFunc(parts, func(p string) bool { return strings.ContainsAny(p, `*?[\`) })
	if i >= 0 {
		return "/" + path.Join(parts[:i]...), strings.Join(parts[i:], "/")
	}
	if info, err := os.Stat(f.pattern); err == nil && info.IsDir() {
		return f.pattern, ""
	}
	return path.Dir(f.pattern), path.Base(f.pattern)
}

// find lists what matches, and reads what has changed since it was read; with fresh
// all of it. A symlink to a file counts as that file.
func (f *files) find(ctx context.Context, fresh bool) (list []found, err error) {
	memory := f.memory.open(f.name)
	dir, rest := f.base()
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	err = filepath.WalkDir(dir, func(full string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil || d.IsDir() {
			return errors.Join(err, ctx.Err())
		}
		name, err := filepath.Rel(dir, full)
		if err != nil || rest != "" && !matches(rest, name) {
			return err
		}
		info, err := os.Stat(full)
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		digest, err := memory.of(full, info, fresh)
		list = append(list, found{listed{digest, info.ModTime(), name}, full, info.Mode().Perm(), info.Size()})
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, fmt.Errorf("no file matches %q", f.pattern)
	}
	_ = memory.save() // what is not kept is read again
	return list, nil
}

// matches tells whether a pattern matches a name or a folder above it.
func matches(pattern, name string) bool {
	for ; name != "."; name = path.Dir(name) {
		if worker.Match(pattern, name) {
			return true
		}
	}
	return false
}

// digestFile reads a file, and says what it was when it had been read.
func digestFile(name string) (string, fs.FileInfo, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err = io.Copy(h, f); err != nil {
		return "", nil, err
	}
	info, err := f.Stat()
	return hex.EncodeToString(h.Sum(nil)), info, err
}

// revision is the digest of the names, modes and digests of files.
func revision(list []found) Revision {
	h := sha256.New()
	for _, f := range list { // WalkDir sorts
		fmt.Fprintf(h, "%s %o %s\x00", f.digest, f.mode, f.path)
	}
	return Revision{ID: idHead + hex.EncodeToString(h.Sum(nil))}
}

func (f *files) Head(ctx context.Context, _ string) (Revision, error) {
	list, err := f.find(ctx, false)
	if err != nil {
		return Revision{}, err
	}
	return revision(list), nil
}

func (f *files) Fetch(ctx context.Context, repo string, rev Revision) error {
	if has, err := f.has(ctx, repo, rev.ID); err != nil || has {
		return err
	}
	// What is put on a worker is read whatever its stamp says: where a file's digest
	// was mistaken, this mends it and the next run goes on.
	list, err := f.find(ctx, true)
	if err != nil {
		return err
	}
	if now := revision(list); now.ID != rev.ID {
		return fmt.Errorf("files %q changed while they were read: got %s, want %s", f.pattern, now.ID, rev.ID)
	}
	dir, err := f.fresh(ctx, repo, rev.ID)
	if err != nil {
		return err
	}
	if err := PutTree(ctx, f.host, f.env, dir, func(w *tar.Writer) error { return pack(w, list) }); err != nil {
		return err
	}
	var names []listed
	for _, l := range list {
		names = append(names, l.listed)
	}
	return f.done(ctx, repo, rev.ID, names)
}

func pack(w *tar.Writer, list []found) error {
	for _, f := range list {
		in, err := os.Open(f.full)
		if err != nil {
			return err
		}
		if err := errors.Join(PackFile(w, f.path, in, f.digest, f.mode), in.Close()); err != nil {
			return err
		}
	}
	return nil
}

// PackFile writes a file of this machine into an archive, as name; what does not
// have the digest (hex, SHA-256) is an error.
func PackFile(w *tar.Writer, name string, in *os.File, digest string, mode fs.FileMode) error {
	info, err := in.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: "./" + name, Mode: int64(mode.Perm()), Size: info.Size(), ModTime: info.ModTime(), Format: tar.FormatPAX}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(w, h), in, info.Size()); err != nil {
		return fmt.Errorf("reading %s: %w", in.Name(), err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != digest {
		return fmt.Errorf("%s has the digest %s, want %s", in.Name(), got, digest)
	}
	return nil
}

func (f *files) Resolve(ctx context.Context, repo, name string) (string, error) {
	head, err := f.Head(ctx, "")
	if err != nil {
		return "", err
	}
	return f.resolve(ctx, repo, name, head, f.Fetch)
}
