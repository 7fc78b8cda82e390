#!/usr/bin/env bash
# Times one step that does nothing, from the command to its end: relkit build on
# this machine, over ssh and under Slurm, beside the bare ssh and srun, and beside
# Buildbot where it is installed; in turns, the median of each. Root is needed, as
# for any sshd and slurmd.
#
#   RUNS=9 scripts/bench-build.sh
#
#   apt-get install openssh-server slurmctld slurmd slurm-client munge time buildbot buildbot-worker
set -euo pipefail

runs=${RUNS:-7}
relkit=$(realpath "${RELKIT:-bin/relkit}")
PATH=$PATH:/usr/sbin
for tool in "$relkit" sshd ssh-keygen munged slurmctld slurmd srun /usr/bin/time; do
	command -v "$tool" >/dev/null || { echo "bench-build: needs $tool" >&2; exit 1; }
done
work=$(mktemp -d)
servers=()
finish() {
	[ ! -d "$work/worker" ] || buildbot-worker stop "$work/worker" >/dev/null 2>&1 || true
	[ ! -d "$work/master" ] || buildbot stop "$work/master" >/dev/null 2>&1 || true
	[ ${#servers[@]} -eq 0 ] || kill "${servers[@]}" 2>/dev/null || true
	wait
	rm -rf "$work"
}
trap finish EXIT
cd "$work"
mkdir -p ms home/.ssh state spool-w1 /run/sshd

serve() { "$@" >>log 2>&1 & servers+=($!); }
until_ok() { for _ in {1..600}; do ! "$@" >/dev/null 2>&1 || return 0; sleep 0.05; done; cat log >&2; echo "bench-build: no answer: $*" >&2; exit 1; }

# --- an sshd and a Slurm of our own ------------------------------------------

port=$((20000 + RANDOM % 20000))
chmod 700 home/.ssh
ssh-keygen -q -t ed25519 -N '' -f host
ssh-keygen -q -t ed25519 -N '' -f home/.ssh/id_ed25519
echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 host.pub)" >home/.ssh/known_hosts
printf '%s\n' "ListenAddress 127.0.0.1:$port" "HostKey $work/host" 'PidFile none' 'UsePAM no' 'StrictModes no' \
	"AuthorizedKeysFile $work/home/.ssh/id_ed25519.pub" >sshd.conf
serve "$(command -v sshd)" -D -e -f sshd.conf
bare_ssh() { ssh -F /dev/null -o BatchMode=yes -o IdentitiesOnly=yes -i home/.ssh/id_ed25519 -o UserKnownHostsFile=home/.ssh/known_hosts -p "$port" root@127.0.0.1 true; }

head -c 128 /dev/urandom >key && chmod 600 key
serve munged --foreground --force --key-file=key --socket="$work/munge" --pid-file="$work/munge.pid" --log-file="$work/munge.log" --seed-file="$work/seed"
until_ok test -S munge
cat >slurm.conf <<CONF
ClusterName=bench
SlurmctldHost=$(uname -n)(127.0.0.1)
SlurmctldPort=$((port + 1))
AuthType=auth/munge
AuthInfo=socket=$work/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool-%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=w1 NodeHostname=$(uname -n) NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=2
PartitionName=build Nodes=w1 Default=YES State=UP
CONF
export SLURM_CONF=$work/slurm.conf
serve slurmctld -D -f slurm.conf
serve slurmd -D -N w1 -f slurm.conf
until_ok srun true
until_ok bare_ssh

# --- relkit and Buildbot -----------------------------------------------------

for kind in local ssh srun; do
	case $kind in
	local) how= ;;
	ssh) how="ssh = \"root@127.0.0.1:$port\"" ;;
	srun) how='slurm = {}' ;;
	esac
	printf '[project]\nname = "bench"\nstate = "%s"\n[[worker]]\nname = "w"\ndir = "%s"\n%s\n[[builder]]\nname = "b"\n[[builder.step]]\nname = "a"\nrun = ["true"]\n' \
		"$work/builds-$kind" "$work/dir-$kind" "$how" >"$kind.toml"
done
build() { HOME=$work/home SSH_AUTH_SOCK='' "$relkit" build -q --config "$1.toml" >out 2>err || { cat err >&2; exit 1; }; }

buildbot=
if command -v buildbot buildbot-worker >/dev/null; then
	buildbot create-master -q master >>log 2>&1
	cat >master/master.cfg <<CONF
from buildbot.plugins import *
f = util.BuildFactory([steps.ShellCommand(command=['sh', '-c', 'true; touch $work/ended'])])
BuildmasterConfig = {
    'workers': [worker.Worker('w', 'pass')], 'protocols': {'pb': {'port': 'tcp:$((port + 3)):interface=127.0.0.1'}},
    'change_source': [changes.PBChangeSource()], 'buildbotNetUsageData': None, 'title': 'bench', 'titleURL': '', 'buildbotURL': 'http://127.0.0.1/',
    'schedulers': [schedulers.AnyBranchScheduler(name='s', treeStableTimer=None, builderNames=['b'])],
    'builders': [util.BuilderConfig(name='b', workernames=['w'], factory=f)], 'db': {'db_url': 'sqlite:///state.sqlite'}}
CONF
	if buildbot start master >>log 2>&1 && buildbot-worker create-worker worker "127.0.0.1:$((port + 3))" w pass >>log 2>&1 && buildbot-worker start worker >>log 2>&1; then
		buildbot=yes
	fi
fi
force() {
	rm -f ended
	buildbot sendchange --master "127.0.0.1:$((port + 3))" --auth change:changepw --who bench --branch main --revision "$RANDOM" x >>log 2>&1
	until [ -e ended ]; do sleep 0.01; done
}

# --- measuring ---------------------------------------------------------------

timed() { # NAME COMMAND…
	local name=$1 start=$EPOCHREALTIME
	shift
	"$@"
	awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f\n", (b - a) * 1000 }' >>"ms/$name"
}
median() { sort -n "ms/$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

for kind in local ssh srun; do build $kind; done # copies relkit there
[ -z "$buildbot" ] || force
for _ in $(seq "$runs"); do
	timed local build local
	timed bare-ssh bare_ssh
	timed ssh build ssh
	timed bare-srun srun true
	timed srun build srun
	[ -z "$buildbot" ] || timed buildbot force
done
printf '%-34s %8s ms\n' 'relkit build, local' "$(median local)" 'ssh true' "$(median bare-ssh)" 'relkit build, ssh' "$(median ssh)" \
	'srun true' "$(median bare-srun)" 'relkit build, slurm' "$(median srun)"
[ -z "$buildbot" ] || printf '%-34s %8s ms\n' 'Buildbot, change to end of step' "$(median buildbot)"
for kind in local ssh srun; do
	HOME=$work/home SSH_AUTH_SOCK='' /usr/bin/time -f "%M" -o peak "$relkit" build -q --config $kind.toml >out
	printf '%-34s %8s KiB\n' "peak memory of relkit, $kind" "$(cat peak)"
done
if [ -n "$buildbot" ]; then
	printf '%-34s %8s KiB\n' 'Buildbot, resident' "$(cat "/proc/$(cat master/twistd.pid)/status" "/proc/$(cat worker/twistd.pid)/status" | awk '/^VmRSS/ { n += $2 } END { print n }')"
fi
