#!/usr/bin/env bash
# Runs the tests that boot virtual machines, with skips disallowed; root is needed
# to mount the disks they leave behind. One package at a time: a machine without
# KVM takes a whole core. Arguments go to go test: scripts/test-vm.sh -v -run VMPowerCut
set -euo pipefail
cd "$(dirname "$0")/.."

export RELKIT_TEST_DISALLOW_SKIP=1
export PATH=$PATH:/usr/sbin:/sbin
# shellcheck disable=SC2016 # the dollar belongs to the template
packages=$(go list -tags vm -f '{{$p := .}}{{range .TestGoFiles}}{{$p.Dir}}/{{.}} {{end}}{{range .XTestGoFiles}}{{$p.Dir}}/{{.}} {{end}}' ./... |
    tr ' ' '\n' | xargs -r grep -l '^//go:build vm$' | xargs -r -n 1 dirname | sort -u)
[ -n "$packages" ] || { echo "test-vm: no test has the build tag vm" >&2; exit 1; }
# shellcheck disable=SC2086 # one package a word
go test -tags vm -p 1 -count 1 -timeout 180m -run VM "$@" $packages
