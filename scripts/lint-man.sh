#!/usr/bin/env bash
# Prints what mandoc has to say about the manual pages given, exits 1 if anything.
# That a page referred to is not installed here says nothing about the page;
# whether relkit's own references lead somewhere is a test in cmd/relkit.
set -euo pipefail

complaints=$(mandoc -Tlint -Wstyle "$@" 2>&1 | grep -v -e 'referenced manual not found: ' -e '^mandoc: outdated mandoc.db ' || true)
[ -z "$complaints" ] || { echo "$complaints"; exit 1; }
