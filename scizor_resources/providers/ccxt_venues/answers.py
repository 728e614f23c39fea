"""What a venue told about one window, and how several such answers add up."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pandas as pd

from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe
from scizor_resources.providers.base import empty_bars, empty_rejected, normalise_bars
from scizor_resources.providers.rows import ParsedBars, nothing_parsed

#: Why a sound row is left: the venue repeats the last price where nothing traded.
NO_TRADES = "no trades (filled in by the venue)"

Window = tuple[datetime, datetime]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class VenueAnswer:
    """What a venue told about one window of one symbol.

    Attributes:
        parsed: bars, refused rows, rows that were left.
        covered: half-open windows (UTC) in which every trade is in a bar.
        note: a sentence about a part that was not asked for; empty where there is none.
    """

    parsed: ParsedBars = field(default_factory=nothing_parsed)
    covered: tuple[Window, ...] = ()
    note: str = ""


def interval_of(timeframe: Timeframe) -> timedelta:
    """Return how long a bar lasts (crypto trades around the clock, so a day is a day)."""
    return timedelta(minutes=TIMEFRAME_MINUTES[timeframe])


def floor_to(at: datetime, interval: timedelta) -> datetime:
    """Return the start of the interval in which an instant lies."""
    return at - (at - _EPOCH) % interval


def ceil_to(at: datetime, interval: timedelta) -> datetime:
    """Return the first start of an interval at or after an instant."""
    return at + (_EPOCH - at) % interval


def without_filled(parsed: ParsedBars, timeframe: Timeframe) -> VenueAnswer:
    """Return an answer without the rows that a venue makes up where nothing traded.

    A row without volume and without trades is no bar: its price is that of an earlier trade. It
    is counted under `NO_TRADES`. A row says of its interval all there was, so the intervals with
    a final row are covered; one without a row is not known about.
    """
    bars = parsed.bars
    filled = (bars["volume"] == 0) & (bars["trade_count"].fillna(0) == 0)
    covered = _runs(bars.loc[bars["is_final"], "ts"], interval_of(timeframe))
    kept = bars[~filled].reset_index(drop=True)
    # Kraken and Binance tell a mean price of 0 where there was no volume to divide by.
    kept["vwap"] = kept["vwap"].mask(kept["vwap"] <= 0)
    ignored = dict(parsed.ignored)
    if filled.any():
        ignored[NO_TRADES] = int(filled.sum())
    return VenueAnswer(replace(parsed, bars=kept, ignored=ignored), covered)


def _runs(starts: "pd.Series[pd.Timestamp]", interval: timedelta) -> tuple[Window, ...]:
    """Return the windows that bars which begin at `starts` (ascending) fill without a hole."""
    if starts.empty:
        return ()
    number = (starts.diff() != interval).cumsum()
    runs = starts.groupby(number).agg(["first", "last"])
    return tuple(
        (first.to_pydatetime(), last.to_pydatetime() + interval)
        for first, last in zip(runs["first"], runs["last"], strict=True)
    )


def added_up(answers: Sequence[VenueAnswer]) -> VenueAnswer:
    """Return several answers about one symbol, with no bar in common, as one."""
    parts = [each.parsed for each in answers]
    bars = [part.bars for part in parts if not part.bars.empty]
    rejected = [part.rejected for part in parts if not part.rejected.empty]
    ignored: dict[str, int] = {}
    for part in parts:
        for reason, count in part.ignored.items():
            ignored[reason] = ignored.get(reason, 0) + count
    return VenueAnswer(
        ParsedBars(
            normalise_bars(pd.concat(bars, ignore_index=True)) if bars else empty_bars(),
            pd.concat(rejected, ignore_index=True) if rejected else empty_rejected(),
            sum(part.received for part in parts),
            ignored,
        ),
        joined(window for each in answers for window in each.covered),
        " ".join(each.note for each in answers if each.note),
    )


def joined(windows: Iterable[Window]) -> tuple[Window, ...]:
    """Return windows in order, those that touch as one."""
    out: list[Window] = []
    for start, end in sorted(windows):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return tuple(out)
