"""Rows of a provider's answer become bars or refused rows: the same judgement for all providers.

An adapter's parser only has to bring its wire format into the columns `WIRE_COLUMNS`; what is a
usable row, a repeated one or one that was not asked for is decided here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd

from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe, get_market
from scizor_core.sessions import get_calendar
from scizor_resources.providers.base import (
    REJECTED_COLUMNS,
    empty_bars,
    empty_rejected,
    normalise_bars,
)

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
    rows = rows.reset_index(drop=True)
    numbers = _numbers(rows)
    reasons = _fault_reasons(numbers, window, now)
    numbers["is_final"] = _final(numbers["ts"], window, now)
    aside = _not_asked(numbers["ts"], window)

    kept = numbers[(reasons == "") & (aside == "")]
    bars = kept.assign(symbol=window.symbol, source=source)
    refused = [i for i in range(len(rows)) if reasons[i] and aside[i] != OUTSIDE_WINDOW]
    ignored = aside[(aside != "") & ~aside.index.isin(refused)].value_counts()
    rejected = _nothing()[1].copy()
    if refused:
        rejected = pd.DataFrame(
            {
                "symbol": window.symbol,
                "ts": numbers["ts"].iloc[refused].array,
                "reason": reasons.iloc[refused].array,
                "source": source,
                "origin": origin,
                "row_number": [position + 1 for position in refused],
                "payload": [_as_received(payloads[position]) for position in refused],
            },
            columns=list(REJECTED_COLUMNS),
        )
    return ParsedBars(
        normalise_bars(bars),
        rejected,
        len(rows),
        {str(reason): int(count) for reason, count in ignored.items()},
    )


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


def _numbers(rows: pd.DataFrame) -> pd.DataFrame:
    out = pd.DataFrame({"ts": pd.to_datetime(rows["ts"], utc=True).astype("datetime64[us, UTC]")})
    for name in WIRE_COLUMNS[1:]:
        if name not in rows:
            continue
        values = pd.to_numeric(rows[name], errors="coerce").astype("float64")
        out[name] = values.where(np.isfinite(values))
    return out


def _fault_reasons(numbers: pd.DataFrame, window: AskWindow, now: datetime) -> "pd.Series[str]":
    """Return one reason for each row that cannot be a bar, empty where it can."""
    reasons = pd.Series("", index=numbers.index, dtype="object")
    missing = numbers[["ts", *NEEDED_COLUMNS]].isna()
    for position in missing.index[missing.any(axis=1)]:
        names = ", ".join(missing.columns[missing.loc[position]])
        reasons.loc[position] = f"null row: no value for {names}"
    if window.timeframe != "1d":
        step = pd.Timedelta(minutes=TIMEFRAME_MINUTES[window.timeframe])
        off_grid = numbers["ts"].notna() & (numbers["ts"].dt.floor(step) != numbers["ts"])
        reasons = reasons.mask(
            (reasons == "") & off_grid, f"its time is not the start of a {window.timeframe} bar"
        )
        ahead = numbers["ts"] > now + CLOCK_TOLERANCE
        reasons = reasons.mask(
            (reasons == "") & ahead, "starts in the future: the provider's clock is ahead of ours"
        )
    good = numbers[reasons == ""]
    repeated = good.index[good.duplicated("ts", keep="first")]
    reasons.loc[repeated] = f"repeated row: the first row of this {window.timeframe} bar was kept"
    return reasons


def _not_asked(ts: "pd.Series[pd.Timestamp]", window: AskWindow) -> "pd.Series[str]":
    """Return why a row was not asked for, empty where it was (or has no time to tell by)."""
    outside = ts.notna() & ~((ts >= window.start) & (ts < window.end))
    aside = pd.Series("", index=ts.index, dtype="object").mask(outside, OUTSIDE_WINDOW)
    spec = get_market(window.market)
    if window.timeframe == "1d" or spec.calendar == "24/7":
        return aside
    beyond = get_calendar(window.market).place(ts).isna()
    return aside.mask((aside == "") & ts.notna() & beyond, OUTSIDE_SESSION)


def _final(ts: "pd.Series[pd.Timestamp]", window: AskWindow, now: datetime) -> "pd.Series[bool]":
    """Say which bars' intervals have ended."""
    if window.timeframe != "1d":
        ended: pd.Series[bool] = ts + timedelta(minutes=TIMEFRAME_MINUTES[window.timeframe]) <= now
        return ended
    spec = get_market(window.market)
    open_from = datetime.combine(
        (now.astimezone(UTC) - timedelta(days=3)).date(), time(), tzinfo=UTC
    )
    final = ts < open_from
    for session in get_calendar(window.market).sessions(
        open_from.date(), (now + timedelta(days=1)).date()
    ):
        close = session.close + timedelta(minutes=spec.closing_auction_minutes)
        if close <= now:
            final |= ts.dt.date == session.session_date
    return final


def _as_received(payload: Any) -> dict[str, str]:
    if isinstance(payload, dict):
        return {str(name): json.dumps(value, default=str) for name, value in payload.items()}
    return {"row": json.dumps(payload, default=str)}
