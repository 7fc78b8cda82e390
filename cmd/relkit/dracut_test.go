package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// dracutScript installs the hook into a Debian with dracut, $guest below $dracut,
// by the tool $relkit, and unpacks into $image the initramfs that dracut made of
// it. It runs in a mount namespace of its own: nothing of it stays.
const dracutScript = `
set -e
mount -t tmpfs tmpfs "$work"
cd "$work"
mkdir upper index m
mount -t overlay overlay -o "lowerdir=$dracut:$guest,upperdir=upper,workdir=index" m
mount --rbind /dev m/dev
mount -t proc proc m/proc
mount -t tmpfs tmpfs m/var/tmp
rm -f m/boot/initrd* m/usr/sbin/update-initramfs
# Small and quick: the modules that the hook is about, and no drivers.
cat >m/etc/dracut.conf.d/test.conf <<'EOF'
dracutmodules=" base relkit "
hostonly=no
no_kernel=yes
compress=cat
EOF
"$relkit" boot --install --root m --loader none
"$relkit" boot --json --root m >"$image/status.json"
cd "$image"
cpio -idm --quiet <"$(ls "$work"/m/boot/initrd*)"
# A boot: dracut's init sources the hook with the root mounted at /sysroot.
mkdir -p sysroot
mount --bind "$work/m" sysroot
mount --rbind /dev dev
cat >sysroot/var/lib/relkit/boot/relkit <<'EOF'
#!/bin/sh
echo "$@" >/sysroot/ran
exit 1
EOF
chroot . /bin/sh -c 'NEWROOT=/sysroot; for f in /lib/dracut/hooks/pre-pivot/*relkit*; do . "$f"; done; echo goes on' >went
cp sysroot/ran ran
`

// TestBootDracut: what relkit boot --install writes for dracut, dracut takes: its
// initramfs has the hook, dracut's init runs it with the root mounted and before
// it is left for the root's own init, it calls the relkit of that root, and goes
// on booting whatever that says.
func TestBootDracut(t *testing.T) {
	relkittest.Need(t, "unshare", "cpio")
	guest, dracut, image := relkittest.DebianGuest(t), relkittest.DracutTree(t), t.TempDir()
	cmd := exec.Command("unshare", "--mount", "sh", "-c", dracutScript)
	cmd.Env = append(os.Environ(), "guest="+guest.New, "dracut="+dracut, "image="+image, "work="+t.TempDir(), "relkit="+buildTool(t))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "\ndracut none\n") {
		t.Errorf("dracut was not found out: %s", out)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(image, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	hooks, err := filepath.Glob(filepath.Join(image, "lib/dracut/hooks/*/*relkit*"))
	if err != nil || len(hooks) != 1 || !strings.HasSuffix(hooks[0], "/pre-pivot/80-relkit-boot.sh") {
		t.Fatalf("hooks %q, %v", hooks, err)
	}
	if info, err := os.Stat(hooks[0]); err != nil || info.Mode().Perm()&0o111 == 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	last := -1
	for _, step := range []string{"\nsource_hook pre-mount", "\nsource_hook pre-pivot", `exec "$SWITCH_ROOT" "$NEWROOT"`} {
		at := strings.Index(read("init"), step)
		if at <= last {
			t.Errorf("init: %q at %d, what comes before it at %d", step, at, last)
		}
		last = at
	}
	if got, want := read("ran"), "boot --run --root /sysroot --state /sysroot/var/lib/relkit\n"; got != want {
		t.Errorf("the hook ran relkit %q, want %q", got, want)
	}
	if read("went") != "goes on\n" {
		t.Errorf("the boot did not go on: %q", read("went"))
	}
	if s := read("status.json"); !strings.Contains(s, `"ready": true`) {
		t.Errorf("relkit does not find its hook in dracut's initramfs: %s", s)
	}
}
