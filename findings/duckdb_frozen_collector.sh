#!/usr/bin/env bash
# duckdb 2.0.0: a program that freezes the garbage collector before it ends, gc.freeze(), as some do to end sooner.
# Expected: nothing is said, since every connection was closed.
# Seen: pages on stderr, "nanobind: leaked ... instances", with the advice to look for an error in reference counts; the exit code is 0.
# Without gc.freeze(), or with gc.unfreeze() by atexit, nothing is said.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q duckdb==2.0.0
program='
import duckdb
import gc
connection = duckdb.connect()
assert connection.execute("SELECT 1").fetchall() == [(1,)]
connection.close()
'
plain=$("$folder/env/bin/python" -c "$program" 2>&1)
frozen=$("$folder/env/bin/python" -c "$program
gc.freeze()" 2>&1)
thawed=$("$folder/env/bin/python" -c "$program
import atexit
gc.freeze()
atexit.register(gc.unfreeze)" 2>&1)
printf '%s\n' "$frozen" | head -3
[ -z "$plain" ] && [ -z "$thawed" ] || { echo 'changed: something is said without a frozen collector'; exit 1; }
case $frozen in *'nanobind: leaked'*) ;; *) echo 'changed: nothing is said with a frozen collector'; exit 1 ;; esac
