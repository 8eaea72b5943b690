#!/usr/bin/env bash
# Train on a Slurm cluster.
#   GPUS=16 tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]
# Reads GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS.
set -euo pipefail
usage="usage: ${CLEAR_PROGRAM:-tools/slurm_train.sh} PARTITION JOB_NAME CONFIG [arguments of tools/train.py]"
case "${1:-}" in -h|--help) echo "$usage"; exit 0 ;; esac
if [ $# -lt 3 ]; then
  echo "$usage" >&2
  exit 2
fi
gpus="${GPUS:-8}"
per_node="${GPUS_PER_NODE:-8}"
[ "$gpus" -lt "$per_node" ] && per_node="$gpus"
command=(srun -p "$1" --job-name="$2" --gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node"
         --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-}
         "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "${@:3}" --launcher slurm)
for argument in "$@"; do
  if [ "$argument" = --dry-run ]; then
    echo "would start: ${command[*]}"
    exec "${PYTHON:-python}" "$(dirname "$0")/train.py" "${@:3}"
  fi
done
command -v srun > /dev/null || { echo "error: there is no srun here: this starts runs on a Slurm cluster." >&2; exit 2; }
exec "${command[@]}"
