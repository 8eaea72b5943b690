#!/usr/bin/env bash
# Evaluate a checkpoint on several GPUs; on a machine without one, in that many CPU processes (gloo).
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
set -euo pipefail
usage="usage: ${CLEAR_PROGRAM:-tools/dist_test.sh} CONFIG CHECKPOINT GPUS [arguments of tools/test.py]"
case "${1:-}" in -h|--help) echo "$usage"; exit 0 ;; esac
if [ $# -lt 3 ]; then
  echo "$usage" >&2
  exit 2
fi
exec bash "$(dirname "$0")/dist_run.sh" test.py "$3" "$1" "$2" "${@:4}"
