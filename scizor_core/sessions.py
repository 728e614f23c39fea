"""Trading sessions of a market: which days, from when to when, which bars are to be expected.

Built on exchange_calendars, with a small table of corrections where it errs. A session is named
by the exchange's own date; its bounds are UTC instants, so both changes of daylight saving, half
days and holidays need no special case anywhere else.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np
import pandas as pd

from scizor_core.markets import TIMEFRAME_MINUTES, MarketSpec, Timeframe, get_market

#: Nothing the platform stores is older; also the first year that all calendars can answer.
FIRST_SESSION_YEAR = 1990

_THREE_YEARS_OF_SESSIONS = 760


@dataclass(frozen=True)
class Correction:
    """A session that exchange_calendars has wrong: its close in the exchange's local time."""

    market: str
    session_date: date
    close_local: time
    reason: str


#: Checked against exchange_calendars 4.13.2. It closes XASX early on the last business day before
#: Christmas only when that day is a 24 December or the Friday rule applies; 2022-12-23 is missing.
CORRECTIONS: tuple[Correction, ...] = (
    Correction(
        market="asx",
        session_date=date(2022, 12, 23),
        close_local=time(14, 10),
        reason="last session before Christmas 2022; ASX trading calendar 2022: closes 14:10",
    ),
)


@dataclass(frozen=True)
class Session:
    """One session: the exchange's date and its bounds as UTC instants (`close` is exclusive)."""

    session_date: date
    open: datetime
    close: datetime

    @property
    def minutes(self) -> int:
        """Minutes between open and close."""
        return int((self.close - self.open).total_seconds() // 60)


class SessionCalendar:
    """The sessions of one market, as arrays, so that many bars are placed at once.

    Args:
        market: the market whose calendar to load.

    Note:
        The calendar reaches about one year ahead of the day it is built; later days are not
        sessions yet.
    """

    def __init__(self, market: MarketSpec) -> None:
        self.market = market
        if market.calendar == "24/7":
            days = pd.date_range(
                f"{FIRST_SESSION_YEAR}-01-01", periods=366 * 60, freq="D", tz="UTC"
            )
            opens = days.to_numpy(dtype="datetime64[us]")
            closes = opens + np.timedelta64(1, "D")
            self._dates = opens.astype("datetime64[D]")
        else:
            # exchange_calendars starts 20 years back by default; daily history needs more.
            calendar = exchange_calendars.get_calendar(
                market.calendar, start=f"{FIRST_SESSION_YEAR}-01-01"
            )
            opens = calendar.opens.dt.tz_localize(None).to_numpy(dtype="datetime64[us]").copy()
            closes = calendar.closes.dt.tz_localize(None).to_numpy(dtype="datetime64[us]").copy()
            self._dates = calendar.sessions.to_numpy(dtype="datetime64[D]")
        self._opens = opens
        self._closes = closes
        for correction in CORRECTIONS:
            if correction.market == market.name:
                local = datetime.combine(
                    correction.session_date, correction.close_local, ZoneInfo(market.timezone)
                )
                index = int(np.searchsorted(self._dates, np.datetime64(correction.session_date)))
                self._closes[index] = np.datetime64(local.astimezone(UTC).replace(tzinfo=None))

    def __repr__(self) -> str:
        return f"SessionCalendar({self.market.name!r})"

    def session(self, session_date: date) -> Session | None:
        """Return the session of that date, or None where the exchange is closed."""
        index = int(np.searchsorted(self._dates, np.datetime64(session_date)))
        if index == len(self._dates) or self._dates[index] != np.datetime64(session_date):
            return None
        return self._at(index)

    def sessions(self, start: date, end: date) -> list[Session]:
        """Return the sessions with `start <= session_date < end`, in order."""
        low, high = np.searchsorted(self._dates, [np.datetime64(start), np.datetime64(end)])
        return [self._at(index) for index in range(int(low), int(high))]

    def closed_days(self, start: date, end: date) -> list[date]:
        """Return the days in `[start, end)` on which there is no session, in order."""
        days = np.arange(np.datetime64(start), np.datetime64(end))
        closed: list[date] = np.setdiff1d(days, self._dates).astype(object).tolist()
        return closed

    def window(self, start: date, end: date) -> tuple[datetime, datetime] | None:
        """Return first open and last close (UTC, auction included) of sessions in `[start, end)`.

        Returns None where no session lies in that range.
        """
        found = self.sessions(start, end)
        if not found:
            return None
        auction = timedelta(minutes=self.market.closing_auction_minutes)
        return found[0].open, found[-1].close + auction

    def place(self, ts: "pd.Series[pd.Timestamp]") -> "pd.Series[pd.Timestamp]":
        """Return the session date of each intraday bar start, NaT where it is in no session.

        Args:
            ts: UTC bar starts (datetime64, timezone-aware).

        Returns:
            datetime64[us] at midnight without a zone: a date of the exchange, not an instant. A
            bar of the closing auction belongs to the session that has just closed.
        """
        values = ts.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
        index = np.searchsorted(self._opens, values, side="right") - 1
        auction = np.timedelta64(self.market.closing_auction_minutes, "m")
        safe = np.clip(index, 0, None)
        ends = self._closes[safe].astype("datetime64[us]") + auction
        inside = (index >= 0) & (values.astype("int64") < ends.astype("int64")) & ~np.isnat(values)
        dates = np.where(inside, self._dates[safe], np.datetime64("NaT"))
        return pd.Series(dates.astype("datetime64[us]"), index=ts.index)

    def is_session_date(self, ts: "pd.Series[pd.Timestamp]") -> "pd.Series[bool]":
        """Say for each UTC midnight whether the exchange has a session on that date."""
        days = ts.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[D]")
        return pd.Series(np.isin(days, self._dates), index=ts.index)

    def expected(self, session_date: date, timeframe: Timeframe) -> pd.DatetimeIndex:
        """Return the bar starts (UTC) to expect in that session, empty where it is closed.

        The closing auction is not expected: it prints only where it finds a price.
        """
        session = self.session(session_date)
        if session is None:
            return pd.DatetimeIndex([], dtype="datetime64[us, UTC]")
        if timeframe == "1d":
            return pd.DatetimeIndex(
                [datetime.combine(session_date, time(), UTC)], dtype="datetime64[us, UTC]"
            )
        step = pd.Timedelta(minutes=TIMEFRAME_MINUTES[timeframe])
        first = pd.Timestamp(session.open).floor(step)
        starts = pd.date_range(first, session.close, freq=step, inclusive="left")
        return pd.DatetimeIndex(starts, dtype="datetime64[us, UTC]")

    def is_open(self, at: datetime) -> bool:
        """Say whether the market trades at that instant (aware datetime)."""
        index = self._index_at(at)
        return bool(index >= 0 and _naive(at) < self._closes[index])

    def next_open(self, at: datetime) -> datetime | None:
        """Return the first open after that instant, None where the calendar ends."""
        index = self._index_at(at) + 1
        return self._at(index).open if index < len(self._opens) else None

    def closing_times(self) -> list[time]:
        """Return the times of day, in the exchange's zone, at which sessions end, in order.

        Taken from the last three years that the calendar knows, the year ahead included: its usual
        close and those of its half days.
        """
        closes = pd.DatetimeIndex(self._closes[-_THREE_YEARS_OF_SESSIONS:]).tz_localize("UTC")
        times: list[time] = sorted(set(closes.tz_convert(self.market.timezone).time))
        return times

    def _index_at(self, at: datetime) -> int:
        return int(np.searchsorted(self._opens, _naive(at), side="right")) - 1

    def _at(self, index: int) -> Session:
        return Session(
            session_date=self._dates[index].astype(object),
            open=self._opens[index].astype(object).replace(tzinfo=UTC),
            close=self._closes[index].astype(object).replace(tzinfo=UTC),
        )


def _naive(at: datetime) -> np.datetime64:
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")


@lru_cache(maxsize=16)
def get_calendar(market_name: str) -> SessionCalendar:
    """Return the calendar of a market, built once in a process.

    Raises:
        UnknownMarketError: no such market.
    """
    return SessionCalendar(get_market(market_name))
