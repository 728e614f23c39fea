"""What the archive of bars goes by: which months are due, and on-balance volume in pieces.

A month is a calendar month of `ts` in UTC, as are the partitions of `market.bars`. An Australian
session on the first of a month begins the day before in UTC, so that its first bars belong to the
month before.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt

from scizor_core.errors import InvalidInputError
from scizor_core.markets import INTRADAY_TIMEFRAMES, Timeframe

#: What may leave PostgreSQL. Daily bars are archived but stay: marts, adjustment for corporate
#: actions and outlier checks read them by SQL, and they are one row in 400.
RELEASED_TIMEFRAMES: tuple[Timeframe, ...] = INTRADAY_TIMEFRAMES


def month_of_date(day: date) -> date:
    """Return the first of a day's month."""
    return date(day.year, day.month, 1)


def next_month(month: date) -> date:
    """Return the first of the month after that of `month`."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def month_bounds(month: date) -> tuple[datetime, datetime]:
    """Return where a month begins and where the next one does, UTC."""
    following = next_month(month)
    return (
        datetime(month.year, month.month, 1, tzinfo=UTC),
        datetime(following.year, following.month, 1, tzinfo=UTC),
    )


def due_on(month: date, after_days: int) -> datetime:
    """Return from when on a month is archived: so many days after its end, UTC.

    Args:
        month: first of the month.
        after_days: at least 1, so that the running month is never due.
    """
    return month_bounds(month)[1] + timedelta(days=after_days)


def is_due(month: date, now: datetime, after_days: int) -> bool:
    """Say whether a month has ended more than so many days ago."""
    return now > due_on(month, after_days)


def months_within(start: datetime, end: datetime) -> list[date]:
    """Return the months that `start <= ts < end` (UTC) touches."""
    month, out = month_of_date(start.astimezone(UTC).date()), []
    while month_bounds(month)[0] < end:
        out.append(month)
        month = next_month(month)
    return out


def parse_month(text: str) -> date:
    """Return the month that "2022-05" means; the day of a full date does not matter.

    Raises:
        InvalidInputError: not a month.
    """
    if re.fullmatch(r"\d{4}-\d{2}(-\d{2})?", text.strip()):
        try:
            return date.fromisoformat(f"{text.strip()[:7]}-01")
        except ValueError:
            pass
    raise InvalidInputError(f"'{text}' is not a month: write it as 2022-05.")


@dataclass(frozen=True)
class VolumeSegment:
    """What on-balance volume needs to know of consecutive bars of an instrument.

    Attributes:
        first_close: close of the first bar.
        first_volume: its volume.
        last_close: close of the last bar.
        signed_volume: volumes of the bars after the first, negative where the close fell; an
            equal close counts as a rise.
    """

    first_close: float
    first_volume: float
    last_close: float
    signed_volume: float


def volume_segment(
    close: npt.NDArray[np.float64], volume: npt.NDArray[np.float64]
) -> VolumeSegment:
    """Return the segment of some bars, at least one, in the order of time."""
    signs = np.where(close[1:] < close[:-1], -1.0, 1.0)
    return VolumeSegment(
        float(close[0]), float(volume[0]), float(close[-1]), float((signs * volume[1:]).sum())
    )


def chain_segments(segments: Iterable[VolumeSegment]) -> tuple[float, float] | None:
    """Return on-balance volume and last close after consecutive segments, None without any."""
    total, previous = 0.0, None
    for each in segments:
        falls = previous is not None and each.first_close < previous
        total += each.signed_volume + (-each.first_volume if falls else each.first_volume)
        previous = each.last_close
    return None if previous is None else (total, previous)
