"""How good bars are: outliers, completeness against the calendar, and the score.

Everything here is a statement about data that is already stored; nothing here changes a bar.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe
from scizor_core.sessions import SessionCalendar

PRICE_CHANGE_LIMIT = 0.10
VOLUME_RATIO_LIMIT = 5.0
VOLUME_AVERAGE_BARS = 20
SPREAD_LIMIT = 0.05
#: 11.00 / 10.00 - 1 is a little more than 0.10 in floating point, and is not over 10 %.
_ROUNDING = 1e-9
#: Bars before a window that `find_outliers` needs to judge the first bar of the window.
OUTLIER_LOOKBACK_BARS = VOLUME_AVERAGE_BARS + 1

OUTLIER_COLUMNS: tuple[str, ...] = ("instrument_id", "ts", "rule", "value", "limit")


def find_outliers(bars: pd.DataFrame, first_ts: pd.Timestamp | None = None) -> pd.DataFrame:
    """Return the bars that deserve a look, one row per bar and rule.

    Rules: `price_change` (close against the previous bar's close, over 10 %), `volume_ratio`
    (volume against the mean of the 20 bars before it, over 5 times) and `spread` (high minus low
    over close, over 5 %). A rule says nothing where it lacks the bars before. Only earlier bars of
    the same instrument are used.

    Args:
        bars: instrument_id, ts (UTC), high, low, close, volume; any order.
        first_ts: report only bars from there on; earlier ones serve as comparison.

    Returns:
        Columns `OUTLIER_COLUMNS`, ordered by instrument_id, ts, rule; `value` and `limit` are
        ratios (0.52 = 52 %).
    """
    ordered = bars.sort_values(["instrument_id", "ts"], kind="stable", ignore_index=True)
    groups = ordered.groupby("instrument_id", sort=False)
    previous_close = groups["close"].shift(1)
    average = groups["volume"].transform(
        lambda volume: volume.shift(1).rolling(VOLUME_AVERAGE_BARS).mean()
    )
    measures = {
        "price_change": (ordered["close"] / previous_close - 1, PRICE_CHANGE_LIMIT),
        "spread": ((ordered["high"] - ordered["low"]) / ordered["close"], SPREAD_LIMIT),
        "volume_ratio": (ordered["volume"] / average.where(average > 0), VOLUME_RATIO_LIMIT),
    }
    wanted = pd.Series(True, index=ordered.index) if first_ts is None else ordered["ts"] >= first_ts
    parts = []
    for rule, (value, limit) in measures.items():
        hit = wanted & (value.abs() > limit + _ROUNDING)
        part = ordered.loc[hit, ["instrument_id", "ts"]].assign(
            rule=rule, value=value[hit], limit=limit
        )
        parts.append(part)
    return pd.concat(parts)[list(OUTLIER_COLUMNS)].sort_values(
        ["instrument_id", "ts", "rule"], ignore_index=True
    )


@dataclass(frozen=True)
class Coverage:
    """Bars of one instrument, timeframe and session against the calendar.

    `expected` = `present` + `quiet` + `missing`; `unexpected` are stored bars outside the grid
    (a closing auction).
    """

    expected: int
    present: int
    quiet: int
    missing: int
    unexpected: int

    @property
    def ratio(self) -> float:
        """Share of the expected bars that is accounted for, 1.0 where none is expected."""
        return (self.present + self.quiet) / self.expected if self.expected else 1.0


def expected_by(
    calendar: SessionCalendar, session_date: datetime, timeframe: Timeframe, now: datetime
) -> pd.DatetimeIndex:
    """Return the bar starts of a session whose interval has ended at `now` (aware)."""
    expected = calendar.expected(session_date.date(), timeframe)
    if timeframe == "1d":
        session = calendar.session(session_date.date())
        return expected if session is not None and session.close <= now else expected[:0]
    return expected[
        expected + pd.Timedelta(minutes=TIMEFRAME_MINUTES[timeframe]) <= pd.Timestamp(now)
    ]


def measure_coverage(
    expected: pd.DatetimeIndex,
    present: pd.DatetimeIndex,
    no_trades: list[tuple[pd.Timestamp, pd.Timestamp]],
    timeframe: Timeframe,
) -> Coverage:
    """Compare what is stored with what the calendar expects.

    Args:
        expected: bar starts to expect.
        present: bar starts stored.
        no_trades: intervals `[start, end)` in which nothing traded, as a source has seen; a bar
            may lie in several of them that touch.
        timeframe: timeframe of the bars.
    """
    if len(present) == len(expected) and present.equals(expected):
        # Nearly every session of a listed stock; set operations cost fifty times as much.
        return Coverage(len(expected), len(expected), 0, 0, 0)
    absent = expected.difference(present)
    quiet = np.zeros(len(absent), dtype=bool)
    step = pd.Timedelta(minutes=TIMEFRAME_MINUTES[timeframe])
    for start, end in _joined(no_trades):
        quiet |= np.asarray((absent >= start) & (absent + step <= end))
    return Coverage(
        expected=len(expected),
        present=len(expected) - len(absent),
        quiet=int(quiet.sum()),
        missing=int(len(absent) - quiet.sum()),
        unexpected=len(present.difference(expected)),
    )


def _joined(
    intervals: list[tuple[pd.Timestamp, pd.Timestamp]],
) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """Return the intervals in order, those that touch or overlap as one."""
    joined: list[tuple[pd.Timestamp, pd.Timestamp]] = []
    for start, end in sorted(intervals):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def quality_score(coverage: Coverage, *, outliers: int, quarantined: int) -> float:
    """Return the score of a session, 0 (nothing usable) to 100 (nothing to say against it).

    score = 100 x coverage x validity x plausibility, where coverage is the accounted share of the
    expected bars, validity the share of received rows that was not refused, and plausibility
    1 - (bars with an outlier / present bars) / 2: an outlier may well be real, so it costs half.
    """
    received = coverage.present + coverage.unexpected + quarantined
    validity = 1 - quarantined / received if received else 1.0
    stored = coverage.present + coverage.unexpected
    plausibility = 1 - min(outliers / stored, 1.0) / 2 if stored else 1.0
    return round(100 * min(coverage.ratio, 1.0) * validity * plausibility, 2)


def absent_runs(
    expected: pd.DatetimeIndex, present: pd.DatetimeIndex, timeframe: Timeframe
) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """Return the intervals `[start, end)` of consecutive expected bars that are not present."""
    absent = expected.difference(present)
    if absent.empty:
        return []
    step = pd.Timedelta(minutes=TIMEFRAME_MINUTES[timeframe])
    breaks = np.flatnonzero(np.diff(absent) > step) + 1
    starts = [absent[0], *absent[breaks]]
    ends = [*(absent[breaks - 1] + step), absent[-1] + step]
    return list(zip(starts, ends, strict=True))
