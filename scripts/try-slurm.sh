#!/bin/sh
# Runs docs/cluster/audit.sbatch and matrix.sbatch under Slurm, with three nodes on this one machine, and merges what they found:
#
#     scripts/try-slurm.sh VMLINUZ
#
# Needs root, and Debian's slurmctld, slurmd, slurm-client and munge, which it installs. All daemons listen on the loopback address only, keep their files in a
# temporary folder, and are ended at the end. `npm run build` first. Ten minutes.
set -eu
vmlinuz=$(readlink -f "$1")
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/scripts/apt.sh"
need slurmctld slurmctld
need slurmd slurmd
need sbatch slurm-client
need munged munge
need qemu-system-x86_64 qemu-system-x86
install_missing

folder=$(mktemp -d)
# slurmd's user on the nodes is root; munge wants its folders closed to others.
chmod 755 "$folder"
pids=''
end() {
  for pid in $pids; do kill "$pid" 2>/dev/null || true; done
  for pid in $pids; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$folder"
}
trap end EXIT
step() { echo "== $*"; }

step 'munge'
mkdir -m 700 "$folder/munge"
dd if=/dev/urandom of="$folder/munge/key" bs=128 count=1 2>/dev/null
chmod 400 "$folder/munge/key"
munged --foreground --force --key-file="$folder/munge/key" --socket="$folder/munge.socket" --pid-file="$folder/munge/pid" \
  --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" &
pids="$pids $!"

step 'slurm'
host=$(hostname -s)
cat >"$folder/slurm.conf" <<CONF
ClusterName=kslide
SlurmctldHost=$host(127.0.0.1)
SlurmctldParameters=enable_configless
AuthInfo=socket=$folder/munge.socket
AuthType=auth/munge
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort=26817
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SchedulerParameters=bf_interval=5
NodeName=node1 NodeAddr=127.0.0.1 NodeHostname=$host Port=27001 CPUs=2 RealMemory=16000
NodeName=node2 NodeAddr=127.0.0.1 NodeHostname=$host Port=27002 CPUs=2 RealMemory=16000
NodeName=node3 NodeAddr=127.0.0.1 NodeHostname=$host Port=27003 CPUs=2 RealMemory=16000
PartitionName=all Nodes=node[1-3] Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$folder/slurm.conf"
mkdir "$folder/state" "$folder/spool-node1" "$folder/spool-node2" "$folder/spool-node3"
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -S "$folder/munge.socket" ] && break; sleep 1; done
slurmctld -D -f "$SLURM_CONF" >/dev/null 2>&1 &
pids="$pids $!"
for node in node1 node2 node3; do
  slurmd -D -N "$node" -f "$SLURM_CONF" >/dev/null 2>&1 &
  pids="$pids $!"
done
ready() { [ "$(sinfo -h -o '%T %D' 2>/dev/null)" = 'idle 3' ]; }
tries=0
until ready; do
  tries=$((tries + 1))
  if [ "$tries" -gt 60 ]; then
    sinfo -N -l || true
    tail -n 20 "$folder"/slurm*.log
    exit 1
  fi
  sleep 1
done
sinfo -N -l

# Until the queue is empty, for half an hour at most.
drain() {
  tries=0
  while [ -n "$(squeue -h)" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 900 ]; then squeue; exit 1; fi
    sleep 2
  done
}

kslide=$here/bin/kslide.js
shared=$folder/shared
mkdir "$shared"
"$kslide" convert "$vmlinuz" -o "$shared/vmlinux" --quiet

step 'audit: 4 tasks, 14 boots'
export KSLIDE="$kslide"
sbatch --array=1-4 --output="$shared/audit-%a.out" "$here/docs/cluster/audit.sbatch" "$shared/vmlinux" 14 "$shared/audit"
# A task that is requeued goes on where it was.
sleep 8
scontrol requeue "$(squeue -h -r -t R -o '%i' | head -n 1)" || true
drain
cat "$shared"/audit-*.out
"$kslide" audit "$shared/vmlinux" --merge "$shared"/audit/part-*.jsonl --out "$shared/all.jsonl" --html "$shared/report.html" ||
  [ $? -eq 1 ] # 14 boots are too few to judge
[ "$(wc -l <"$shared/all.jsonl")" -eq 14 ]
[ -s "$shared/report.html" ]

step 'matrix: 3 tasks, 6 cells'
MATRIX_OPTIONS='--first 6' sbatch --array=1-3 --output="$shared/matrix-%a.out" "$here/docs/cluster/matrix.sbatch" "$here" "$shared/matrix" "$vmlinuz"
drain
cat "$shared"/matrix-*.out
cat "$shared"/matrix/part-*.ndjson >"$shared/all.ndjson"
[ "$(wc -l <"$shared/all.ndjson")" -eq 6 ]
(cd "$here" && node --import tsx scripts/matrix.ts --first 6 --out "$shared/all.ndjson" "$vmlinuz") | tee "$shared/judged"
grep -q '6 cells, 6 of them done before' "$shared/judged"
echo 'all as docs/cluster.md says'
