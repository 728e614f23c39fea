"""`scizor backfill` killed in the middle and run again leaves what an unbroken one leaves."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from scizor_resources.embedded.servers import EmbeddedServers
from tests.e2e.shell import environment
from tests.e2e.yahoo_formula import YahooStandIn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

#: The portfolio but for one that has left the exchange: 17 symbols.
_BACKFILL = ("backfill", "asx", "--timeframe", "1d", "--timeframe", "5m", "--json")
#: Columns that tell when something was done.
_STAMPS = (
    *("ingested_at", "computed_at", "updated_at", "detected_at", "quarantined_at"),
    *("last_attempt_at", "next_attempt_at"),
)
_TABLES = (
    *("market.bars", "market.indicators", "quality.completeness", "quality.gaps"),
    *("quality.quarantine", "quality.disagreements"),
)


def surroundings(home: Path, provider: YahooStandIn) -> dict[str, str]:
    return {
        **environment(home, "yahoo"),
        "SCIZOR_YAHOO_BASE_URL": provider.base_url,
        "SCIZOR_BACKFILL_INTRADAY_DAYS": "40",
        # What the budget makes it wait is not what is tested here.
        "SCIZOR_YAHOO_REQUESTS_PER_MINUTE": "6000",
    }


def backfill(home: Path, provider: YahooStandIn) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "scizor_cli.main", *_BACKFILL],
        env=surroundings(home, provider),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def database(home: Path) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with EmbeddedServers(home, valkey=False) as servers:
        url = servers.start().libpq_url
        with psycopg.connect(url, row_factory=dict_row) as connection:
            yield connection


def content(home: Path) -> dict[str, str]:
    """Return a digest of every table, the columns that tell when left out."""
    hidden = " ".join(f"- '{name}'" for name in _STAMPS)
    found = {}
    with database(home) as connection:
        for table in _TABLES:
            row = connection.execute(
                "SELECT count(*) || ' ' || coalesce(md5(string_agg(line, ' ' ORDER BY line)), '') "
                f"AS digest FROM (SELECT (to_jsonb(t) {hidden})::text AS line FROM {table} AS t) "
                "AS x"
            ).fetchone()
            found[table] = row["digest"] if row else ""
    return found


def test_a_backfill_killed_at_half_of_its_calls_and_resumed_leaves_the_same_tables(
    tmp_path: Path,
) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    with YahooStandIn(0.02) as provider:
        whole = backfill(unbroken, provider)
        calls = len(provider.charts)
    processes: list[subprocess.Popen[bytes]] = []

    def kill_at_half(number: int) -> None:
        if number == calls // 2 and processes:
            os.killpg(processes.pop().pid, signal.SIGKILL)

    with YahooStandIn(0.02, on_call=kill_at_half) as provider:
        process = subprocess.Popen(
            [sys.executable, "-m", "scizor_cli.main", *_BACKFILL],
            env=surroundings(broken, provider),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        processes.append(process)
        assert process.wait() == -signal.SIGKILL
        asked = len(provider.charts)

        rest = backfill(broken, provider)
        again = backfill(broken, provider)

    sys.stdout.write(  # the figures of this run
        f"{calls} calls in all; killed after {asked}; the second run made "
        f"{len(provider.charts) - asked} for {rest['plan']['sessions']} of "
        f"{whole['plan']['sessions']} sessions\n"
    )
    assert 0 < rest["plan"]["sessions"] < whole["plan"]["sessions"]
    assert again["plan"]["pieces"] == []
    assert content(broken) == content(unbroken)


def test_ctrl_c_leaves_what_the_same_command_goes_on_with(tmp_path: Path) -> None:
    processes: list[subprocess.Popen[str]] = []

    def interrupt(number: int) -> None:
        if number == 20 and processes:
            processes.pop().send_signal(signal.SIGINT)

    with YahooStandIn(0.02, on_call=interrupt) as provider:
        process = subprocess.Popen(
            [sys.executable, "-m", "scizor_cli.main", *_BACKFILL],
            env=surroundings(tmp_path / "home", provider),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        said, told = process.communicate()
        rest = backfill(tmp_path / "home", provider)

    assert process.returncode == 130
    assert "Stopped after 1 of 3 runs. What they have stored stays" in told
    assert "Traceback" not in told
    assert json.loads(said)["result"]["is_over"] is False
    # Daily bars are there.
    assert {each["timeframe"] for each in rest["plan"]["pieces"]} == {"5m"}


def test_a_symbol_that_the_provider_does_not_know_stops_nobody_else(tmp_path: Path) -> None:
    with YahooStandIn(knows=lambda ticker: ticker != "BHP.AX") as provider:
        found = backfill(tmp_path / "home", provider)["result"]

    without = {(each["timeframe"], each["symbol"]) for each in found["without_data"]}
    assert without == {("1d", "BHP"), ("5m", "BHP")}
    assert found["failures"] == {}
    assert found["rows"] > 16 * 500
