package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

func open(t testing.TB, dir string) fsys.FS {
	t.Helper()
	fs, err := fsys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Close() })
	return fs
}

// manifestOf is the manifest of a folder.
func manifestOf(t testing.TB, dir string, opts Options) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := WriteManifest(&b, Capture(t.Context(), open(t, dir), opts)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func paths(t testing.TB, entries Entries) []string {
	t.Helper()
	var got []string
	for e, err := range entries {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Path)
	}
	return got
}

func files(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCaptureIsCanonicalAndRepeatable(t *testing.T) {
	zoo := relkittest.Zoo(t)
	first := manifestOf(t, zoo, Options{Jobs: 1})
	if again := manifestOf(t, zoo, Options{Jobs: 8}); again != first {
		t.Errorf("with 1 job:\n%s\nwith 8:\n%s", first, again)
	}
	entries, err := manifest.Decode(strings.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	byPath := map[string]manifest.Entry{}
	for _, e := range entries {
		byPath[e.Path] = e
	}
	x := byPath["a/x"]
	if want := digest.Of([]byte(strings.Repeat("block of text\n", 1<<14))); x.Digest != want || x.Size != 14<<14 {
		t.Errorf("a/x: got %s, %d bytes", x.Digest, x.Size)
	}
	if x.Link == 0 || byPath["a/y"].Link != x.Link || byPath["z-linked"].Link != x.Link {
		t.Error("the three names of a/x are not one group")
	}
	if l := byPath["sym1"].Link; l == 0 || l == x.Link || byPath["sym2"].Link != l {
		t.Error("the two names of the symlink are not a group of their own")
	}
}

// TestBsdtarPacksByManifest lets bsdtar read the tree by our manifest: it finds
// each file by its name and takes owner, mode and time from us.
func TestBsdtarPacksByManifest(t *testing.T) {
	relkittest.Need(t, "bsdtar", "tar")
	zoo := relkittest.Zoo(t)
	file := filepath.Join(t.TempDir(), "manifest.mtree")
	text := manifestOf(t, zoo, Options{})
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tarball := filepath.Join(t.TempDir(), "zoo.tar")
	cmd := exec.Command("bsdtar", "--format=pax", "-cf", tarball, "@"+file)
	cmd.Dir, cmd.Env = zoo, append(os.Environ(), "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("bsdtar: %v\n%s", err, out)
	}
	// mtree has no word for hard links or attributes: those fall away.
	into := t.TempDir()
	cmd = exec.Command("tar", "-C", into, "--delay-directory-restore", "--numeric-owner", "-xpf", tarball)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	for d, err := range Compare(Capture(t.Context(), open(t, zoo), Options{}), Capture(t.Context(), open(t, into), Options{})) {
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range d.Fields {
			// libarchive and GNU tar disagree on half a second before 1970.
			early := f == "time" && d.Old.ModTime.Sec < 0
			if f != "hardlink" && !early && !strings.HasPrefix(f, "xattr:") {
				t.Error(d)
			}
		}
		if d.Old == nil || d.New == nil {
			t.Error(d)
		}
	}
}

func TestRestoreIsExact(t *testing.T) {
	zoo := relkittest.Zoo(t)
	into := t.TempDir()
	src := open(t, zoo)
	wrote := 0
	err := Restore(t.Context(), open(t, into), Source(src, Capture(t.Context(), src, Options{})),
		RestoreOptions{Wrote: func(*Item) error { wrote++; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	want := manifestOf(t, zoo, Options{})
	if got := manifestOf(t, into, Options{}); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if n := strings.Count(want, " type="); wrote != n {
		t.Errorf("heard of %d entries, want %d", wrote, n)
	}
}

// TestRestoreUnderDefaultACL restores below a folder whose default ACL every
// new name would inherit.
func TestRestoreUnderDefaultACL(t *testing.T) {
	zoo := relkittest.Zoo(t)
	into := filepath.Join(zoo, "etc", "into") // etc has a default ACL
	if err := errors.Join(os.Mkdir(into, 0o700), os.Chmod(into, 0o700)); err != nil {
		t.Fatal(err)
	}
	from := files(t, "f", "d/g")
	src := open(t, from)
	if err := Restore(t.Context(), open(t, into), Source(src, Capture(t.Context(), src, Options{})), RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, want := manifestOf(t, into, Options{}), manifestOf(t, from, Options{}); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestCopyIsExact(t *testing.T) {
	zoo, into := relkittest.Zoo(t), t.TempDir()
	if err := Copy(t.Context(), into, zoo, Options{}); err != nil {
		t.Fatal(err)
	}
	if got, want := manifestOf(t, into, Options{}), manifestOf(t, zoo, Options{}); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestCaptureLeavesOut(t *testing.T) {
	dir := files(t, "a", "etc/x", ".relkit/slot", "sub/.relkit/kept", "var/lib/relkit/version.json", "var/lib/x", "skip/y", "skipped")
	if err := syscall.Mkfifo(filepath.Join(dir, "f"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mknod(filepath.Join(dir, "sock"), syscall.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	// The slots of a folder that is bound elsewhere.
	if err := os.MkdirAll(filepath.Join(dir, "etc/.relkit/0123456789abcdef/1"), 0o700); err != nil {
		t.Fatal(err)
	}
	var notes []string
	opts := Options{
		Skip: func(path string, kind manifest.Kind) bool {
			return path == "skip" && kind == manifest.Dir || path == "skipped"
		},
		Note: func(path, why string) { notes = append(notes, path+": "+why) },
	}
	got := paths(t, Capture(t.Context(), open(t, dir), opts))
	want := []string{".", "a", "etc", "etc/x", "f", "sub", "sub/.relkit", "sub/.relkit/kept", "var", "var/lib", "var/lib/x"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := []string{"sock: a socket cannot be kept"}; !slices.Equal(notes, want) {
		t.Errorf("notes: got %q, want %q", notes, want)
	}
	opts = Options{State: "etc"}
	if got := paths(t, Walk(t.Context(), open(t, dir), opts)); slices.Contains(got, "etc") || !slices.Contains(got, "var/lib/relkit") {
		t.Errorf("with the state in etc: %q", got)
	}
}

// TestCaptureOfMounts walks a root whose folders are other file systems by the
// device numbers they show.
func TestCaptureOfMounts(t *testing.T) {
	dir := files(t, "boot/.relkit/slot", "boot/kernel", "dev/null", "mnt/nfs", "tmp/x", "proc/1")
	fs := mounted{open(t, dir), map[string]uint64{"boot": 1, "dev": 2, "mnt": 3, "tmp": 4, "proc": 5}}
	types := map[uint64]string{1: "ext4", 2: "devtmpfs", 3: "nfs4", 4: "tmpfs"}
	opts := Options{FSType: func(dev uint64) string { return types[dev] }}
	got := paths(t, Walk(t.Context(), fs, opts))
	if want := []string{".", "boot", "boot/kernel", "dev", "mnt", "proc", "tmp"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	opts.OneFileSystem = true
	got = paths(t, Walk(t.Context(), fs, opts))
	if want := []string{".", "boot", "dev", "mnt", "proc", "tmp"}; !slices.Equal(got, want) {
		t.Errorf("one file system: got %q, want %q", got, want)
	}
}

// mounted shows some top folders, and what they hold, on devices of their own.
type mounted struct {
	fsys.FS
	devs map[string]uint64
}

func (m mounted) Lstat(name string) (fsys.Info, error) {
	info, err := m.FS.Lstat(name)
	top, _, _ := strings.Cut(name, "/")
	if dev, ok := m.devs[top]; ok {
		info.Dev = dev
	}
	return info, err
}

func TestParseMountTypes(t *testing.T) {
	const info = `22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
23 22 0:21 / /proc rw,nosuid shared:12 master:3 - proc proc rw
bad line
`
	got := parseMountTypes(strings.NewReader(info))
	if len(got) != 2 || got[254<<8|1] != "ext4" || got[21] != "proc" {
		t.Errorf("got %v", got)
	}
	if got := MountTypes()(1 << 60); got != "" {
		t.Errorf("an unknown device is %q", got)
	}
}

// TestCaptureOfAChangingFile has a file move under each read.
func TestCaptureOfAChangingFile(t *testing.T) {
	dir := files(t, "busy", "still")
	fs := &changing{FS: open(t, dir), path: filepath.Join(dir, "busy"), times: 1}
	if got := paths(t, Capture(t.Context(), fs, Options{})); len(got) != 3 {
		t.Errorf("a file that changes once is read again: got %q", got)
	}
	fs.times = 100
	var changed []string
	got := paths(t, Capture(t.Context(), fs, Options{Changed: func(path string) { changed = append(changed, path) }}))
	if len(got) != 3 || !slices.Equal(changed, []string{"busy"}) {
		t.Errorf("got %q, changed %q", got, changed)
	}
	var err error
	for _, err = range Capture(t.Context(), fs, Options{}) {
	}
	if failure.Of(err) != failure.No {
		t.Errorf("without Changed: %v", err)
	}
}

type changing struct {
	fsys.FS
	path  string
	times int
}

func (c *changing) Open(name string) (fsys.File, error) {
	f, err := c.FS.Open(name)
	if name == "busy" && err == nil {
		f = &changingFile{f, c}
	}
	return f, err
}

type changingFile struct {
	fsys.File
	c *changing
}

func (f *changingFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	if n > 0 && f.c.times > 0 {
		f.c.times--
		w, werr := os.OpenFile(f.c.path, os.O_APPEND|os.O_WRONLY, 0)
		if werr != nil {
			return n, werr
		}
		fmt.Fprintln(w, "more")
		w.Close()
	}
	return n, err
}

func TestCaptureStopsEarly(t *testing.T) {
	dir := files(t, strings.Split(strings.Repeat("x/", 20)+"y", " ")...)
	before := runtime.NumGoroutine()
	for range Capture(t.Context(), open(t, dir), Options{Jobs: 4}) {
		break
	}
	// One that has said that it is done takes a moment to be gone.
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var last error
	for _, err := range Capture(ctx, open(t, dir), Options{}) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("cancelled: %v", last)
	}
}

func TestRestoreRefuses(t *testing.T) {
	d := digest.Of([]byte("good"))
	content := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("evil")), nil }
	dot := &Item{Entry: &manifest.Entry{Path: ".", Kind: manifest.Dir, Mode: 0o755, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}}
	link := &Item{Entry: &manifest.Entry{Path: "out", Kind: manifest.Symlink, Mode: 0o777, Target: "/etc", UID: dot.UID, GID: dot.GID}}
	for name, it := range map[string]*Item{
		"parent":          {Entry: &manifest.Entry{Path: "../x", Kind: manifest.Dir}},
		"absolute":        {Entry: &manifest.Entry{Path: "/x", Kind: manifest.Dir}},
		"through symlink": {Entry: &manifest.Entry{Path: "out/x", Kind: manifest.File}, Content: content},
		"folder symlink":  {Entry: &manifest.Entry{Path: "out", Kind: manifest.Dir}},
		"digest":          {Entry: &manifest.Entry{Path: "x", Kind: manifest.File, Size: 4, Digest: d}, Content: content},
		"link out":        {Entry: &manifest.Entry{Path: "x", Kind: manifest.File}, LinkTo: "../../etc/passwd"},
		"link thru":       {Entry: &manifest.Entry{Path: "x", Kind: manifest.File}, LinkTo: "out/passwd"},
		"socket":          {Entry: &manifest.Entry{Path: "x", Kind: manifest.Socket}},
		"no content":      {Entry: &manifest.Entry{Path: "x", Kind: manifest.File}},
	} {
		err := Restore(t.Context(), open(t, t.TempDir()), items(dot, link, it), RestoreOptions{NoSync: true})
		if err == nil {
			t.Errorf("%s: restored", name)
		}
	}
}

func items(all ...*Item) Items {
	return func(yield func(*Item, error) bool) {
		for _, it := range all {
			if !yield(it, nil) {
				return
			}
		}
	}
}

// TestRestoreLeavesHoles: what is zeros takes no room, and reads as zeros.
func TestRestoreLeavesHoles(t *testing.T) {
	dir, into := t.TempDir(), t.TempDir()
	content := make([]byte, 20<<20+17)
	for _, at := range []int{0, 9 << 20, 9<<20 + 70000, 15<<20 - 1} {
		copy(content[at:], "data")
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "only zeros"), content[4:1<<20], 0o600); err != nil {
		t.Fatal(err)
	}
	src := open(t, dir)
	if err := Restore(t.Context(), open(t, into), Source(src, Capture(t.Context(), src, Options{})), RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, want := manifestOf(t, into, Options{}), manifestOf(t, dir, Options{}); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	again := t.TempDir()
	if err := Copy(t.Context(), again, into, Options{}); err != nil {
		t.Fatal(err)
	}
	if got, want := manifestOf(t, again, Options{}), manifestOf(t, dir, Options{}); got != want {
		t.Errorf("copied:\n%s\nwant:\n%s", got, want)
	}
	for _, dir := range []string{into, again} {
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(dir, "f"), &st); err != nil || st.Blocks*512 > 1<<20 {
			t.Errorf("%d bytes on the disk, %v", st.Blocks*512, err)
		}
	}
}

// TestRestoreOfCutContent: a stream that ends within a file is an error, not a
// shorter file.
func TestRestoreOfCutContent(t *testing.T) {
	for _, n := range []int{10, 3 << 20} {
		for _, end := range []error{io.ErrUnexpectedEOF, io.EOF, errors.New("broken")} {
			content := func() (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, n)), iotest.ErrReader(end))), nil
			}
			it := &Item{Entry: &manifest.Entry{Path: "f", Kind: manifest.File, Size: int64(n) + 1,
				UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}, Content: content}
			err := Restore(t.Context(), open(t, t.TempDir()), items(it), RestoreOptions{})
			if err == nil || end != io.EOF && !errors.Is(err, end) {
				t.Errorf("%d bytes and then %v: %v", n, end, err)
			}
		}
	}
}

func TestRestoreSharesEqualFiles(t *testing.T) {
	dir := files(t, "src/small", "src/other")
	big := bytes.Repeat([]byte("0123456789abcdef"), smallFile/8) // 2 MiB
	if err := os.WriteFile(filepath.Join(dir, "src/big"), big, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "old"), os.DirFS(filepath.Join(dir, "src"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "new"), 0o755); err != nil {
		t.Fatal(err)
	}
	fs, src := open(t, dir), open(t, filepath.Join(dir, "src"))
	same := func(e *manifest.Entry) string {
		if e.Path == "other" {
			return ""
		}
		return "old/" + e.Path
	}
	err := Restore(t.Context(), fs, Source(src, Walk(t.Context(), src, Options{})), RestoreOptions{Into: "new", Same: same})
	if err != nil {
		t.Fatal(err)
	}
	for name, shared := range map[string]bool{"small": true, "big": true, "other": false} {
		a, err1 := fs.Lstat("old/" + name)
		b, err2 := fs.Lstat("new/" + name)
		if err1 != nil || err2 != nil || a.SameInode(b) != shared {
			t.Errorf("%s: one inode: %v, want %v (%v, %v)", name, a.SameInode(b), shared, err1, err2)
		}
	}
}

func TestCompare(t *testing.T) {
	f := func(path string, link int) manifest.Entry {
		return manifest.Entry{Path: path, Kind: manifest.File, Mode: 0o644, Link: link}
	}
	dot := manifest.Entry{Path: ".", Kind: manifest.Dir}
	// Group 1 of the first tree is gone; its group 2 is the second tree's group 1.
	a := []manifest.Entry{dot, f("a", 1), f("b", 1), f("c", 2), f("d", 2), f("e", 0), f("g", 3), f("h", 3)}
	b := []manifest.Entry{dot, f("c", 1), f("d", 1), f("e", 0), f("f", 0), f("g", 0), f("h", 0)}
	b[3].Mode, b[3].Xattrs = 0o600, []manifest.Xattr{{Name: "user.a"}}
	var got []string
	for d, err := range Compare(list(a), list(b)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, d.String())
	}
	want := []string{"- a", "- b", "M e (mode, xattr:user.a)", "+ f", "M g (hardlink)", "M h (hardlink)"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	boom := errors.New("boom")
	for _, err := range Compare(list(a), func(yield func(*manifest.Entry, error) bool) { yield(nil, boom) }) {
		if err != boom {
			t.Errorf("got %v", err)
		}
	}
}

func list(all []manifest.Entry) Entries {
	return func(yield func(*manifest.Entry, error) bool) {
		for i := range all {
			if !yield(&all[i], nil) {
				return
			}
		}
	}
}
