package golden

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/archive"
	"github.com/relkit/relkit/pkg/format/machine"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/tree"
)

type silent struct{}

func (silent) Start(int64, string) {}
func (silent) Add(int64)           {}
func (silent) Done()               {}

func options(root string) Options {
	return Options{Root: root, Log: slog.New(slog.DiscardHandler), Progress: silent{}, Jobs: 2}
}

func stream(t testing.TB, opts Options) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(t.Context(), &b, opts); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(t testing.TB, dir string) fsys.FS {
	t.Helper()
	fs, err := fsys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Close() })
	return fs
}

// TestGNUTarRestoresIt: what prepareclient writes, plain tar and zstd restore to
// the very same tree, ACLs, attributes, hard links and all.
func TestGNUTarRestoresIt(t *testing.T) {
	relkittest.Need(t, "tar", "zstd")
	zoo, into := relkittest.Zoo(t), t.TempDir()
	file := filepath.Join(t.TempDir(), "zoo.tar.zst")
	if err := os.WriteFile(file, stream(t, options(zoo)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tar", "--zstd", "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*", "--exclude=.relkit",
		"-C", into, "-xpf", file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	entries := func(dir string) tree.Entries { return tree.Capture(t.Context(), open(t, dir), tree.Options{}) }
	for d, err := range tree.Compare(entries(zoo), entries(into)) {
		t.Errorf("%v %v", d, err)
	}
}

func TestTwoStreamsAreAlike(t *testing.T) {
	zoo := relkittest.Zoo(t)
	a, err := io.ReadAll(unpack(t, stream(t, options(zoo))))
	if err != nil {
		t.Fatal(err)
	}
	opts := options(zoo)
	opts.Jobs = 1
	if b, err := io.ReadAll(unpack(t, stream(t, opts))); err != nil || !bytes.Equal(a, b) {
		t.Errorf("%d and %d bytes, %v", len(a), len(b), err)
	}
}

func unpack(t testing.TB, b []byte) io.Reader {
	t.Helper()
	r, err := archive.Unpack(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// members reads the paths of a stream to its end.
func members(t testing.TB, b []byte) ([]string, archive.Members) {
	t.Helper()
	m := archive.Any(bufio.NewReader(unpack(t, b)))
	var paths []string
	for {
		it, err := m.Next()
		if err == io.EOF {
			return paths, m
		}
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, it.Entry.Path)
	}
}

func tree1(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestWriteLeavesOut(t *testing.T) {
	dir := tree1(t, map[string]string{"etc/hostname": "golden\n", "var/log/x": "", "var/lib/relkit/s": "", ".relkit/slot": "", "a.tmp": ""})
	opts := options(dir)
	opts.Exclude = []string{"var/log/**", "*.tmp"}
	paths, m := members(t, stream(t, opts))
	if want := []string{".", "etc", "etc/hostname", "var", "var/lib", "var/log"}; !slices.Equal(paths, want) {
		t.Errorf("got %q, want %q", paths, want)
	}
	if d, err := machine.Decode(m.Machine()); err != nil || d.Hostname != "golden" || d.Disks != nil {
		t.Errorf("the description is %+v, %v", d, err)
	}
	opts.Exclude = []string{"a//b"}
	if err := Write(t.Context(), io.Discard, opts); failure.Of(err) != failure.Usage {
		t.Errorf("a bad pattern: %v", err)
	}
}

// TestChangingFiles has files grow while they are read: a small one is read
// again, one that never holds still is listed, and the stream is whole.
func TestChangingFiles(t *testing.T) {
	dir := tree1(t, map[string]string{"busy": "b", "once": "o", "still": "s"})
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, smallFile+5000), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	opts := options(dir)
	s := &sender{opts: &opts, out: archive.NewWriter(&b), buf: make([]byte, smallFile+1),
		root: &changing{FS: open(t, dir), dir: dir, times: map[string]int{"busy": 100, "once": 1, "large": 100}}}
	if err := s.tree(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if want := []string{"busy", "large"}; !slices.Equal(s.changed, want) {
		t.Errorf("changed: got %q, want %q", s.changed, want)
	}
	r := archive.NewReader(&b)
	for {
		it, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if it.Entry.Path == "once" {
			if got, err := io.ReadAll(it.Content); err != nil || string(got) != "omore" {
				t.Errorf("once holds %q, %v", got, err)
			}
		}
	}
	if string(r.Changed()) != `["busy","large"]` {
		t.Errorf("the stream lists %s", r.Changed())
	}
}

// changing is a file system whose files grow at their first read after each Open.
type changing struct {
	fsys.FS
	dir   string
	times map[string]int
}

func (c *changing) Open(name string) (fsys.File, error) {
	f, err := c.FS.Open(name)
	if err == nil && c.times[name] > 0 {
		c.times[name]--
		f = &growing{File: f, path: filepath.Join(c.dir, name)}
	}
	return f, err
}

type growing struct {
	fsys.File
	path string
	done bool
}

func (g *growing) Read(b []byte) (int, error) {
	if !g.done {
		g.done = true
		f, err := os.OpenFile(g.path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		if _, err := io.WriteString(f, "more"); err != nil {
			return 0, err
		}
	}
	return g.File.Read(b)
}

func TestDescribeTree(t *testing.T) {
	dir := tree1(t, map[string]string{
		"etc/hostname": "golden\n", "usr/lib/os-release": "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME='Debian \"12\"'\n# x\n",
		"lib/modules/6.1.0-9/modules.dep": "", "etc/fstab": "/dev/sda1 / ext4 ro 0 1\n",
		// The start of an ELF header: 64 bits, little endian, a program for aarch64.
		"usr/bin/sh": "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\xb7\x00",
	})
	// os-release is usually a symlink; an absolute one must not lead to this host's.
	if err := os.Symlink("/etc/os-release", filepath.Join(dir, "etc/os-release")); err != nil {
		t.Fatal(err)
	}
	m, err := Describe(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Encode()
	want := `{"schema":"relkit.machine/v1","hostname":"golden","arch":"aarch64","kernel":{"installed":["6.1.0-9"]},` +
		`"distribution":{"id":"debian","version_id":"12","name":"Debian \"12\""},"fstab":[{"spec":"/dev/sda1","file":"/","type":"ext4","options":"ro","freq":0,"pass":1}]}` + "\n"
	if err != nil || string(b) != want {
		t.Errorf("got  %s (%v)\nwant %s", b, err, want)
	}
	if _, err := Describe(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("no such tree, and no error")
	}
}

func TestDescribeEmptyTree(t *testing.T) {
	m, err := Describe(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Unreadable) != 2 || m.Distribution != nil || m.Fstab != nil {
		t.Errorf("got %+v", m)
	}
}

// TestDescribeThisMachine reads the one that runs the test.
func TestDescribeThisMachine(t *testing.T) {
	relkittest.Need(t, "uname")
	m, err := Describe("/")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("uname", "-mr").Output()
	if want := m.Kernel.Release + " " + m.Arch; err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("uname says %q, we %q", out, want)
	}
	if b, err := m.Encode(); err != nil {
		t.Error(err)
	} else if _, err := machine.Decode(b); err != nil {
		t.Error(err)
	}
}

func TestRunningMachine(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	d := describer{m: &machine.Machine{}, fs: fstest.MapFS{
		"sys/class/net/lo/type": file("772\n"), "sys/class/net/br0/type": file("1\n"), "sys/class/net/br0/mtu": file("9000\n"),
		"sys/class/net/eth0/type": file("1\n"), "sys/class/net/eth0/address": file("52:54:00:00:00:01\n"), "sys/class/net/eth0/device/x": file(""),
		"sys/firmware/efi/x": file(""), "sys/class/dmi/id/sys_vendor": file("ACME\n"), "sys/class/dmi/id/product_name": file("Box 9\n"),
		"proc/meminfo": file("MemTotal:       2048 kB\nMemFree: 1 kB\n"), "proc/device-tree/compatible": file("acme,box\x00acme,any\x00"),
	}}
	d.running()
	m := d.m
	if len(m.Network) != 2 || m.Network[0] != (machine.Interface{Name: "br0", MTU: 9000, Virtual: true}) ||
		m.Network[1] != (machine.Interface{Name: "eth0", MAC: "52:54:00:00:00:01"}) {
		t.Errorf("network: %+v", m.Network)
	}
	h := m.Hardware
	if m.Firmware != "uefi" || h.Vendor != "ACME" || h.Product != "Box 9" || h.MemoryBytes != 2<<20 || !slices.Equal(h.Compatible, []string{"acme,box", "acme,any"}) {
		t.Errorf("hardware: %q, %+v", m.Firmware, h)
	}
	// No sys/block and no proc/self/mounts there.
	if len(m.Unreadable) != 2 {
		t.Errorf("unreadable: %q", m.Unreadable)
	}
}
