"""Back-off of gaps and the runs that repair them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from scizor_core.errors import ContractError
from scizor_core.markets import Timeframe
from scizor_core.repair import (
    Collection,
    DueGaps,
    attempts_after,
    given_up,
    next_attempt,
    plan_repairs,
    without_collected,
)

NOW = datetime(2022, 1, 10, 6, 0, tzinfo=UTC)
MONDAY, TUESDAY, FRIDAY = date(2022, 1, 10), date(2022, 1, 11), date(2022, 1, 7)


def tries(reason: str) -> list[timedelta]:
    """Return how long each try waits, until the gap is given up."""
    waits = []
    while (at := next_attempt(reason, len(waits), NOW)) is not None:
        waits.append(at - NOW)
    return waits


# ---- the back-off


def test_a_feed_that_is_down_is_asked_within_a_minute_and_for_three_days() -> None:
    minutes = [wait.total_seconds() / 60 for wait in tries("feed down")]
    assert minutes == [1, 5, 15, 60, 360, 1440, 2880]


def test_what_no_source_has_is_asked_for_until_the_next_day() -> None:
    hours = [wait.total_seconds() / 3600 for wait in tries("absent in every source")]
    assert hours == [0.25, 2, 24]


def test_what_was_never_fetched_is_asked_for_daily_up_to_a_week() -> None:
    hours = [wait.total_seconds() / 3600 for wait in tries("not yet fetched")]
    assert hours == [5 / 60, 0.5, 6, *[24] * 7]


def test_a_plan_that_refuses_is_asked_after_a_day_and_then_four_weeks() -> None:
    assert [wait.days for wait in tries("provider refused")] == [1, 7, 7, 7, 7]


@pytest.mark.parametrize("reason", ["no trades", "halted", "outside history", "delisted"])
def test_what_is_explained_is_never_asked_for(reason: str) -> None:
    assert tries(reason) == []


def test_a_reason_that_there_is_not_is_refused() -> None:
    with pytest.raises(ContractError, match="'weather' is not a reason of a gap"):
        next_attempt("weather", 0, NOW)


def test_a_negative_number_of_attempts_is_refused() -> None:
    with pytest.raises(ContractError, match="-1 times"):
        next_attempt("feed down", -1, NOW)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("feed down", "absent in every source"),
        ("not yet fetched", "absent in every source"),
        ("provider refused", "absent in every source"),
        ("feed down", "provider refused"),
        ("not yet fetched", "provider refused"),
    ],
)
def test_a_try_that_learns_more_than_those_before_begins_a_new_count(
    before: str, after: str
) -> None:
    assert attempts_after(before, after, 6) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("feed down", "feed down"),
        ("absent in every source", "absent in every source"),
        ("absent in every source", "feed down"),
        ("provider refused", "feed down"),
        ("not yet fetched", "feed down"),
    ],
)
def test_any_other_try_counts_on(before: str, after: str) -> None:
    assert attempts_after(before, after, 2) == 3


@pytest.mark.parametrize(
    ("attempts", "said", "sentence"),
    [
        (1, "", "asked once until 2022-01-10 06:00 UTC."),
        (2, "", "asked twice until 2022-01-10 06:00 UTC."),
        (
            7,
            "yahoo: HTTP 503.",
            "asked 7 times until 2022-01-10 06:00 UTC, the last answer was: yahoo: HTTP 503.",
        ),
    ],
)
def test_giving_up_says_how_often_until_when_and_what_was_said(
    attempts: int, said: str, sentence: str
) -> None:
    assert given_up(attempts, NOW, said) == sentence


# ---- the runs


def due(
    partition: date = MONDAY,
    *symbols: str,
    market: str = "asx",
    timeframe: Timeframe = "1m",
    is_unfetched: bool = False,
) -> DueGaps:
    names = symbols or ("CBA",)
    identity = f"{market} {timeframe} {partition} {names}"
    return DueGaps(market, timeframe, partition, names, is_unfetched, len(names), NOW, identity)


def under_way(
    *symbols: str,
    market: str = "asx",
    timeframe: Timeframe = "1m",
    first: date = MONDAY,
    last: date = MONDAY,
    is_repair: bool = False,
) -> Collection:
    chosen = frozenset(symbols) or None
    return Collection(market, frozenset({timeframe}), first, last, chosen, is_repair)


def planned(*gaps: DueGaps, most_runs: int = 10) -> list[tuple[str, str, str, str]]:
    return [
        (run.timeframe, run.first.isoformat(), run.last.isoformat(), " ".join(run.symbols))
        for run in plan_repairs(gaps, NOW, most_runs)
    ]


def test_gaps_of_a_session_are_one_run_of_exactly_their_symbols() -> None:
    assert planned(due(MONDAY, "BHP", "CBA")) == [("1m", "2022-01-10", "2022-01-10", "BHP CBA")]


def test_neighbouring_sessions_with_the_same_symbols_are_one_run_over_the_weekend() -> None:
    assert planned(due(MONDAY), due(FRIDAY), due(TUESDAY)) == [
        ("1m", "2022-01-07", "2022-01-11", "CBA")
    ]


def test_sessions_with_another_one_between_them_are_two_runs_the_newer_first() -> None:
    assert planned(due(FRIDAY), due(TUESDAY)) == [
        ("1m", "2022-01-11", "2022-01-11", "CBA"),
        ("1m", "2022-01-07", "2022-01-07", "CBA"),
    ]


def test_other_symbols_are_another_run() -> None:
    assert planned(due(MONDAY, "BHP"), due(FRIDAY, "CBA")) == [
        ("1m", "2022-01-10", "2022-01-10", "BHP"),
        ("1m", "2022-01-07", "2022-01-07", "CBA"),
    ]


def test_nearly_the_same_symbols_are_one_run() -> None:
    assert planned(due(MONDAY, *"ABCDE"), due(FRIDAY, *"ABCD")) == [
        ("1m", "2022-01-07", "2022-01-10", "A B C D E")
    ]


def test_a_symbol_with_gaps_of_two_timeframes_is_asked_for_the_finer_one() -> None:
    gaps = (due(MONDAY, "CBA", "RIO", timeframe="5m"), due(MONDAY, "CBA"))
    assert planned(*gaps) == [
        ("1m", "2022-01-10", "2022-01-10", "CBA"),
        ("5m", "2022-01-10", "2022-01-10", "RIO"),
    ]


def test_what_was_never_fetched_joins_the_other_gaps_of_its_session() -> None:
    assert planned(due(MONDAY, "CBA"), due(MONDAY, "BHP", is_unfetched=True)) == [
        ("1m", "2022-01-10", "2022-01-10", "BHP CBA")
    ]


def test_daily_bars_are_asked_for_by_month_beside_the_others() -> None:
    december, january = date(2021, 12, 1), date(2022, 1, 1)
    gaps = (due(december, timeframe="1d"), due(january, timeframe="1d"), due(MONDAY))
    assert planned(*gaps) == [
        ("1m", "2022-01-10", "2022-01-10", "CBA"),
        ("1d", "2021-12-01", "2022-01-01", "CBA"),
    ]


def test_an_outage_of_10000_symbols_over_three_weeks_is_a_few_runs_a_tick() -> None:
    names = tuple(f"S{number:05}" for number in range(10_000))
    sessions = [date(2022, 1, day) for day in (4, 5, 6, 7, 10, 11, 12, 13, 14, 18, 19, 20)]
    outage = [due(day, *names, market="us") for day in sessions]
    every = plan_repairs(outage, NOW, 1000)
    # 12 sessions of 390 minutes: 4,680 bars a symbol, 213 symbols in a million bars.
    assert len(every) == 47
    assert {symbol for run in every for symbol in run.symbols} == set(names)
    assert len(plan_repairs(outage, NOW, 10)) == 10


def test_a_long_outage_is_divided_into_runs_of_twenty_sessions() -> None:
    days = [date(2022, 1, 1) + timedelta(days=number) for number in range(50)]
    runs = planned(*(due(day, "BTC/USD", market="crypto") for day in days))
    assert [run[1:3] for run in runs] == [
        ("2022-01-31", "2022-02-19"),
        ("2022-01-11", "2022-01-30"),
        ("2022-01-01", "2022-01-10"),
    ]


def test_no_more_runs_than_there_is_room_for_newest_first() -> None:
    days = [date(2022, 1, day) for day in (4, 6, 10)]
    assert [run[1] for run in planned(*(due(day) for day in days), most_runs=2)] == [
        "2022-01-10",
        "2022-01-06",
    ]
    assert planned(due(), most_runs=0) == []


def test_the_same_gaps_looked_at_twice_are_the_same_run() -> None:
    gaps = [due(MONDAY, "BHP", "CBA"), due(FRIDAY)]
    later = NOW + timedelta(minutes=59)
    first = [run.key for run in plan_repairs(gaps, NOW, 10)]
    assert [run.key for run in plan_repairs(gaps[::-1], later, 10)] == first


def test_another_attempt_is_another_run() -> None:
    once = due()
    twice = replace(once, identity="the same gaps after one attempt")
    assert plan_repairs([once], NOW, 1)[0].key != plan_repairs([twice], NOW, 1)[0].key


def test_gaps_whose_run_has_counted_no_attempt_are_asked_for_again_an_hour_later() -> None:
    later = NOW + timedelta(hours=1)
    assert plan_repairs([due()], NOW, 1)[0].key != plan_repairs([due()], later, 1)[0].key


# ---- beside what is under way


def test_a_partition_that_is_being_repaired_is_left_alone() -> None:
    repair = under_way("WES", is_repair=True)
    assert without_collected([due(MONDAY, "CBA"), due(FRIDAY, "CBA")], [repair]) == [
        due(FRIDAY, "CBA")
    ]


def test_a_repair_of_daily_bars_does_not_hold_back_the_minutes_of_its_month() -> None:
    first = date(2022, 1, 1)
    repair = under_way("CBA", timeframe="1d", first=first, last=first, is_repair=True)
    assert without_collected([due(first, "BTC/USD")], [repair]) == [due(first, "BTC/USD")]


@pytest.mark.parametrize("other", [under_way(market="us"), under_way(first=FRIDAY, last=FRIDAY)])
def test_a_run_of_another_market_or_session_holds_nothing_back(other: Collection) -> None:
    gaps = [due(MONDAY, "CBA", is_unfetched=True)]
    assert without_collected(gaps, [other]) == gaps


def test_what_was_never_fetched_is_left_to_the_backfill_that_will_fetch_it() -> None:
    gaps = [due(MONDAY, "BHP", "CBA", is_unfetched=True)]
    assert without_collected(gaps, [under_way(first=FRIDAY)]) == []
    assert without_collected(gaps, [under_way("BHP", first=FRIDAY)]) == [
        replace(gaps[0], symbols=("CBA",))
    ]


def test_a_backfill_of_a_coarser_timeframe_does_not_fetch_minutes() -> None:
    gaps = [due(MONDAY, "CBA", is_unfetched=True)]
    assert without_collected(gaps, [under_way(timeframe="5m")]) == gaps


def test_what_has_been_asked_for_before_does_not_wait_for_a_backfill() -> None:
    assert without_collected([due()], [under_way()]) == [due()]
