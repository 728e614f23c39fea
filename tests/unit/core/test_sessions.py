"""Sessions: which days, from when to when, and which bars belong to them.

Times are those the exchanges publish: ASX 10:00 to 16:00 Sydney, 14:10 before Christmas; NYSE 09:30
to 16:00 New York, 13:00 on half days. Offsets from UTC are worked out by hand.
"""

from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scizor_core.errors import UnknownMarketError
from scizor_core.markets import MARKETS, Timeframe
from scizor_core.sessions import SessionCalendar, get_calendar

ASX, US, CRYPTO = (get_calendar(market) for market in ("asx", "us", "crypto"))
LONG_AGO, LATELY = date(1995, 1, 1), date(2026, 6, 30)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def bounds(calendar: SessionCalendar, day: date) -> tuple[datetime, datetime]:
    session = calendar.session(day)
    assert session is not None
    return session.open, session.close


def series(*times: str) -> pd.Series:
    return pd.Series(pd.DatetimeIndex(list(times), tz="UTC").as_unit("us"))


def days_of(placed: pd.Series) -> list[str | None]:
    return [None if pd.isna(day) else f"{day:%Y-%m-%d}" for day in placed]


@pytest.mark.parametrize(
    ("calendar", "day", "opens", "closes"),
    [
        # Sydney is at +11:00 until 3 April 2022, 02:00 UTC less than a day before that Monday.
        (ASX, date(2022, 4, 1), "2022-03-31 23:00", "2022-04-01 05:00"),
        (ASX, date(2022, 4, 4), "2022-04-04 00:00", "2022-04-04 06:00"),
        # ... and again from 2 October 2022 on.
        (ASX, date(2022, 9, 30), "2022-09-30 00:00", "2022-09-30 06:00"),
        (ASX, date(2022, 10, 3), "2022-10-02 23:00", "2022-10-03 05:00"),
        # New York goes from -05:00 to -04:00 on 13 March 2022 and back on 6 November 2022.
        (US, date(2022, 3, 11), "2022-03-11 14:30", "2022-03-11 21:00"),
        (US, date(2022, 3, 14), "2022-03-14 13:30", "2022-03-14 20:00"),
        (US, date(2022, 11, 4), "2022-11-04 13:30", "2022-11-04 20:00"),
        (US, date(2022, 11, 7), "2022-11-07 14:30", "2022-11-07 21:00"),
        (CRYPTO, date(2022, 3, 13), "2022-03-13 00:00", "2022-03-14 00:00"),
        # Half days: 14:10 in Sydney at +11:00, 13:00 in New York at -05:00.
        (ASX, date(2022, 12, 23), "2022-12-22 23:00", "2022-12-23 03:10"),
        (ASX, date(2024, 12, 24), "2024-12-23 23:00", "2024-12-24 03:10"),
        (US, date(2024, 11, 29), "2024-11-29 14:30", "2024-11-29 18:00"),
    ],
    ids=str,
)
def test_a_session_is_where_the_exchange_says(
    calendar: SessionCalendar, day: date, opens: str, closes: str
) -> None:
    assert bounds(calendar, day) == (at(opens), at(closes))


@pytest.mark.parametrize(
    ("calendar", "day"),
    [
        (ASX, date(2022, 1, 3)),
        (ASX, date(2022, 1, 26)),
        (ASX, date(2022, 4, 15)),
        (ASX, date(2022, 9, 22)),  # day of mourning for the Queen
        (ASX, date(2022, 12, 26)),
        (ASX, date(2022, 12, 27)),
        (ASX, date(2022, 1, 8)),
        (US, date(2022, 1, 17)),
        (US, date(2022, 6, 20)),  # Juneteenth, observed for the first time
        (US, date(2022, 11, 24)),
        (US, date(2022, 12, 26)),
        (US, date(2022, 1, 9)),
    ],
    ids=str,
)
def test_a_holiday_is_no_session(calendar: SessionCalendar, day: date) -> None:
    assert calendar.session(day) is None
    assert calendar.closed_days(day, day + timedelta(days=1)) == [day]
    assert calendar.expected(day, "5m").empty


def test_crypto_trades_every_day() -> None:
    assert len(CRYPTO.sessions(date(2022, 1, 1), date(2023, 1, 1))) == 365
    assert CRYPTO.closed_days(date(2022, 1, 1), date(2023, 1, 1)) == []


def test_closed_days_are_weekends_and_holidays() -> None:
    assert ASX.closed_days(date(2022, 1, 1), date(2022, 1, 11)) == [
        date(2022, 1, day) for day in (1, 2, 3, 8, 9)
    ]


@given(
    market=st.sampled_from(list(MARKETS)),
    start=st.dates(LONG_AGO, LATELY),
    length=st.integers(0, 60),
)
def test_every_day_is_either_a_session_or_closed(market: str, start: date, length: int) -> None:
    calendar, end = get_calendar(market), start + timedelta(days=length)
    days = [each.session_date for each in calendar.sessions(start, end)]
    assert sorted(days + calendar.closed_days(start, end)) == [
        start + timedelta(days=number) for number in range(length)
    ]


@pytest.mark.parametrize(
    ("calendar", "day", "timeframe", "count"),
    [
        (ASX, date(2022, 1, 4), "1m", 360),
        (ASX, date(2022, 1, 4), "5m", 72),
        (ASX, date(2022, 1, 4), "15m", 24),
        (ASX, date(2022, 1, 4), "1d", 1),
        (ASX, date(2022, 12, 23), "1m", 250),
        (ASX, date(2022, 12, 23), "15m", 17),  # the last bucket is ten minutes long
        (US, date(2022, 1, 4), "1m", 390),
        (US, date(2024, 11, 29), "1m", 210),
        (CRYPTO, date(2022, 1, 1), "1m", 1440),
        (CRYPTO, date(2022, 1, 1), "15m", 96),
    ],
    ids=str,
)
def test_so_many_bars_are_expected(
    calendar: SessionCalendar, day: date, timeframe: Timeframe, count: int
) -> None:
    assert len(calendar.expected(day, timeframe)) == count


def test_a_daily_bar_is_expected_at_midnight_of_the_exchange_s_date() -> None:
    assert list(ASX.expected(date(2022, 1, 4), "1d")) == [pd.Timestamp("2022-01-04", tz="UTC")]


@given(
    market=st.sampled_from(list(MARKETS)),
    start=st.dates(LONG_AGO, LATELY),
    timeframe=st.sampled_from(["1m", "5m", "15m"]),
)
def test_every_expected_bar_is_placed_in_its_session(
    market: str, start: date, timeframe: Timeframe
) -> None:
    calendar = get_calendar(market)
    session = calendar.sessions(start, start + timedelta(days=14))[0]
    expected = calendar.expected(session.session_date, timeframe)
    placed = calendar.place(pd.Series(expected))
    assert set(placed) == {pd.Timestamp(session.session_date)}
    assert session.open == expected[0]
    assert expected[-1] < session.close


@given(
    market=st.sampled_from(list(MARKETS)),
    start=st.dates(LONG_AGO, LATELY),
    minutes=st.lists(st.integers(0, 10 * 1440), min_size=1, max_size=50),
)
def test_nothing_outside_a_session_is_placed_in_one(
    market: str, start: date, minutes: list[int]
) -> None:
    calendar = get_calendar(market)
    midnight = datetime.combine(start, datetime.min.time(), UTC)
    times = [midnight + timedelta(minutes=minute) for minute in minutes]
    sessions = calendar.sessions(start - timedelta(days=3), start + timedelta(days=15))
    auction = timedelta(minutes=calendar.market.closing_auction_minutes)
    by_hand = [
        next(
            (pd.Timestamp(s.session_date) for s in sessions if s.open <= each < s.close + auction),
            pd.NaT,
        )
        for each in times
    ]
    placed = calendar.place(pd.Series(pd.DatetimeIndex(times).as_unit("us")))
    assert days_of(placed) == days_of(pd.Series(by_hand, dtype="datetime64[us]"))


def test_the_closing_auction_belongs_to_the_session_that_has_closed() -> None:
    # 15:59, 16:00, 16:12, 16:13 in Sydney.
    times = series("2022-01-04 04:59", "2022-01-04 05:00", "2022-01-04 05:12", "2022-01-04 05:13")
    assert days_of(ASX.place(times)) == ["2022-01-04"] * 3 + [None]
    expected = ASX.expected(date(2022, 1, 4), "1m")
    assert expected[-1] == times[0]


def test_the_minute_before_the_open_is_in_no_session() -> None:
    placed = US.place(series("2022-01-04 14:29", "2022-01-04 14:30", "2022-01-04 21:00"))
    assert days_of(placed) == [None, "2022-01-04", None]


def test_a_missing_time_is_in_no_session_and_the_index_is_kept() -> None:
    times = pd.Series([pd.NaT, pd.Timestamp("2022-01-04 15:00", tz="UTC")], index=[7, 3])
    placed = US.place(times.astype("datetime64[us, UTC]"))
    assert list(placed.index) == [7, 3]
    assert list(placed.isna()) == [True, False]


def test_session_dates_are_told_from_closed_days() -> None:
    days = series("2022-01-03", "2022-01-04", "2022-01-08")
    assert list(ASX.is_session_date(days)) == [False, True, False]


def test_a_window_reaches_from_the_first_open_to_the_last_close_with_its_auction() -> None:
    assert ASX.window(date(2022, 1, 1), date(2022, 1, 6)) == (
        at("2022-01-03 23:00"),
        at("2022-01-05 05:13"),
    )
    assert ASX.window(date(2022, 1, 1), date(2022, 1, 4)) is None


@pytest.mark.parametrize(
    ("now", "open_now", "next_open"),
    [
        ("2022-01-03 22:59:59", False, "2022-01-03 23:00"),
        ("2022-01-03 23:00:00", True, "2022-01-04 23:00"),
        ("2022-01-04 05:00:00", False, "2022-01-04 23:00"),
        ("2022-01-07 06:00:00", False, "2022-01-09 23:00"),
    ],
)
def test_the_market_is_open_from_its_open_until_before_its_close(
    now: str, open_now: bool, next_open: str
) -> None:
    assert ASX.is_open(at(now)) is open_now
    assert ASX.next_open(at(now)) == at(next_open)


def test_a_session_knows_its_minutes() -> None:
    sessions = ASX.sessions(date(2022, 12, 22), date(2022, 12, 24))
    assert [session.minutes for session in sessions] == [360, 250]


def test_an_unknown_market_has_no_calendar() -> None:
    with pytest.raises(UnknownMarketError, match="There is no market 'lse'"):
        get_calendar("lse")
