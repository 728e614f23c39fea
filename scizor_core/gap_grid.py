"""The bars to expect of some sessions, as arrays, and which of them an interval touches.

All instants are UTC, in microseconds since 1970.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt

from scizor_core.gaps import LATE_ARRIVAL, Micros, to_micros
from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe
from scizor_core.sessions import SessionCalendar

_Ints = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]
_LATE = LATE_ARRIVAL // timedelta(microseconds=1)


@dataclass(frozen=True)
class Grid:
    """The bars to expect of some sessions by now, as arrays of one length, in order.

    Attributes:
        timeframe: length of a bar.
        dates: the sessions.
        opens: their opens.
        closes: their closes.
        starts: bar starts.
        ends: bar ends.
        traded_from: when trading of a bar begins; for a daily bar the session's open.
        traded_to: when it ends: at the session's close at the latest.
        session: position in `dates` of each bar's session.
        now: the present.
    """

    timeframe: Timeframe
    dates: list[date]
    opens: _Ints
    closes: _Ints
    starts: _Ints
    ends: _Ints
    traded_from: _Ints
    traded_to: _Ints
    session: _Ints
    now: Micros

    @property
    def is_running(self) -> _Mask:
        """Which sessions trade, or have closed so lately that bars of theirs are still to come."""
        return (self.opens <= self.now) & (self.now < self.closes + _LATE)

    @property
    def step(self) -> Micros:
        """Length of a bar; of a daily bar the day."""
        return TIMEFRAME_MINUTES[self.timeframe] * 60_000_000

    def positions(self, times: _Ints) -> _Ints:
        """Return the position of each bar start, -1 where it is not on the grid."""
        if not len(self.starts):
            return np.full(len(times), -1, dtype=np.int64)
        found = np.searchsorted(self.starts, times)
        found[found == len(self.starts)] = 0
        return np.where(self.starts[found] == times, found, -1)

    def starting(self, start: Micros, end: Micros) -> slice:
        """Return the bars that start in `[start, end)`."""
        low, high = np.searchsorted(self.starts, [start, end])
        return slice(int(low), int(high))

    def overlapping(self, start: Micros, end: Micros) -> slice:
        """Return the bars of whose trading time some lies in `[start, end)`."""
        low = np.searchsorted(self.traded_to, start, side="right")
        high = np.searchsorted(self.traded_from, end, side="left")
        return slice(int(low), max(int(high), int(low)))

    def inside(self, start: Micros, end: Micros) -> slice:
        """Return the bars whose trading time lies wholly in `[start, end)`."""
        low = np.searchsorted(self.traded_from, start, side="left")
        high = np.searchsorted(self.traded_to, end, side="right")
        return slice(int(low), max(int(high), int(low)))

    def late(self, present: _Mask) -> _Mask:
        """Return the newest bars of running sessions, after the last one that is there."""
        late = self.is_running[self.session] & (self.ends > self.now - _LATE)
        for number in np.unique(self.session[late]):
            there = np.flatnonzero(present & (self.session == number))
            if len(there):
                late[: there[-1] + 1] &= self.session[: there[-1] + 1] != number
        return late


def build_grid(
    calendar: SessionCalendar, dates: Sequence[date], timeframe: Timeframe, now: datetime
) -> Grid:
    """Return the bars of sessions whose interval has ended at `now` (aware).

    Args:
        calendar: the market's calendar.
        dates: session dates; days without a session, and sessions that have not begun, are left
            out.
        timeframe: length of a bar.
        now: the present.
    """
    present = to_micros(now)
    found = [calendar.session(each) for each in sorted(set(dates))]
    sessions = [each for each in found if each is not None and each.open <= now]
    opens = np.array([to_micros(each.open) for each in sessions], dtype=np.int64)
    closes = np.array([to_micros(each.close) for each in sessions], dtype=np.int64)
    step = TIMEFRAME_MINUTES[timeframe] * 60_000_000
    if timeframe == "1d":
        midnights = [datetime.combine(each.session_date, time(), UTC) for each in sessions]
        starts = np.array([to_micros(each) for each in midnights], dtype=np.int64)
        numbers = np.arange(len(sessions), dtype=np.int64)
        ended = closes <= present
    else:
        parts = [
            np.arange(first // step * step, last, step, dtype=np.int64)
            for first, last in zip(opens.tolist(), closes.tolist(), strict=True)
        ]
        nothing = np.empty(0, dtype=np.int64)
        starts = np.concatenate([nothing, *parts])
        numbers = np.repeat(np.arange(len(sessions), dtype=np.int64), [len(each) for each in parts])
        ended = starts + step <= present
    starts, numbers = starts[ended], numbers[ended]
    ends = starts + step
    from_open, to_close = opens[numbers], closes[numbers]
    daily = timeframe == "1d"
    return Grid(
        timeframe=timeframe,
        dates=[each.session_date for each in sessions],
        opens=opens,
        closes=closes,
        starts=starts,
        ends=ends,
        traded_from=from_open if daily else np.maximum(starts, from_open),
        traded_to=to_close if daily else np.minimum(ends, to_close),
        session=numbers,
        now=present,
    )
