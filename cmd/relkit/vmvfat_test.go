//go:build vm

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/relkittest"
)

// TestVMBootOnVFAT has a machine with /boot on vfat patched, killed at every third
// step, mounted anew, where inodes get other numbers, and recovered: what is on it is
// old or new each time. Names that differ in case are refused.
func TestVMBootOnVFAT(t *testing.T) {
	dir, tool := t.TempDir(), buildTool(t)
	cmd := exec.Command("sh", "-ec", `
mkdir -p old/bin old/boot/EFI/debian old/boot/gone/deep old/var/lib
echo one >old/bin/fw; echo k1 >old/boot/vmlinuz-1; echo cfg1 >old/boot/grub.cfg; echo g >old/boot/gone/g; echo d >old/boot/gone/deep/d
echo grub1 >old/boot/EFI/debian/grubx64.efi; echo t >old/boot/turn; chmod 600 old/boot/grub.cfg; setfattr -n user.a -v b old/boot/turn
find old -exec touch -h -d '2026-01-01 00:00:01.123456789Z' {} +
cp -a old new
echo two >new/bin/fw; mv new/boot/vmlinuz-1 new/boot/vmlinuz-2; head -c 300000 /dev/urandom >new/boot/vmlinuz-2; echo cfg2 >new/boot/grub.cfg
rm -r new/boot/gone; echo grub2 >new/boot/EFI/debian/grubx64.efi; rm new/boot/turn; mkdir -m 700 new/boot/turn; echo in >new/boot/turn/in; chown 7:8 new/boot/grub.cfg
cp -a old case; echo x >case/boot/NEW; echo y >case/boot/new; echo z >case/boot/GRUB.CFG; ln -s grub.cfg case/boot/link
"$0" patch-make old new --product fw --from-version 1 --to-version 2 -o p.rkp
"$0" patch-make old case --product fw --from-version 1 --to-version 2 -o case.rkp
for v in old new; do (cd $v && find bin boot -type f | sort | xargs sha256sum) >sums.$v; done
rm -rf case
`, tool)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	vfat := filepath.Join(dir, "vfat.raw")
	if err := os.WriteFile(vfat, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(vfat, 64<<20); err != nil {
		t.Fatal(err)
	}
	m := relkittest.StartVM(t, relkittest.VM{
		Init: `
die() { echo "FAILED: $*"; exit 1; }
mount -t ext4 /dev/vda /mnt || die mount
mkdosfs /dev/vdb >/dev/null || die mkdosfs
cp -a /in/old /mnt/m; rm -rf /mnt/m/boot/*
boot() { mount -t vfat -o umask=022 /dev/vdb /mnt/m/boot || die mounting /boot; }
boot
cp -r /in/old/boot/. /mnt/m/boot/
state() {
	(cd /mnt/m && find bin boot -path '*/.relkit' -prune -o -type f -print | sort | xargs sha256sum) >/tmp/got
	if cmp -s /tmp/got /in/sums.old; then is=old; elif cmp -s /tmp/got /in/sums.new; then is=new; else cat /tmp/got; die "neither old nor new: $1"; fi
}
state "at first"; [ $is = old ] || die "not the old one"
relkit patch-apply -q --root /mnt/m --insecure-unsigned /in/case.rkp 2>/tmp/said; [ $? = 4 ] || die "case pairs: $(cat /tmp/said)"
cat /tmp/said
relkit patch-apply --dry-run --root /mnt/m --insecure-unsigned /in/p.rkp || die dry run
kills=0 k=1
while :; do
	RELKIT_CRASH_AT=$k relkit patch-apply -q --root /mnt/m --insecure-unsigned /in/p.rkp >/dev/null; status=$?
	[ $status = 0 ] && break
	[ $status = 137 ] || die "step $k: status $status"
	umount /mnt/m/boot && boot
	relkit patch-apply -q --root /mnt/m --recover >/dev/null || die "recovering from step $k"
	state "step $k"
	[ $is = old ] || relkit patch-rollback -q --root /mnt/m >/dev/null || die "step $k: rollback"
	kills=$((kills + 1)) k=$((k + 3))
done
state applied; [ $is = new ] || die "not applied"
umount /mnt/m/boot && boot
relkit patch-rollback -q --root /mnt/m >/dev/null || die rollback
state "rolled back"; [ $is = old ] || die "not rolled back"
umount /mnt/m/boot
echo "all is well after $kills kills"`,
		Files: map[string]string{"/bin/relkit": tool, "/in": dir}, Disks: []string{relkittest.MakeImage(t, "ext4", 64), vfat},
		Modules: []string{"vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1"},
	})
	m.WaitFor("all is well", 10*time.Minute)
	m.Wait(time.Minute)
}
