#!/usr/bin/env bash
# Start a program of tools/ under torchrun (clear.core.programs.launcher ends with its exit code): dist_run.sh PROGRAM PROCESSES [arguments]. Used by dist_train.sh and dist_test.sh.
set -euo pipefail
program="$(dirname "$0")/$1"
processes="$2"
case "$processes" in
  ''|*[!0-9]*|0) echo "error: the number of GPUs is '$processes'; expected a whole number of at least 1." >&2; exit 2 ;;
esac
nodes="${NNODES:-1}"
if [ "$nodes" = 1 ] && [ -z "${PORT:-}" ]; then
  meeting=(--standalone)  # a free port, so that two runs on one machine do not collide
else
  meeting=(--node_rank "${NODE_RANK:-0}" --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}")
fi
launch=("${PYTHON:-python}" -m clear.core.programs.launcher --nnodes "$nodes" --nproc_per_node "$processes" "${meeting[@]}")
for argument in "${@:3}"; do
  if [ "$argument" = --dry-run ]; then
    # One process is enough to say what would happen, and works on a machine without the GPUs.
    echo "would start: ${launch[*]} $program ${*:3} --launcher pytorch"
    exec "${PYTHON:-python}" "$program" "${@:3}"
  fi
done
exec "${launch[@]}" "$program" "${@:3}" --launcher pytorch
