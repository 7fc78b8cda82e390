#!/usr/bin/env bash
# Measures: the Go benchmarks of every package, then relkit against its peers, in
# turns: capturing a tree (bench-tree.sh), changing one (bench-apply.sh), and building (bench-build.sh). With
# arguments only Go benchmarks, a pattern and flags:
#   scripts/bench.sh -bench Startup -count 5
set -euo pipefail
cd "$(dirname "$0")/.."

go_benchmarks() { go test -run '^$' "$@" ./... | grep -v '^?\|no test files\|^PASS$'; }

if [ $# -gt 0 ]; then
    go_benchmarks "$@"
    exit
fi
echo "== Go benchmarks"
go_benchmarks -bench .
echo
echo "== capture of a tree"
scripts/bench-tree.sh
echo
echo "== change of a tree, and starting"
scripts/bench-apply.sh
echo
echo "== a build of one step"
scripts/bench-build.sh
