#!/usr/bin/env bash
# Train on several GPUs; on a machine without one, in that many CPU processes (gloo).
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
usage="usage: ${CLEAR_PROGRAM:-tools/dist_train.sh} CONFIG GPUS [arguments of tools/train.py]"
case "${1:-}" in -h|--help) echo "$usage"; exit 0 ;; esac
if [ $# -lt 2 ]; then
  echo "$usage" >&2
  exit 2
fi
exec bash "$(dirname "$0")/dist_run.sh" train.py "$2" "$1" "${@:3}"
