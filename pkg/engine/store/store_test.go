package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/tree"
)

func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Create(filepath.Join(t.TempDir(), "deep", "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// source is a folder with these files, name to content, all of one old time.
func source(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644))
		if err != nil {
			t.Fatal(err)
		}
	}
	when := time.Unix(1700000000, 0)
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, when, when))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// put stores a folder as an image, the short way.
func put(t testing.TB, s *Store, ref, parent, dir string) (Image, error) {
	t.Helper()
	r, err := ParseRef(ref)
	if err != nil {
		return Image{}, err
	}
	d, err := s.Begin(t.Context(), r, parent)
	if err != nil {
		return Image{}, err
	}
	defer d.Close()
	root, err := fsys.Open(dir)
	if err != nil {
		return Image{}, err
	}
	defer root.Close()
	var entries []manifest.Entry
	var bytes, files int64
	wrote := func(it *tree.Item) error {
		entries = append(entries, *it.Entry)
		if it.Kind == manifest.File {
			files++
			bytes += it.Size
		}
		return nil
	}
	items := tree.Source(root, tree.Capture(t.Context(), root, tree.Options{}))
	err = tree.Restore(t.Context(), d.FS(), items, tree.RestoreOptions{Into: d.Into(), Same: d.Same, Wrote: wrote})
	if err != nil {
		return Image{}, err
	}
	if err := fsys.WriteFile(d.FS(), d.Scratch(), []byte("notes"), 0o600); err != nil {
		return Image{}, err
	}
	return d.Publish(listed(entries), nil, &record.Image{Created: time.Unix(1700000000, 0).UTC(), Source: dir,
		Identity: record.IdentityKeep, Entries: int64(len(entries)), Files: files, Bytes: bytes})
}

func listed(entries []manifest.Entry) tree.Entries {
	return func(yield func(*manifest.Entry, error) bool) {
		for i := range entries {
			if !yield(&entries[i], nil) {
				return
			}
		}
	}
}

func mustPut(t testing.TB, s *Store, ref, parent, dir string) Image {
	t.Helper()
	img, err := put(t, s, ref, parent, dir)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func inode(t testing.TB, path string) os.FileInfo {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestVersions(t *testing.T) {
	s := newStore(t)
	dir := source(t, map[string]string{"a": "1"})
	for _, ref := range []string{"fw", "fw", "fw:2.10", "fw:2.9", "fw", "fw:1:0.1", "other:1"} {
		mustPut(t, s, ref, "", dir)
	}
	got, err := s.Versions("fw")
	if want := []string{"1", "2", "2.9", "2.10", "3", "1:0.1"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	img, err := s.Resolve("fw")
	if err != nil || img.Version != "1:0.1" || img.Tree != filepath.Join(s.dir, "fw", "1:0.1", "tree") {
		t.Errorf("the newest is %+v, %v", img, err)
	}
	if names, err := s.Names(); err != nil || !slices.Equal(names, []string{"fw", "other"}) {
		t.Errorf("names %q, %v", names, err)
	}
	for _, missing := range []string{"fw:9", "none", "deep"} {
		if _, err := s.Resolve(missing); failure.Of(err) != failure.Refused {
			t.Errorf("%s: %v", missing, err)
		}
	}
	for _, bad := range []string{"", "../fw", ".new", "fw:", "fw:a/b", "a b"} {
		if _, err := s.Resolve(bad); failure.Of(err) != failure.Usage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestStoredImagesDoNotChange(t *testing.T) {
	s := newStore(t)
	img := mustPut(t, s, "fw:1", "", source(t, map[string]string{"a": "1"}))
	_, err := put(t, s, "fw:1", "", source(t, map[string]string{"a": "2"}))
	if failure.Of(err) != failure.Refused || failure.Hint(err) == "" {
		t.Errorf("stored again: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(img.Tree, "a")); string(b) != "1" {
		t.Errorf("the stored file is %q, %v", b, err)
	}
}

func TestSharing(t *testing.T) {
	s := newStore(t)
	one := mustPut(t, s, "fw", "", source(t, map[string]string{"same": "s", "content": "1", "mode": "m", "time": "t", "d/deep": "d"}))
	dir := source(t, map[string]string{"same": "s", "content": "2", "mode": "m", "time": "t", "d/deep": "d"})
	err := errors.Join(os.Chmod(filepath.Join(dir, "mode"), 0o600), os.Chtimes(filepath.Join(dir, "time"), time.Unix(5, 0), time.Unix(5, 0)))
	if err != nil {
		t.Fatal(err)
	}
	two := mustPut(t, s, "fw", "", dir)
	alone := mustPut(t, s, "fw", "none", dir)
	for name, shared := range map[string]bool{"same": true, "d/deep": true, "content": false, "mode": false, "time": false} {
		a, b, c := inode(t, filepath.Join(one.Tree, name)), inode(t, filepath.Join(two.Tree, name)), inode(t, filepath.Join(alone.Tree, name))
		if os.SameFile(a, b) != shared {
			t.Errorf("%s: one inode in both versions: %v, want %v", name, os.SameFile(a, b), shared)
		}
		if os.SameFile(b, c) {
			t.Errorf("%s: shared without a parent", name)
		}
	}
	for _, img := range []Image{one, two, alone} {
		if diffs := verify(t, s, img.Ref); len(diffs) != 0 {
			t.Errorf("%s: %q", img.Ref, diffs)
		}
	}
}

// TestSharingKeepsGroupsApart: two files that were one inode in the parent and
// are two groups now must not become one inode again.
func TestSharingKeepsGroupsApart(t *testing.T) {
	s := newStore(t)
	first := source(t, map[string]string{"a": "x"})
	link(t, first, "a", "b", "c", "d")
	mustPut(t, s, "fw", "", first)
	second := source(t, map[string]string{"a": "x", "c": "x"})
	link(t, second, "a", "b")
	link(t, second, "c", "d")
	two := mustPut(t, s, "fw", "", second)
	if diffs := verify(t, s, two.Ref); len(diffs) != 0 {
		t.Errorf("%q", diffs)
	}
	if os.SameFile(inode(t, filepath.Join(two.Tree, "a")), inode(t, filepath.Join(two.Tree, "c"))) {
		t.Error("two groups have become one")
	}
}

func link(t testing.TB, dir, old string, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := os.Link(filepath.Join(dir, old), filepath.Join(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
	when := time.Unix(1700000000, 0)
	if err := os.Chtimes(dir, when, when); err != nil {
		t.Fatal(err)
	}
}

func verify(t testing.TB, s *Store, r Ref) []string {
	t.Helper()
	var diffs []string
	for d, err := range s.Verify(t.Context(), r, 2) {
		if err != nil {
			t.Fatal(err)
		}
		diffs = append(diffs, d.String())
	}
	return diffs
}

func TestVerifyFindsChanges(t *testing.T) {
	s := newStore(t)
	img := mustPut(t, s, "fw", "", source(t, map[string]string{"a": "1", "b": "2", "c": "3"}))
	when := time.Unix(1700000000, 0)
	err := errors.Join(
		os.WriteFile(filepath.Join(img.Tree, "a"), []byte("9"), 0), os.Chtimes(filepath.Join(img.Tree, "a"), when, when),
		os.Remove(filepath.Join(img.Tree, "b")), os.Mkdir(filepath.Join(img.Tree, "new"), 0o755), os.Chtimes(img.Tree, when, when))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"M a (content)", "- b", "+ new"}
	if got := verify(t, s, img.Ref); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestVerifyTrustsTheRecordAlone(t *testing.T) {
	s := newStore(t)
	img := mustPut(t, s, "fw", "", source(t, map[string]string{"a": "1"}))
	b, err := os.ReadFile(img.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	// A change to the file and, fittingly, to its line.
	b = []byte(strings.Replace(string(b), digest.Of([]byte("1")).Hex(), digest.Of([]byte("9")).Hex(), 1))
	if err := errors.Join(os.WriteFile(img.Manifest, b, 0), os.WriteFile(filepath.Join(img.Tree, "a"), []byte("9"), 0)); err != nil {
		t.Fatal(err)
	}
	var last error
	for _, err := range s.Verify(t.Context(), img.Ref, 1) {
		last = err
	}
	if failure.Of(last) != failure.No || !strings.Contains(fmt.Sprint(last), "the record says") {
		t.Errorf("got %v", last)
	}
}

func TestAbandonedDraftLeavesNothing(t *testing.T) {
	s := newStore(t)
	dir := source(t, map[string]string{"a": "1"})
	mustPut(t, s, "fw", "", dir)
	d, err := s.Begin(t.Context(), Ref{Name: "fw"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(t.Context(), Ref{Name: "fw"}, ""); failure.Of(err) != failure.Busy {
		t.Errorf("a second draft: %v", err)
	}
	if versions, err := s.Versions("fw"); err != nil || len(versions) != 1 {
		t.Errorf("a draft shows: %q, %v", versions, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if left := visible(t, s, "fw"); !slices.Equal(left, []string{".lock", "1"}) {
		t.Errorf("left: %q", left)
	}
}

// TestInterruptedDraftIsRemoved: what a killed run has left goes at the next one,
// also where its folders shut their owner out.
func TestInterruptedDraftIsRemoved(t *testing.T) {
	s := newStore(t)
	shut := filepath.Join(s.dir, "fw", ".new-1", "tree", "shut")
	if err := errors.Join(os.MkdirAll(filepath.Join(shut, "x"), 0o755), os.Chmod(shut, 0o100)); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "fw", "", source(t, map[string]string{"a": "1"}))
	if left := visible(t, s, "fw"); !slices.Equal(left, []string{".lock", "1"}) {
		t.Errorf("left: %q", left)
	}
}

func visible(t testing.TB, s *Store, name string) []string {
	t.Helper()
	all, err := s.fs.ReadDir(name)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPrune(t *testing.T) {
	s := newStore(t)
	dir := source(t, map[string]string{"a": "1", "shut/x": "2"})
	if err := os.Chmod(filepath.Join(dir, "shut"), 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.Chmod(filepath.Join(dir, "shut"), 0o700)
		s.discard("fw")
		s.discard("os")
	})
	for range 4 {
		mustPut(t, s, "fw", "", dir)
	}
	mustPut(t, s, "os", "", dir)
	if _, err := s.Prune(t.Context(), "", 0, false); failure.Of(err) != failure.Usage {
		t.Errorf("keep 0: %v", err)
	}
	for _, dry := range []bool{true, false} {
		gone, err := s.Prune(t.Context(), "", 2, dry)
		if err != nil || !slices.Equal(gone, []Ref{{"fw", "1"}, {"fw", "2"}}) {
			t.Errorf("dry %v: removed %v, %v", dry, gone, err)
		}
	}
	if left := visible(t, s, "fw"); !slices.Equal(left, []string{".lock", "3", "4"}) {
		t.Errorf("left: %q", left)
	}
	if diffs := verify(t, s, Ref{"fw", "4"}); len(diffs) != 0 {
		t.Errorf("what is kept has changed: %q", diffs)
	}
}

func TestList(t *testing.T) {
	s := newStore(t)
	dir := source(t, map[string]string{"a": "12345"})
	mustPut(t, s, "fw", "", dir)
	mustPut(t, s, "fw:2", "fw:1", dir)
	all, err := s.List()
	if err != nil || len(all) != 2 {
		t.Fatalf("got %d, %v", len(all), err)
	}
	if i := all[1]; i.Version != "2" || i.Parent != "fw:1" || i.Bytes != 5 || i.Tree != all[0].Tree {
		t.Errorf("got %+v", i)
	}
	if _, err := Open(filepath.Join(s.dir, "nowhere")); failure.Of(err) != failure.Refused {
		t.Errorf("no store: %v", err)
	}
}
