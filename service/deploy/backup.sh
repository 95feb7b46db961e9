#!/bin/sh
# Copy what a service cannot make again into a new folder: its jobs with their results, and its keys.
#
#   backup.sh DATA_DIR KEYS_FILE TARGET
#
# The service may run meanwhile. The store comes first: what it says to be finished is on the disk then.
# Set PYTHON to a Python 3.11 or newer; `python3` is taken without.
set -eu
[ $# = 3 ] || { echo "expected DATA_DIR KEYS_FILE TARGET, got $# words" >&2; exit 2; }
data=$1 keys=$2 target=$3
[ -f "$data/jobs.sqlite" ] || { echo "expected a data folder with jobs.sqlite, got $data" >&2; exit 2; }
[ -f "$keys" ] || { echo "expected a file of keys, got $keys" >&2; exit 2; }
umask 077
mkdir "$target" # a backup replaces no other one
"${PYTHON:-python3}" - "$data/jobs.sqlite" "$target/jobs.sqlite" <<'PYTHON'
import sqlite3
import sys
from pathlib import Path

source = sqlite3.connect(f"{Path(sys.argv[1]).absolute().as_uri()}?mode=ro", uri=True, timeout=60)
source.execute("VACUUM INTO ?", (sys.argv[2],))
(said,) = sqlite3.connect(sys.argv[2]).execute("PRAGMA integrity_check").fetchone()
sys.exit(0 if said == "ok" else f"the copy of the store is damaged: {said}")
PYTHON
# Files come and go while they are copied. A job of which one is missing says so; the store decides what counts.
mkdir "$target/jobs"
for folder in "$data"/jobs/*/; do
    [ -d "$folder" ] || continue
    cp -pR "${folder%/}" "$target/jobs/" 2>/dev/null || [ ! -d "$folder" ] ||
        cp -pR "${folder%/}" "$target/jobs/" 2>/dev/null || [ ! -d "$folder" ] ||
        { echo "$folder cannot be copied" >&2; exit 1; }
done
cp -p "$keys" "$target/keys.json"
