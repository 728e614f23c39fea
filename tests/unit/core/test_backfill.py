"""The plan of a backfill: pieces, ranges out of reach, and what is left alone."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from scizor_core.backfill import Plan, Reach, Scope, Wish, expected_bars, plan_backfill, span_days
from scizor_core.markets import Timeframe
from scizor_core.sessions import get_calendar

#: A Saturday, in the middle of the day in Sydney.
NOW = datetime(2026, 11, 21, 2, tzinfo=UTC)
ASX = get_calendar("asx")
YAHOO = (
    Reach("yahoo", "1d"),
    Reach("yahoo", "1m", max_age=timedelta(days=30), max_window=timedelta(days=8)),
    Reach("yahoo", "5m", max_age=timedelta(days=60), max_window=timedelta(days=60)),
)


def scope(**changes: object) -> Scope:
    whole = Scope(
        market="asx",
        since={"1d": date(2024, 11, 21), "1m": date(2026, 9, 22), "5m": date(2026, 9, 22)},
        until=date(2026, 11, 22),
        now=NOW,
        reaches=YAHOO,
        chain=("tape", "ibkr", "yahoo"),
        not_configured={"ibkr": "set SCIZOR_IBKR_BASE_URL"},
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def wish(symbol: str, *timeframes: Timeframe, **span: date) -> Wish:
    return Wish(symbol, frozenset(timeframes), **span)


def plan(*wishes: Wish, settled: object = None, **changes: object) -> Plan:
    return plan_backfill(wishes, scope(**changes), settled or {}, ASX)  # type: ignore[arg-type]


def shapes(found: Plan) -> list[tuple[str, str, str, tuple[str, ...], int]]:
    return [
        (each.timeframe, str(each.first), str(each.last), each.symbols, each.requests)
        for each in found.pieces
    ]


def test_two_years_of_daily_bars_are_one_piece_of_months_and_one_call_a_symbol() -> None:
    found = plan(wish("CBA", "1d"), wish("BHP", "1d"))

    assert shapes(found) == [("1d", "2024-11-01", "2026-11-01", ("CBA", "BHP"), 2)]


def test_pieces_of_five_minute_bars_are_newest_first_and_a_month_long() -> None:
    found = plan(wish("CBA", "5m"))

    # 60 days back from 02:00 UTC less the margin of an hour: the session of the 23rd, which opened
    # at midnight UTC, is the first that is in reach as a whole.
    assert shapes(found) == [
        ("5m", "2026-10-22", "2026-11-20", ("CBA",), 1),
        ("5m", "2026-09-23", "2026-10-21", ("CBA",), 1),
    ]


def test_pieces_of_minute_bars_fill_yahoos_eight_days_a_call() -> None:
    found = plan(wish("CBA", "1m"))

    # 24 days are three calls; the rest of the 30 days is a fourth.
    assert shapes(found) == [
        ("1m", "2026-10-28", "2026-11-20", ("CBA",), 3),
        ("1m", "2026-10-23", "2026-10-27", ("CBA",), 1),
    ]


def test_where_minutes_are_filled_five_minutes_follow_from_them() -> None:
    found = plan(wish("CBA", "1m", "5m"))

    five = [each for each in shapes(found) if each[0] == "5m"]
    assert five == [("5m", "2026-09-23", "2026-10-22", ("CBA",), 1)]


def test_daily_bars_come_before_all_others() -> None:
    found = plan(wish("CBA", "1d", "5m"))

    assert [each.timeframe for each in found.pieces] == ["1d", "5m", "5m"]


def test_a_range_out_of_every_providers_reach_is_said_with_the_reason_of_each() -> None:
    (out,) = plan(wish("CBA", "1m"), wish("BHP", "1m")).unreachable

    assert out.sentence == (
        "1m of CBA, BHP, 2026-09-22 to 2026-10-22: tape has no 1m bars, ibkr is not configured "
        "(set SCIZOR_IBKR_BASE_URL), yahoo reaches 30 days back."
    )


def test_what_the_users_files_hold_is_in_reach() -> None:
    held = {"CBA": [(date(2026, 10, 1), date(2026, 10, 9))]}
    found = plan(wish("CBA", "1m"), reaches=(Reach("tape", "1m", holds=held), *YAHOO))

    assert str(found.pieces[-1].first) == "2026-10-01"
    assert [(str(each.first), str(each.last)) for each in found.unreachable] == [
        ("2026-09-22", "2026-10-22")
    ]
    assert "tape has no file of it" in found.unreachable[0].sentence


def test_without_any_provider_nothing_is_planned_and_it_is_said() -> None:
    found = plan(wish("CBA", "1d"), reaches=(), chain=(), not_configured={})

    assert found.pieces == ()
    assert found.unreachable[0].sentence.endswith("no provider is configured.")


def test_sessions_that_are_settled_are_not_asked_for_again() -> None:
    settled = {("CBA", "5m"): {each.session_date for each in ASX.sessions(*NOVEMBER)}}
    found = plan(wish("CBA", "5m"), settled=settled)

    assert [each[1:3] for each in shapes(found)] == [
        ("2026-10-01", "2026-10-30"),
        ("2026-09-23", "2026-09-30"),
    ]
    # 2 to 20 November, Monday to Friday.
    assert found.settled == 15


NOVEMBER = (date(2026, 11, 1), date(2026, 12, 1))


def test_a_plan_of_which_everything_is_settled_is_empty() -> None:
    every = {each.session_date for each in ASX.sessions(date(2024, 1, 1), date(2027, 1, 1))}
    found = plan(
        wish("CBA", "1d", "1m", "5m"), settled={("CBA", t): every for t in ("1d", "1m", "5m")}
    )

    assert found.pieces == ()
    assert found.unreachable == ()


def test_a_run_has_so_many_symbols_at_most_in_the_order_given() -> None:
    found = plan(*(wish(f"S{n:02d}", "1d") for n in range(5)), symbols_per_run=2)

    assert [each.symbols for each in found.pieces] == [("S00", "S01"), ("S02", "S03"), ("S04",)]


def test_symbols_that_need_different_ranges_of_a_span_are_asked_for_apart() -> None:
    settled = {("CBA", "5m"): {each.session_date for each in ASX.sessions(*NOVEMBER)}}
    found = plan(wish("CBA", "5m"), wish("BHP", "5m"), settled=settled)

    assert [each[1:4] for each in shapes(found)] == [
        ("2026-10-22", "2026-11-20", ("BHP",)),
        ("2026-10-22", "2026-10-30", ("CBA",)),
        ("2026-09-23", "2026-10-21", ("CBA", "BHP")),
    ]


def test_many_different_ranges_of_a_span_become_one() -> None:
    days = [each.session_date for each in ASX.sessions(date(2026, 11, 1), date(2026, 11, 21))]
    wishes = [wish(f"S{n}", "5m") for n in range(8)]
    settled = {(f"S{n}", "5m"): set(days[-n:]) if n else set() for n in range(8)}
    found = plan(*wishes, settled=settled)

    assert shapes(found)[0][1:4] == (
        "2026-10-22",
        "2026-11-20",
        tuple(each.symbol for each in wishes),
    )


def test_days_before_the_listing_and_after_the_delisting_are_not_wanted() -> None:
    found = plan(
        wish("NEW", "1d", listed_from=date(2026, 10, 5)),
        wish("OLD", "1d", delisted_on=date(2025, 1, 15)),
    )

    # 20 sessions of October and November each less the days before; up to 15 January 2025.
    assert [(each.symbols, str(each.first), str(each.last)) for each in found.pieces] == [
        (("NEW",), "2026-10-01", "2026-11-01"),
        (("OLD",), "2024-11-01", "2025-01-01"),
    ]


def test_a_session_that_has_only_just_closed_is_left_to_the_refresh() -> None:
    # Friday 20 November closed at 16:00 in Sydney, 05:00 UTC.
    soon = plan(wish("CBA", "5m"), now=datetime(2026, 11, 20, 5, 59, tzinfo=UTC))
    later = plan(wish("CBA", "5m"), now=datetime(2026, 11, 20, 6, tzinfo=UTC))

    assert (str(soon.pieces[0].last), str(later.pieces[0].last)) == ("2026-11-19", "2026-11-20")


def test_what_has_no_partition_is_out_of_reach() -> None:
    found = plan(wish("CBA", "1d"), first_partitions={"1d": date(2026, 11, 1)})

    assert [each[1:3] for each in shapes(found)] == [("2026-11-01", "2026-11-01")]
    assert "the first partition is 2026-11-01, see SCIZOR_DAILY_START" in (
        found.unreachable[0].sentence
    )


def test_months_that_are_in_the_archive_are_not_asked_for() -> None:
    found = plan(wish("CBA", "5m"), archived={"5m": {date(2026, 9, 1)}})

    # Sydney's session of 1 October opens at 00:00 UTC of that day, in standard time.
    assert str(found.pieces[-1].first) == "2026-10-01"
    assert "`scizor archive restore`" in found.unreachable[-1].sentence


def test_equal_input_gives_an_equal_plan() -> None:
    wishes = [wish("CBA", "1d", "1m", "5m"), wish("BHP", "1d", "5m")]

    assert plan(*wishes) == plan(*wishes)


@pytest.mark.parametrize(
    ("window", "days"),
    [
        (None, 30),
        (timedelta(days=8), 24),
        (timedelta(days=60), 30),
        (timedelta(days=7), 28),
        (timedelta(hours=6), 30),
    ],
    ids=["unlimited", "8 days", "60 days", "7 days", "6 hours"],
)
def test_a_span_holds_whole_requests(window: timedelta | None, days: int) -> None:
    assert span_days(window) == days


@pytest.mark.parametrize(
    ("market", "day", "timeframe", "bars"),
    [
        ("asx", "2026-11-20", "1m", 360),
        ("asx", "2026-11-20", "5m", 72),
        ("asx", "2026-11-20", "15m", 24),
        ("asx", "2026-11-20", "1d", 1),
        ("asx", "2025-12-24", "5m", 50),  # closes at 14:10
        ("us", "2026-11-27", "1m", 210),  # closes at 13:00
        ("crypto", "2026-11-20", "5m", 288),
    ],
)
def test_the_bars_of_a_whole_session(
    market: str, day: str, timeframe: Timeframe, bars: int
) -> None:
    session = get_calendar(market).session(date.fromisoformat(day))
    assert session is not None
    assert expected_bars(session, timeframe) == bars
