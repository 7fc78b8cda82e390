package patchmake

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/relkit/relkit/pkg/engine/store"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/archive"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// side is one of the two trees.
type side struct {
	name    string    // as the operand was given, for messages
	stdin   io.Reader // of the operand "-"; nil for others
	dir     string
	root    fsys.FS
	product string
	version string
	build   *patch.Build
	archive bool             // the operand is an archive: dir is to be filled from it
	stored  []manifest.Entry // of a stored image: all that its manifest lists
	entries []manifest.Entry
	digest  digest.Digest
}

// openSide finds the tree that an operand means. An archive is unpacked into
// a folder called which, of the scratch folder.
func openSide(ctx context.Context, operand, which string, m *Options, scratch func() (string, error)) (*side, error) {
	s := &side{name: operand, dir: operand}
	storeDir := m.Store
	if operand == "-" {
		s.name, s.stdin = "standard input", m.Stdin
	}
	err := s.find(which, storeDir)
	if err == nil && s.archive {
		err = s.unpack(ctx, which, scratch)
	}
	if err == nil {
		s.root, err = fsys.Open(s.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", which, err)
	}
	return s, nil
}

func (s *side) find(which, storeDir string) error {
	if s.stdin != nil {
		s.archive = true
		return nil
	}
	info, err := os.Stat(s.name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && strings.Contains(s.name, ":") && !strings.Contains(s.name, "/") && storeDir != "":
		return s.findImage(storeDir)
	case errors.Is(err, fs.ErrNotExist):
		return failure.Errorf(failure.Usage, "%q is no folder, no archive and no stored image", s.name)
	case err != nil:
		return err
	case info.IsDir():
		return s.findBuild(which)
	}
	s.archive = true
	return nil
}

// unpack restores the tree of a tar archive, packed or not.
func (s *side) unpack(ctx context.Context, which string, scratch func() (string, error)) error {
	in := s.stdin
	if in == nil {
		f, err := os.Open(s.name)
		if err != nil {
			return failure.As(failure.Usage, err)
		}
		defer f.Close()
		in = f
	}
	plain, err := archive.Unpack(contextReader{ctx, in})
	if err != nil {
		return fmt.Errorf("reading %q: %w", s.name, err)
	}
	defer plain.Close()
	parent, err := scratch()
	if err != nil {
		return err
	}
	s.dir = filepath.Join(parent, which)
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return err
	}
	root, err := fsys.Open(s.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	members := archive.Any(bufio.NewReaderSize(plain, 1<<20))
	err = tree.Restore(ctx, root, archiveItems(members), tree.RestoreOptions{NoSync: true})
	if err == nil {
		_, err = io.Copy(io.Discard, plain) // a checksum at the end
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, archive.ErrChecksum) {
		err = failure.As(failure.Untrusted, err)
	}
	if err != nil {
		return fmt.Errorf("unpacking %q: %w", s.name, err)
	}
	return nil
}

func archiveItems(members archive.Members) tree.Items {
	return func(yield func(*tree.Item, error) bool) {
		for {
			a, err := members.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			it := &tree.Item{Entry: &a.Entry, LinkTo: a.LinkTo}
			if a.Content != nil {
				it.Content = func() (io.ReadCloser, error) { return io.NopCloser(a.Content), nil }
			}
			if !yield(it, nil) {
				return
			}
		}
	}
}

// findImage takes a stored image: its tree, and its manifest for what is in it,
// since equal files of a store are one inode whatever they were in their tree.
func (s *side) findImage(storeDir string) error {
	st, err := store.Open(storeDir)
	if err != nil {
		return err
	}
	defer st.Close()
	image, err := st.Resolve(s.name)
	if err != nil {
		return err
	}
	rec, err := st.Record(image.Ref)
	if err != nil {
		return err
	}
	f, err := os.Open(image.Manifest)
	if err != nil {
		return err
	}
	defer f.Close()
	hash := digest.New()
	if s.stored, err = manifest.Decode(io.TeeReader(f, hash)); err != nil {
		return fmt.Errorf("image %s: %w", image.Ref, err)
	}
	if got := hash.Digest(); got != rec.Tree {
		return failure.Errorf(failure.Refused, "image %s: the manifest has the digest %s, the record says %s", image.Ref, got, rec.Tree)
	}
	s.dir, s.product, s.version = image.Tree, image.Name, image.Version
	return nil
}

// maxRecord bounds a build.json, in bytes.
const maxRecord = 64 << 20

// findBuild takes a build's folder for its artifacts, and notes which build it is.
func (s *side) findBuild(which string) error {
	f, err := os.Open(filepath.Join(s.dir, "build.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	artifacts := filepath.Join(s.dir, "artifacts")
	if info, err := os.Stat(artifacts); err != nil || !info.IsDir() {
		return nil // a tree that happens to hold a build.json
	}
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil || len(data) > maxRecord {
		return errors.Join(err, fmt.Errorf("reading build.json: %d bytes", len(data)))
	}
	if err := s.fit(data); err != nil {
		return err
	}
	full, err := filepath.Abs(s.dir)
	if err != nil {
		return err
	}
	name := filepath.Base(filepath.Dir(full)) + "/" + filepath.Base(full)
	s.build = &patch.Build{Side: which, Build: name, Record: digest.Of(data)}
	s.dir = artifacts
	return nil
}

// fit refuses the artifacts of a build that nobody should be given: one that did
// not succeed, and one of a diff, which no revision has.
func (s *side) fit(data []byte) error {
	b, err := record.DecodeBuild(data)
	switch {
	case err != nil: // of another version of relkit, or of another tool
		return nil
	case b.IsTry():
		err = failure.Errorf(failure.Refused, "%q is a try build: it was made with a diff that no revision has", s.name)
		return failure.WithHint(err, "relkit build %s  # once the diff is committed", failure.Word(b.Builder))
	case b.Status != record.BuildSuccess:
		return failure.Errorf(failure.Refused, "%q is a build that did not succeed: %s: %s", s.name, b.Status, b.Error)
	}
	return nil
}

// read takes the entries from a stored image's manifest, or captures the tree.
func (s *side) read(ctx context.Context, what *scope, jobs int, note func(path, why string), done func(n int64)) (err error) {
	if s.stored != nil {
		s.entries, s.digest, err = what.settle(s.stored)
	} else {
		s.entries, s.digest, err = capture(ctx, s.root, what, jobs, note, done)
	}
	if err != nil {
		return fmt.Errorf("reading the tree %q: %w", s.name, err)
	}
	return nil
}

// size is what the files of a tree hold, in bytes; of no tree, nothing.
func (s *side) size() (n int64) {
	if s == nil {
		return 0
	}
	for i := range s.entries {
		n += s.entries[i].Size
	}
	return n
}

// capture reads a tree as far as the scope goes: its entries and its digest.
// done hears of the bytes of each file.
func capture(ctx context.Context, root fsys.FS, what *scope, jobs int, note func(path, why string), done func(n int64)) ([]manifest.Entry, digest.Digest, error) {
	var all []manifest.Entry
	for e, err := range tree.Capture(ctx, root, tree.Options{Jobs: jobs, Skip: what.skip, FSType: tree.MountTypes(), Note: note}) {
		if err != nil {
			return nil, digest.Digest{}, err
		}
		done(e.Size)
		all = append(all, *e)
	}
	return what.settle(all)
}

// settle filters the entries of a tree and takes the digest of what is left.
func (s *scope) settle(all []manifest.Entry) ([]manifest.Entry, digest.Digest, error) {
	all = s.filter(all)
	w := manifest.NewWriter(io.Discard)
	for i := range all {
		if err := w.Write(&all[i]); err != nil {
			return nil, digest.Digest{}, err
		}
	}
	d, err := w.Close()
	return all, d, err
}

func (s *side) close() {
	if s != nil && s.root != nil {
		s.root.Close()
	}
}

// within tells whether path lies in one of the folders.
func within(path string, dirs ...string) bool {
	path = resolve(path)
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		dir = resolve(dir)
		if path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/") {
			return true
		}
	}
	return false
}

// resolve is the real path of what exists, and the absolute one of what does not.
func resolve(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		path = full
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return path
}
