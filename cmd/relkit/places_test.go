package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// placesBox is a machine of many places below one root, and patches between three
// versions of what is on it.
type placesBox struct {
	*killBox
	kind string
	// want is the manifest of each version, from 0 on; links says that hard links
	// are among what is changed.
	want  []string
	links bool
	// bystanders are files that no patch names, and their inodes as they were.
	bystanders map[string]syscall.Stat_t
}

// placesTrees makes the three trees. Each place has every kind of name changed in
// every way: the root, usr (a file system that is read-only), opt/app (a bind mount),
// data (a second file system) and data/sub (a subvolume of that).
const placesTrees = `
set -e
umask 022
zoo() { # DIR: every kind of name
	mkdir -p "$1/etc" "$1/gone/deep" "$1/turn"
	printf one >"$1/fw"; chmod 4755 "$1/fw"; setcap_fw "$1/fw"
	echo stays >"$1/bystander"
	echo conf >"$1/etc/conf"; setfattr -n user.note -v a "$1/etc/conf"; setfattr -n security.selinux -v etc_t "$1/etc/conf"
	setfacl -m u:7:rwx "$1/etc/conf"; setfacl -d -m g:8:r "$1/etc"
	echo was >"$1/etc/was"; ln -s conf "$1/etc/link"; mkfifo "$1/etc/pipe"; mknod "$1/null" c 1 3; mknod "$1/disk" b 7 300
	echo g >"$1/gone/g"; echo d >"$1/gone/deep/d"; echo t >"$1/turn/t"; echo u >"$1/unturn"
	printf odd >"$1/$(printf 'odd\n\377')"; echo l >"$1/case"
	truncate -s 3M "$1/huge"; printf end >>"$1/huge"; chown 7:8 "$1/case"
	if [ -n "$LINKS" ]; then echo linked >"$1/la"; ln "$1/la" "$1/lb"; fi
}
setcap_fw() { setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 "$1"; }
change() { # DIR: all of it otherwise
	head -c 300000 /dev/zero | tr '\0' x >"$1/fw"; chmod 755 "$1/fw"; setcap_fw "$1/fw"
	chmod 600 "$1/etc/conf"; setfattr -n user.note -v b "$1/etc/conf"; setfacl -b "$1/etc/conf"; setfacl -k "$1/etc"
	ln -sf conf "$1/etc/was"; rm "$1/etc/link"; mkfifo "$1/etc/link"
	rm "$1/null" "$1/disk"; mknod "$1/null" c 1 5; echo disk >"$1/disk"
	rm -r "$1/gone" "$1/turn"; echo file >"$1/turn"; rm "$1/unturn"; mkdir -m 711 "$1/unturn"; echo in >"$1/unturn/in"
	printf odder >"$1/$(printf 'odd\n\377')"; ln -s odd "$1/$(printf 'new\n\377')"; echo L >"$1/CASE"
	mkdir -p "$1/new/deep"; echo n >"$1/new/deep/n"; setfattr -n trusted.x -v 1 "$1/new/deep/n"
	printf 'more' >>"$1/huge"
	if [ -n "$LINKS" ]; then rm "$1/la"; echo alone >"$1/la"; ln -f "$1/lb" "$1/lc"; fi
}
for v in 1 2 3; do
	mkdir -p $v/bin $v/etc/relkit $v/var/lib $v/usr $v/opt/app $v/srv/app $v/data/sub $v/dev
	cp "$(command -v busybox)" $v/bin/busybox; ln -s busybox $v/bin/sh
	echo '[mounts]
remount = ["/usr"]' >$v/etc/relkit/machine.toml
	for d in $v $v/usr $v/opt/app $v/data $v/data/sub; do
		zoo $d
		if [ $v != 1 ]; then change $d; fi
		if [ $v = 3 ]; then echo three >$d/fw; rm $d/CASE; fi
	done
	find $v -exec touch -h -d '2026-01-01 00:00:00.123456789Z' {} +
done
ssh-keygen -q -t ed25519 -N '' -f release.key
echo "release $(cat release.key.pub)" >allowed
printf '#!/bin/sh\nexit 0\n' >ok
`

// placesMounts makes the machine m of version 1 in $KIND; what it mounts is in the
// file mounted, in order.
const placesMounts = `
set -e
mkdir -p m; : >mounted
mnt() { mount "$@"; for at; do :; done; echo "$at" >>mounted; }
image() { # KIND FILE MIB
	truncate -s "$3"M "$2"
	case $1 in
	ext4) mkfs.ext4 -q -F "$2" ;;
	xfs) mkfs.xfs -q -f "$2" ;;
	btrfs) mkfs.btrfs -q -f "$2" 2>/dev/null >/dev/null ;;
	esac
}
case $KIND in
overlay) # hard links hold, folders of the lower layer cannot be renamed
	mkdir lower upper
	image ext4 upper.img 64; mnt -o loop upper.img upper; mkdir upper/u upper/w
	cp -a 1/. lower/; rm -rf lower/usr/* lower/opt/app/* lower/data/*; mkdir lower/srv/apps && rmdir lower/srv/apps
	find lower -exec touch -h -d '2026-01-01 00:00:00.123456789Z' {} +
	mnt -t overlay -o lowerdir=lower,upperdir=upper/u,workdir=upper/w,index=on,redirect_dir=off overlay m ;;
layers) # inodes change their numbers
	mkdir lower upper
	mnt -t tmpfs tmpfs upper; mkdir upper/u upper/w
	image ext4 lower.img 64; mnt -o loop lower.img lower; rmdir lower/lost+found
	cp -a 1/. lower/; rm -rf lower/usr/* lower/opt/app/* lower/data/*
	find lower -exec touch -h -d '2026-01-01 00:00:00.123456789Z' {} +
	mnt -t overlay -o lowerdir=lower,upperdir=upper/u,workdir=upper/w,xino=off,index=off,redirect_dir=off overlay m ;;
tmpfs) mnt -t tmpfs -o mode=0755 tmpfs m ;;
*) image $KIND root.img 320; mnt -o loop root.img m ;;
esac
mkdir -p m/usr m/opt/app m/srv/app m/data
image ext4 usr.img 64; mnt -o loop usr.img m/usr
mnt --bind m/srv/app m/opt/app
image btrfs data.img 128; mnt -o loop data.img m/data; btrfs -q subvolume create m/data/sub
rmdir m/lost+found m/usr/lost+found 2>/dev/null || :
case $KIND in
overlay | layers) for d in usr opt/app data; do cp -a 1/$d/. m/$d/; done ;;
*) cp -a 1/. m/ ;;
esac
mkdir -p m/var/lib/relkit
for d in $(find 1 -depth -type d -printf '%P ' ); do touch -d '2026-01-01 00:00:00.123456789Z' m/$d; done
touch -d '2026-01-01 00:00:00.123456789Z' m m/srv/app
mount -o remount,ro m/usr
sync
`

func newPlacesBox(t *testing.T, kind string) *placesBox {
	t.Helper()
	relkittest.NeedRoot(t)
	relkittest.Need(t, "mount", "umount", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "btrfs", "setfacl", "setfattr", "busybox", "ssh-keygen")
	b := &placesBox{killBox: &killBox{dir: t.TempDir(), tool: buildTool(t)}, kind: kind, links: kind != "layers"}
	links := ""
	if b.links {
		links = "1"
	}
	b.sh(t, placesTrees, "LINKS="+links)
	for _, p := range [][2]string{{"1", "2"}, {"2", "3"}} {
		if _, err := b.run(t, "", "patch-make", p[0], p[1], "--product", "fw", "--from-version", p[0], "--to-version", p[1],
			"--key", "release.key", "--pre", "ok", "--post", "ok", "--check", "ok", "--pre-rollback", "ok", "--post-rollback", "ok", "-o", p[0]+p[1]+".rkp"); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range []string{"1", "2", "3"} {
		b.sh(t, "rm -rf want; cp -a "+v+" want; rm -rf want/srv/app; cp -a want/opt/app want/srv/app; touch -d '2026-01-01 00:00:00.123456789Z' want/srv; mount --bind want/srv/app want/opt/app", "")
		b.want = append(b.want, manifestOf(t, filepath.Join(b.dir, "want")))
		b.sh(t, "umount want/opt/app", "")
	}
	t.Cleanup(func() {
		mounted, err := os.ReadFile(filepath.Join(b.dir, "mounted"))
		lines := strings.Fields(string(mounted))
		slices.Reverse(lines)
		for _, at := range lines {
			if out, err := exec.Command("umount", filepath.Join(b.dir, at)).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		}
		if err != nil {
			t.Error(err)
		}
	})
	b.sh(t, placesMounts, "KIND="+kind)
	b.bystanders = b.stats(t)
	return b
}

func (b *placesBox) sh(t *testing.T, script, env string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), env)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// stats are the inodes that no patch names.
func (b *placesBox) stats(t *testing.T) map[string]syscall.Stat_t {
	t.Helper()
	all := map[string]syscall.Stat_t{}
	for _, name := range []string{"bystander", "usr/bystander", "opt/app/bystander", "data/bystander", "data/sub/bystander", "bin/busybox", "etc/relkit", "etc/relkit/machine.toml", "case"} {
		var st syscall.Stat_t
		if err := syscall.Lstat(filepath.Join(b.dir, "m", name), &st); err != nil {
			t.Fatal(err)
		}
		st.Atim = syscall.Timespec{}
		all[name] = st
	}
	return all
}

// at holds that the machine is whole: one of the versions, which is answered, its
// read-only file system is read-only, and nothing that no patch names was touched.
func (b *placesBox) at(t *testing.T, where string) int {
	t.Helper()
	got := manifestOf(t, filepath.Join(b.dir, "m"))
	v := slices.Index(b.want, got)
	text, err := os.ReadFile(filepath.Join(b.dir, "m/var/lib/relkit/version.json"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if v < 0 || len(text) > 0 && !strings.Contains(string(text), fmt.Sprintf(`"version":"%d"`, v+1)) || len(text) == 0 && v != 0 {
		t.Fatalf("%s: the tree is of version %d (0 of none), version.json: %s\nagainst the nearest:\n%s", where, v+1, text, b.nearest(got))
	}
	for name, st := range b.stats(t) {
		if was := b.bystanders[name]; st != was {
			t.Errorf("%s: %s was touched: %+v, was %+v", where, name, st, was)
		}
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(filepath.Join(b.dir, "m/usr"), &fs); err != nil || fs.Flags&1 == 0 {
		t.Errorf("%s: usr is writable (%v)", where, err)
	}
	return v
}

// nearest is how a manifest differs from the version that it differs least from.
func (b *placesBox) nearest(got string) string {
	least := ""
	for i, want := range b.want {
		if d := diffLines(want, got); i == 0 || len(d) < len(least) {
			least = d
		}
	}
	return least
}

// diffLines are the lines of got that want does not have, and the other way round.
func diffLines(want, got string) string {
	var b strings.Builder
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, l := range w {
		if !slices.Contains(g, l) {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			fmt.Fprintf(&b, "+ %s\n", l)
		}
	}
	return b.String()
}

// must runs relkit to its end.
func (b *placesBox) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := b.run(t, "", args...)
	if err != nil {
		t.Fatalf("relkit %v: %v", args, err)
	}
	return out
}

var (
	placesApply    = []string{"patch-apply", "-q", "--root", "m", "--allowed-signers", "allowed", "12.rkp", "23.rkp"}
	placesStage    = []string{"patch-apply", "-q", "--stage", "--root", "m", "--allowed-signers", "allowed", "12.rkp"}
	placesCommit   = []string{"patch-apply", "-q", "--commit", "--root", "m"}
	placesRollback = []string{"patch-rollback", "-q", "--root", "m", "--to", "1"}
)

// back brings the machine to version 1, whatever it is.
func (b *placesBox) back(t *testing.T) {
	t.Helper()
	b.must(t, "patch-apply", "-q", "--recover", "--root", "m")
	if out, err := b.run(t, "", "patch-apply", "-q", "--unstage", "--root", "m"); err != nil && !strings.Contains(err.Error(), "staged") {
		t.Fatalf("%s%v", out, err)
	}
	if b.at(t, "going back") > 0 {
		b.must(t, placesRollback...)
	}
	// The next apply is to make its files, not to find those that were taken back.
	b.must(t, "patch-rollback", "-q", "--prune", "--keep", "0", "--root", "m")
	if v := b.at(t, "back"); v != 0 {
		t.Fatalf("back at version %d", v+1)
	}
}

// TestPlacesKilled has two patches with hooks, one staged and committed apart, and
// their rollback change every kind of name on every kind of place, with the process
// killed at steps of each, and the recovery killed too: the machine is of one
// version each time, and what no patch names is untouched.
//
// RELKIT_TEST_EVERY_STEP has it killed at every step.
func TestPlacesKilled(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs", "overlay", "layers", "tmpfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := newPlacesBox(t, kind)
			if v := b.at(t, "at first"); v != 0 {
				t.Fatalf("version %d", v+1)
			}
			b.must(t, placesApply...)
			if v := b.at(t, "applied"); v != 2 {
				t.Fatalf("version %d", v+1)
			}
			b.back(t)
			for name, job := range map[string][][]string{"apply": {nil, placesApply}, "rollback": {placesApply, placesRollback}, "stage": {nil, placesStage}, "commit": {placesStage, placesCommit}} {
				n := b.killAt(t, name, job[0], job[1])
				t.Logf("%s: killed %d times", name, n)
				if n == 0 {
					t.Errorf("%s: never killed", name)
				}
			}
		})
	}
}

// killAt runs a command, after another, and kills it at some of its steps.
func (b *placesBox) killAt(t *testing.T, name string, before, args []string) (kills int) {
	t.Helper()
	stride := map[string]int{"apply": 211, "stage": 149, "commit": 71, "rollback": 71}[name]
	start := 5 + 17*len(b.kind+name)%stride
	if os.Getenv("RELKIT_TEST_EVERY_STEP") != "" {
		start, stride = 1, 1
	}
	for k := start; ; k += stride {
		if before != nil {
			b.must(t, before...)
		}
		_, err := b.run(t, "RELKIT_CRASH_AT="+strconv.Itoa(k), args...)
		if err == nil {
			b.back(t)
			return kills
		}
		if !killed(err) {
			t.Fatalf("%s, step %d: %v", name, k, err)
		}
		kills++
		if kills%3 == 0 {
			if _, err := b.run(t, "RELKIT_CRASH_AT="+strconv.Itoa(1+k%29), "patch-apply", "-q", "--root", "m", "--recover"); err != nil && !killed(err) {
				t.Fatalf("%s, step %d: recovering: %v", name, k, err)
			}
		}
		b.must(t, "patch-apply", "-q", "--root", "m", "--recover")
		b.at(t, fmt.Sprintf("%s, killed at step %d", name, k))
		b.must(t, "audit", "--verify", "--state", "m/var/lib/relkit")
		b.back(t)
	}
}
