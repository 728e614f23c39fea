"""`scizor backfill` against a real database, in this process."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from scizor_cli import main
from scizor_resources.platform import Platform

from .helpers import query

_WEEK = ("--since", "2022-01-04", "--until", "2022-01-08")

# Importing dagster-celery and its like warns of what they themselves have not moved on from.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bars are simulated; launching points this process to another Dagster instance: undo that."""
    monkeypatch.setenv("SCIZOR_CHAIN_ASX", "simulated")
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main.app, ["backfill", *arguments])
    assert result.exit_code == code, result.output
    return result


def answer(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json").stdout)
    return found


def test_a_dry_run_tells_the_plan_and_fetches_nothing(platform: Platform) -> None:
    found = answer("asx", "--symbols", "CBA", "-t", "5m", *_WEEK, "--dry-run")

    assert found["result"] is None
    assert [(p["timeframe"], p["first"], p["last"]) for p in found["plan"]["pieces"]] == [
        ("5m", "2022-01-04", "2022-01-07")
    ]
    assert query(platform, "SELECT count(*) AS n FROM market.bars") == [{"n": 0}]


def test_it_fills_what_is_absent_and_the_next_time_there_is_nothing_to_do(
    platform: Platform,
) -> None:
    first = answer("asx", "--symbols", "CBA,APT", "-t", "5m", "-t", "1d", *_WEEK)
    again = run("asx", "--symbols", "CBA,APT", "-t", "5m", "-t", "1d", *_WEEK)

    assert first["result"]["failures"] == {}
    assert first["result"]["percent"] == 100.0
    assert "There is nothing to fetch. 16 sessions are complete or explained." in again.stdout
    rows = query(
        platform,
        "SELECT symbol, timeframe, count(DISTINCT session_date) AS sessions FROM market.bars "
        "JOIN public.symbols USING (instrument_id) WHERE session_date < '2022-01-08' "
        "GROUP BY 1, 2 ORDER BY 1, 2",
    )
    assert {(row["symbol"], row["timeframe"]): row["sessions"] for row in rows} == {
        (symbol, timeframe): 4 for symbol in ("APT", "CBA") for timeframe in ("15m", "1d", "5m")
    }


def test_what_no_provider_reaches_is_said_before_anything_starts(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIZOR_CHAIN_ASX", "ibkr,yahoo")

    result = run("asx", "--symbols", "CBA", "-t", "1m", *_WEEK)

    assert (
        "1m of CBA, 2022-01-04 to 2022-01-07: ibkr is not configured (set SCIZOR_IBKR_BASE_URL), "
        "yahoo reaches 30 days back."
    ) in result.stdout
    assert "There is nothing to fetch." in result.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("asx", "--symbols", "NOT A CODE"), "'NOT A CODE' is not a symbol of market 'asx'"),
        (("asx", "--symbols", ","), "--symbols names none"),
        (("moon",), "There is no market 'moon'"),
        (("asx", "-t", "7m"), "'7m' is not a timeframe"),
        (("asx", "--since", "soon"), "'soon' is not a date for --since"),
        (("asx", "--since", "2022-01-04", "--days", "3"), "Give --since or --days, not both."),
        (("asx", "--since", "2022-01-08", "--until", "2022-01-04"), "is empty"),
        (("asx", "--no-wait", *_WEEK), "`scizor up` does not run on this home"),
    ],
    ids=["code", "none", "market", "timeframe", "date", "both", "order", "nobody"],
)
def test_what_cannot_be_is_answered_with_a_sentence(
    platform: Platform, arguments: tuple[str, ...], told: str
) -> None:
    result = CliRunner().invoke(main.app, ["backfill", *arguments])

    assert result.exit_code == 1
    assert told in result.output
