"""What is said of absent bars: reasons, claims, and the intervals of `quality.gaps`.

All instants are UTC, in microseconds since 1970.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from scizor_core.markets import TIMEFRAMES

NO_TRADES = "no trades"
HALTED = "halted"
DELISTED = "delisted"
OUTSIDE_HISTORY = "outside history"
FEED_DOWN = "feed down"
REFUSED = "provider refused"
ABSENT = "absent in every source"
NOT_FETCHED = "not yet fetched"

#: Those that leave a bar missing, the one that promises most for another try first.
OPEN_REASONS: tuple[str, ...] = (FEED_DOWN, REFUSED, ABSENT, NOT_FETCHED)
REASONS: tuple[str, ...] = (NO_TRADES, HALTED, DELISTED, OUTSIDE_HISTORY, *OPEN_REASONS)

#: Bars come this late at most: Yahoo is 15 to 20 minutes behind the ASX, and an auction prints
#: after the close. Until then the newest minutes of a session are merely not there yet.
LATE_ARRIVAL = timedelta(minutes=40)

#: `source` of a reason that comes from the listing of the instrument.
LISTING = "listing"
Lane = Literal["live", "repair", "backfill", "research"]
Status = Literal["open", "explained", "given up"]
Micros = int
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(at: datetime) -> Micros:
    """Return an aware instant as microseconds since 1970, UTC."""
    return (at - _EPOCH) // _MICROSECOND


def from_micros(at: Micros) -> datetime:
    """Return microseconds since 1970 as an aware instant, UTC."""
    return _EPOCH + at * _MICROSECOND


@dataclass(frozen=True, slots=True)
class Claim:
    """An interval `[start, end)` and why bars in it are absent, if they are.

    Attributes:
        start: first instant.
        end: first instant after it.
        reason: one of `REASONS`.
        detail: what was said about it.
        source: who said so.
    """

    start: Micros
    end: Micros
    reason: str
    detail: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """One interval of `quality.gaps`: consecutive absent bars of a session with one reason.

    Attributes:
        session_date: session, the exchange's date.
        start: start of the first bar.
        end: end of the last bar.
        reason: one of `REASONS`.
        source: who said so; "listing", or the finer timeframe it comes from.
        detail: what was said.
        status: open (asked for again), explained (nothing is missing) or given up.
        attempts: how often it was asked for again.
        last_attempt_at: when last.
        next_attempt_at: when next, None unless open.
        detected_at: when it was first found with this reason.
    """

    session_date: date
    start: Micros
    end: Micros
    reason: str
    source: str
    detail: str
    status: Status
    attempts: int
    last_attempt_at: Micros | None
    next_attempt_at: Micros | None
    detected_at: Micros

    @property
    def is_inherited(self) -> bool:
        """Whether it comes from the gaps of finer bars."""
        return self.source in TIMEFRAMES


@dataclass(frozen=True, slots=True)
class ClosedGap:
    """A part of an earlier gap that is none any more.

    Attributes:
        gap: the gap it was part of.
        start: start of its first bar.
        end: end of its last bar.
        outcome: repaired (the bars have come) or explained (they are not missing).
    """

    gap: Gap
    start: Micros
    end: Micros
    outcome: Literal["repaired", "explained"]
