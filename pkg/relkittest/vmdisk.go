package relkittest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// fileSystem is how one kind is made and checked. The check must find nothing to
// mend: a journal is replayed by mounting, before it.
type fileSystem struct {
	mkfs, check []string // the image is appended
}

var fileSystems = map[string]fileSystem{
	"ext4":  {[]string{"mkfs.ext4", "-q", "-F", "-b", "4096"}, []string{"e2fsck", "-f", "-n"}},
	"xfs":   {[]string{"mkfs.xfs", "-q", "-f"}, []string{"xfs_repair", "-n"}},
	"btrfs": {[]string{"mkfs.btrfs", "-q", "-f"}, []string{"btrfs", "check", "--readonly"}},
}

// MakeImage is a raw disk image that holds an empty file system (ext4, xfs or
// btrfs) of so many MiB; xfs wants 300 at least.
func MakeImage(t testing.TB, kind string, mib int64) string {
	t.Helper()
	fs, known := fileSystems[kind]
	if !known {
		t.Fatalf("no file system %q here", kind)
	}
	image := filepath.Join(t.TempDir(), kind+".raw")
	if err := makeSparse(image, mib<<20); err != nil {
		t.Fatal(err)
	}
	runOn(t, fs.mkfs, image)
	return image
}

// MountImage mounts an image by a loop device, which replays its journal, and
// returns the folder. It is unmounted by the function returned, at the latest
// when the test ends. It needs root.
func MountImage(t testing.TB, kind, image string) (dir string, unmount func()) {
	t.Helper()
	return mountImage(t, kind, image, 0)
}

func mountImage(t testing.TB, kind, image string, offset int64) (dir string, unmount func()) {
	t.Helper()
	NeedRoot(t)
	Need(t, "mount", "umount")
	dir = t.TempDir()
	if out, err := exec.Command("mount", "-o", fmt.Sprintf("loop,offset=%d", offset), "-t", kind, image, dir).CombinedOutput(); err != nil {
		t.Fatalf("mounting %s image: %v\n%s", kind, err, out)
	}
	mounted := true
	unmount = func() {
		if !mounted {
			return
		}
		mounted = false
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("unmounting: %v\n%s", err, out)
		}
	}
	t.Cleanup(unmount)
	return dir, unmount
}

// CheckImage fails the test where the file system's own checker finds a fault.
func CheckImage(t testing.TB, kind, image string) {
	t.Helper()
	runOn(t, fileSystems[kind].check, image)
}

func runOn(t testing.TB, command []string, image string) {
	t.Helper()
	Need(t, command[0])
	args := append(append([]string{}, command[1:]...), image)
	if out, err := exec.Command(command[0], args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command[0], err, out)
	}
}

// StaticTest is the test binary of the package whose test calls it, built so that
// it runs in a VM. Tags are build tags.
func StaticTest(t testing.TB, tags string) string {
	t.Helper()
	return build(t, "go", "test", "-c", "-tags", tags)
}

// StaticProgram is a main package, named by its import path, built to run in a VM.
func StaticProgram(t testing.TB, pkg string) string {
	t.Helper()
	return build(t, "go", "build", "-trimpath", pkg)
}

// build runs a go command with -o put in.
func build(t testing.TB, command ...string) string {
	t.Helper()
	Need(t, command[0])
	file := filepath.Join(t.TempDir(), "program")
	args := append([]string{command[1], "-o", file}, command[2:]...)
	cmd := exec.Command(command[0], args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return file
}
