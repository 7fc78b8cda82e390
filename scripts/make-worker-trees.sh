#!/usr/bin/env bash
# Makes the roots of the machines that the tests of workers log in to, and an
# emulator: DIR/bookworm and DIR/trixie, Debian 12 with gcc and Debian 13 with
# clang, which both compile for x86_64 and aarch64 and emulate the latter; DIR/arm64, Debian 12 of
# aarch64, unpacked and not set up; DIR/qemu-aarch64-static. Each root has an
# sshd. As root; about two minutes, 1.1 GB.
set -euo pipefail
dir=${1:?"usage: make-worker-trees.sh DIR"}
[ "$(id -u)" -eq 0 ] || { echo "make-worker-trees: needs root" >&2; exit 1; }

tmp=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp"

# First, as it tells at once where the lists of packages are old.
mkdir "$tmp/qemu"
(cd "$tmp/qemu" && apt-get download -qq qemu-user-static 2>/dev/null && dpkg-deb --fsys-tarfile ./*.deb | tar -x ./usr/bin/qemu-aarch64-static)
mv "$tmp/qemu/usr/bin/qemu-aarch64-static" "$tmp/"
rm -rf "$tmp/qemu"

debian() { # SUITE TREE OPTION…
    local suite=$1 tree=$2
    shift 2
    mmdebstrap --quiet --mode=root "$@" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
        "$suite" "$tree" >&2
    rm -rf "$tree"/var/cache/* "$tree"/var/lib/apt/lists/* "$tree"/var/log/* "$tree"/etc/ssh/ssh_host_*
    # What is mounted over, also where nothing is set up.
    mkdir -p "$tree"/{proc,dev,run,root,tmp}
}

debian bookworm "$tmp/bookworm" --variant=minbase --include=make,gcc,libc6-dev,gcc-aarch64-linux-gnu,libc6-dev-arm64-cross,openssh-server
debian trixie "$tmp/trixie" --variant=minbase \
    --include=make,clang,libc6-dev,libc6-dev-arm64-cross,libgcc-14-dev-arm64-cross,binutils-aarch64-linux-gnu,openssh-server
debian bookworm "$tmp/arm64" --variant=extract --arch=arm64 --include=dash,coreutils,findutils,grep,sed,tar,libc-bin,openssh-server
printf 'root:x:0:0::/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n' >"$tmp/arm64/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$tmp/arm64/etc/group"

# qemu-user-static has emulators of all machines: one is enough.
cp "$tmp/qemu-aarch64-static" "$tmp/bookworm/usr/bin/"
cp "$tmp/qemu-aarch64-static" "$tmp/trixie/usr/bin/"
# Another run may have been faster.
mv -T "$tmp" "$dir" 2>/dev/null || [ -d "$dir/arm64" ]
