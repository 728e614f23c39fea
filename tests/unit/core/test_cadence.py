"""What of a session is due at an instant, by what was asked for before."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from scizor_core.cadence import (
    Requested,
    refresh_due,
    session_closed_at,
    sessions_to_refresh,
    symbols_due,
    watched_of,
)
from scizor_core.instruments import WatchlistEntry
from scizor_core.markets import MARKETS
from scizor_core.sessions import Session


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


#: New York in winter: 14:30 to 21:00 UTC.
MONDAY = Session(at("2022-01-10").date(), at("2022-01-10 14:30"), at("2022-01-10 21:00"))


def asked(minute: str | None, everything: str | None = None) -> Requested:
    return Requested(
        None if minute is None else at(f"2022-01-10 {minute}"),
        None if everything is None else at(f"2022-01-10 {everything}"),
    )


@pytest.mark.parametrize(
    ("market", "moment", "sessions"),
    [
        # New York, winter: 14:30 to 21:00 UTC.
        ("us", "2022-01-10 14:29:59", ""),
        ("us", "2022-01-10 14:30", "2022-01-10"),
        ("us", "2022-01-10 21:39:59", "2022-01-10"),
        ("us", "2022-01-10 21:40", ""),
        # Sydney, summer: the session of the 11th opens at 23:00 UTC of the 10th.
        ("asx", "2022-01-10 22:55", ""),
        ("asx", "2022-01-10 23:05", "2022-01-11"),
        ("asx", "2022-01-11 05:35", "2022-01-11"),
        ("asx", "2022-01-26 01:00", ""),  # Australia Day
        # What traded until midnight is fetched after it.
        ("crypto", "2022-01-09 00:00", "2022-01-08 2022-01-09"),
        ("crypto", "2022-01-09 00:40", "2022-01-09"),
    ],
)
def test_the_sessions_to_refresh_are_those_that_trade_or_have_just_closed(
    market: str, moment: str, sessions: str
) -> None:
    found = sessions_to_refresh(MARKETS[market], at(moment))
    assert [each.session_date.isoformat() for each in found] == sessions.split()


@pytest.mark.parametrize(
    ("moment", "before", "due"),
    [
        ("14:30:05", asked(None), "all"),
        ("14:30:20", asked("14:30", "14:30"), None),
        ("14:31:05", asked("14:30", "14:30"), "minute"),
        ("14:31:20", asked("14:31", "14:30"), None),
        ("14:35:05", asked("14:34", "14:30"), "all"),
        ("14:35:20", asked("14:35", "14:35"), None),
        ("20:59:05", asked("20:58", "20:55"), "minute"),
    ],
)
def test_while_a_market_is_open_tier_1_is_due_each_minute_and_everything_each_five(
    moment: str, before: Requested, due: str | None
) -> None:
    assert refresh_due(MONDAY, at(f"2022-01-10 {moment}"), before) == due


@pytest.mark.parametrize(
    ("moment", "before", "due"),
    [
        ("21:00:05", asked("20:59", "20:55"), "all"),
        ("21:01:05", asked("21:00", "21:00"), None),
        ("21:14:59", asked("21:00", "21:00"), None),
        ("21:15:05", asked("21:00", "21:00"), "all"),
        ("21:30:05", asked("21:15", "21:15"), "all"),
        ("21:39:59", asked("21:30", "21:30"), None),
        ("21:40:00", asked("21:15", "21:15"), None),
    ],
)
def test_after_the_close_everything_is_due_every_quarter_of_an_hour(
    moment: str, before: Requested, due: str | None
) -> None:
    assert refresh_due(MONDAY, at(f"2022-01-10 {moment}"), before) == due


def test_nothing_is_due_before_the_open() -> None:
    assert refresh_due(MONDAY, at("2022-01-10 14:29:59"), Requested()) is None


@pytest.mark.parametrize("moment", ["14:37", "21:20"])
def test_who_starts_in_the_middle_has_everything_due_at_once(moment: str) -> None:
    assert refresh_due(MONDAY, at(f"2022-01-10 {moment}"), Requested()) == "all"


def test_what_a_slow_refresh_made_skip_is_due_when_it_has_ended() -> None:
    assert refresh_due(MONDAY, at("2022-01-10 14:38:20"), asked("14:34", "14:30")) == "all"
    assert refresh_due(MONDAY, at("2022-01-10 14:39:20"), asked("14:36", "14:35")) == "minute"


def test_after_a_late_refresh_everything_is_due_at_the_usual_time_again() -> None:
    assert refresh_due(MONDAY, at("2022-01-10 14:40:05"), asked("14:38", "14:38")) == "all"


def test_a_session_that_opens_between_two_marks_is_due_at_its_open() -> None:
    late = replace(MONDAY, open=at("2022-01-10 14:32"))
    assert refresh_due(late, at("2022-01-10 14:32"), Requested()) == "all"
    assert refresh_due(late, at("2022-01-10 14:34"), asked("14:33", "14:32")) == "minute"


@pytest.mark.parametrize(
    ("market", "close", "session"),
    [
        ("us", "2024-11-29 18:00", "2024-11-29"),  # half day after Thanksgiving
        ("us", "2024-11-29 21:00", None),
        ("asx", "2024-12-24 03:10", "2024-12-24"),
        ("asx", "2024-12-24 05:00", None),
        ("crypto", "2024-12-25 00:00", "2024-12-24"),
    ],
)
def test_the_session_that_closed_at_an_instant_is_found(
    market: str, close: str, session: str | None
) -> None:
    found = session_closed_at(MARKETS[market], at(close))
    assert (found and found.session_date.isoformat()) == session


def entry(symbol: str, tier: int, one: bool, five: bool = True, **more: bool) -> WatchlistEntry:  # noqa: FBT001  # short to read in the tables below
    return WatchlistEntry("asx", symbol, tier, one, five, **more)


WATCHED = watched_of(
    [entry("WBC", 1, one=False), entry("CBA", 1, one=True), entry("RIO", 2, one=True)]
)


def test_each_minute_tier_1_is_due_in_the_timeframes_that_it_collects() -> None:
    assert symbols_due("minute", WATCHED) == {"1m": ["CBA"], "5m": ["CBA", "WBC"]}


def test_each_five_minutes_everything_is() -> None:
    assert symbols_due("all", WATCHED) == {"1m": None, "5m": None, "15m": None}


def test_a_timeframe_that_nobody_collects_is_not_due() -> None:
    watched = watched_of([entry("RIO", 2, one=False)])
    assert symbols_due("all", watched) == {"5m": None, "15m": None}
    assert symbols_due("minute", watched) == {}


def test_bars_of_five_minutes_are_derived_for_who_collects_those_of_one_alone() -> None:
    watched = watched_of([entry("RIO", 2, one=True, five=False)])
    assert symbols_due("all", watched) == {"1m": None, "5m": None, "15m": None}


@pytest.mark.parametrize("scope", ["all", "minute"])
def test_nothing_is_due_where_nothing_is_watched(scope: str) -> None:
    watched = watched_of([entry("CBA", 1, one=True, active=False), entry("BHP", 1, False, False)])  # noqa: FBT003
    assert symbols_due("all" if scope == "all" else "minute", watched) == {}


def test_a_symbol_on_two_lists_has_the_better_tier_and_the_timeframes_of_both() -> None:
    (found,) = watched_of([entry("CBA", 3, one=True, five=False), entry("CBA", 1, one=False)])
    assert (found.tier, found.timeframes) == (1, {"1m", "5m", "15m"})
