package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/engine/store"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/archive"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/tree"
)

type silent struct{}

func (silent) Start(int64, string) {}
func (silent) Add(int64)           {}
func (silent) Done()               {}

func newStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Create(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func take(t testing.TB, s *store.Store, src Source, opts Options) (store.Image, *record.Image, error) {
	t.Helper()
	if opts.Ref.Name == "" {
		opts.Ref.Name = "fw"
	}
	opts.Log, opts.Progress, opts.Created = slog.New(slog.DiscardHandler), silent{}, time.Unix(1700000000, 0)
	return Get(t.Context(), s, src, opts)
}

func mustTake(t testing.TB, s *store.Store, src Source, opts Options) (store.Image, *record.Image) {
	t.Helper()
	img, rec, err := take(t, s, src, opts)
	if err != nil {
		t.Fatal(err)
	}
	for d, err := range s.Verify(t.Context(), img.Ref, 2) {
		t.Errorf("verifying %s: %v %v", img.Ref, d, err)
	}
	return img, rec
}

func manifestOf(t testing.TB, dir string) string {
	t.Helper()
	fs, err := fsys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	var b bytes.Buffer
	if _, err := tree.WriteManifest(&b, tree.Capture(t.Context(), fs, tree.Options{})); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFolder(t *testing.T) {
	zoo, s := relkittest.Zoo(t), newStore(t)
	want := manifestOf(t, zoo)
	one, rec := mustTake(t, s, Source{Name: "zoo", Dir: zoo}, Options{})
	if got := read(t, one.Manifest); got != want {
		t.Errorf("the manifest is\n%s\nwant\n%s", got, want)
	}
	if got := manifestOf(t, one.Tree); got != want {
		t.Errorf("the tree is\n%s\nwant\n%s", got, want)
	}
	if rec.SharedFiles != 0 || rec.Source != "zoo" || rec.Entries != int64(strings.Count(want, " type=")) {
		t.Errorf("record %+v", rec)
	}
	_, rec = mustTake(t, s, Source{Dir: zoo}, Options{})
	if rec.Parent != "fw:1" || rec.SharedFiles != rec.Files || rec.SharedBytes != rec.Bytes || rec.Version != "2" {
		t.Errorf("an unchanged folder: record %+v", rec)
	}
}

// TestStreamsOfOtherTars takes the same tree from GNU tar and bsdtar, packed in
// every way, and wants the manifest of the tree itself.
func TestStreamsOfOtherTars(t *testing.T) {
	relkittest.Need(t, "tar", "bsdtar", "zstd", "gzip")
	zoo, s := relkittest.Zoo(t), newStore(t)
	want := manifestOf(t, zoo)
	for name, command := range map[string]string{
		"GNU pax":  "tar --numeric-owner --xattrs --xattrs-include='*' --acls --format=pax -C $ZOO -cf - .",
		"GNU gzip": "tar --numeric-owner --xattrs --xattrs-include='*' --acls --format=pax --sparse -C $ZOO -czf - .",
		"zstd":     "tar --numeric-owner --xattrs --xattrs-include='*' --acls --format=pax -C $ZOO -cf - . | zstd -q",
		"bsdtar":   "bsdtar --numeric-owner --xattrs --acls --format=pax -C $ZOO -cf - .",
	} {
		cmd := exec.Command("sh", "-c", command)
		cmd.Env = append(os.Environ(), "ZOO="+zoo, "LC_ALL=C")
		stream, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		img, _ := mustTake(t, s, Source{Stream: bytes.NewReader(stream)}, Options{})
		for _, line := range diff(t, want, read(t, img.Manifest)) {
			// libarchive writes half a second before 1970 as -1.5.
			if name != "bsdtar" || !strings.HasSuffix(line, " (time)") {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
}

func diff(t testing.TB, a, b string) []string {
	t.Helper()
	open := func(s string) tree.Entries { return tree.ReadManifest(manifest.NewReader(strings.NewReader(s))) }
	var lines []string
	for d, err := range tree.Compare(open(a), open(b)) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, d.String())
	}
	return lines
}

// tarball is a tar of headers in any order, each file holding its own name.
func tarball(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Uid, h.Gid = os.Geteuid(), os.Getegid()
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		content := ""
		if h.Typeflag == tar.TypeReg {
			content = h.Name
			h.Size = int64(len(content))
		}
		_, err := io.WriteString(writeHeader{w, &h}, content)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type writeHeader struct {
	w *tar.Writer
	h *tar.Header
}

func (w writeHeader) Write(b []byte) (int, error) {
	return len(b), errors.Join(w.w.WriteHeader(w.h), func() error { _, err := w.w.Write(b); return err }())
}

func TestUnorderedTar(t *testing.T) {
	s := newStore(t)
	stream := tarball(t,
		tar.Header{Name: "z/deep/file", Typeflag: tar.TypeReg},
		tar.Header{Name: "./b", Typeflag: tar.TypeReg},
		tar.Header{Name: "a", Typeflag: tar.TypeLink, Linkname: "b"},
		tar.Header{Name: "c", Typeflag: tar.TypeLink, Linkname: "a"},
		tar.Header{Name: "z/", Typeflag: tar.TypeDir, Mode: 0o700, ModTime: time.Unix(77, 0)},
	)
	img, rec := mustTake(t, s, Source{Stream: bytes.NewReader(stream)}, Options{})
	if rec.Entries != 7 || rec.Files != 4 {
		t.Errorf("record %+v", rec)
	}
	if got := read(t, filepath.Join(img.Tree, "c")); got != "./b" {
		t.Errorf("c holds %q", got)
	}
	if !strings.Contains(read(t, img.Manifest), "./z type=dir uid=") || !strings.Contains(read(t, img.Manifest), "mode=0700 time=77.000000000\n") {
		t.Errorf("the later word on a folder does not count:\n%s", read(t, img.Manifest))
	}
}

func TestHostileTars(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	file := tar.Header{Name: "a", Typeflag: tar.TypeReg}
	for name, headers := range map[string][]tar.Header{
		"dotdot":          {{Name: "../a", Typeflag: tar.TypeReg}},
		"inner dotdot":    {{Name: "a/../../b", Typeflag: tar.TypeReg}},
		"through symlink": {{Name: "s", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "s/x", Typeflag: tar.TypeReg}},
		"link outside":    {{Name: "a", Typeflag: tar.TypeLink, Linkname: "../../../../etc/passwd"}},
		"link forward":    {{Name: "a", Typeflag: tar.TypeLink, Linkname: "b"}, {Name: "b", Typeflag: tar.TypeReg}},
		"twice":           {file, file},
		"file then dir":   {file, {Name: "a/", Typeflag: tar.TypeDir}},
		"below a file":    {file, {Name: "a/b", Typeflag: tar.TypeReg}},
		"link to a dir":   {{Name: "d/", Typeflag: tar.TypeDir}, {Name: "e", Typeflag: tar.TypeLink, Linkname: "d"}},
		"nothing":         {},
	} {
		s := newStore(t)
		_, _, err := take(t, s, Source{Stream: bytes.NewReader(tarball(t, headers...))}, Options{})
		if err == nil {
			t.Errorf("%s: taken", name)
		}
		if v, _ := s.Versions("fw"); len(v) > 0 {
			t.Errorf("%s: stored as %q", name, v)
		}
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("written outside: %v, %v", left, err)
	}
}

func TestCutStreams(t *testing.T) {
	plain := tarball(t, tar.Header{Name: "a", Typeflag: tar.TypeReg}, tar.Header{Name: "b", Typeflag: tar.TypeReg})
	var zipped, packed bytes.Buffer
	g := gzip.NewWriter(&zipped)
	z, err := archive.Pack(&packed, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []io.WriteCloser{g, z} {
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	flipped := bytes.Clone(zipped.Bytes())
	flipped[len(flipped)-6] ^= 1 // in the checksum
	for name, stream := range map[string][]byte{
		"in a file":        plain[:600],
		"behind a member":  plain[:1024],
		"gzip":             zipped.Bytes()[:zipped.Len()-4],
		"gzip's checksum":  flipped,
		"zstd":             packed.Bytes()[:packed.Len()-2],
		"zstd's checksum":  append(bytes.Clone(packed.Bytes()[:packed.Len()-1]), packed.Bytes()[packed.Len()-1]^1),
		"in the packing":   packed.Bytes()[:20],
		"nothing at all":   {},
		"not a tar at all": []byte(strings.Repeat("hello ", 200)),
	} {
		s := newStore(t)
		_, _, err := take(t, s, Source{Stream: bytes.NewReader(stream)}, Options{})
		trusted := failure.Of(err) != failure.Untrusted
		if err == nil || trusted != strings.HasPrefix(name, "not") {
			t.Errorf("%s: %v", name, err)
		}
		if v, _ := s.Versions("fw"); len(v) > 0 {
			t.Errorf("%s: stored as %q", name, v)
		}
	}
}

// TestStoreInsideTheSource: the store is not part of what is stored in it.
func TestStoreInsideTheSource(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := store.Create(filepath.Join(dir, "srv", "images"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 2 {
		img, _ := mustTake(t, s, Source{Dir: dir}, Options{})
		if got, want := paths(t, img), []string{".", "f", "srv"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestInterrupted: a run that waits for its stream ends when it is told to, and
// leaves nothing.
func TestInterrupted(t *testing.T) {
	st := newStore(t)
	head := tarball(t, tar.Header{Name: "a", Typeflag: tar.TypeReg})[:1024]
	silentPipe, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error)
	go func() {
		_, _, err := Get(ctx, st, Source{Stream: io.MultiReader(bytes.NewReader(head), silentPipe)}, Options{
			Ref: store.Ref{Name: "fw"}, Log: slog.New(slog.DiscardHandler), Progress: silent{}})
		done <- err
	}()
	if _, err := w.Write([]byte{0}); err != nil { // it has come to the pipe
		t.Fatal(err)
	}
	told := errors.New("told to end")
	cancel(told)
	if err := <-done; !errors.Is(err, told) {
		t.Errorf("got %v", err)
	}
	if names, err := st.Names(); err != nil || len(names) > 0 {
		t.Errorf("left: %q, %v", names, err)
	}
	again, _ := mustTake(t, st, Source{Stream: bytes.NewReader(tarball(t, tar.Header{Name: "a", Typeflag: tar.TypeReg}))}, Options{})
	if again.Version != "1" {
		t.Errorf("the next one is %s", again.Ref)
	}
}

func TestExclude(t *testing.T) {
	s := newStore(t)
	stream := tarball(t, tar.Header{Name: "etc/x", Typeflag: tar.TypeReg}, tar.Header{Name: "var/log/a", Typeflag: tar.TypeReg},
		tar.Header{Name: "var/lib/relkit/version.json", Typeflag: tar.TypeReg}, tar.Header{Name: ".relkit/slot", Typeflag: tar.TypeReg},
		tar.Header{Name: "y.tmp", Typeflag: tar.TypeReg}, tar.Header{Name: "z", Typeflag: tar.TypeLink, Linkname: "etc/x"})
	opts := Options{Exclude: []string{"var/log/**", "**/*.tmp"}}
	img, rec := mustTake(t, s, Source{Stream: bytes.NewReader(stream)}, opts)
	if want := []string{".", "etc", "etc/x", "var", "var/lib", "var/log", "z"}; !slices.Equal(paths(t, img), want) {
		t.Errorf("from a stream: got %q, want %q", paths(t, img), want)
	}
	if !slices.Equal(rec.Excluded, opts.Exclude) {
		t.Errorf("record %+v", rec)
	}
	opts.Exclude = []string{"var", "y.*"}
	again, _ := mustTake(t, s, Source{Dir: img.Tree}, opts)
	if want := []string{".", "etc", "etc/x", "z"}; !slices.Equal(paths(t, again), want) {
		t.Errorf("from a folder: got %q, want %q", paths(t, again), want)
	}
	opts.Exclude = []string{"etc/x"}
	if _, _, err := take(t, s, Source{Stream: bytes.NewReader(stream)}, opts); failure.Of(err) != failure.Refused {
		t.Errorf("the content of z is left out: %v", err)
	}
	opts.Exclude = []string{"[a"}
	if _, _, err := take(t, s, Source{Dir: img.Tree}, opts); failure.Of(err) != failure.Usage {
		t.Errorf("a bad pattern: %v", err)
	}
}

func paths(t testing.TB, img store.Image) []string {
	t.Helper()
	var got []string
	for e, err := range tree.ReadManifest(manifest.NewReader(strings.NewReader(read(t, img.Manifest)))) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Path)
	}
	return got
}

func TestResetIdentity(t *testing.T) {
	s := newStore(t)
	stream := tarball(t, tar.Header{Name: "etc/machine-id", Typeflag: tar.TypeReg, Mode: 0o444}, tar.Header{Name: "etc/ssh/ssh_host_rsa_key", Typeflag: tar.TypeReg},
		tar.Header{Name: "etc/ssh/sshd_config", Typeflag: tar.TypeReg}, tar.Header{Name: "var/lib/dhcp/lease", Typeflag: tar.TypeReg},
		tar.Header{Name: "var/lib/dbus/machine-id", Typeflag: tar.TypeSymlink, Linkname: "/etc/machine-id"})
	kept, rec := mustTake(t, s, Source{Stream: bytes.NewReader(stream)}, Options{})
	if rec.Identity != "keep" || rec.Reset != nil || read(t, filepath.Join(kept.Tree, "etc/machine-id")) == "" {
		t.Errorf("kept: %+v", rec)
	}
	img, rec := mustTake(t, s, Source{Dir: kept.Tree}, Options{ResetIdentity: true})
	want := []string{".", "etc", "etc/machine-id", "etc/ssh", "etc/ssh/sshd_config", "var", "var/lib", "var/lib/dbus", "var/lib/dbus/machine-id", "var/lib/dhcp"}
	if got := paths(t, img); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	info, err := os.Stat(filepath.Join(img.Tree, "etc/machine-id"))
	if err != nil || info.Size() != 0 || info.Mode() != 0o444 {
		t.Errorf("etc/machine-id: %v, %v", info, err)
	}
	if want := []string{"etc/machine-id", "etc/ssh/ssh_host_rsa_key", "var/lib/dhcp/lease"}; rec.Identity != "reset" || !slices.Equal(rec.Reset, want) {
		t.Errorf("record %+v", rec)
	}
}

// TestInconsistentStream: an archive that says that a file changed while it was
// read is stored, and the answer is no.
func TestInconsistentStream(t *testing.T) {
	s := newStore(t)
	var b bytes.Buffer
	w := archive.NewWriter(&b)
	err := errors.Join(w.Machine([]byte(`{"schema":"relkit.machine/v1","hostname":"g"}`)),
		w.Write(&manifest.Entry{Path: ".", Kind: manifest.Dir, Mode: 0o755, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}, nil),
		w.Write(&manifest.Entry{Path: "log", Kind: manifest.File, Mode: 0o600, Size: 1, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}, strings.NewReader("x")),
		w.Changed([]byte(`["log"]`)), w.Close())
	if err != nil {
		t.Fatal(err)
	}
	img, rec, err := take(t, s, Source{Stream: &b}, Options{})
	if failure.Of(err) != failure.No || rec == nil || !slices.Equal(rec.Inconsistent, []string{"log"}) {
		t.Fatalf("got %+v, %v", rec, err)
	}
	m, err := s.Machine(img.Ref)
	if err != nil || m.Hostname != "g" {
		t.Errorf("the machine is %+v, %v", m, err)
	}
}
