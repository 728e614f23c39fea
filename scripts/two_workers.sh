#!/bin/sh
# Two workers on this machine, without Docker: a backfill of 200 sessions by one worker, then by two,
# on embedded servers in a temporary directory, and the times of both. Takes about five minutes.
#
#     scripts/two_workers.sh [--rounds 3] [--partitions 200] [--symbols 1] [--simulated]
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
test -x "$python" || { echo "There is no .venv yet: run \`make test\` or \`make demo\` once." >&2; exit 1; }
exec "$python" -m benchmarks.bench_workers --rounds 1 "$@"
