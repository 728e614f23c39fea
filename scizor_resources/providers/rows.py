"""Rows of a provider's answer become bars or refused rows: the same judgement for all providers.

An adapter's parser only has to bring its wire format into the columns `WIRE_COLUMNS`; what is a
usable row, a repeated one or one that was not asked for is decided here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe, get_market
from scizor_core.sessions import get_calendar
from scizor_resources.providers.base import (
    REJECTED_COLUMNS,
    SOURCE_BAR_COLUMNS,
    empty_bars,
    empty_rejected,
)

_Times = npt.NDArray[np.datetime64]
_Floats = npt.NDArray[np.float64]

#: What a row cannot do without.
NEEDED_COLUMNS: tuple[str, ...] = ("open", "high", "low", "close", "volume")
#: Columns of a frame of wire rows. `ts` is the bar's start, datetime64 UTC (of a daily bar the
#: session date at 00:00 UTC); the others are as received: numbers, text or None.
WIRE_COLUMNS: tuple[str, ...] = ("ts", *NEEDED_COLUMNS, "vwap", "trade_count", "adj_close")

#: Clocks differ a little; a bar that has just begun over there is not from the future.
CLOCK_TOLERANCE = timedelta(seconds=5)

OUTSIDE_SESSION = "outside the regular session"
OUTSIDE_WINDOW = "outside the window"


@dataclass(frozen=True)
class AskWindow:
    """One symbol's half-open window `[start, end)`, as one call asks for it.

    Attributes:
        market: name of the market.
        symbol: the platform's symbol.
        timeframe: timeframe of the bars.
        start: first bar start, UTC; for daily bars a session date at midnight.
        end: first bar start no longer asked for.
    """

    market: str
    symbol: str
    timeframe: Timeframe
    start: datetime
    end: datetime


@dataclass(frozen=True)
class ParsedBars:
    """What one answer holds for one symbol.

    Attributes:
        bars: columns `SOURCE_BAR_COLUMNS`, by ts.
        rejected: rows that cannot become bars, columns `REJECTED_COLUMNS`.
        received: rows of the answer.
        ignored: reason -> how many sound rows were not asked for.
    """

    bars: pd.DataFrame
    rejected: pd.DataFrame
    received: int = 0
    ignored: dict[str, int] = field(default_factory=dict)


def nothing_parsed() -> ParsedBars:
    """Return the parse of an answer without rows."""
    bars, rejected = _nothing()
    return ParsedBars(bars.copy(), rejected.copy())


@cache
def _nothing() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return empty frames; to make them takes 10 ms, which counts with 10,000 symbols."""
    return empty_bars(), empty_rejected()


def judge_rows(
    rows: pd.DataFrame,
    payloads: Sequence[Any],
    window: AskWindow,
    *,
    source: str,
    origin: str,
    now: datetime,
) -> ParsedBars:
    """Divide the wire rows of one symbol into bars, refused rows and rows not asked for.

    Refused are, in this order: rows without a finite price or volume ("null row"), intraday rows
    off the grid of the timeframe, rows from the future, and repeated rows, of which the first is
    kept. Rows outside the
    window or, within a day, outside the regular session (extended hours) are counted and left.

    Args:
        rows: columns `WIRE_COLUMNS`; those a provider does not have may be absent.
        payloads: each row as received, in the same order, for the quarantine.
        window: what was asked.
        source: name for the `source` column.
        origin: what was called, without secrets.
        now: the present, UTC; a bar whose interval has not ended is not final.
    """
    if rows.empty:
        return nothing_parsed()
    ts = _instants(rows["ts"])
    numbers = {name: _floats(rows[name]) for name in WIRE_COLUMNS[1:] if name in rows}
    reasons = _fault_reasons(ts, numbers, window, now)
    aside = _not_asked(ts, window)
    sound = reasons == ""
    rejected = _nothing()[1].copy()
    refused = np.flatnonzero(~sound & (aside != OUTSIDE_WINDOW))
    if len(refused):
        rejected = pd.DataFrame(
            {
                "symbol": window.symbol,
                "ts": _utc(ts[refused]),
                "reason": reasons[refused],
                "source": source,
                "origin": origin,
                "row_number": refused + 1,
                "payload": [_as_received(payloads[int(position)]) for position in refused],
            },
            columns=list(REJECTED_COLUMNS),
        )
    names, counts = np.unique(
        aside[(aside != "") & ~np.isin(np.arange(len(ts)), refused)], return_counts=True
    )
    kept = np.flatnonzero(sound & (aside == ""))
    return ParsedBars(
        _bars(ts, numbers, kept[np.argsort(ts[kept], kind="stable")], window, source, now),
        rejected,
        len(rows),
        dict(zip(names.tolist(), counts.tolist(), strict=True)),
    )


def _bars(
    ts: _Times,
    numbers: Mapping[str, _Floats],
    kept: npt.NDArray[np.int64],
    window: AskWindow,
    source: str,
    now: datetime,
) -> pd.DataFrame:
    """Return the kept rows as `SOURCE_BAR_COLUMNS`, in their dtypes.

    Built in one go: `normalise_bars` would add 8 ms, and an answer of one page is often small.
    """
    if not len(kept):
        return _nothing()[0].copy()
    times = ts[kept]
    absent = np.full(len(kept), np.nan)
    found = {name: values[kept] for name, values in numbers.items()}
    trades = found.get("trade_count", absent)
    unknown = np.isnan(trades)
    columns = {
        **{name: found.get(name, absent) for name in (*NEEDED_COLUMNS, "vwap", "adj_close")},
        "symbol": _repeated(window.symbol, len(kept)),
        "ts": _utc(times),
        "trade_count": pd.arrays.IntegerArray(
            np.where(unknown, 0, trades).astype(np.int64), unknown
        ),
        "source": _repeated(source, len(kept)),
        "is_final": _final(times, window, now),
    }
    return pd.DataFrame({name: columns[name] for name in SOURCE_BAR_COLUMNS})


def epoch_to_ts(values: Sequence[Any], unit: Literal["s", "ms"] = "s") -> pd.DatetimeIndex:
    """Return epoch numbers as UTC instants; what is not a number becomes NaT.

    Args:
        values: whole numbers, as numbers or as text.
        unit: "s" or "ms".
    """
    numbers = pd.to_numeric(pd.Series(list(values), dtype="object"), errors="coerce")
    return pd.DatetimeIndex(pd.to_datetime(numbers, unit=unit, utc=True, errors="coerce"))


def session_days(instants: pd.DatetimeIndex, market: str) -> pd.DatetimeIndex:
    """Return the session dates (00:00 UTC) of daily bars that are given as instants.

    A provider's daily bar carries midnight or the open in the exchange's zone.
    """
    local = instants.tz_convert(get_market(market).timezone)
    return local.tz_localize(None).normalize().tz_localize("UTC")


def _instants(values: "pd.Series[Any]") -> _Times:
    stamps = pd.DatetimeIndex(pd.to_datetime(values, utc=True))
    return stamps.tz_localize(None).to_numpy(dtype="datetime64[us]")


def _utc(times: _Times) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(times).tz_localize("UTC")


def _floats(values: "pd.Series[Any]") -> _Floats:
    """Return numbers; what is none, or not finite, becomes NaN."""
    try:
        found = values.to_numpy(dtype="object").astype(np.float64)
    except (ValueError, TypeError):
        found = pd.to_numeric(values, errors="coerce").to_numpy(dtype="float64")
    return np.where(np.isfinite(found), found, np.nan)


def _repeated(text: str, count: int) -> "pd.Series[str]":
    return pd.Series(pd.array([text], dtype="str").take(np.zeros(count, dtype=np.intp)))


def _fault_reasons(
    ts: _Times, numbers: Mapping[str, _Floats], window: AskWindow, now: datetime
) -> npt.NDArray[np.object_]:
    """Return one reason for each row that cannot be a bar, empty where it can."""
    reasons = np.full(len(ts), "", dtype=np.object_)
    missing = {"ts": np.isnat(ts), **{name: np.isnan(numbers[name]) for name in NEEDED_COLUMNS}}
    for position in np.flatnonzero(np.any(list(missing.values()), axis=0)):
        names = ", ".join(name for name, absent in missing.items() if absent[position])
        reasons[position] = f"null row: no value for {names}"
    if window.timeframe != "1d":
        minutes = TIMEFRAME_MINUTES[window.timeframe]
        off_grid = ts.astype(np.int64) % (minutes * 60_000_000) != 0
        reasons[(reasons == "") & off_grid] = (
            f"its time is not the start of a {window.timeframe} bar"
        )
        reasons[(reasons == "") & (ts > _naive(now + CLOCK_TOLERANCE))] = (
            "starts in the future: the provider's clock is ahead of ours"
        )
    good = np.flatnonzero(reasons == "")
    first = np.unique(ts[good], return_index=True)[1]
    reasons[np.delete(good, first)] = (
        f"repeated row: the first row of this {window.timeframe} bar was kept"
    )
    return reasons


def _not_asked(ts: _Times, window: AskWindow) -> npt.NDArray[np.object_]:
    """Return why a row was not asked for, empty where it was (or has no time to tell by)."""
    timed = ~np.isnat(ts)
    aside = np.full(len(ts), "", dtype=np.object_)
    aside[timed & ~((ts >= _naive(window.start)) & (ts < _naive(window.end)))] = OUTSIDE_WINDOW
    if window.timeframe == "1d" or get_market(window.market).calendar == "24/7":
        return aside
    beyond = get_calendar(window.market).place(pd.Series(_utc(ts))).isna().to_numpy()
    aside[(aside == "") & timed & beyond] = OUTSIDE_SESSION
    return aside


def _final(ts: _Times, window: AskWindow, now: datetime) -> npt.NDArray[np.bool_]:
    """Say which bars' intervals have ended."""
    if window.timeframe != "1d":
        length = np.timedelta64(TIMEFRAME_MINUTES[window.timeframe], "m")
        return ts + length <= _naive(now)
    calendar = get_calendar(window.market)
    auction = timedelta(minutes=calendar.market.closing_auction_minutes)
    # A session that began days ago has ended; the newest ones are looked at.
    recent = (now.astimezone(UTC) - timedelta(days=3)).date()
    final = ts < np.datetime64(recent)
    for session in calendar.sessions(recent, (now + timedelta(days=1)).date()):
        if session.close + auction <= now:
            final |= ts == np.datetime64(session.session_date)
    return final


def _naive(at: datetime) -> np.datetime64:
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")


def _as_received(payload: Any) -> dict[str, str]:
    if isinstance(payload, dict):
        return {str(name): json.dumps(value, default=str) for name, value in payload.items()}
    return {"row": json.dumps(payload, default=str)}
