//go:build vm

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/boot"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// guestMiB is the size of a guest's file system: two trees and three kernels.
const guestMiB = 640

// guestTime bounds a boot, or several that fail, on a busy machine.
const guestTime = 20 * time.Minute

// guestArgs are the kernel's arguments in a guest.
const guestArgs = "root=/dev/vda1 ro console=ttyS0 quiet panic=1"

// guestTree is a copy of a guest's tree, in a folder that goes with the test,
// with relkit's hook in its initramfs; GRUB boots it where loader is grub.
func guestTree(t *testing.T, tool, from, loader string) string {
	t.Helper()
	tree := filepath.Join(t.TempDir(), "tree")
	must := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	must("cp", "-a", from, tree)
	if loader == "grub" {
		kernel := kernelOf(t, tree)
		menu := fmt.Sprintf(`serial --speed=115200
terminal_output serial
terminal_input serial
set timeout=0
menuentry "Debian" {
  linux /%s %s
  initrd /%s
}
source $prefix/relkit.cfg
`, kernel.Image, guestArgs, kernel.Initrd)
		if err := os.WriteFile(filepath.Join(tree, "boot/grub/grub.cfg"), []byte(menu), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must(tool, "boot", "--install", "-q", "--root", tree, "--method", "initramfs-tools", "--loader", loader)
	// mke2fs -d copies times to the second.
	must("find", tree, "-depth", "-exec", "touch", "-h", "-d", "2026-01-01 00:00:00Z", "{}", "+")
	return tree
}

func kernelOf(t *testing.T, tree string) boot.Kernel {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(tree, "boot", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i] = "boot/" + filepath.Base(all[i])
	}
	k, ok := boot.ChooseKernel(all)
	if !ok {
		t.Fatalf("no kernel in %s", tree)
	}
	return k
}

// withGuest mounts a guest's disk and opens how it boots, while it runs that kernel.
func withGuest(t *testing.T, disk, running string, do func(dir string, s *boot.Setup)) {
	t.Helper()
	dir, unmount := relkittest.MountDisk(t, disk)
	defer unmount()
	root, err := fsys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s, err := boot.Open(root, boot.Options{Dir: dir, State: "var/lib/relkit", Cmdline: "BOOT_IMAGE=/" + running + " " + guestArgs})
	if err != nil {
		t.Fatal(err)
	}
	do(dir, s)
}

// guestSays is a script for the guest: the kernel, its entry, and off.
const guestSays = `
echo "relkit-guest: up $(uname -r) $(sed 's/.*relkit.boot=/entry /; t; s/.*/entry rest/' /proc/cmdline)"
sync
poweroff -f
`

// TestVMKernelPanic: a new kernel that panics is tried as often as was said, by
// GRUB's own count, then the old one boots, and after that the menu is the
// distribution's again.
func TestVMKernelPanic(t *testing.T) {
	tool := buildTool(t)
	guest := relkittest.DebianGuest(t)
	tree := guestTree(t, tool, guest.Old, "grub")
	disk := guest.MakeDisk(t, tree, guestMiB)
	old := kernelOf(t, tree)

	bad := boot.Kernel{Image: "boot/vmlinuz-9.9-bad", Initrd: "boot/initrd.img-9.9-bad"}
	// An initrd that only looks as if: the kernel finds no init in it and no disk for its root.
	script := `cd "$1" && cp "$2" "$3" && mkdir -p tmp/x/scripts/local-bottom && cd tmp/x && : >scripts/local-bottom/relkit &&
find . | cpio -o -H newc --quiet >"$1/$4" && rm -r "$1/tmp/x"`
	relkittest.Need(t, "cpio")
	withGuest(t, disk, old.Image, func(dir string, s *boot.Setup) {
		if out, err := exec.Command("sh", "-c", script, "sh", dir, old.Image, bad.Image, bad.Initrd).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := s.Switch(bad, bad, 3); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, bad.Image)); err != nil {
			t.Fatal(err)
		}
	})

	m := relkittest.BootDisk(t, relkittest.VM{Disks: []string{disk}}, guestSays, nil)
	version := strings.TrimPrefix(filepath.Base(old.Image), "vmlinuz-")
	m.WaitFor("relkit-guest: up "+version+" entry good", guestTime)
	m.Kill()
	if n := strings.Count(m.Console(), "Kernel panic"); n != 3 {
		t.Errorf("%d panics, want 3; console:\n%s", n, m.Console())
	}
	withGuest(t, disk, old.Image, func(_ string, s *boot.Setup) {
		if st, err := s.State(); err != nil || st.Chosen != boot.Rest {
			t.Errorf("got %+v, %v; want the boot loader at rest", st, err)
		}
	})
	m = relkittest.BootDisk(t, relkittest.VM{Disks: []string{disk}}, guestSays, nil)
	m.WaitFor("relkit-guest: up "+version+" entry rest", guestTime)
}
