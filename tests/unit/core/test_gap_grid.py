"""The grid of expected bars: which have ended, and which an interval touches."""

from datetime import UTC, date, datetime

import numpy as np
import pytest

from scizor_core.gap_grid import build_grid
from scizor_core.gaps import to_micros
from scizor_core.markets import Timeframe
from scizor_core.sessions import get_calendar

DAY = date(2022, 1, 4)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "timeframe", "count"),
    [
        ("2022-01-04 14:29", "1m", 0),
        ("2022-01-04 14:31", "1m", 1),
        ("2022-01-04 14:34:59", "5m", 0),
        ("2022-01-04 14:35", "5m", 1),
        ("2022-01-04 20:59", "1d", 0),
        ("2022-01-04 21:00", "1d", 1),
        ("2022-01-05 00:00", "1m", 390),
    ],
)
def test_only_bars_that_have_ended_are_expected(now: str, timeframe: Timeframe, count: int) -> None:
    assert len(build_grid(get_calendar("us"), [DAY], timeframe, at(now)).starts) == count


@pytest.mark.parametrize("timeframe", ["1m", "5m", "15m", "1d"])
@pytest.mark.parametrize(
    ("market", "day"),
    [
        ("us", date(2022, 1, 4)),
        ("asx", date(2022, 12, 23)),  # closes at 14:10
        ("asx", date(2022, 4, 4)),  # the first day of winter time in Sydney
        ("crypto", date(2022, 3, 27)),
    ],
    ids=["plain", "half day", "daylight saving", "never closed"],
)
def test_the_grid_is_the_calendars(market: str, day: date, timeframe: Timeframe) -> None:
    calendar = get_calendar(market)
    starts = build_grid(calendar, [day], timeframe, at("2026-01-01")).starts
    assert starts.tolist() == [
        to_micros(each.to_pydatetime()) for each in calendar.expected(day, timeframe)
    ]


def test_closed_days_and_sessions_that_have_not_begun_are_left_out() -> None:
    days = [date(2022, 1, 1), DAY, date(2022, 1, 5)]
    assert build_grid(get_calendar("us"), days, "1m", at("2022-01-05 14:00")).dates == [DAY]


def test_a_daily_bar_ends_with_its_day_and_trades_in_its_session() -> None:
    bars = build_grid(get_calendar("us"), [DAY], "1d", at("2022-02-01"))
    assert (bars.starts[0], bars.ends[0]) == (
        to_micros(at("2022-01-04")),
        to_micros(at("2022-01-05")),
    )
    assert bars.traded_to[0] == to_micros(at("2022-01-04 21:00"))


def test_a_bar_start_that_is_not_on_the_grid_has_no_position() -> None:
    bars = build_grid(get_calendar("us"), [DAY], "5m", at("2022-02-01"))
    times = [to_micros(at(f"2022-01-04 {each}")) for each in ("14:30", "14:31", "20:55", "21:00")]
    assert bars.positions(np.array(times, dtype=np.int64)).tolist() == [0, -1, 77, -1]


def test_intervals_touch_overlap_and_hold_bars() -> None:
    bars = build_grid(get_calendar("us"), [DAY], "5m", at("2022-02-01"))
    start, end = to_micros(at("2022-01-04 14:32")), to_micros(at("2022-01-04 14:45"))
    assert bars.starting(start, end) == slice(1, 3)
    assert bars.overlapping(start, end) == slice(0, 3)
    assert bars.inside(start, end) == slice(1, 3)
