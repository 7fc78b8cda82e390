#!/usr/bin/env bash
# Compares relkit patch-apply with tar and fsync, ostree and dpkg: the same change
# of 1,000 small files in a tree of 30,000, in turns, the median of each. Then the
# same patch in a tree of 1,000,000 entries, and what starting relkit costs. Root
# is needed, since ostree and dpkg give files their owners.
#
#   RUNS=9 FILES=30000 CHANGED=1000 ENTRIES=1000000 scripts/bench-apply.sh
#
# ENTRIES=0 leaves the large tree out. TMPDIR says on which file system. It needs
# ssh-keygen and GNU time, and for the comparison ostree and dpkg-deb:
#
#   apt-get install openssh-client time ostree dpkg
set -euo pipefail

runs=${RUNS:-5} files=${FILES:-30000} changed=${CHANGED:-1000} entries=${ENTRIES:-1000000}
relkit=$(realpath "${RELKIT:-bin/relkit}")
for tool in "$relkit" ssh-keygen /usr/bin/time awk tar; do
	command -v "$tool" >/dev/null || { echo "bench-apply: needs $tool" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir ms cost
export SOURCE_DATE_EPOCH=1700000000 LC_ALL=C

# --- measuring ---------------------------------------------------------------

# timed NAME COMMAND…: runs it on a disk that has nothing left to write, and notes
# under NAME its time in milliseconds, its peak memory in KiB and its processor
# time in seconds, user and system: on a busy machine the time that goes by is the
# neighbours' as well.
timed() {
	local name=$1 start end
	shift
	sync
	start=$EPOCHREALTIME
	/usr/bin/time -a -o "cost/$name" -f '%M %U %S' "$@" >out 2>err || { cat err >&2; echo "bench-apply: failed: $*" >&2; exit 1; }
	end=$EPOCHREALTIME
	awk -v a="$start" -v b="$end" 'BEGIN { printf "%.2f\n", (b - a) * 1000 }' >>"ms/$name"
}

median() { sort -n "$1" | awk '{ v[NR] = $1 } END { printf "%.1f", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
range() { sort -n "$1" | awk 'NR == 1 { a = $1 } END { printf "%.0f-%.0f", a, $1 }'; }
cpu() { awk '{ print ($2 + $3) * 1000 }' "$1" | sort -n | awk '{ v[NR] = $1 } END { printf "%.0f", v[int((NR + 1) / 2)] }'; }
peak() { awk '$1 > m { m = $1 } END { printf "%.1f", m / 1024 }' "$1"; }

row() { printf '%-44s %10s %13s %7s %7s %11s %7s\n' "$@"; }
result() { # NAME WHAT REFERENCE: the line of a table
	local ratio=- visible=-
	[ -z "$3" ] || ratio=$(awk -v a="$(median "ms/$1")" -v b="$(median "ms/$3")" 'BEGIN { printf "%.2f", a / b }')
	[ ! -e "ms/$1.visible" ] || visible=$(median "ms/$1.visible")
	row "$2" "$(median "ms/$1")" "$(range "ms/$1")" "$ratio" "$(cpu "cost/$1")" "$visible" "$(peak "cost/$1")"
}

# --- what is measured --------------------------------------------------------

# write FROM TO VERSION: file FROM … TO-1 of the tree under the current folder, of
# 1 to 15 KiB each; a version differs in every tenth line.
write() {
	awk -v from="$1" -v to="$2" -v version="$3" 'BEGIN {
		for (i = from; i < to; i++) {
			name = sprintf("usr/d%02d/e%03d/file%d", i % 1500 % 40, i % 1500, i)
			lines = 16 + (i * 7919) % 224
			for (n = 0; n < lines; n++) {
				x = (x * 69069 + i * 31 + n + 1) % 4294967296
				printf "%04d %010.0f %010.0f a line of text that a program might hold %s\n", n, x, (x * 17 + i) % 4294967296, n % 10 ? "" : version >name
			}
			close(name)
		}
	}'
}

trees() {
	mkdir -p old/var/lib
	(cd old && seq 0 1499 | awk '{ printf "usr/d%02d/e%03d\n", $1 % 40, $1 }' | xargs mkdir -p && write 0 "$files" 1)
	cp -a old new
	(cd new && write 0 "$changed" 2)
	awk -v n="$changed" 'BEGIN { for (i = 0; i < n; i++) printf "usr/d%02d/e%03d/file%d\n", i % 1500 % 40, i % 1500, i }' >list
	tar -C old -cf old.tar -T list
	tar -C new -cf new.tar -T list
}

patch() {
	ssh-keygen -q -t ed25519 -N '' -f key
	echo "release $(cat key.pub)" >allowed
	"$relkit" patch-make -q old new --product fw --from-version 1 --to-version 2 --key key -o p.rkp >/dev/null
}

# visible NAME: notes how long the tree was changing, out of relkit's result.
visible() { sed -n 's/.*"visible_seconds":\([0-9.e-]*\).*/\1/p' out | awk '{ printf "%.2f\n", $1 * 1000 }' >>"ms/$1.visible"; }

relkit_turn() { # NAME ROOT
	timed "$1" "$relkit" patch-apply -q --json --root "$2" --allowed-signers allowed p.rkp
	visible "$1"
	timed "$1-back" "$relkit" patch-rollback -q --json --root "$2"
	visible "$1-back"
}

tar_turn() {
	timed tar sh -c 'tar -C tarred -xf new.tar && cd tarred && xargs sync <../list'
	tar -C tarred -xf old.tar
}

ostree_setup() {
	ostree init --repo=made --mode=bare
	ostree commit --repo=made -b fw --tree=dir=old >a
	ostree commit --repo=made -b fw --tree=dir=new >b
	ostree static-delta generate --repo=made --from="$(cat a)" --to="$(cat b)" --inline --min-fallback-size=0 --filename=delta >/dev/null 2>&1
	ostree init --repo=repo --mode=bare
	ostree pull-local --repo=repo made "$(cat a)" >/dev/null
	ostree refs --repo=repo --create=installed "$(cat a)"
}

ostree_turn() {
	timed ostree sh -c "ostree static-delta apply-offline --repo=repo delta && ostree checkout --repo=repo -H $(cat b) deployed && sync -f deployed"
	rm -rf deployed
	ostree prune --repo=repo --refs-only >/dev/null
}

dpkg_setup() {
	local v
	mkdir deb1 deb2
	tar -C deb1 -xf old.tar
	tar -C deb2 -xf new.tar
	for v in 1 2; do
		mkdir "deb$v/DEBIAN"
		printf 'Package: fw\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: benchmark\n' "$v" >"deb$v/DEBIAN/control"
		dpkg-deb --root-owner-group -b "deb$v" "fw$v.deb" >/dev/null
	done
	mkdir -p packaged/var/lib/dpkg/updates packaged/var/lib/dpkg/info
	touch packaged/var/lib/dpkg/status packaged/var/lib/dpkg/available
	dpkg --root=packaged -i fw1.deb >/dev/null
}

dpkg_turn() {
	timed dpkg dpkg --no-force-unsafe-io --root=packaged -i fw2.deb
	dpkg --root=packaged --force-unsafe-io -i fw1.deb >/dev/null 2>&1
}

# --- the tables --------------------------------------------------------------

header() { row "$1" "median ms" "least-most" "ratio" "cpu ms" "visible ms" "MiB"; }

peers() {
	local turn name missing=()
	local turns=(tar_turn)
	cp -a old target
	cp -a old tarred
	for name in ostree dpkg; do
		if [ "$(id -u)" -eq 0 ] && command -v "$name" >/dev/null; then
			"${name}_setup"
			turns+=("${name}_turn")
		else
			missing+=("$name")
		fi
	done
	relkit_turn warm target # the page cache, and everybody's first time
	for _ in $(seq "$runs"); do
		relkit_turn relkit target
		for turn in "${turns[@]}"; do "$turn"; done
	done
	diff -r --no-dereference --exclude=.relkit --exclude=var old target
	header "$changed of $files files"
	result tar "tar -x, fsync of each file" ""
	result relkit "relkit patch-apply" tar
	result relkit-back "relkit patch-rollback" tar
	[ ! -e ms/ostree ] || result ostree "ostree static-delta apply-offline, checkout" tar
	[ ! -e ms/dpkg ] || result dpkg "dpkg -i, the $changed files as one package" tar
	for name in "${missing[@]}"; do
		echo "NOT MEASURED: $name (needs root, and apt-get install $name)"
	done
}

large() {
	local n
	mkdir -p target/more # of the tree, and unknown to the patch
	n=$(find target | wc -l)
	(cd target/more && awk -v left="$((entries - n))" 'BEGIN {
		while (left-- > 0) {
			if (k % 1000 == 0 && left > 0) { dir = sprintf("m%04d", k / 1000); print dir | "xargs mkdir"; close("xargs mkdir"); left-- }
			name = dir "/f" k++; printf "" >name; close(name)
		}
	}')
	touch -r old target
	relkit_turn warm-large target
	for _ in $(seq "$runs"); do relkit_turn large target; done
	echo
	header "$changed of $(find target -path target/.relkit -prune -o -print | wc -l) entries"
	result large "relkit patch-apply" tar
	result large-back "relkit patch-rollback" tar
}

start() {
	mkdir -p project/src
	git -C project/src init -q
	printf '[project]\nname = "fw"\nstate = "state"\n[[source]]\nname = "fw"\nvcs = "git"\nurl = "src"\n[[builder]]\nname = "fw"\nsources = ["fw"]\n[[builder.step]]\nname = "s"\nsh = "true"\n' >project/relkit.toml
	git -C project/src -c user.name=n -c user.email=e@example.org commit -q --allow-empty -m 1
	(cd project && "$relkit" build -q fw >/dev/null)
	for _ in $(seq 50); do
		timed version "$relkit" --version
		timed help "$relkit" --help
		timed bare /bin/true
	done
	cd project && mkdir ms cost
	for _ in $(seq "$runs"); do timed build "$relkit" build -q --if-changed fw; done
	mv ms/build ../ms && mv cost/build ../cost && cd ..
	echo
	header "starting (medians of 50)"
	result bare "/bin/true, for comparison" ""
	result version "relkit --version" bare
	result help "relkit --help" bare
	result build "relkit build --if-changed, nothing to do" ""
	echo "binary: $(stat -c %s "$relkit" | awk '{ printf "%.1f MiB", $1 / 1048576 }')"
}

trees
patch
echo "$(nproc) cores, $(stat -f -c %T "$work"), load $(cut -d' ' -f1 /proc/loadavg); medians of $runs; patch $(stat -c %s p.rkp) bytes, tar $(stat -c %s new.tar) bytes"
echo
peers
[ "$entries" -eq 0 ] || large
start
