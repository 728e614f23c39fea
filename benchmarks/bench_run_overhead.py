"""Measure what a Dagster run costs over the work that it does.

    python -m benchmarks.bench_run_overhead [--runs N]

One session of one crypto symbol with a few bars stands on a tape. `BarCollector.collect` is called
directly, then the same session is materialized as `crypto/bars_1m` by the launcher that the CLI
uses: a recorded run in this process on an instance in PostgreSQL, with its checks. Both find the
bars stored already, so that every run does the same.
"""

import argparse
import os
import tempfile
from contextlib import contextmanager
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

from benchmarks.common import Figure, load_average, median_seconds
from benchmarks.report import show

RUNS = 10
BARS = 5
SESSION = date(2026, 3, 2)
SYMBOL = "BTC-USDT"

