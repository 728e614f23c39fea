"""Measure what a Dagster run costs over the work that it does.

    python -m benchmarks.bench_run_overhead [--runs N]

One session of one crypto symbol with a few bars stands on a tape. `BarCollector.collect` is called
directly, then the same session is materialized as `crypto/bars_1m` by the launcher that the CLI
uses: a recorded run in this process, on an instance in PostgreSQL, with the asset's checks. The
bars are stored before either is measured, so that every run does the same.
"""

import argparse
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

from benchmarks.common import Figure, load_average, median_seconds
from benchmarks.report import show

RUNS = 10
BARS = 5
SESSION = date(2026, 3, 2)
SYMBOL = "BTC/USD"


@contextmanager
def environment(home: Path) -> Iterator[None]:
    """Let the platform live in `home` and ask nobody but the tape; undone afterwards."""
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("SCIZOR_")]:
        del os.environ[name]
    os.environ.update(
        SCIZOR_HOME=str(home), SCIZOR_CHAIN_CRYPTO="tape", DAGSTER_DISABLE_TELEMETRY="1"
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def tape_file(directory: Path) -> Path:
    """Return a CSV file with the first bars of the session."""
    lines = [
        f"{SESSION.isoformat()}T00:{minute:02d}:00Z,100,101,99,100.5,{minute + 1}"
        for minute in range(BARS)
    ]
    path = directory / "bars.csv"
    path.write_text("\n".join(["ts,open,high,low,close,volume", *lines]) + "\n")
    return path


def measure(runs: int = RUNS) -> list[Figure]:
    """Return the figures in milliseconds, each the median of the runs."""
    with tempfile.TemporaryDirectory(prefix="scizor-bench-") as home, environment(Path(home)):
        # Read the environment when they are imported.
        from scizor_assets.launch import Launch, Launcher
        from scizor_resources.platform import Platform
        from scizor_resources.settings import load_settings
        from scizor_resources.tape.importer import ImportSpec, import_file

        logging.getLogger("dagster").setLevel(logging.CRITICAL)
        warnings.simplefilter("ignore")
        with Platform.open(load_settings()) as platform:
            platform.reference.ensure("crypto", SYMBOL)
            spec = ImportSpec(market="crypto", symbol=SYMBOL, timeframe="1m")
            import_file(tape_file(Path(home)), spec, platform.settings.tape_directory)
            launch = Launch(
                ("crypto/bars_1m",), SESSION.isoformat(), symbols=(SYMBOL,), title="benchmark"
            )
            stored: list[int] = []

            def collect() -> None:
                collector = platform.collector("crypto", "1m")
                report = collector.collect(SESSION, SESSION + timedelta(days=1), [SYMBOL])
                stored.append(report.rows)

            work = median_seconds(collect, runs)
            if set(stored) != {BARS}:
                raise SystemExit(f"Expected {BARS} bars each time, got {stored}.")
            launcher = Launcher(platform, marts=False)
            with launcher.instance() as instance:
                run = median_seconds(lambda: launcher.run(instance, launch), runs)
    note = f"{BARS} bars, median of {runs}; load {load_average():.1f}"
    return [
        Figure("the work of a run, called directly", 1000 * work, "ms", note=note),
        Figure("the same as a recorded run, with checks", 1000 * run, "ms", note=note),
        Figure("what the run adds", 1000 * (run - work), "ms", note=note),
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="What a Dagster run adds to the work.")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of each way")
    options = parser.parse_args(arguments)
    show({"run_overhead": measure(options.runs)})


if __name__ == "__main__":
    main()
