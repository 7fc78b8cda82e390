#!/bin/sh
# relkit's whole chain over one small project, from its source to a patched,
# rolled-back and reporting machine. `make demo` runs it; copy from it freely.
#
# It needs git, a C compiler, make, curl and ssh-keygen, and no root: the
# machines are folders. Everything happens below one temporary folder.
# shellcheck disable=SC2016,SC2034,SC2154 # command lines are printed first and then evaluated
set -eu

relkit=${RELKIT:-relkit}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/relkit-demo.XXXXXX")
server=
finish() {
	status=$?
	[ -z "$server" ] || kill "$server" 2>/dev/null || :
	if [ -n "${KEEP:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
	[ "$status" -eq 0 ] || echo "demo: failed with status $status" >&2
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM
cd "$work"

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$(printf '\033[1;36m') plain=$(printf '\033[0m'); fi

relkit() { command "$relkit" "$@"; }
step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }

# try prints a command line and runs it.
try() {
	printf '$ %s\n' "$1"
	eval "$1"
}

# refused N runs a command line that must end with exit status N.
refused() {
	printf '$ %s\n' "$2"
	code=0
	eval "$2" || code=$?
	if [ "$code" -ne "$1" ]; then
		echo "demo: exit status $code, want $1" >&2
		exit 1
	fi
	printf '(exit status %s)\n' "$code"
}

# sum is the SHA-256 of a file.
sum() { sha256sum "$1" | cut -d' ' -f1; }

step "A project in git, and two people with SSH keys: release and QA"
cp -R "$here/demo-project" project
git -C project init -q -b main
git -C project config user.name "Demo"
git -C project config user.email "demo@example.com"
git -C project add -A
git -C project commit -q -m "fwd 4.1"
sed "s|@URL@|$work/project|" project/relkit.toml >relkit.toml
for role in release qa root; do
	ssh-keygen -q -t ed25519 -N '' -C "$role" -f "$role.key"
	echo "$role namespaces=\"relkit-*\" $(cut -d' ' -f1,2 "$role.key.pub")" >>allowed_signers
done
try 'cat allowed_signers'

step "Build it: compile, unit tests, artifacts, a record of it all"
try 'relkit build fwd >build1'
try 'cat build1; ls "$(cat build1)"'
if command -v javac >/dev/null; then
	try 'relkit build fwd-java'
fi

step "Make it an appliance: a tree with what was built in it"
mkdir -p golden/var/lib golden/etc/relkit
cp -R "$(cat build1)/artifacts/out/." golden/
try 'relkit prepareclient --root golden -o - | relkit getimage --store store - fw:1'

step "Fix something, commit, build what changed, and image that as well"
echo 4.2 >project/VERSION
sed -i 's|^deny 0.0.0.0/0|deny 0.0.0.0/0   # all else|' project/fwd.conf
git -C project commit -qam "fwd 4.2"
try 'relkit build --if-changed fwd >build2'
try 'relkit build --if-changed fwd'
cp -R "$(cat build2)/artifacts/out/." golden/
try 'relkit prepareclient --root golden -o - | relkit getimage --store store - fw:2'
try 'relkit getimage --store store --verify fw:2'

step "Make the patch; it is proved on a copy before the file appears"
try 'relkit patch-make --store store fw:1 fw:2'
try 'relkit inspect fw-1-2.rkp'

step "The appliance: a machine that runs fw:1"
cp -a store/fw/1/tree appliance
mkdir -p appliance/var/lib/relkit
echo '{"schema":"relkit.version/v1","product":"fw","version":"1"}' >appliance/var/lib/relkit/version.json
try 'appliance/usr/sbin/fwd --version'

step "Nothing that was not signed gets in"
refused 5 'relkit patch-apply --root appliance --allowed-signers allowed_signers fw-1-2.rkp'
try 'relkit sign fw-1-2.rkp --key release.key --as release'
cp fw-1-2.rkp tampered.rkp
printf 'X' | dd of=tampered.rkp bs=1 seek=$(($(wc -c <tampered.rkp) - 1500)) conv=notrunc 2>/dev/null
refused 5 'relkit patch-apply --root appliance --allowed-signers allowed_signers tampered.rkp'
echo '[signed by release, but the machine asks for QA too]'
refused 5 'relkit patch-apply --root appliance --allowed-signers allowed_signers --require-signoff release,qa fw-1-2.rkp'

step "QA tests it and signs off"
try 'relkit sign fw-1-2.rkp --key qa.key --as qa --evidence "$(cat build2)/build.json"'
try 'relkit inspect --verify --allowed-signers allowed_signers fw-1-2.rkp'

step "Publish it in a signed channel, and serve that"
try 'relkit distribute fw-1-2.rkp --to dir:www --channel stable --rollout 100% --key release.key'
printf '$ %s\n' 'relkit serve www --listen 127.0.0.1:0 --intake intake >url &'
# By env, not by the function of that name: $! is the server then, and no shell.
env "$relkit" serve www --listen 127.0.0.1:0 --intake intake >url 2>serve.log &
server=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	[ -s url ] && break
	sleep 0.1
done
try 'url=$(cat url)'
echo "[$url]"

step "The appliance fetches what is meant for it"
echo 0123456789abcdef0123456789abcdef >machine-id
try 'relkit fetch "oci://${url#http://}/fw:stable" --to download --allowed-signers allowed_signers --state appliance/var/lib/relkit --machine-id machine-id >patches'
try 'cat patches'

step "A patch whose check fails takes itself back"
refused 7 'relkit patch-apply --root appliance --allowed-signers allowed_signers --require-signoff release,qa --check false $(cat patches)'
try 'appliance/usr/sbin/fwd --version'

step "Apply it, checked by running it"
try 'relkit patch-apply --root appliance --allowed-signers allowed_signers --require-signoff release,qa --check "\$RELKIT_ROOT/usr/sbin/fwd --version" $(cat patches)'
try 'appliance/usr/sbin/fwd --version'
try 'relkit patch-rollback --root appliance --list'

step "Take it back by hand"
try 'relkit patch-rollback --root appliance'
try 'appliance/usr/sbin/fwd --version'

step "In business hours, stage it; in the window, commit it"
try 'relkit patch-apply --root appliance --allowed-signers allowed_signers --require-signoff release,qa --stage $(cat patches)'
try 'appliance/usr/sbin/fwd --version'
try 'relkit patch-apply --root appliance --window 00:00-24:00 --commit'
try 'appliance/usr/sbin/fwd --version'

step "What a running system boots with is committed at boot: this tree does not boot"
refused 4 'relkit boot --root appliance'

step "Who may sign becomes a signed document: it can revoke a key, and is never rolled back"
try 'relkit trust -o trust-1.json --product fw --allowed-signers allowed_signers'
try 'relkit sign trust-1.json --key root.key --as root'
try 'relkit trust --root appliance --install trust-1.json'

step "The audit log: every event, every refusal, chained by digest"
try 'relkit audit --state appliance/var/lib/relkit'
try 'relkit audit --verify --state appliance/var/lib/relkit'

step "The machine phones home"
try 'relkit healthcheck --state appliance/var/lib/relkit --skip nic | curl -fsS --data-binary @- "$url/health"'
try 'cut -c1-160 intake/*.jsonl'

step "What runs now is what was built"
running=$(sum appliance/usr/sbin/fwd)
record="$(cat build2)/build.json"
built=$(grep -A 2 '"path": "artifacts/out/usr/sbin/fwd"' "$record" | grep -o '[0-9a-f]\{64\}')
if [ "$running" != "$built" ]; then
	echo "demo: $running runs, build.json has $built" >&2
	exit 1
fi
echo "sha256 of what runs: $running; of what was built, in build.json: $built"
