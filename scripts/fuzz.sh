#!/usr/bin/env bash
# Runs every fuzz target until it has used FUZZ_CPU seconds of processor time
# (300 unless set) and prints, a line each: the seconds used, the executions, and
# how it ended. Arguments choose targets by name, as go test -fuzz does.
# FUZZ_LOG=FILE keeps the lines; a target that FILE lists as done is not run again,
# so that an interrupted run goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."

want=${FUZZ_CPU:-300}
cache=${FUZZ_CACHE:-$(go env GOCACHE)/fuzz}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
log=${FUZZ_LOG:-$tmp/log}
touch "$log"
TIMEFORMAT='%U %S'
status=0

grep -r --include='*_test.go' -E "^func Fuzz[A-Za-z0-9_]*\(" . | sed 's|/[^/]*:func | |; s/(.*//' | grep -E "${1:-.}" | sort >"$tmp/targets"
while read -r dir target <&3; do
    bin=$tmp/$(echo "$dir" | tr / _).test
    grep -q "^$dir $target .*ok$" "$log" && continue
    [ -x "$bin" ] || go test -c -fuzz=. -o "$bin" "$dir"
    used=0 execs=0 end=ok
    while [ "$used" -lt "$want" ] && [ $end = ok ]; do
        # The last run's output is the one with a failing input in it. A target that
        # ends while its time does may call that a failure ("context deadline
        # exceeded", a known fault of go test): without an input it is none.
        { time (cd "$dir" && "$bin" -test.run='^$' -test.fuzz="^$target\$" -test.fuzzcachedir="$cache/$dir" \
            -test.fuzztime=60s -test.fuzzminimizetime=20x >"$tmp/out" 2>&1); } 2>"$tmp/time" ||
            { grep -q 'context deadline exceeded' "$tmp/out" && ! grep -q 'Failing input' "$tmp/out"; } || end=FAILED
        used=$(awk -v u="$used" '{print int(u + $1 + $2)}' "$tmp/time")
        execs=$((execs + $(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$tmp/out" | tail -1 | grep . || echo 0)))
    done
    echo "$dir $target $used CPU seconds, $execs executions, $end" | tee -a "$log"
    if [ $end != ok ]; then
        cat "$tmp/out"
        status=1
    fi
done 3<"$tmp/targets"
exit $status
