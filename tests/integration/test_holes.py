"""Holes of every kind in stored data: found, labelled, repaired or explained, and it adds up.

One week of January 2022 on the ASX (10:00 to 16:00 in Sydney, 23:00 to 05:00 UTC), a real database,
providers on loopback, and a clock that stands where the tests put it. The runs are those that the
sensor asks for, executed here.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from scizor_resources.platform import Platform

from .helpers import execute, query
from .holes import Week, instants

OLD, NEW_YEAR = date(2021, 12, 14), date(2022, 1, 4)
MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (date(2022, 1, day) for day in range(17, 22))
#: An hour after Friday's close.
FOUND = datetime(2022, 1, 21, 6, 0, tzinfo=UTC)
#: What each symbol's hole is about; the first eight collect minutes, the others 5 minutes.
DOWN, PARTLY, HALTED, TOO_OLD, QUIET, REFUSED, ABSENT, NEVER = (
    "CBA",
    "WOW",
    "BHP",
    "CSL",
    "WBC",
    "ANZ",
    "NAB",
    "WES",
)
FIVE, LEFT = "RIO", "APT"
MINUTES = (DOWN, PARTLY, HALTED, TOO_OLD, QUIET, REFUSED, ABSENT, NEVER)


@pytest.fixture
def week(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[Week]:
    """A week of complete data in which holes were punched and measured."""
    chosen = platform.settings.model_copy(update={"chain_asx": ("simulated",)})
    monkeypatch.setattr(platform, "settings", chosen)
    with dg.DagsterInstance.ephemeral() as instance:
        made = Week(platform, instance, datetime(2021, 12, 14, 6, 0, tzinfo=UTC))
        monkeypatch.setattr(platform, "sources", lambda *_: [made.primary, made.secondary])
        execute(
            platform,
            "DELETE FROM public.watchlist WHERE symbol <> ALL (%s)",
            [*MINUTES, FIVE, LEFT],
        )
        collected = [*MINUTES[:-1], FIVE, LEFT]
        made.fill(OLD, OLD, [TOO_OLD], "1m")
        made.now = FOUND - timedelta(minutes=1)
        made.fill(MONDAY, FRIDAY, collected, "1m")
        made.fill(NEW_YEAR, FRIDAY, collected, "1d")
        made.now = FOUND
        _punch(made)
        yield made


def _punch(week: Week) -> None:
    for symbol in (DOWN, HALTED, QUIET, REFUSED, ABSENT, FIVE, LEFT):
        week.punch(symbol, TUESDAY, 60, 90)
    week.punch(PARTLY, TUESDAY, 355, 360)
    week.punch(TOO_OLD, OLD, 60, 90)
    execute(
        week.platform,
        "DELETE FROM market.bars AS b USING public.symbols AS s "
        "WHERE b.instrument_id = s.instrument_id AND s.symbol = %s AND b.timeframe = '1d' "
        "AND b.session_date = %s",
        DOWN,
        WEDNESDAY,
    )
    execute(
        week.platform,
        "INSERT INTO quality.halts (instrument_id, start_ts, end_ts, source, note) "
        "SELECT instrument_id, %s, %s, 'asx', 'trading halt: capital raising' "
        "FROM public.symbols WHERE symbol = %s",
        *instants(TUESDAY, 60, 90),
        HALTED,
    )
    # What the provider will say of it.
    start, end = instants(TUESDAY, 60, 90)
    week.primary.seen = {QUIET}
    week.primary.refused = {REFUSED}
    week.primary.absent = [(symbol, start, end) for symbol in (QUIET, ABSENT)]
    week.measure(OLD, OLD)
    week.measure(MONDAY, FRIDAY)
    week.measure(NEW_YEAR, FRIDAY, daily=True)


def test_holes_are_found_by_measuring_and_have_a_reason_each(week: Week) -> None:
    found = {
        symbol: week.gaps(symbol, TUESDAY, "1m")
        for symbol in (DOWN, PARTLY, HALTED, QUIET, REFUSED, ABSENT, NEVER)
    }
    unknown = (60, 90, "not yet fetched", "open", 0)
    assert found == {
        DOWN: [unknown],
        PARTLY: [(355, 360, "not yet fetched", "open", 0)],
        HALTED: [(60, 90, "halted", "explained", 0)],
        QUIET: [unknown],
        REFUSED: [unknown],
        ABSENT: [unknown],
        NEVER: [(0, 360, "not yet fetched", "open", 0)],
    }
    assert week.gaps(TOO_OLD, OLD) == [unknown]
    assert week.gaps(FIVE, TUESDAY, "5m") == [unknown]
    assert week.gaps(LEFT, TUESDAY, "5m") == [unknown]
    assert week.gaps(LEFT, WEDNESDAY, "5m") == []
    for day in (THURSDAY, FRIDAY):
        assert week.gaps(LEFT, day, "5m") == [(0, 360, "delisted", "explained", 0)]
    assert week.does_not_add_up() == []


@pytest.mark.slow
def test_a_provider_that_is_down_is_asked_at_growing_distances_and_then_fills_in(
    week: Week,
) -> None:
    week.primary.is_down = True
    assert week.tick() == []  # nothing is due yet
    week.now = FOUND + timedelta(minutes=5)
    runs = [(run["bars"], run["first"], run["last"], run["symbols"]) for run in week.tick()]
    assert runs == [
        ("1m", "2022-01-19", "2022-01-21", [NEVER]),
        ("1m", "2022-01-18", "2022-01-18", [REFUSED, DOWN, ABSENT, QUIET, PARTLY]),
        ("5m", "2022-01-18", "2022-01-18", [LEFT, FIVE]),
        ("1d", "2022-01-01", "2022-01-01", [DOWN, NEVER]),
        ("1m", "2021-12-14", "2021-12-14", [TOO_OLD]),
    ]
    hole = (60, 90, "feed down", "open")
    assert week.gaps(DOWN, TUESDAY) == [(*hole, 1)]
    assert week.does_not_add_up() == []

    assert week.tick() == []
    week.now += timedelta(minutes=5)
    assert len(week.tick()) == 5
    assert week.gaps(DOWN, TUESDAY) == [(*hole, 2)]

    week.now += timedelta(minutes=14, seconds=59)
    assert week.tick() == []
    week.primary.is_down = False
    week.now += timedelta(seconds=1)
    runs = {(run["bars"], *run["symbols"]): run["gaps"] for run in week.tick()}
    assert runs["1m", REFUSED, DOWN, ABSENT, QUIET, PARTLY] == {
        "asked": 5,
        "repaired": 2,
        "explained": 1,
        "given_up": 0,
        "still_open": 2,
    }
    repaired = {each: week.gaps(each, TUESDAY) for each in (DOWN, PARTLY)}
    assert repaired == {DOWN: [], PARTLY: []}
    assert [week.gaps(NEVER, day) for day in (WEDNESDAY, THURSDAY, FRIDAY)] == [[], [], []]
    assert week.gaps(FIVE, TUESDAY, "5m") == week.gaps(LEFT, TUESDAY, "5m") == []
    assert week.closed(DOWN) == {
        (timeframe, "feed down", "repaired", 2) for timeframe in ("1m", "5m", "15m", "1d")
    }
    # The rest is explained, or nobody had it.
    assert week.gaps(QUIET, TUESDAY) == [(60, 90, "no trades", "explained", 0)]
    assert week.gaps(TOO_OLD, OLD) == [(60, 90, "outside history", "explained", 0)]
    assert week.gaps(REFUSED, TUESDAY) == [(60, 90, "provider refused", "open", 1)]
    assert week.gaps(ABSENT, TUESDAY) == [(60, 90, "absent in every source", "open", 1)]
    assert week.closed(QUIET) >= {("1m", "feed down", "explained", 2)}
    assert week.does_not_add_up() == []
    # What was never fetched and is older than three sessions is left to the nightly backfill.
    for day in (MONDAY, TUESDAY):
        assert week.gaps(NEVER, day) == [(0, 360, "not yet fetched", "open", 0)]


@pytest.mark.slow
def test_what_stays_absent_is_asked_for_as_its_reason_allows_and_then_given_up(week: Week) -> None:
    week.now = FOUND + timedelta(minutes=5)
    tries: dict[str, list[float]] = {REFUSED: [], ABSENT: []}
    while True:
        asked = {symbol for run in week.tick() for symbol in run["symbols"]}
        for symbol in tries:
            if symbol in asked:
                tries[symbol].append((week.now - FOUND) / timedelta(hours=1))
        assert week.does_not_add_up() == []
        following = week.next_due()
        if following is None:
            break
        week.now = following
    first = 5 / 60
    assert tries[ABSENT] == pytest.approx([first, first + 2, first + 26])
    assert tries[REFUSED] == pytest.approx([first + 168 * number for number in range(5)])
    for symbol, attempts, said in (
        (ABSENT, 3, "asked 3 times until 2022-01-22 08:05 UTC, the last answer was: "),
        (
            REFUSED,
            5,
            "asked 5 times until 2022-02-18 06:05 UTC, the last answer was: primary: the ",
        ),
    ):
        rows = query(
            week.platform,
            "SELECT status, attempts, left(detail, %s) AS detail FROM asx.gaps "
            "WHERE symbol = %s AND timeframe = '1m' AND session_date = %s",
            len(said),
            symbol,
            TUESDAY,
        )
        assert rows == [{"status": "given up", "attempts": attempts, "detail": said}]
    left = query(
        week.platform, "SELECT DISTINCT reason, attempts FROM asx.gaps WHERE status = 'open'"
    )
    assert left == [{"reason": "not yet fetched", "attempts": 0}]
