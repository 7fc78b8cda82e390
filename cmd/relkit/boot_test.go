package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// bootMachine is a tree that GRUB boots, and a patch that brings another kernel.
type bootMachine struct {
	t         *testing.T
	dir, tool string
	old, new  string
}

func newBootMachine(t *testing.T, tool string) *bootMachine {
	t.Helper()
	relkittest.Need(t, "cpio")
	b := &bootMachine{t: t, dir: t.TempDir(), tool: tool}
	b.shell(`
umask 022
mkdir -p m/boot/grub m/usr hook/scripts/local-bottom
: >hook/scripts/local-bottom/relkit
initrd() { echo "$1" >hook/version; (cd hook && find . | sort | cpio -o -H newc --quiet) >"$2"; }
echo kernel-1 >m/boot/vmlinuz-1; initrd 1 m/boot/initrd.img-1; echo libc-1 >m/usr/libc
cp -a m n; rm n/boot/*-1
echo kernel-2 >n/boot/vmlinuz-2; initrd 2 n/boot/initrd.img-2; echo libc-2 >n/usr/libc
printf 'linux /boot/vmlinuz-1 ro\ninitrd /boot/initrd.img-1\nsource $prefix/relkit.cfg\n' >m/boot/grub/grub.cfg
echo 'never = ["boot/grub", "boot/grub/**"]' >product.toml
`)
	b.relkit("", 0, "patch-make", "m", "n", "--product", "fw", "--from-version", "1", "--to-version", "2", "--product-file", "product.toml", "-o", "p.rkp")
	b.relkit("", 0, "boot", "--install", "--root", "m", "--method", "init", "--loader", "grub")
	b.old, b.new = b.tree(), "boot/initrd.img-2 boot/vmlinuz-2 libc-2"
	return b
}

func (b *bootMachine) shell(script string) string {
	b.t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = b.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// tree is the tree in short.
func (b *bootMachine) tree() string {
	b.t.Helper()
	return b.shell(`cd m && echo boot/*-[12] "$(cat usr/libc)"`)
}

// relkit runs the tool on a machine that runs entry, or none that is told.
func (b *bootMachine) relkit(entry string, status int, args ...string) string {
	b.t.Helper()
	cmd := exec.Command(b.tool, args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "RELKIT_CMDLINE=BOOT_IMAGE=/boot/vmlinuz-1 ro init=/var/lib/relkit/boot/relkit-init relkit.boot="+entry)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() != status {
		b.t.Fatalf("%v: %v\n%s%s", args, err, out, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// boots is a boot by entry: the tree, what the boot loader does next, and whether
// the machine is to reboot at once.
func (b *bootMachine) boots(entry, tree, next string, reboot bool) {
	b.t.Helper()
	out := b.relkit(entry, 0, "boot", "--run", "--root", "m")
	if got := b.tree(); got != tree || (out == "reboot") != reboot {
		b.t.Errorf("booted %s: the tree is %q, want %q; said %q", entry, got, tree, out)
	}
	b.next(next)
}

func (b *bootMachine) next(want string) {
	b.t.Helper()
	env, err := os.ReadFile(filepath.Join(b.dir, "m/boot/grub/relkit/grubenv"))
	if err != nil || !strings.Contains(string(env), "relkit_boot="+want+"\n") {
		b.t.Errorf("next is not %s: %v\n%.100s", want, err, env)
	}
}

func (b *bootMachine) apply() {
	b.t.Helper()
	b.relkit("rest", 0, "patch-apply", "--root", "m", "--at-boot", "--insecure-unsigned", "p.rkp")
	if got := b.tree(); got != b.old {
		b.t.Errorf("the tree has changed before the boot: %q", got)
	}
	b.next("test")
}

// TestBootKernel: a patch with a kernel of its own, through its boots.
func TestBootKernel(t *testing.T) {
	tool := buildTool(t)
	t.Run("confirmed and taken back", func(t *testing.T) {
		b := newBootMachine(t, tool)
		b.apply()
		b.boots("test", b.new, "test", false)
		b.boots("test", b.new, "test", false)
		b.relkit("test", 0, "patch-apply", "--root", "m", "--confirm")
		b.next("keep") // grub.cfg, which nobody makes anew here, does not have it
		b.boots("test", b.new, "keep", false)
		b.relkit("test", 0, "patch-rollback", "--root", "m", "--at-boot")
		b.next("test")
		b.boots("test", b.old, "rest", false)
		b.boots("rest", b.old, "rest", false)
	})
	t.Run("its rollback given up", func(t *testing.T) {
		b := newBootMachine(t, tool)
		b.apply()
		b.boots("test", b.new, "test", false)
		b.relkit("test", 0, "patch-apply", "--root", "m", "--confirm")
		b.relkit("test", 0, "patch-rollback", "--root", "m", "--at-boot")
		b.next("test")
		b.relkit("test", 0, "patch-apply", "--root", "m", "--unstage")
		b.next("keep") // which is what booted the kernel that runs
		b.boots("test", b.new, "keep", false)
	})
	t.Run("not confirmed, and the boot loader cannot be told", func(t *testing.T) {
		b := newBootMachine(t, tool)
		b.apply()
		b.boots("test", b.new, "test", false)
		b.shell("cp m/boot/grub/relkit/grubenv kept && head -c 1000 kept >m/boot/grub/relkit/grubenv")
		b.relkit("test", 0, "patch-rollback", "--root", "m", "--at-boot")
		b.shell("cp kept m/boot/grub/relkit/grubenv")
		b.boots("test", b.old, "good", true)
		b.boots("good", b.old, "rest", false)
	})
	t.Run("refused at the boot", func(t *testing.T) {
		b := newBootMachine(t, tool)
		b.apply()
		b.shell(`mkdir -p m/var/lib/relkit && echo rubbish >m/var/lib/relkit/version.json`)
		b.boots("test", b.old, "good", true)
		b.boots("good", b.old, "rest", false)
	})
	t.Run("fallen back before the commit", func(t *testing.T) {
		b := newBootMachine(t, tool)
		b.apply()
		b.boots("good", b.old, "rest", false)
		b.boots("rest", b.old, "rest", false)
		b.apply() // it can be tried again
	})
	t.Run("fallen back after the commit", func(t *testing.T) {
		b := newBootMachine(t, tool)
		b.apply()
		b.boots("test", b.new, "test", false)
		b.boots("good", b.old, "rest", false)
	})
	t.Run("another entry chosen by hand", func(t *testing.T) {
		b := newBootMachine(t, tool)
		b.apply()
		b.boots("rest", b.old, "test", false)
		b.boots("test", b.new, "test", false)
	})
	t.Run("taken back instead of confirmed", func(t *testing.T) {
		b := newBootMachine(t, tool)
		b.apply()
		b.boots("test", b.new, "test", false)
		b.relkit("test", 0, "patch-rollback", "--root", "m", "--at-boot")
		b.next("good")
		b.boots("good", b.old, "rest", false)
	})
	t.Run("given up", func(t *testing.T) {
		b := newBootMachine(t, tool)
		b.apply()
		b.relkit("rest", 0, "patch-apply", "--root", "m", "--unstage")
		b.next("rest")
		b.boots("rest", b.old, "rest", false)
	})
	t.Run("cut between the switch and its record", func(t *testing.T) {
		b := newBootMachine(t, tool)
		b.apply()
		b.shell(`cd m/var/lib/relkit/transactions/000001 && grep -v '"armed"' journal >j && cat j >journal`)
		b.boots("test", b.old, "good", true)
		b.boots("good", b.old, "rest", false)
	})
	t.Run("no hook in the new initrd", func(t *testing.T) {
		b := newBootMachine(t, tool)
		b.shell(`rm n/boot/initrd.img-2; echo none | (cd n && cpio -o -H newc --quiet 2>/dev/null) >n/boot/initrd.img-2 || :; (cd hook/scripts && find . -name nothing | cpio -o -H newc --quiet) >n/boot/initrd.img-2`)
		b.relkit("", 0, "patch-make", "m", "n", "--product", "fw", "--from-version", "1", "--to-version", "2", "--product-file", "product.toml", "-o", "p.rkp")
		b.relkit("rest", 4, "patch-apply", "--root", "m", "--at-boot", "--insecure-unsigned", "p.rkp")
		b.next("rest")
	})
}
