#!/usr/bin/env bash
# Makes the Debian trees that the tests of booting patch one into the other:
# DIR/old and DIR/new, with different versions of the kernel, its modules, libc
# and systemd, and DIR/boot.img and DIR/core.img, GRUB for a disk's first track.
# Each tree boots to relkit-test.service, which runs `run` out of the tar archive
# that the second disk is. As root; about a minute.
set -euo pipefail
dir=${1:?"usage: make-vm-guest.sh DIR"}
[ "$(id -u)" -eq 0 ] || { echo "make-vm-guest: needs root" >&2; exit 1; }

tmp=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp"
old=$tmp/old new=$tmp/new

mapfile -t kernels < <(apt-cache search --names-only '^linux-image-[0-9.]+-[0-9]+-cloud-amd64$' | awk '{ print $1 }' | sort -V | tail -n 2)
[ "${#kernels[@]}" -eq 2 ] || { echo "make-vm-guest: want two versions of the cloud kernel, got: ${kernels[*]:-none}; apt-get update" >&2; exit 1; }
oldkernel=${kernels[0]#linux-image-} newkernel=${kernels[1]#linux-image-}

# shellcheck disable=SC2016 # the dollar belongs to the hook
mmdebstrap --quiet --variant=minbase --mode=root \
    --include="${kernels[0]},initramfs-tools,grub-pc-bin,grub2-common,systemd-sysv,udev,zstd,kmod" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --customize-hook='rm -f "$1"/boot/initrd.img-*' \
    bookworm "$old" >&2

# Only what the virtual machine has a use for, or a patch would take minutes.
prune() { # TREE KERNEL
    local modules=$1/lib/modules/$2/kernel
    find "$modules" -name '*.ko' -not -path '*/virtio/*' -not -name 'virtio*' -not -name 'failover.ko' -not -path '*/nls/*' -not -path '*/fat/*' \
        -not -path '*/crypto/*' -not -path '*/autofs/*' -delete
    find "$modules" -depth -type d -empty -delete
    rm -f "$1/boot/System.map-$2"
    chroot "$1" depmod "$2"
}
initrd() { chroot "$1" update-initramfs -c -k "$2" 2>&1 | grep -v "^update-initramfs: Generating" >&2 || true; }

cat >"$old/etc/systemd/system/relkit-test.service" <<'X'
[Unit]
Description=What a test wants done
DefaultDependencies=no
After=local-fs.target systemd-remount-fs.service systemd-udevd.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'mkdir -p /run/relkit-test && tar -xf /dev/vdb -C /run/relkit-test && cd /run/relkit-test && . ./run'
StandardInput=null
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
[Install]
WantedBy=sysinit.target
X
mkdir -p "$old/etc/systemd/system/sysinit.target.wants"
ln -s ../relkit-test.service "$old/etc/systemd/system/sysinit.target.wants/"
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer getty.target \
    systemd-logind.service systemd-timesyncd.service systemd-networkd-wait-online.service systemd-update-utmp.service \
    systemd-hwdb-update.service systemd-journal-catalog-update.service ldconfig.service systemd-tmpfiles-clean.timer; do
    ln -sf /dev/null "$old/etc/systemd/system/$unit"
done
ln -sf /lib/systemd/system/multi-user.target "$old/etc/systemd/system/default.target"
echo guest >"$old/etc/hostname"
echo 0123456789abcdef0123456789abcdef >"$old/etc/machine-id"
echo "/dev/vda1 / ext4 errors=remount-ro 0 0" >"$old/etc/fstab"
sed -i 's/^MODULES=.*/MODULES=list/' "$old/etc/initramfs-tools/initramfs.conf"
printf 'virtio_pci\nvirtio_blk\n' >>"$old/etc/initramfs-tools/modules"
printf 'GRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX="console=ttyS0 panic=5"\nGRUB_TERMINAL=serial\nGRUB_DISABLE_OS_PROBER=true\n' >"$old/etc/default/grub"
rm -rf "$old"/var/cache/* "$old"/var/lib/apt/lists/* "$old"/var/log/* "$old"/usr/share/{zoneinfo,info,i18n} "$old"/usr/lib/x86_64-linux-gnu/{gconv,perl-base/unicore} \
    "$old/usr/lib/locale" "$old/initrd.img.old" "$old/vmlinuz.old"
mkdir -p "$old/boot/grub"
prune "$old" "$oldkernel"

chroot "$old" grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o /tmp/core.img biosdisk part_msdos ext2 normal linux serial terminal \
    search search_fs_uuid search_fs_file search_label loadenv configfile echo test minicmd reboot halt gzio sleep true regexp
mv "$old/tmp/core.img" "$tmp/core.img"
cp "$old/usr/lib/grub/i386-pc/boot.img" "$tmp/boot.img"
rm -rf "$old/usr/lib/grub/i386-pc"
cp -a "$old" "$new"

other() { # PACKAGE: a version of it that is not installed
    local have
    # shellcheck disable=SC2016 # the dollar belongs to dpkg-query
    have=$(chroot "$old" dpkg-query -W -f '${Version}' "$1")
    apt-cache madison "$1" | awk -F ' *[|] *' -v have="$have" '$2 != have { print $2; exit }'
}
debs=("${kernels[1]}")
for package in libc6 libc-bin systemd udev libsystemd-shared libsystemd0 libudev1; do
    version=$(other "$package")
    [ -z "$version" ] || debs+=("$package=$version")
done
mkdir "$tmp/debs"
(cd "$tmp/debs" && apt-get download -qq "${debs[@]}" 2>/dev/null)
rm -rf "$new/lib/modules/$oldkernel" "$new/boot/"*-"$oldkernel"
for deb in "$tmp"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$new" --keep-directory-symlink --exclude='./usr/share/doc' --exclude='./usr/share/man' \
        --exclude='./usr/share/locale' --exclude='./usr/share/i18n' --exclude='*/gconv'
done
# Where the archive has one version only, a file that is not the same and works alike.
for file in lib/x86_64-linux-gnu/libc.so.6 lib/systemd/systemd; do
    ! cmp -s "$old/$file" "$new/$file" || printf 'relkit' >>"$new/$file"
done
prune "$new" "$newkernel"
initrd "$old" "$oldkernel"
initrd "$new" "$newkernel"
ln -sfn "boot/vmlinuz-$newkernel" "$new/vmlinuz"
ln -sfn "boot/initrd.img-$newkernel" "$new/initrd.img"
rm -rf "$tmp/debs"
for tree in "$old" "$new"; do
    rm -rf "${tree:?}"/dev/* "$tree"/run/* "$tree"/var/cache/* "$tree"/var/log/*
done
# Another run may have been faster.
mv -T "$tmp" "$dir" 2>/dev/null || [ -d "$dir/new" ]
