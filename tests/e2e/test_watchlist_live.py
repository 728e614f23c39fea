"""A symbol added by SQL while `scizor up` runs is followed at once; removed, it is left alone."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from scizor_resources.embedded.servers import EmbeddedServers
from tests.e2e.at_work import COMMAND, AtWork
from tests.e2e.formula_lab import FormulaLab
from tests.e2e.shell import environment, eventually, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: The issue's own limit, from the row in the watchlist to the rows in the marts.
WITHIN_SECONDS = 120
SYMBOL = "SOL/USD"
DAYS = 730


_STAGES = {
    "first bar": "SELECT count(*) FROM crypto.bars_5m WHERE symbol = %s",
    "daily history": "SELECT (count(*) >= 730)::int FROM crypto.bars_1d WHERE symbol = %s",
    # Of the 60 days the first one has begun outside of the window.
    "intraday history": "SELECT (count(DISTINCT session_date) >= 59)::int FROM crypto.bars_5m "
    "WHERE symbol = %s",
    "indicators": "SELECT count(*) FROM crypto.indicators_1d WHERE symbol = %s",
    "marts.daily_bars": "SELECT (count(*) >= 730)::int FROM marts.daily_bars WHERE symbol = %s",
    "marts.data_quality": "SELECT count(*) FROM marts.data_quality WHERE symbol = %s",
}


@contextmanager
def live_platform(home: Path, lab: FormulaLab) -> Iterator[AtWork]:
    """Run `scizor up` in the live profile, crypto from the lab, nothing from anybody else."""
    port = free_port()
    with (home / "up.out").open("w") as output:
        process = subprocess.Popen(
            [*COMMAND, "up", "--live", "--port", str(port)],
            env={
                **environment(home, "tape"),
                "SCIZOR_CHAIN_US": "tape",
                "SCIZOR_CHAIN_CRYPTO": "coinbase",
                "SCIZOR_COINBASE_BASE_URL": lab.url,
                "SCIZOR_SAMPLES": "true",
                "SCIZOR_BACKFILL_DAILY_DAYS": str(DAYS),
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    running = AtWork(process, home, port, EmbeddedServers(home))
    try:
        eventually(running.serves, 300)
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(120)


def execute(up: AtWork, sql: str, *parameters: object) -> None:
    with psycopg.connect(up.address("postgres")) as connection:
        connection.execute(sql, parameters)


def is_at_rest(up: AtWork) -> bool:
    """Say whether the sensors have begun and what they asked for at first has ended."""
    ticks = up.ask(
        "SELECT count(*) FROM dagster.job_ticks WHERE type = 'SENSOR' AND status <> 'STARTED'"
    )
    waiting = up.ask(
        "SELECT count(*) FROM dagster.runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')"
    )
    return ticks[0][0] > 5 and waiting[0][0] == 0


def reached(up: AtWork, sql: str) -> bool:
    try:
        return bool(up.ask(sql, SYMBOL)[0][0])
    except psycopg.errors.UndefinedTable:
        return False


def calls(lab: FormulaLab) -> int:
    return sum(SYMBOL.replace("/", "-") in seen.path for seen in list(lab.requests))


def test_a_symbol_added_by_sql_is_in_the_marts_within_two_minutes_and_removed_it_stops(
    tmp_path: Path,
) -> None:
    with FormulaLab() as lab, live_platform(tmp_path, lab) as up:
        eventually(lambda: is_at_rest(up), 300)
        before = calls(lab)

        execute(up, "INSERT INTO watchlist (market, symbol) VALUES ('crypto', %s)", SYMBOL)
        began = time.monotonic()
        took: dict[str, float] = {}

        def all_stages() -> bool:
            up.runs_on()
            for stage, sql in _STAGES.items():
                if stage not in took and reached(up, sql):
                    took[stage] = round(time.monotonic() - began, 1)
            return len(took) == len(_STAGES)

        try:
            eventually(all_stages, WITHIN_SECONDS)
        except AssertionError:
            failed = up.ask("SELECT status, count(*) FROM dagster.runs GROUP BY 1")
            pytest.fail(f"after {WITHIN_SECONDS} s only {took}; runs {failed}; {up.said()}")
        sys.stdout.write(f"\nseconds since the row was added: {took}\n")
        assert calls(lab) > before

        execute(up, "DELETE FROM watchlist WHERE symbol = %s", SYMBOL)
        removed = datetime.now(UTC)
        # A run that has begun with the symbol may end.
        eventually(lambda: is_at_rest(up), 120)
        last = calls(lab)
        eventually(lambda: datetime.now(UTC) > removed + timedelta(seconds=360), 420)

    assert before == 0
    assert calls(lab) == last
