package patchmake

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/delta"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// write makes a tree from lines: "path/" a folder, "path -> target" a symlink,
// "path = other" a hard link, "path: text" a file; every time is the same.
func write(t *testing.T, dir string, lines ...string) string {
	t.Helper()
	at := time.Unix(1_600_000_000, 0)
	for _, l := range lines {
		var err error
		var name string
		if path, text, ok := strings.Cut(l, ": "); ok {
			name = filepath.Join(dir, path)
			err = os.WriteFile(name, []byte(text), 0o644)
		} else if from, to, ok := strings.Cut(l, " -> "); ok {
			err = os.Symlink(to, filepath.Join(dir, from))
		} else if from, to, ok := strings.Cut(l, " = "); ok {
			err = os.Link(filepath.Join(dir, to), filepath.Join(dir, from))
		} else {
			err = os.MkdirAll(filepath.Join(dir, l), 0o755)
		}
		if err == nil && name != "" {
			err = os.Chtimes(name, at, at)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	settle(t, dir)
	return dir
}

// settle gives all folders and symlinks below dir one time.
func settle(t *testing.T, dir string) {
	t.Helper()
	root, err := fsys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var paths []string
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, path)
			paths = append(paths, rel)
		}
		return err
	})
	for i := len(paths) - 1; i >= 0 && err == nil; i-- {
		err = root.SetModTime(paths[i], manifest.Time{Sec: 1_600_000_000})
	}
	if err != nil {
		t.Fatal(err)
	}
}

type memOutput struct {
	bytes.Buffer
	name string
	done bool
}

func (m *memOutput) Commit() error { m.done = true; return nil }
func (m *memOutput) Abort() error  { return nil }

// run makes a patch in memory.
func run(t *testing.T, o Options) (*Made, []byte, error) {
	t.Helper()
	out := &memOutput{}
	o.Create = func(name string) (Output, error) { out.name = name; return out, nil }
	if o.Created.IsZero() {
		o.Created = time.Unix(1_700_000_000, 0)
	}
	o.Log = slog.New(slog.DiscardHandler)
	o.Scratch = t.TempDir()
	made, err := Make(context.Background(), o)
	if left, _ := os.ReadDir(o.Scratch); len(left) > 0 {
		t.Errorf("%s is left in the scratch folder", left[0].Name())
	}
	if (err == nil) != out.done {
		t.Errorf("error %v, file written: %v", err, out.done)
	}
	if err == nil && made.File != out.name {
		t.Errorf("file %q, created %q", made.File, out.name)
	}
	return made, out.Bytes(), err
}

func mustRun(t *testing.T, o Options) (*Made, *patch.Reader, *patch.Entries, []byte) {
	t.Helper()
	made, b, err := run(t, o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := patch.Open(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := p.Entries()
	if err != nil {
		t.Fatal(err)
	}
	if p.ID() != made.Patch || made.Bytes != int64(len(b)) {
		t.Errorf("made %+v, the file is %s, %d bytes", made, p.ID(), len(b))
	}
	return made, p, entries, b
}

func noise(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// summary writes changes as "-+path content base", one a line.
func summary(e *patch.Entries) string {
	var b strings.Builder
	for i := range e.Changes {
		c := &e.Changes[i]
		if c.Old != nil {
			b.WriteByte('-')
		}
		if c.New != nil {
			b.WriteByte('+')
		}
		b.WriteString(c.Path())
		if c.Content >= 0 {
			b.WriteString(" content")
		}
		if c.Base >= 0 {
			base, _ := e.Base(c.Base)
			b.WriteString(" =" + base.Path)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestEveryChange makes a patch with every sort of change; Make itself applies
// it, compares, rolls back and compares.
func TestEveryChange(t *testing.T) {
	t.Parallel()
	big := noise(1, 100_000)
	old := write(t, t.TempDir(), "bin", "etc", "gone", "gone/x: x", "lib", "turn", "turn/inside: y",
		"bin/app: "+big, "bin/same: same", "etc/a.conf: one\ntwo\n", "etc/mode: m", "lib/lib-1.2.so: "+noise(2, 50_000),
		"link -> bin/app", "h1: linked", "h2 = h1", "h3 = h1", "k1: kept", "k2 = k1", "k3 = k1", "sock: becomes", "bin/moved: "+noise(5, 3000))
	neu := write(t, t.TempDir(), "bin", "etc", "lib", "turn: now a file", "fresh", "fresh/deep", "fresh/deep/f: new file\n", "fresh/empty: ",
		"bin/app: "+big[:50_000]+"changed"+big[50_000:], "bin/same: same", "etc/a.conf: one\nTWO\n", "etc/mode: m", "lib/lib-1.3.so: "+noise(2, 50_000)+"more",
		"link -> bin/same", "h1: linked", "h2 = h1", "h4 = h1", "k1: kept", "k2 = k1", "k3 = k1", "sock -> elsewhere", "fresh/moved: "+noise(5, 3000), "fresh/twin: new file\n")
	if err := os.Chmod(filepath.Join(neu, "etc/mode"), 0o600); err != nil {
		t.Fatal(err)
	}
	made, p, e, b := mustRun(t, Options{Old: old, New: neu, Meta: Meta{Product: "fw", FromVersion: "1:1~rc", ToVersion: "2", ConfigFiles: []string{"/etc/*.conf"}, Expires: "90d"}})
	want := `-+bin/app content
-bin/moved
-+etc/a.conf content
-+etc/mode
+fresh
+fresh/deep
+fresh/deep/f content
+fresh/empty
+fresh/moved =bin/moved
+fresh/twin content
-gone
-gone/x
-+h1
-+h2
-h3
+h4 =h1
-lib/lib-1.2.so
+lib/lib-1.3.so content
-+link
-+sock
-+turn content
-turn/inside
`
	if got := summary(e); got != want {
		t.Errorf("changes:\n%swant:\n%s", got, want)
	}
	if made.File != "fw-1_1_rc-2.rkp" || made.ID != "fw-1_1_rc-2" {
		t.Errorf("file %s, id %s", made.File, made.ID)
	}
	h := p.Header()
	if want := h.Created.Add(90 * 24 * time.Hour); !h.Expires.Equal(want) || h.ConfigFiles[0] != "etc/*.conf" {
		t.Errorf("expires %s, config files %q", h.Expires, h.ConfigFiles)
	}
	if h.Segments[0].Method == delta.Block || h.Segments[0].Output != int64(len("one\nTWO\n")) || h.Segments[1].Method != delta.Block {
		t.Errorf("segments %+v", h.Segments)
	}
	if len(b) > 8000 {
		t.Errorf("%d bytes", len(b))
	}
}

// TestLinkGroups: a name more of a hard-link group lists the group whole.
func TestLinkGroups(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"name more":    {"a: x|b = a", "a: x|b = a|c = a", "-+a\n-+b\n+c =a\n"},
		"name less":    {"a: x|b = a|c = a", "a: x|b = a", "-+a\n-+b\n-c\n"},
		"split":        {"a: x|b = a", "a: x|b: x", "-+a\n-+b\n"},
		"joined":       {"a: x|b: x", "a: x|b = a", "-+a\n-+b\n"},
		"content":      {"a: x|b = a", "a: y|b = a", "-+a content\n-+b content\n"},
		"regrouped":    {"a: x|b = a|c: x|d = c", "a: x|c = a|b: x|d = b", "-+a\n-+b\n-+c\n-+d\n"},
		"untouched":    {"a: x|b = a|z: 1", "a: x|b = a|z: 2", "-+z content\n"},
		"number shift": {"b: x|c = b|z: 1", "a: n|a2 = a|b: x|c = b|z: 1", "+a content\n+a2 content\n"},
	} {
		t.Run(name, func(t *testing.T) {
			old := write(t, t.TempDir(), strings.Split(c.old, "|")...)
			neu := write(t, t.TempDir(), strings.Split(c.new, "|")...)
			_, _, e, _ := mustRun(t, Options{Old: old, New: neu})
			if got := summary(e); got != c.want {
				t.Errorf("changes:\n%swant:\n%s", got, c.want)
			}
		})
	}
}

// TestSameBytes: what is made does not depend on the workers, or on chance.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	var oldLines, newLines []string
	for i := range 40 {
		name := "f" + strings.Repeat("x", i)
		oldLines = append(oldLines, name+": "+noise(uint64(i), 1_000_000))
		newLines = append(newLines, name+": "+noise(uint64(i), 900_000)+noise(99, 1000))
	}
	o := Options{Old: write(t, t.TempDir(), oldLines...), New: write(t, t.TempDir(), newLines...), Level: delta.Fast, Jobs: 1}
	_, p, _, one := mustRun(t, o)
	if len(p.Header().Segments) < 3 {
		t.Errorf("%d segments: the test wants several", len(p.Header().Segments))
	}
	o.Jobs = 4
	if _, _, _, four := mustRun(t, o); !bytes.Equal(one, four) {
		t.Error("another number of workers gave other bytes")
	}
}

// TestLargeFile spans segments, and its base is larger than what one segment is compared with.
func TestLargeFile(t *testing.T) {
	t.Parallel()
	big := noise(3, 70<<20)
	old := write(t, t.TempDir(), "big: "+big)
	neu := write(t, t.TempDir(), "big: head"+big[:40<<20]+big[41<<20:])
	_, p, _, b := mustRun(t, Options{Old: old, New: neu, Level: delta.Fast, Jobs: 2})
	if n := len(p.Header().Segments); n != 5 || len(b) > 20_000 {
		t.Errorf("%d segments, %d bytes", n, len(b))
	}
}

func TestFull(t *testing.T) {
	neu := write(t, t.TempDir(), "bin", "bin/app: "+noise(1, 1000), "bin/twin: "+noise(1, 1000), "bin/link = bin/app", "s -> bin/app", "empty: ")
	made, p, e, _ := mustRun(t, Options{New: neu, Meta: Meta{Product: "fw", ToVersion: "2"}})
	if h := p.Header(); !h.Full || h.From != nil || made.ID != "fw-full-2" || len(e.Bases) != 0 || h.Sizes.NewBytes != 1000 {
		t.Errorf("header %+v", p.Header())
	}
	if got, want := summary(e), "+.\n+bin\n+bin/app content\n+bin/link content\n+bin/twin content\n+empty\n+s\n"; got != want {
		t.Errorf("changes:\n%s", got)
	}
}

func TestRefuses(t *testing.T) {
	key := "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
	id := "0123456789abcdef0123456789abcdef\n"
	base := []string{"etc", "a: 1"}
	with := func(more ...string) string { return write(t, t.TempDir(), append(base, more...)...) }
	old := with()
	for name, c := range map[string]struct {
		o    Options
		kind failure.Kind
		want string
	}{
		"same trees":     {Options{Old: old, New: with()}, failure.Refused, "nothing to patch"},
		"private key":    {Options{Old: old, New: with("etc/key: text\n" + key)}, failure.Refused, `"etc/key" holds a private key`},
		"pem key":        {Options{Old: old, New: with("etc/key: " + strings.ReplaceAll(key, "OPENSSH ", ""))}, failure.Refused, `"etc/key" holds a private key`},
		"machine id":     {Options{Old: old, New: with("etc/machine-id: " + id)}, failure.Refused, `"etc/machine-id" holds a machine id`},
		"no such folder": {Options{Old: old, New: "/nonexistent"}, failure.Usage, "no folder"},
		"no archive":     {Options{Old: filepath.Join(old, "a"), New: old}, failure.Untrusted, "unpacking"},
		"bad id":         {Options{Old: old, New: with("b: 2"), Meta: Meta{ID: "a/b"}}, failure.Usage, "bad id"},
		"bad version":    {Options{Old: old, New: with("b: 2"), Meta: Meta{ToVersion: "a b"}}, failure.Usage, "version"},
		"bad expression": {Options{Old: old, New: with("b: 2"), Meta: Meta{Requires: []string{"fw (4)"}}}, failure.Usage, "requires"},
		"bad reboot":     {Options{Old: old, New: with("b: 2"), Meta: Meta{Reboot: "maybe"}}, failure.Usage, "reboot"},
		"bad expiry":     {Options{Old: old, New: with("b: 2"), Meta: Meta{Expires: "soon"}}, failure.Usage, "expires"},
		"no hook":        {Options{Old: old, New: with("b: 2"), Meta: Meta{Hooks: Hooks{Pre: "/nonexistent"}}}, failure.Usage, "hook"},
		"past expiry":    {Options{Old: old, New: with("b: 2"), Meta: Meta{Expires: "2001-01-01T00:00:00Z"}}, failure.Usage, "expires"},
	} {
		_, _, err := run(t, c.o)
		if failure.Of(err) != c.kind || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v (kind %d), want %q", name, err, failure.Of(err), c.want)
		}
	}
	for name, o := range map[string]Options{
		"allowed":        {Old: old, New: with("etc/key: " + key), Include: []string{"etc/key"}},
		"never":          {Old: old, New: with("etc/key: "+key, "b: 2"), Product: Product{Never: []string{"etc/key"}}},
		"words alone":    {Old: old, New: with("etc/prog: \"-----BEGIN OPENSSH PRIVATE KEY-----\" is what it looks for")},
		"empty id":       {Old: old, New: with("etc/machine-id: ")},
		"unset id":       {Old: old, New: with("etc/machine-id: uninitialized\n")},
		"unchanged key":  {Old: with("k: " + key), New: with("k: "+key, "b: 2")},
		"key is removed": {Old: with("k: " + key), New: with()},
	} {
		if _, _, err := run(t, o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProduct(t *testing.T) {
	old := write(t, t.TempDir(), "opt", "opt/app", "opt/app/bin: 1", "var", "var/log", "var/log/x: old", "home", "home/me: mine")
	neu := write(t, t.TempDir(), "opt", "opt/app", "opt/app/bin: 2", "opt/app/cache", "opt/app/cache/c: c", "var", "var/log", "var/log/x: new", "home", "home/me: changed")
	_, p, e, _ := mustRun(t, Options{Old: old, New: neu, Product: Product{Product: "app", Managed: []string{"opt/app"}, Never: []string{"opt/*/cache"}}})
	if got := summary(e); got != "-+opt/app/bin content\n" {
		t.Errorf("changes:\n%s", got)
	}
	if p.Header().Product != "app" {
		t.Errorf("product %q", p.Header().Product)
	}
}

// TestBuild: a build's folder stands for its artifacts and is named in the patch.
func TestBuild(t *testing.T) {
	builds := filepath.Join(t.TempDir(), "fw")
	for _, n := range []string{"000001", "000002"} {
		dir := filepath.Join(builds, n)
		if err := os.MkdirAll(filepath.Join(dir, "artifacts"), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, dir, "build.json: {}", "artifacts/app: "+n)
	}
	_, p, e, _ := mustRun(t, Options{Old: filepath.Join(builds, "000001"), New: filepath.Join(builds, "000002")})
	if got := summary(e); got != "-+app content\n" {
		t.Errorf("changes:\n%s", got)
	}
	b := p.Header().Builds
	if len(b) != 2 || b[0].Side != "from" || b[0].Build != "fw/000001" || b[1].Build != "fw/000002" {
		t.Errorf("builds %+v", b)
	}
}

// TestZoo has every kind of entry there is, devices and capabilities included as root.
func TestZoo(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	zoo := relkittest.Zoo(t)
	for name, o := range map[string]Options{
		"made":    {Old: empty, New: zoo},
		"removed": {Old: zoo, New: empty},
		"full":    {New: zoo},
	} {
		if _, _, err := run(t, o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	again := filepath.Join(t.TempDir(), "again")
	relkittest.Need(t, "cp")
	if out, err := exec.Command("cp", "-a", zoo, again).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if _, _, err := run(t, Options{Old: zoo, New: again}); failure.Of(err) != failure.Refused {
		t.Errorf("a copy: %v", err)
	}
	for _, change := range []error{
		os.Chmod(filepath.Join(again, "a/x"), 0o700), os.WriteFile(filepath.Join(again, "etc/empty"), []byte("x"), 0o600),
		os.Remove(filepath.Join(again, "sym1")), os.Rename(filepath.Join(again, "sparse"), filepath.Join(again, "etc/sparse")),
	} {
		if change != nil {
			t.Fatal(change)
		}
	}
	if _, _, err := run(t, Options{Old: zoo, New: again}); err != nil {
		t.Error(err)
	}
}

// TestArchive: an archive stands for the tree in it.
func TestArchive(t *testing.T) {
	t.Parallel()
	relkittest.Need(t, "tar", "gzip")
	old := write(t, t.TempDir(), "bin", "bin/app: one", "l -> bin/app", "h = bin/app")
	neu := write(t, t.TempDir(), "bin", "bin/app: two", "l -> bin/app", "h = bin/app")
	_, _, _, want := mustRun(t, Options{Old: old, New: neu})
	file := filepath.Join(t.TempDir(), "new.tar.gz")
	if out, err := exec.Command("tar", "--posix", "--sort=name", "-czf", file, "-C", neu, ".").CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	_, _, _, got := mustRun(t, Options{Old: old, New: file})
	if !bytes.Equal(got, want) {
		t.Error("the archive of a tree gives another patch than the tree")
	}
	b, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, b[:len(b)-20], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(t, Options{Old: old, New: file}); failure.Of(err) != failure.Untrusted {
		t.Errorf("a cut archive: %v", err)
	}
}

// TestCancel leaves nothing behind.
func TestCancel(t *testing.T) {
	old := write(t, t.TempDir(), "a: "+noise(1, 1000))
	neu := write(t, t.TempDir(), "a: "+noise(2, 1000))
	ctx, cancel := context.WithCancel(context.Background())
	scratch, out := t.TempDir(), &memOutput{}
	o := Options{Old: old, New: neu, Scratch: scratch, Log: slog.New(slog.DiscardHandler), Created: time.Unix(1, 0), Progress: cancelAt{cancel, "packing"},
		Create: func(string) (Output, error) { return out, nil }}
	if _, err := Make(ctx, o); !errors.Is(err, context.Canceled) || out.done || out.Len() > 0 {
		t.Errorf("%v, %d bytes written", err, out.Len())
	}
	if left, _ := os.ReadDir(scratch); len(left) > 0 {
		t.Errorf("%s is left", left[0].Name())
	}
}

type cancelAt struct {
	cancel func()
	phase  string
}

func (c cancelAt) Start(_ int64, what string) {
	if what == c.phase {
		c.cancel()
	}
}
func (cancelAt) Add(int64) {}
func (cancelAt) Done()     {}

func TestWithoutNumbers(t *testing.T) {
	for in, want := range map[string]string{
		"lib/modules/6.1.0-50-cloud/x.ko": "lib/modules/0-0-cloud/x.ko", "libfoo.so.1.2.3": "libfoo.so.0", "plain": "plain", "a1.": "a0.", "v10": "v0",
	} {
		if got := withoutNumbers(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
