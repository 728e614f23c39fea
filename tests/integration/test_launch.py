"""Launching from a command: which runs a list of sessions makes, and what is said when none."""

import os
from collections.abc import Iterator
from datetime import date

import dagster as dg
import pytest

from scizor_assets.bars import PARTITIONS_PER_RUN
from scizor_assets.launch import (
    Launch,
    Launcher,
    RunFailedError,
    launches_for_sessions,
    materialize_sessions,
)
from scizor_core.errors import InvalidInputError, UnknownMarketError
from scizor_core.sessions import get_calendar
from scizor_resources.errors import TransientError
from scizor_resources.platform import Platform

from .helpers import FailingSource, query, simulated


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Launching points this process to the platform's Dagster instance; undo that."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def launcher(platform: Platform) -> Launcher:
    return Launcher(platform, marts=False)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def ranges(launches: list[Launch]) -> list[tuple[str | None, str | None]]:
    return [(launch.partition, launch.last_partition) for launch in launches]


def test_neighbouring_sessions_become_one_run_across_a_weekend() -> None:
    days = [date(2022, 1, day) for day in (7, 10, 11)]
    assert ranges(launches_for_sessions("asx", "1m", days)) == [("2022-01-07", "2022-01-11")]


def test_a_session_left_out_makes_two_runs() -> None:
    days = [date(2022, 1, day) for day in (4, 5, 7)]
    assert ranges(launches_for_sessions("asx", "1m", days)) == [
        ("2022-01-04", "2022-01-05"),
        ("2022-01-07", "2022-01-07"),
    ]


def test_sessions_given_twice_or_in_disorder_are_run_once_in_order() -> None:
    days = [date(2022, 1, day) for day in (6, 4, 5, 4)]
    assert ranges(launches_for_sessions("asx", "1m", days)) == [("2022-01-04", "2022-01-06")]


def test_a_run_takes_no_more_sessions_than_its_timeframe_allows() -> None:
    sessions = get_calendar("asx").sessions(date(2022, 1, 4), date(2022, 4, 1))
    days = [session.session_date for session in sessions]
    launches = launches_for_sessions("asx", "1m", days)
    lengths = [
        len(get_calendar("asx").sessions(date.fromisoformat(str(a)), date.fromisoformat(str(b))))
        + 1
        for a, b in ranges(launches)
    ]
    assert max(lengths) == PARTITIONS_PER_RUN["1m"]
    assert sum(lengths) == len(days)


def test_daily_sessions_become_months() -> None:
    days = [date(2021, 12, 31), date(2022, 1, 4), date(2022, 1, 5), date(2022, 3, 1)]
    launches = launches_for_sessions("asx", "1d", days)
    assert ranges(launches) == [("2021-12-01", "2022-01-01"), ("2022-03-01", "2022-03-01")]
    assert launches[0].assets == ("asx/bars_1d", "asx/indicators_1d", "asx/completeness_1d")


@pytest.mark.parametrize(
    ("timeframe", "finest"), [("1m", ["1m", "5m", "15m"]), ("5m", ["5m", "15m"]), ("15m", ["15m"])]
)
def test_coarser_timeframes_follow_the_one_with_new_bars(timeframe: str, finest: list[str]) -> None:
    (launch,) = launches_for_sessions("asx", timeframe, [date(2022, 1, 4)], ["CBA"])
    assert launch.assets == (
        *(f"asx/bars_{each}" for each in finest),
        *(f"asx/indicators_{each}" for each in finest),
        "asx/completeness",
    )
    assert launch.symbols == ("CBA",)


def test_a_session_before_the_first_partition_names_the_setting() -> None:
    with pytest.raises(InvalidInputError, match="SCIZOR_INTRADAY_START to an earlier date"):
        launches_for_sessions("asx", "1m", [date(2021, 11, 30)])
    with pytest.raises(InvalidInputError, match="SCIZOR_DAILY_START to an earlier date"):
        launches_for_sessions("asx", "1d", [date(1999, 11, 30)])


def test_an_unknown_market_is_named() -> None:
    with pytest.raises(UnknownMarketError, match="There is no market 'lse'"):
        launches_for_sessions("lse", "1m", [date(2022, 1, 4)])


@pytest.mark.parametrize(
    ("launch", "sentence"),
    [
        (Launch(("asx/bars_2m",)), "There is no asset 'asx/bars_2m'"),
        (Launch(("bars_5m",)), "Did you mean asx/bars_5m, crypto/bars_5m, us/bars_5m"),
        (Launch(("asx/bars_5m",), "2022-01-03"), "'asx/bars_5m' has no partition 2022-01-03"),
        (Launch(("asx/bars_5m",), "soon"), "'asx/bars_5m' has no partition soon"),
        (
            Launch(("asx/bars_5m",), "2022-01-04", "2022-01-08"),
            "'asx/bars_5m' has no partition 2022-01-08",
        ),
        (Launch(("asx/bars_1d",), "2022-01-04"), "Its partitions are month dates"),
        (Launch(("asx/bars_5m",)), "'asx/bars_5m' has partitions: give --partition"),
        (Launch(("reference/watchlist",), "2022-01-04"), "has no partitions: leave --partition"),
    ],
    ids=["asset", "half an asset", "holiday", "no date", "end", "month", "missing", "unwanted"],
)
def test_what_does_not_exist_is_refused_before_a_run(
    launcher: Launcher, instance: dg.DagsterInstance, launch: Launch, sentence: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        launcher.run(instance, launch)
    assert sentence in str(caught.value)
    assert instance.get_runs() == []


def test_a_range_is_split_into_runs_of_whole_sessions(launcher: Launcher) -> None:
    # From a Saturday to a Sunday: the ends need not be sessions.
    launches = launcher.split("asx/bars_5m", "2022-01-01", "2022-01-09", ("CBA",))
    assert ranges(launches) == [("2022-01-04", "2022-01-07")]
    assert launches[0].symbols == ("CBA",)


def test_a_range_without_a_session_is_refused(launcher: Launcher) -> None:
    with pytest.raises(InvalidInputError, match="has no session from 2022-01-08 to 2022-01-09"):
        launcher.split("asx/bars_5m", "2022-01-08", "2022-01-09")


def test_a_failed_run_says_which_step_failed_and_why(
    platform: Platform,
    launcher: Launcher,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = TransientError("It timed out.", provider="failing")
    monkeypatch.setattr(platform, "sources", lambda *_: [FailingSource(error)])
    launch = Launch(("asx/bars_5m",), "2022-01-04", symbols=("CBA",), title="asx 5m 2022-01-04")
    with pytest.raises(RunFailedError) as caught:
        launcher.run(instance, launch)
    assert str(caught.value) == ("The run of asx 5m 2022-01-04 failed. asx/bars_5m: It timed out.")


def test_an_error_that_is_not_ours_is_told_by_its_own_words(
    platform: Platform,
    launcher: Launcher,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "sources", lambda *_: [FailingSource(ZeroDivisionError("x/0"))])
    with pytest.raises(RunFailedError, match=r"asx/bars_5m: ZeroDivisionError: x/0"):
        launcher.run(instance, Launch(("asx/bars_5m",), "2022-01-04", symbols=("CBA",)))


def test_sessions_are_materialized_as_recorded_runs(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "sources", lambda *_: [simulated()])
    steps: list[tuple[int, int, str]] = []
    days = [date(2022, 1, 4), date(2022, 1, 5), date(2022, 1, 7)]
    runs = materialize_sessions(
        platform, "asx", "15m", days, ["CBA"], lambda *step: steps.append(step)
    )
    assert runs == 2
    assert steps == [
        (0, 2, "asx 15m 2022-01-04 to 2022-01-05"),
        (1, 2, "asx 15m 2022-01-07"),
        (2, 2, "done"),
    ]
    recorded = query(platform, "SELECT status FROM dagster.runs")
    assert recorded == [{"status": "SUCCESS"}] * 2
