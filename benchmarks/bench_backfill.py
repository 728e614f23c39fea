"""Measure a backfill end to end: history of 18 ASX symbols from a provider that limits its windows.

    python -m benchmarks.bench_backfill [--rounds N] [--symbols N]

`scizor backfill asx` is run as a user runs it, in a home of its own with embedded servers: two
years of daily bars, then 60 days of five-minute bars. The time is that of the command, from its
start to its end: servers, graph, plan, calls, bars, indicators, completeness with their checks,
everything recorded in Dagster. The provider is a stand-in for Yahoo on loopback that answers after
50 ms and has Yahoo's limits; its calls pass the budget that holds for the real one.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Figure, load_average
from benchmarks.report import show
from tests.e2e.yahoo_formula import YahooStandIn

ROUNDS = 1
SYMBOLS = 18
LATENCY_SECONDS = 0.05
DAILY_DAYS, INTRADAY_DAYS = 730, 60
#: The portfolio's symbols that are still listed, and more of the exchange's largest.
CODES = (
    *("CBA", "BHP", "CSL", "WBC", "ANZ", "NAB", "WOW", "WES", "RIO", "MQG", "FMG", "TLS", "TCL"),
    *("COL", "XRO", "WTC", "ZIP", "STO", "WDS", "ALL", "QBE", "SUN", "ORG", "AMC", "REA", "JHX"),
)


@dataclass(frozen=True)
class Turn:
    """One backfill.

    Attributes:
        seconds: time of the command.
        cpu_seconds: processor time of the command, its servers left out.
        calls: chart calls that reached the provider.
        sessions: pairs of symbol and session that were filled.
        rows: bars received.
    """

    seconds: float
    cpu_seconds: float
    calls: int
    sessions: int
    rows: int


def environment(home: Path, provider: YahooStandIn) -> dict[str, str]:
    """Return the environment of a platform in `home` that asks the stand-in and nobody else."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SCIZOR_", "DAGSTER_"))
    }
    return {
        **kept,
        "SCIZOR_HOME": str(home),
        "SCIZOR_CHAIN_ASX": "yahoo",
        "SCIZOR_YAHOO_BASE_URL": provider.base_url,
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }


def scizor(environment_: Mapping[str, str], *arguments: str) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "scizor_cli.main", *arguments],
        env=dict(environment_),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(
            f"{' '.join(arguments)} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


@contextmanager
def home(symbols: int) -> Iterator[tuple[YahooStandIn, dict[str, str]]]:
    """Yield a provider and the environment of a home whose database knows the symbols."""
    with (
        tempfile.TemporaryDirectory(prefix="scizor-bench-") as directory,
        YahooStandIn(LATENCY_SECONDS) as provider,
    ):
        chosen = environment(Path(directory) / "home", provider)
        known = scizor(chosen, "watchlist", "list", "--json")
        listed = {each["symbol"] for each in json.loads(known)}
        new = [code for code in CODES[:symbols] if code not in listed]
        if new:
            scizor(chosen, "watchlist", "add", *new, "--market", "asx")
        yield provider, chosen


def backfill(
    provider: YahooStandIn, chosen: Mapping[str, str], symbols: int, timeframe: str, days: int
) -> Turn:
    """Run one backfill and return what it took."""
    before, used = len(provider.charts), _cpu_seconds()
    began = time.perf_counter()
    said = scizor(
        *(chosen, "backfill", "asx", "--symbols", ",".join(CODES[:symbols])),
        *("--timeframe", timeframe, "--days", str(days), "--json"),
    )
    seconds = time.perf_counter() - began
    answer: dict[str, Any] = json.loads(said)
    result = answer["result"]
    if result["failures"] or result["without_data"]:
        raise SystemExit(f"The backfill has failed: {result}")
    calls = len(provider.charts) - before
    return Turn(seconds, _cpu_seconds() - used, calls, answer["plan"]["sessions"], result["rows"])


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(rounds: int = ROUNDS, symbols: int = SYMBOLS) -> list[Figure]:
    """Return times, calls and rows, times as medians of the rounds."""
    found: dict[str, list[Turn]] = {"1d": [], "5m": []}
    again: list[Turn] = []
    for _ in range(rounds):
        with home(symbols) as (provider, chosen):
            found["1d"].append(backfill(provider, chosen, symbols, "1d", DAILY_DAYS))
            found["5m"].append(backfill(provider, chosen, symbols, "5m", INTRADAY_DAYS))
            began = time.perf_counter()
            both = ("--timeframe", "1d", "--timeframe", "5m")
            scizor(chosen, "backfill", "asx", "--symbols", ",".join(CODES[:symbols]), *both)
            again.append(Turn(time.perf_counter() - began, 0.0, 0, 0, 0))
    note = f"median of {rounds}; load {load_average():.1f}"
    figures = []
    for timeframe, turns in found.items():
        days = DAILY_DAYS if timeframe == "1d" else INTRADAY_DAYS
        one = turns[-1]
        what = f"{days} days of {timeframe}, {symbols} symbols, {one.rows:,} bars received"
        seconds = statistics.median(turn.seconds for turn in turns)
        target = "<= 90" if timeframe == "1d" else ""
        figures.append(Figure(what, seconds, "s", target=target, note=note))
        cpu = statistics.median(turn.cpu_seconds for turn in turns)
        figures.append(Figure("of which the command's own processor time", cpu, "s", note=note))
        calls = f"calls for {one.sessions:,} sessions of symbols"
        figures.append(Figure(calls, one.calls, "calls", one.sessions, "one for each session"))
    calls = sum(turns[-1].calls for turns in found.values())
    sessions = sum(turns[-1].sessions for turns in found.values())
    fewer = 100 * (1 - calls / sessions)
    figures.append(Figure("fewer calls than one for each", fewer, "%", target=">= 98"))
    seconds = statistics.median(turn.seconds for turn in again)
    figures.append(Figure("the same again, nothing to do", seconds, "s", note=note))
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure a backfill end to end.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--symbols", type=int, default=SYMBOLS, choices=range(1, len(CODES) + 1))
    options = parser.parse_args()
    show({"backfill": measure(options.rounds, options.symbols)})


if __name__ == "__main__":
    main()
