#!/usr/bin/env bash
# Everything that a tool can complain about. Goes through to the end, then exits 1
# if one check failed. What cannot run here is said, not passed over.
#
# shellcheck disable=SC2317 # the functions are called through check
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

failed=0
check() { # NAME COMMAND…
    echo "== $1"
    shift
    "$@" || failed=1
}

no_output() { # COMMAND…: whatever it prints is a complaint
    local out
    out=$("$@") || return 1
    [ -z "$out" ] || { echo "$out"; return 1; }
}

vulnerabilities() {
    local out
    if out=$(go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./... 2>&1); then
        echo "$out"
    elif grep -q '^Vulnerability #' <<<"$out"; then
        echo "$out"
        return 1
    else
        echo "NOT CHECKED: govulncheck or its database cannot be reached: $(grep -m 1 -v "^go: downloading" <<<"$out")"
    fi
}

# git ls-files: what is checked is what is kept.
mapfile -t gofiles < <(git ls-files '*.go')
mapfile -t shells < <(git ls-files '*.sh' .ci/run)
mapfile -t pages < <(git ls-files 'man/*.[1-9]')

check gofmt no_output gofmt -l "${gofiles[@]}"
check "go vet" go vet ./...
check "go vet, tests in virtual machines" go vet -tags vm ./...
check "go vet, arm64" env GOARCH=arm64 CGO_ENABLED=0 go vet ./...
check staticcheck go run honnef.co/go/tools/cmd/staticcheck@v0.8.1 ./...
check "go mod tidy" go mod tidy -diff
check "go mod verify" go mod verify
check "known vulnerabilities" vulnerabilities
[ "${#pages[@]}" -eq 0 ] || check "manual pages" scripts/lint-man.sh "${pages[@]}"
check shellcheck shellcheck "${shells[@]}"

[ "$failed" -eq 0 ] && echo "all clean"
exit "$failed"
