#!/usr/bin/env bash
# Prints what mandoc has to say about the manual pages given, exits 1 if anything.
# That a page referred to is not installed here says nothing about the page;
# whether relkit's own references lead somewhere is a test in cmd/relkit.
set -euo pipefail

status=0
# Standard error holds only what mandoc thinks of this machine's index of pages.
complaints=$(mandoc -Tlint -Wstyle "$@" 2>/dev/null) || status=$?
[ "$status" -lt 5 ] || { echo "lint-man: mandoc: exit status $status"; exit 1; }
complaints=$(grep -v 'referenced manual not found: ' <<<"$complaints" || true)
[ -z "$complaints" ] || { echo "$complaints"; exit 1; }
