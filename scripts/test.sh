#!/usr/bin/env bash
# Runs every test with skips disallowed, two power cuts of a virtual machine, then
# the packages that use concurrency once more under the race detector: with -short,
# since races show on small inputs, and without the tests whose subject is another
# process, which the detector does not see into. The machine that patches itself, one
# processor's work, runs beside that.
# RELKIT_TEST_LOG=FILE keeps the events of both runs (go test -json).
set -euo pipefail
cd "$(dirname "$0")/.."

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
log=${RELKIT_TEST_LOG:-$tmp/events.json}
: >"$log"
go build -o "$tmp/testlog" ./scripts/testlog

status=0
export RELKIT_TEST_DISALLOW_SKIP=1 PATH=$PATH:/usr/sbin:/sbin:${RELKIT_TEST_CACHE:-$HOME/.cache/relkit-test}/bin
echo "== all tests"
go test -timeout 30m -json "$@" ./... | tee -a "$log" | "$tmp/testlog" || status=$?

echo "== a short one of the tests in virtual machines (make test-vm runs them all)"
RELKIT_TEST_CUTS=2 go test -json -tags vm -run 'TestVMPowerCutPatch/ext4' ./cmd/relkit | tee -a "$log" | "$tmp/testlog" || status=$?
machine=
if [ "$(id -u)" -eq 0 ]; then
    go test -json -tags vm -timeout 60m -run '^(TestVMBootPatch|TestVMKernelPanic)$' ./cmd/relkit >"$tmp/machine.json" &
    machine=$!
fi

# shellcheck disable=SC2016 # the dollar belongs to the template
concurrent=$(go list -f '{{$p := .}}{{range .GoFiles}}{{$p.Dir}}/{{.}}{{"\n"}}{{end}}' ./... |
    xargs grep -lE '"sync(/atomic)?"|/errgroup"|^[[:space:]]*go ([a-zA-Z_.]+\(|func)' | xargs -n 1 dirname | sort -u)
echo "== race detector: packages that use goroutines, sync or errgroup"
# shellcheck disable=SC2086 # one package a word
go test -race -short -timeout 30m -skip '^Test(Kill|Binary|Java)' -json "$@" $concurrent | tee -a "$log" | "$tmp/testlog" || status=$?

if [ -n "$machine" ]; then
    echo "== a Debian machine that patches its own kernel and libc, and one whose kernel panics"
    wait "$machine" || status=$?
    tee -a "$log" <"$tmp/machine.json" | "$tmp/testlog" || status=$?
fi

exit "$status"
