#!/usr/bin/env bash
# Installs what the tests need on Debian 12 with Go: packages, as root or through
# sudo; and go-mtree, dracut, a kernel for virtual machines, the roots of workers
# and the source of other projects, which are put into $RELKIT_TEST_CACHE
# (~/.cache/relkit-test) and not installed.
# Says nothing and takes no time where all is there.
set -euo pipefail

cache=${RELKIT_TEST_CACHE:-$HOME/.cache/relkit-test}
PATH=$PATH:/usr/sbin:/sbin # where mkfs and its kin are, out of a user's way

# A tool, or a file that must exist, and the Debian package that has it.
needs="
aiosmtpd            python3-aiosmtpd
ant                 ant
bats                bats
bsdtar              libarchive-tools
btrfs               btrfs-progs
busybox             busybox-static
cmake               cmake
cpio                cpio
curl                curl
diffoscope          diffoscope-minimal
disorderfs          disorderfs
e2fsck              e2fsprogs
faketime            faketime
fish                fish
fw_printenv         libubootenv-tool
g++                 g++
gcc                 gcc
git                 git
git-lfs             git-lfs
hg                  mercurial
svn                 subversion
javac               openjdk-17-jdk-headless
ksh                 ksh
make                make
mandoc              mandoc
mkfs.btrfs          btrfs-progs
mkfs.ext4           e2fsprogs
mkfs.xfs            xfsprogs
mmdebstrap          mmdebstrap
mount               mount
mvn                 maven
node                nodejs
perl                perl
prove               perl
pytest-3            python3-pytest
qemu-system-x86_64  qemu-system-x86
rsync               rsync
setfacl             acl
setfattr            attr
setpriv             util-linux
shellcheck          shellcheck
srun                slurm-client
slurmctld           slurmctld
slurmd              slurmd
munged              munge
ccache              ccache
distcc              distcc
ssh-keygen          openssh-client
sshd                openssh-server
tcsh                tcsh
/lib/systemd/systemd-journald systemd
systemd-analyze     systemd
zsh                 zsh
zstd                zstd
/usr/include/gtest/gtest.h libgtest-dev
/usr/include/stdio.h libc6-dev
/usr/share/ant/lib/ant-junit4.jar ant-optional
/usr/share/java/commons-lang3.jar libcommons-lang3-java
/usr/share/java/junit4.jar junit4
/usr/share/maven-repo/org/apache/maven/plugins/maven-surefire-plugin libsurefire-java
/usr/src/googletest/CMakeLists.txt googletest
/usr/share/seabios/bios-256k.bin seabios
"

missing() { # prints the packages whose tool is not there
    local tool package
    while read -r tool package; do
        case $tool in
        "") ;;
        /*) [ -e "$tool" ] || echo "$package" ;;
        *) command -v "$tool" >/dev/null || echo "$package" ;;
        esac
    done <<<"$needs" | sort -u
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "install-test-deps: neither root nor sudo; as root: apt-get install ${packages[*]}" >&2
        exit 1
    fi
}

mapfile -t packages < <(missing)
if [ "${#packages[@]}" -gt 0 ]; then
    echo "install-test-deps: installing ${packages[*]}" >&2
    as_root apt-get update -qq
    # The tests start the servers themselves, with settings of their own.
    policy=/usr/sbin/policy-rc.d made=
    if [ ! -e $policy ]; then
        made=$policy
        trap 'as_root rm -f "$made"' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod 755 $policy
    fi
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null >/dev/null
    trap - EXIT
    [ -z "$made" ] || as_root rm -f "$made"
    mapfile -t packages < <(missing)
    if [ "${#packages[@]}" -gt 0 ]; then
        echo "install-test-deps: installed, and still without the tools of ${packages[*]}" >&2
        exit 1
    fi
fi

# go-mtree, which reads our manifests too; Debian 12 has no package of it.
gomtree=github.com/vbatts/go-mtree/cmd/gomtree@v0.7.0
if [ ! -x "$cache/bin/gomtree" ]; then
    echo "install-test-deps: installing $gomtree into $cache/bin" >&2
    mkdir -p "$cache/bin"
    GOBIN=$(cd "$cache/bin" && pwd) go install "$gomtree"
fi

# The package linux-image-cloud-amd64 only depends on the kernel of the day.
fetch_kernel() { # DIR: unpacks vmlinuz and lib/modules into it
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }')
    [ -n "$package" ] || return 1
    (cd "$1" && apt-get download -qq "$package" 2>/dev/null && dpkg-deb -x ./*.deb deb &&
        mv deb/boot/vmlinuz-* vmlinuz && mv deb/lib lib && rm -rf deb ./*.deb)
}

if [ "$(dpkg --print-architecture)" = amd64 ] && [ ! -e "$cache/kernel/vmlinuz" ]; then
    echo "install-test-deps: fetching a kernel for virtual machines into $cache" >&2
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/kernel.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    chmod 755 "$new"
    fetch_kernel "$new" || { # without lists of packages, or with old ones
        as_root apt-get update -qq
        fetch_kernel "$new"
    }
    # Another run may have been faster.
    mv -T "$new" "$cache/kernel" 2>/dev/null || [ -e "$cache/kernel/vmlinuz" ]
fi

# dracut, which cannot be installed beside initramfs-tools, unpacked over a tree
# of its own: /lib is a link there.
fetch_dracut() { # DIR
    (cd "$1" && apt-get download -qq dracut-core 2>/dev/null && dpkg-deb -x ./*.deb . &&
        cp -a lib/. usr/lib/ && rm -rf lib ./*.deb)
}

if [ ! -d "$cache/dracut" ]; then
    echo "install-test-deps: fetching dracut into $cache" >&2
    mkdir -p "$cache"
    newdracut=$(mktemp -d "$cache/dracut.XXXXXX")
    trap 'rm -rf "${new:-}" "$newdracut"' EXIT
    chmod 755 "$newdracut"
    fetch_dracut "$newdracut" || {
        as_root apt-get update -qq
        fetch_dracut "$newdracut"
    }
    mv -T "$newdracut" "$cache/dracut" 2>/dev/null || [ -d "$cache/dracut" ]
fi

# The Debian trees that boot themselves in virtual machines; only root can make them.
if [ "$(dpkg --print-architecture)" = amd64 ] && [ "$(id -u)" -eq 0 ] && [ ! -d "$cache/guest/new" ]; then
    echo "install-test-deps: making a guest for virtual machines in $cache, which takes a minute" >&2
    "$(dirname "$0")/make-vm-guest.sh" "$(cd "$cache" && pwd)/guest" || { # with old lists of packages
        apt-get update -qq
        "$(dirname "$0")/make-vm-guest.sh" "$(cd "$cache" && pwd)/guest"
    }
fi

# The machines that builds in the tests log in to; only root can make them.
if [ "$(dpkg --print-architecture)" = amd64 ] && [ "$(id -u)" -eq 0 ] && [ ! -d "$cache/workers" ]; then
    echo "install-test-deps: making roots of workers in $cache, which takes two minutes" >&2
    "$(dirname "$0")/make-worker-trees.sh" "$(cd "$cache" && pwd)/workers" || { # with old lists of packages
        apt-get update -qq
        "$(dirname "$0")/make-worker-trees.sh" "$(cd "$cache" && pwd)/workers"
    }
fi

# The source of other projects, which examples build; their relkit.toml has the
# digests. Debian's lists of sources, which few machines have, are fetched for that.
archives="jansson_2.14.orig.tar.gz snappy_1.1.9.orig.tar.gz libcommons-codec-java_1.15.orig.tar.xz"
fetch_sources() { # DIR
    local options archive
    options=(-qq -o "Dir::Etc::SourceList=$1/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$1/lists"
        -o "Dir::Cache=$1/cache" -o APT::Sandbox::User=root)
    mkdir -p "$1/lists/partial" "$1/cache/archives/partial" "$1/sources"
    # shellcheck disable=SC2016 # the dollars belong to apt
    apt-get indextargets --format 'deb-src $(SITE) $(RELEASE) $(COMPONENT)' "Created-By: Packages" "Origin: Debian" | sort -u >"$1/sources.list"
    [ -s "$1/sources.list" ] && apt-get "${options[@]}" update || return 1
    for archive in $archives; do
        (cd "$1/sources" && apt-get "${options[@]}" source --download-only --tar-only "${archive%%_*}" >/dev/null && [ -e "$archive" ]) || return 1
    done
}

for archive in $archives; do
    [ ! -e "$cache/sources/$archive" ] || continue
    echo "install-test-deps: fetching the source of other projects into $cache" >&2
    mkdir -p "$cache"
    newsources=$(mktemp -d "$cache/sources.XXXXXX")
    trap 'rm -rf "${new:-}" "${newdracut:-}" "$newsources"' EXIT
    fetch_sources "$newsources" || {
        as_root apt-get update -qq
        fetch_sources "$newsources"
    }
    rm -rf "$cache/sources"
    mv -T "$newsources/sources" "$cache/sources" 2>/dev/null || [ -d "$cache/sources" ]
    rm -rf "$newsources"
    break
done
