//go:build vm

package main

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/boot"
)

// bootBox is a machine that patches itself: its two trees, the patch, its disk.
type bootBox struct {
	tool, patch  string
	disk         string
	old, new     string // manifests of what the patch is about
	oldKernel    boot.Kernel
	oldVer, newV string // uname -r
	// kernels are the digests of each tree's kernel with its initrd behind it.
	kernels map[[sha256.Size]byte]bool
}

func newBootBox(t *testing.T) *bootBox {
	t.Helper()
	b := &bootBox{tool: buildTool(t)}
	guest := relkittest.DebianGuest(t)
	old, next := guestTree(t, b.tool, guest.Old, "grub"), guestTree(t, b.tool, guest.New, "none")
	dir := t.TempDir()
	b.patch = filepath.Join(dir, "p.rkp")
	product := filepath.Join(dir, "product.toml")
	if err := os.WriteFile(product, []byte("managed = [\"usr/**\", \"boot/**\", \"vmlinuz\", \"initrd.img\"]\nnever = [\"boot/grub\", \"boot/grub/**\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(b.tool, "patch-make", old, next, "--product", "guest", "--from-version", "1", "--to-version", "2",
		"--product-file", product, "--level", "fast", "--reboot", "required", "--scratch", dir, "-o", b.patch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("patch-make: %v\n%s", err, out)
	}
	b.old, b.new = managedOf(t, old), managedOf(t, next)
	b.oldKernel = kernelOf(t, old)
	b.oldVer = strings.TrimPrefix(b.oldKernel.Image, "boot/vmlinuz-")
	b.newV = strings.TrimPrefix(kernelOf(t, next).Image, "boot/vmlinuz-")
	b.kernels = map[[sha256.Size]byte]bool{}
	for _, tree := range []string{old, next} {
		k := kernelOf(t, tree)
		var pair []byte
		for _, name := range []string{k.Image, k.Initrd} {
			data, err := os.ReadFile(filepath.Join(tree, name))
			if err != nil {
				t.Fatal(err)
			}
			pair = append(pair, data...)
		}
		b.kernels[sha256.Sum256(pair)] = true
	}
	b.disk = guest.MakeDisk(t, old, guestMiB)
	return b
}

// managedOf is the manifest of what the patch is about; the guest's own traces
// (the cache of ld.so, logs) are left out.
func managedOf(t *testing.T, dir string) string {
	t.Helper()
	var kept []string
	for line := range strings.Lines(manifestOf(t, dir)) {
		if (strings.HasPrefix(line, "./usr/") || strings.HasPrefix(line, "./boot/")) && !strings.HasPrefix(line, "./boot/grub") {
			kept = append(kept, line)
		}
	}
	if len(kept) < 1000 {
		t.Fatalf("only %d entries in %s", len(kept), dir)
	}
	return strings.Join(kept, "")
}

// bootSteps is what the guest does at each of its boots: apply, confirm, take
// back, one a boot, as far as `last` says.
const bootSteps = `
relkit=/var/lib/relkit/boot/relkit
entry=$(sed 's/.*relkit.boot=/entry /; t; s/.*/entry rest/' /proc/cmdline)
libc=$(/lib64/ld-linux-x86-64.so.2 --version | sed -n '1s/.*GLIBC \([^)]*\).*/\1/p')
systemd=$(systemctl --version | sed -n '1s/.*(\(.*\)).*/\1/p')
done=$(cat /var/lib/relkit-test 2>/dev/null || echo none)
echo "relkit-guest: up $(uname -r) $entry libc $libc systemd $systemd after $done"
step() {
	echo "$1" >/var/lib/relkit-test
	sync
	echo "relkit-guest: $1"
	[ "$1" != "$last" ] || poweroff -f
	reboot -f
}
case $done in
none) $relkit patch-apply -q --insecure-unsigned p.rkp && step staged ;;
staged) $relkit boot; $relkit patch-apply --confirm && step confirmed ;;
confirmed) $relkit boot; $relkit patch-rollback && step withdrawn ;;
withdrawn) $relkit boot; $relkit patch-apply --confirm || :; step rolled-back ;;
esac
echo "relkit-guest: failed at $done"
poweroff -f
`

// run boots the guest until it has done its step last.
func (b *bootBox) run(t *testing.T, last string) string {
	t.Helper()
	m := relkittest.BootDisk(t, relkittest.VM{Disks: []string{b.disk}, Memory: 768}, "last="+last+"\n"+bootSteps, map[string]string{"p.rkp": b.patch})
	m.WaitFor("relkit-guest: "+last+"\r\n", guestTime)
	m.WaitOff(guestTime)
	return m.Console()
}

// holds compares the tree on the disk.
func (b *bootBox) holds(t *testing.T, want string) {
	t.Helper()
	withGuest(t, b.disk, b.oldKernel.Image, func(dir string, _ *boot.Setup) {
		if got := managedOf(t, dir); got != want {
			t.Errorf("the tree is another one: %s", firstDifference(want, got))
		}
	})
}

func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return "want " + a[i] + "\ngot  " + b[i]
		}
	}
	return "one is longer"
}

// TestVMBootPatch: a Debian machine patches its own kernel, modules, libc and
// systemd, reboots into them, confirms, and takes it all back.
func TestVMBootPatch(t *testing.T) {
	b := newBootBox(t)
	console := b.run(t, "confirmed")
	for _, want := range []string{"up " + b.oldVer + " entry rest", "up " + b.newV + " entry test"} {
		if !strings.Contains(console, want) {
			t.Errorf("no %q on the console:\n%s", want, console)
		}
	}
	b.holds(t, b.new)
	console = b.run(t, "rolled-back")
	if !strings.Contains(console, "up "+b.oldVer+" entry ") {
		t.Errorf("the old kernel is not back; console:\n%s", console)
	}
	b.holds(t, b.old)
}
