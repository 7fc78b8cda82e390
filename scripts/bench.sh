#!/usr/bin/env bash
# Measures: Go benchmarks of every package, then what relkit promises beside its
# peers (scripts/bench-*.sh). With a pattern and flags, those benchmarks alone:
#   scripts/bench.sh -bench Startup -count 5
set -euo pipefail
cd "$(dirname "$0")/.."

benchmarks() {
    go test -run '^$' "$@" ./... | grep -v '^?\|no test files\|^PASS$'
}

if [ $# -gt 0 ]; then
    benchmarks "$@"
    exit
fi
benchmarks -bench .
for script in scripts/bench-*.sh; do
    "$script"
done
