#!/usr/bin/env bash
# A real Slurm on one machine, for tests/cluster/test_slurm.py: two nodes of one core, and a partition that preempts.
#
#   tests/cluster/slurm_up.sh         install Debian's packages if need be, start what does not run yet
#   tests/cluster/slurm_up.sh down    end it and remove its state; the packages stay
#
# Root only. All of it lives in /run/ltbench-slurm, munge's key and socket included: a Slurm that the machine belongs to
# is neither used nor touched. `SLURM_CONF=/run/ltbench-slurm/slurm.conf squeue` asks this one.
set -euo pipefail
home=/run/ltbench-slurm
export SLURM_CONF=$home/slurm.conf
daemons='slurmd-n1 slurmd-n2 slurmctld munged'

runs() { # is the daemon whose pid file is $home/$1.pid alive? (a dead one's number may be another's by now)
    [ -s "$home/$1.pid" ] && [[ $(readlink "/proc/$(cat "$home/$1.pid")/exe") == */"${1%-n?}"* ]]
}

has_ended() { ! runs "$1"; }

await() { # until the command succeeds, at most 20 s
    for _ in $(seq 100); do
        if "${@:2}" >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    echo "$1; see $home/*.log" >&2
    return 1
}

nodes_are_up() { [ "$(sinfo --noheader --Node --partition=low --format=%t | grep -cxE 'idle|alloc|mix|comp')" = 2 ]; }

if [ "$(id -u)" != 0 ]; then
    echo 'Slurm daemons are started by root only' >&2
    exit 1
fi

if [ "${1:-up}" = down ]; then
    [ -d "$home" ] || exit 0
    timeout 10 scancel --full --user=root >/dev/null 2>&1 && sleep 1
    for daemon in $daemons; do
        if runs "$daemon"; then
            kill "$(cat "$home/$daemon.pid")"
            await "$daemon does not end" has_ended "$daemon" || kill -9 "$(cat "$home/$daemon.pid")"
        fi
    done
    rm -rf "$home"
    exit 0
fi

if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
    # the packages would start services of their own
    [ -e /usr/sbin/policy-rc.d ] || { trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d; }
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
fi

mkdir -p "$home/slurmd"
host=$(hostname -s)
cat >"$SLURM_CONF" <<CONF
ClusterName=ltbench-test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
# a requeued job starts when its old credential has expired; by default that takes two minutes
AuthInfo=socket=$home/munge.socket,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
StateSaveLocation=$home/slurmctld
SlurmdSpoolDir=$home/slurmd/%n
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd-%n.pid
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/slurmd-%n.log
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
MaxArraySize=1001
MinJobAge=300
KillWait=5
SlurmdTimeout=5
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=1 RealMemory=4000
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17002 CPUs=1 RealMemory=4000
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=20 MaxTime=60
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=60
CONF

if ! runs munged; then
    (umask 077 && head -c 1024 /dev/urandom >"$home/munge.key")
    munged --force --key-file="$home/munge.key" --socket="$home/munge.socket" --pid-file="$home/munged.pid" \
        --log-file="$home/munged.log" --seed-file="$home/munged.seed"
fi
runs slurmctld || slurmctld
await 'the controller does not answer' scontrol ping
for node in n1 n2; do
    runs "slurmd-$node" || slurmd -N "$node"
done
await 'the nodes do not come up' nodes_are_up
