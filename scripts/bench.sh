#!/usr/bin/env bash
# Measures: Go benchmarks of every package. A pattern and flags may follow:
#   scripts/bench.sh -bench Startup -count 5
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
    set -- -bench .
fi
go test -run '^$' "$@" ./... | grep -v '^?\|no test files\|^PASS$'
