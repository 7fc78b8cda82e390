package relkittest

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestCPIO: the real cpio unpacks what ours packs.
func TestCPIO(t *testing.T) {
	Need(t, "cpio")
	from := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(from, "d"), 0755), os.WriteFile(filepath.Join(from, "d", "f"), []byte("content"), 0640),
		os.Symlink("f", filepath.Join(from, "d", "l")))
	var archive bytes.Buffer
	w := newCPIO(&archive)
	w.host("host", from)
	w.file("a/b/c", 0755, []byte("12345"))
	w.symlink("s", "a/b/c")
	must(t, w.close())
	to := t.TempDir()
	cmd := exec.Command("cpio", "-i", "--quiet")
	cmd.Dir, cmd.Stdin = to, bytes.NewReader(archive.Bytes())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	for name, want := range map[string]string{"host/d/f": "content", "host/d/l": "content", "a/b/c": "12345", "s": "12345"} {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if info, err := os.Lstat(filepath.Join(to, "host/d/f")); err != nil || info.Mode() != 0640 {
		t.Errorf("mode: %v, %v", info, err)
	}
	w = newCPIO(&archive)
	w.host("none", filepath.Join(from, "none"))
	if err := w.close(); err == nil {
		t.Error("a missing file is no error")
	}
}

// TestModules: a module comes after all that it depends on, one that is built in
// not at all.
func TestModules(t *testing.T) {
	k := DebianKernel(t)
	order, err := k.load([]string{"ext4", "virtio_blk", "xfs", "virtio_pci"})
	must(t, err)
	at := map[string]int{}
	for i, file := range order {
		at[moduleName(file)] = i + 1
	}
	for _, pair := range [][2]string{{"virtio_ring", "virtio"}, {"virtio_ring", "virtio_blk"}, {"virtio", "virtio_blk"}, {"virtio_ring", "virtio_pci"}, {"libcrc32c", "xfs"}} {
		if at[pair[0]] == 0 || at[pair[0]] > at[pair[1]] {
			t.Errorf("%s does not come before %s in %q", pair[0], pair[1], order)
		}
	}
	if at["ext4"] != 0 {
		t.Error("ext4 is built in, and loaded")
	}
	if _, err := k.load([]string{"no_such_module"}); err == nil || !strings.Contains(err.Error(), "no_such_module") {
		t.Errorf("an unknown module: %v", err)
	}
}

// TestBoot is the one boot of the ordinary tests: files go in, a disk is written,
// files come out, and the machine ends by itself.
func TestBoot(t *testing.T) {
	dir := t.TempDir()
	disk, in := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "in")
	must(t, makeSparse(disk, 8<<20), os.WriteFile(in, []byte("from the host\n"), 0600))
	start := time.Now()
	m := StartVM(t, VM{
		Init: `
cat /in/file
read -r answer
echo "the host says $answer"
echo 'on the disk' >/dev/vda && sync
mkdir /tmp/o && echo "$answer" >/tmp/o/answer && cp /in/file /tmp/o/file && cd /tmp && out o`,
		Files: map[string]string{"/in/file": in},
		Disks: []string{disk},
	})
	m.WaitFor("from the host", time.Minute)
	t.Logf("booted in %v", time.Since(start).Round(100*time.Millisecond))
	m.Send("hello")
	m.WaitFor("the host says hello", time.Minute)
	m.Wait(time.Minute)
	out := m.CopyOut()
	for name, want := range map[string]string{"o/answer": "hello\n", "o/file": "from the host\n"} {
		if got, err := os.ReadFile(filepath.Join(out, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	data, err := os.ReadFile(disk)
	must(t, err)
	if !strings.HasPrefix(string(data), "on the disk\n") {
		t.Errorf("the disk begins with %q", data[:20])
	}
}

// TestBusyBoxIsStatic: a dynamic one would not run in an initrd.
func TestBusyBoxIsStatic(t *testing.T) {
	Need(t, "busybox")
	name, err := exec.LookPath("busybox")
	must(t, err)
	f, err := elf.Open(name)
	must(t, err)
	defer f.Close()
	if f.Section(".interp") != nil {
		t.Errorf("%s is dynamic: install busybox-static", name)
	}
}
