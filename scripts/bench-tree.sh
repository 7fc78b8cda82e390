#!/usr/bin/env bash
# Compares the manifest of a tree of 30,000 files and 1.0 GB, all metadata
# included, with
#   find . -type f -print0 | xargs -0 -P2 sha256sum
# (digests alone) on a warm page cache, in turns, and prints the medians; then
# the memory that the manifest of 1,000,000 names takes. Processor time, user and
# system, is told beside the time that went by: on a busy machine the latter is
# the neighbours' as well.
#   RUNS=9 runs each nine times; MANY=no leaves the million out. The million takes
# some minutes and 8 GB under TMPDIR, and GNU time.
set -euo pipefail
cd "$(dirname "$0")/.."

runs=${RUNS:-5}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go test -c -o "$work/bench" ./pkg/sys/tree
export RELKIT_BENCH_TREE="$work/tree" RELKIT_BENCH_MANY="$work/many"

once() { # NAME: the benchmark's metrics, "value unit" a line
	"$work/bench" -test.run '^$' -test.bench "^Benchmark$1\$" -test.benchtime 1x |
		awk '/^Benchmark/ { for (i = 3; i < NF; i += 2) print $i, $(i + 1) }'
}

median() { # NAME UNIT: over all runs
	awk -v unit="$2" '$2 == unit { print $1 }' "$work/$1" | sort -g | sed -n "$(((runs + 1) / 2))p"
}

once Capture >/dev/null # makes the tree and warms the page cache
for _ in $(seq "$runs"); do
	once Capture >>"$work/Capture"
	once SHA256Sum >>"$work/SHA256Sum"
done
echo "manifest of 30,000 files, 1.0 GB (medians of $runs, in turns)"
for name in Capture SHA256Sum; do
	printf '  %-10s %7.0f ms, %7.0f ms of processor time\n' \
		"$name" "$(median $name ns/op | awk '{ print $1 / 1e6 }')" "$(median $name cpu-ms/op)"
done
paste <(median Capture ns/op) <(median SHA256Sum ns/op) <(median Capture cpu-ms/op) <(median SHA256Sum cpu-ms/op) |
	awk '{ printf "  ratio      %.2f of the time, %.2f of the processor time\n", $1 / $2, $3 / $4 }'

if [ "${MANY:-yes}" != no ]; then
	once Many >/dev/null # makes the tree: what that takes does not count
	once Many >"$work/Many"
	awk '$2 == "peak-MB" { printf "manifest of 1,000,000 names: at most %.0f MB of memory\n", $1 }' "$work/Many"

	peak() { # WHAT COMMAND…: runs it and prints its peak memory
		local what=$1
		shift
		/usr/bin/time -o "$work/peak" -f %M "$@" >/dev/null
		awk -v what="$what" '{ printf "%s of 1,000,000 names: at most %.0f MB of memory\n", what, $1 / 1024 }' "$work/peak"
	}
	relkit=$(realpath "${RELKIT:-bin/relkit}")
	store=("$relkit" getimage --no-owner --store "$work/store")
	peak "prepareclient" "$relkit" prepareclient --root "$work/many" -o "$work/many.tar.zst"
	peak "getimage of a stream" "${store[@]}" "$work/many.tar.zst" fw
	peak "getimage of a folder, shared with its parent" "${store[@]}" --identity reset "$work/many" fw
	tar --numeric-owner -C "$work/many" -cf "$work/many.tar" .
	peak "getimage of GNU tar's" "${store[@]}" "$work/many.tar" fw
fi
