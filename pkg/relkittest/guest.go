package relkittest

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Guest are two Debian trees, made by scripts/make-vm-guest.sh, with different
// kernels, modules, libc and systemd; each boots to relkit-test.service. They
// belong to the cache: copy them.
type Guest struct {
	Old, New  string
	boot, mbr string
}

// DebianGuest is the guest in the cache. The test is skipped where it is missing,
// and where it does not run as root, who alone can copy it.
func DebianGuest(t testing.TB) Guest {
	t.Helper()
	NeedRoot(t)
	dir := filepath.Join(CacheDir(t), "guest")
	g := Guest{Old: filepath.Join(dir, "old"), New: filepath.Join(dir, "new"), boot: filepath.Join(dir, "core.img"), mbr: filepath.Join(dir, "boot.img")}
	for _, file := range []string{g.Old, g.New, g.boot, g.mbr} {
		if _, err := os.Stat(file); err != nil {
			Skip(t, "no guest at %s (scripts/install-test-deps.sh makes one)", dir)
		}
	}
	return g
}

// guestStart is where the partition of a guest's disk begins, in bytes: the
// track before it is GRUB's.
const guestStart = 1 << 20

// MakeDisk is a raw disk with an MBR, GRUB for a BIOS, and one ext4 partition of
// so many MiB that holds a copy of tree.
func (g Guest) MakeDisk(t testing.TB, tree string, mib int64) string {
	t.Helper()
	Need(t, "mke2fs")
	image := filepath.Join(t.TempDir(), "disk.raw")
	if err := makeSparse(image, guestStart+mib<<20); err != nil {
		t.Fatal(err)
	}
	// The features are those that Debian 12's GRUB reads.
	cmd := exec.Command("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^metadata_csum_seed,^orphan_file", "-E", "offset=1048576,root_owner=0:0", "-d", tree, image, "")
	cmd.Args[len(cmd.Args)-1] = formatMiB(mib)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	mbr, err := os.ReadFile(g.mbr)
	if err != nil {
		t.Fatal(err)
	}
	core, err := os.ReadFile(g.boot)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 512)
	copy(head, mbr[:440])
	binary.LittleEndian.PutUint64(head[0x5c:], 1) // where core.img begins, in sectors
	copy(head[0x66:], []byte{0x90, 0x90})         // whatever drive the BIOS says
	partition := head[446:]
	partition[0], partition[4] = 0x80, 0x83
	binary.LittleEndian.PutUint32(partition[8:], guestStart/512)
	binary.LittleEndian.PutUint32(partition[12:], uint32(mib<<20/512))
	copy(head[510:], []byte{0x55, 0xaa})
	binary.LittleEndian.PutUint64(core[500:], 2) // the second sector of core.img
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(head, core...)); err != nil {
		t.Fatal(err)
	}
	return image
}

// MountDisk mounts the partition of a guest's disk, as MountImage does.
func MountDisk(t testing.TB, image string) (dir string, unmount func()) {
	t.Helper()
	return mountImage(t, "ext4", image, guestStart)
}

// BootDisk starts the machine of a guest's disk, BIOS and GRUB included. The
// script run and the files named go to relkit-test.service, in its folder.
// What the script says is on the console.
func BootDisk(t testing.TB, c VM, run string, files map[string]string) *Machine {
	t.Helper()
	work := filepath.Join(t.TempDir(), "work.tar")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name string, mode int64, data []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	add("run", 0o644, []byte(run))
	for _, name := range sortedKeys(files) {
		data, err := os.ReadFile(files[name])
		if err != nil {
			t.Fatal(err)
		}
		add(name, 0o755, data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(work, append(b.Bytes(), make([]byte, -b.Len()&511)...), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Disks = append(append([]string{}, c.Disks...), work)
	c.fromDisk = true
	return StartVM(t, c)
}

func formatMiB(mib int64) string { return fmt.Sprintf("%dM", mib) }
