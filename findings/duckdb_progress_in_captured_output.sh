#!/usr/bin/env bash
# duckdb 2.0.0: a query of more than two seconds in a program given by python -c, its output caught by a pipe.
# Expected: what is caught is what the program prints; a progress bar is for a terminal.
# Seen: the bar stands in the caught output, before the answer, so it cannot be parsed. Whether there is a bar does not hang on
# the terminal: it is on for python -c and off for the same program in a file. SET enable_progress_bar = false takes it away.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q duckdb==2.0.0
program='
import duckdb
import sys
connection = duckdb.connect(config={"threads": 1})
if "off" in sys.argv:
    connection.execute("SET enable_progress_bar = false")
print(connection.execute("SELECT sum(hash(range) % 7) FROM range(600000000)").fetchone()[0])
'
printf '%s' "$program" >"$folder/program.py"
"$folder/env/bin/python" -c "$program" | cat >"$folder/given"
"$folder/env/bin/python" -c "$program" off | cat >"$folder/off"
"$folder/env/bin/python" "$folder/program.py" | cat >"$folder/file"
for name in given off file; do
    printf '%s: %s bytes, the last 60: ' "$name" "$(wc -c <"$folder/$name")"
    tail -c 60 "$folder/$name" | tr '\r\n' '  '
    echo
done
cmp "$folder/off" "$folder/file" || { echo 'changed: something is drawn for a program in a file'; exit 1; }
[[ $(<"$folder/file") =~ ^[0-9]+$ ]] || { echo 'changed: the answer alone'; exit 1; }
grep -q '%' "$folder/given" || { echo 'changed: nothing is drawn for a program of python -c'; exit 1; }
