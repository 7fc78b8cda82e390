#!/usr/bin/env bash
# Compares the capture of a tree (manifest with all metadata) with
# `find | xargs sha256sum` (digests alone) on 30,000 files, in turns, and prints
# the median of each in milliseconds. RUNS=9 runs each nine times.
set -euo pipefail

runs=${RUNS:-5}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go test -c -o "$work/bench" ./pkg/sys/tree
export RELKIT_BENCH_TREE="$work/tree"

once() {
	"$work/bench" -test.run '^$' -test.bench "^Benchmark$1\$" -test.benchtime 1x |
		awk '/ns\/op/ { for (i = 1; i < NF; i++) if ($(i + 1) == "ns/op") print $i / 1e6 }'
}

once Capture >/dev/null # makes the tree and warms the page cache
for _ in $(seq "$runs"); do
	for name in Capture SHA256Sum; do
		once "$name" >>"$work/$name.ms"
	done
done
for name in Capture SHA256Sum; do
	printf '%-10s %s ms\n' "$name" "$(sort -n "$work/$name.ms" | sed -n "$(((runs + 1) / 2))p")"
done
