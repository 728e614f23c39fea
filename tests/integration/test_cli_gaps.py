"""`scizor gaps`: the table, and why a minute is empty.

Sydney keeps summer time in January 2022: 10:00 there is 23:00 UTC of the day before.
"""

import json
from datetime import date, timedelta

import pytest
from typer.testing import CliRunner

from scizor_cli import main
from scizor_resources.errors import TransientError
from scizor_resources.gap_reports import list_gaps
from scizor_resources.market_data import MarketData
from scizor_resources.platform import Platform

from .helpers import FailingSource, FixedSource, collector, execute
from .test_gap_ledger import FIRST, OPEN, SECOND, minutes_of


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main.app, ["gaps", *arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def stocked(platform: Platform) -> Platform:
    source = FixedSource(minutes_of("CBA", (0, 100), (103, 300)))
    collector(platform, "1m", source).collect(FIRST, SECOND, ["CBA"])
    failing = FailingSource(TransientError("It does not answer.", provider="failing"))
    collector(platform, "5m", failing).collect(FIRST, SECOND, ["TLS"])
    collector(platform, "5m", failing).collect(date(2022, 1, 20), date(2022, 1, 21), ["APT"])
    execute(
        platform,
        "INSERT INTO quality.halts (instrument_id, start_ts, end_ts, source, note) "
        "SELECT instrument_id, %s, %s, 'asx', 'pending news' FROM symbols WHERE symbol = 'CBA'",
        OPEN + timedelta(minutes=300),
        OPEN + timedelta(minutes=330),
    )
    platform.completeness_meter("asx").measure(FIRST, SECOND, daily=False, symbols=["CBA"])
    return platform


def test_the_table_shows_what_is_open(stocked: Platform) -> None:
    found = json.loads(run("--timeframe", "1m", "--json"))
    assert [(row["symbol"], row["bars"], row["reason"]) for row in found] == [
        ("CBA", 30, "absent in every source"),
        ("CBA", 3, "absent in every source"),
    ]


@pytest.mark.parametrize(
    ("arguments", "symbols"),
    [
        (["--reason", "feed down"], ["TLS"]),
        (["--status", "explained"], ["APT", "CBA"]),
        (["--symbol", "apt", "--status", "all"], ["APT"]),
        (["--since", "2022-01-10", "--status", "all"], ["APT"]),
        (["--market", "us", "--status", "all"], []),
    ],
    ids=["reason", "status", "symbol", "since", "market"],
)
def test_options_narrow_it(arguments: list[str], symbols: list[str], stocked: Platform) -> None:
    output = run(*arguments, "--limit", "2", "--json").split("There are no")[0]
    rows = json.loads(output) if output.strip() else []
    assert sorted({row["symbol"] for row in rows if row["timeframe"] != "15m"}) == symbols


def test_the_table_for_people_tells_when_it_is_asked_again(stocked: Platform) -> None:
    output = run("--symbol", "TLS")
    assert "open, next 2026-11-20 00:01Z" in output
    assert "failing: It does not answer." in output


def test_a_reason_that_does_not_exist_is_refused_with_those_that_do(stocked: Platform) -> None:
    assert "'feed down'" in run("--reason", "broken", code=1)


@pytest.mark.parametrize(
    ("symbol", "at", "words"),
    [
        ("CBA", "2022-01-04 10:01", "is there: open 10"),
        ("CBA", "2022-01-04 11:41", "no source has it (asked fixed); next on"),
        ("CBA", "2022-01-04T00:42+00:00", "no source has it (asked fixed)"),
        ("CBA", "2022-01-04 15:10", "trading was halted (pending news)"),
        ("CBA", "2022-01-04 09:30", "asx trades from 10:00 to 16:00"),
        ("CBA", "2022-01-02 11:00", "asx is closed on Sunday 2022-01-02"),
        ("CBA", "2030-01-02 11:00", "that time has not come yet"),
        ("CBA", "2022-01-10 11:00", "its session was never measured"),
        ("TLS", "2022-01-04 10:31", "the feed was down (failing: It does not answer); next on"),
        ("APT", "2022-01-20 11:00", "delisted: last traded on 2022-01-19"),
    ],
    ids=[
        "a bar",
        "absent",
        "with a zone",
        "halted",
        "before the open",
        "a Sunday",
        "the future",
        "not measured",
        "down",
        "delisted",
    ],
)
def test_a_minute_says_why_it_is_empty(symbol: str, at: str, words: str, stocked: Platform) -> None:
    assert words in run("why", symbol, at)


def test_a_day_without_a_bar_says_why(stocked: Platform) -> None:
    output = run("why", "APT", "2022-01-20", "--timeframe", "5m", "--json")
    assert json.loads(output)["gap"]["reason"] == "delisted"


def test_what_is_no_time_is_refused(stocked: Platform) -> None:
    assert "is not a time: write 2026-11-20 10:31" in run("why", "CBA", "noon", code=1)


def test_a_notebook_has_the_gaps_of_a_symbol(stocked: Platform) -> None:
    frame = MarketData(stocked).gaps("CBA", "1m", "2022-01-04", "2022-01-05")
    assert frame["bars"].tolist() == [3, 30, 30]
    assert frame["reason"].tolist() == [
        "absent in every source",
        "halted",
        "absent in every source",
    ]
    assert MarketData(stocked).gaps("BHP").empty


def test_gaps_come_newest_first(stocked: Platform) -> None:
    starts = [row["start_ts"] for row in list_gaps(stocked.warehouse)]
    assert starts == sorted(starts, reverse=True)
