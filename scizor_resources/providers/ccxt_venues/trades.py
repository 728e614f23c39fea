"""Kraken's trades as bars: the only way further back than its candles reach."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from scizor_core.sessions import get_calendar
from scizor_core.ticks import build_bars, repeated_ticks, tick_faults
from scizor_resources.providers.base import REJECTED_COLUMNS, empty_rejected, normalise_bars
from scizor_resources.providers.ccxt_venues.answers import (
    VenueAnswer,
    ceil_to,
    floor_to,
    interval_of,
)
from scizor_resources.providers.rows import AskWindow, ParsedBars

#: Asks for the trades after an instant (nanoseconds since 1970); returns the rows as received and
#: the instant to go on from.
AskTrades = Callable[[int], tuple[list[Any], int]]

REPEATED = "repeated trade"
#: Trades that are asked for in one call, and as many as it tells where there are more.
TRADES_PER_CALL = 1000
#: `[price, volume, time, side, type, misc, trade_id]`: where the id is.
_ID = 6
_NANOSECONDS = 1_000_000_000
_MICROSECOND = timedelta(microseconds=1)


@dataclass
class _Tape:
    """The trades received so far, and up to when there is none missing."""

    rows: list[Any] = field(default_factory=list)
    reached: datetime = datetime.min.replace(tzinfo=UTC)
    pages: int = 0
    note: str = ""


def trade_pages(ask: AskTrades, start_us: int) -> Iterator[tuple[list[Any], int]]:
    """Yield the trades from an instant on, page by page, oldest first, each trade once.

    What happened at the time in which a page ends may have been cut: the next page begins with
    that time, and what both of them have is left out there.

    Args:
        ask: makes one call.
        start_us: microseconds since 1970 UTC.

    Yields:
        Rows as received, and the time of the last one in nanoseconds; ends where nothing is newer.

    Raises:
        ValueError: more trades have one time than a call tells.
    """
    # The times in rows are floats, which may be rounded up into the microsecond that is asked for.
    since = (start_us - 1) * 1000 - 1
    before: set[str] = set()
    while True:
        page, last = ask(since)
        names = _names(page)
        news = [row for row, name in zip(page, names, strict=True) if name not in before]
        if not news:
            if len(page) >= TRADES_PER_CALL:
                raise ValueError(f"{len(page)} trades or more at one time")
            return
        yield news, last
        since, before = last - 1, set(names)


def _names(page: list[Any]) -> list[str]:
    """Return what each row is known by: its id, else its values and how many equal ones precede."""
    names: list[str] = []
    equal: dict[str, int] = {}
    for row in page:
        if isinstance(row, list) and len(row) > _ID:
            names.append(repr(row[_ID]))
        else:
            text = repr(row)
            equal[text] = equal.get(text, 0) + 1
            names.append(f"{text} {equal[text]}")
    return names


def bars_from_trades(
    window: AskWindow, ask: AskTrades, *, title: str, source: str, origin: str, max_pages: int
) -> VenueAnswer:
    """Return the bars that a venue's trades make.

    After the first page it is estimated how many the window needs. If that is more than
    `max_pages`, the window is left with a note. If it turns out to be more on the way, the bars up
    to there are returned with a note.

    Args:
        window: what is wanted; its end is past.
        ask: makes one call.
        title: the venue's name in sentences.
        source: name for the `source` column.
        origin: what is called.
        max_pages: calls that one window is worth.

    Raises:
        ProviderError: a call failed.
        ValueError: a row is not a trade; the message says what was found.
    """
    interval = interval_of(window.timeframe)
    start, end = ceil_to(window.start, interval), ceil_to(window.end, interval)
    if start >= end:
        return VenueAnswer()
    tape = _read(ask, start, end, max_pages)
    if tape.note:
        tape.note = (
            f"The candles of {title} do not reach back to {start:%Y-%m-%d %H:%M} UTC, and of its "
            f"trades up to {end:%Y-%m-%d %H:%M} UTC {tape.note} Import the venue's files of "
            "trades instead."
        )
    reached = floor_to(tape.reached, interval) if tape.reached < end else end
    if reached <= start:
        return VenueAnswer(note=tape.note)
    parsed = _built(tape.rows, window, (start, reached), source, origin)
    return VenueAnswer(parsed, ((start, reached),), tape.note)


def _read(ask: AskTrades, start: datetime, end: datetime, max_pages: int) -> _Tape:
    tape = _Tape(reached=start)
    for page, last in trade_pages(ask, _microseconds(start)):
        tape.pages += 1
        tape.rows += page
        tape.reached = datetime.fromtimestamp(last // _NANOSECONDS, tz=UTC)
        if tape.reached >= end:
            return tape
        if tape.pages == 1:
            needed = (end - start) / max(tape.reached - start, _MICROSECOND)
            if needed > max_pages:
                tape.note = f"about {needed:,.0f} pages would be needed ({max_pages} are allowed)."
                tape.reached = start
                return tape
        if tape.pages >= max_pages:
            tape.note = (
                f"{max_pages} pages, as many as are allowed, reach only to "
                f"{tape.reached:%Y-%m-%d %H:%M} UTC."
            )
            return tape
    # There is nothing newer: the market has not traded since.
    tape.reached = end
    return tape


def _microseconds(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000 + at.microsecond


def parse_ticks(rows: Sequence[Any]) -> pd.DataFrame:
    """Return trades `[price, volume, time, side, type, misc, trade_id]` as a frame of ticks.

    Times are seconds with a fraction; what is finer than a microsecond is cut off, so that no
    trade moves into the next bar.

    Raises:
        ValueError: a row has another shape.
    """
    if not all(isinstance(row, list) and len(row) >= 3 for row in rows):  # noqa: PLR2004
        raise ValueError("a trade is not a list of price, volume, time")
    seconds = pd.to_numeric(pd.Series([row[2] for row in rows], dtype="object"), errors="coerce")
    micros = np.floor(seconds.astype("float64") * 1e6)
    numbers = {
        name: pd.to_numeric(pd.Series([row[at] for row in rows], dtype="object"), errors="coerce")
        for name, at in (("price", 0), ("size", 1))
    }
    return pd.DataFrame(
        {
            "ts": pd.to_datetime(micros, unit="us", utc=True).astype("datetime64[us, UTC]"),
            **{name: values.astype("float64") for name, values in numbers.items()},
            "trade_id": pd.array(
                [str(row[_ID]) if len(row) > _ID else None for row in rows],
                dtype="str",
            ),
            "row_number": np.arange(1, len(rows) + 1),
        }
    )


def _built(
    rows: list[Any],
    window: AskWindow,
    reach: tuple[datetime, datetime],
    source: str,
    origin: str,
) -> ParsedBars:
    """Return the bars of the trades in `reach`, and the trades that cannot be one."""
    calendar = get_calendar(window.market)
    ticks = parse_ticks(rows)
    inside = ticks["ts"].isna() | ((ticks["ts"] >= reach[0]) & (ticks["ts"] < reach[1]))
    ticks = ticks[inside]
    faults = tick_faults(ticks, calendar)
    sound = ticks[faults == ""]
    repeated = repeated_ticks(sound)
    built = build_bars(sound[~repeated], window.timeframe, calendar)
    bars = normalise_bars(built.assign(symbol=window.symbol, source=source, is_final=True))
    refused = ticks[faults != ""]
    rejected = empty_rejected()
    if not refused.empty:
        numbers = refused["row_number"].tolist()
        rejected = pd.DataFrame(
            {
                "symbol": window.symbol,
                "ts": refused["ts"].array,
                "reason": [f"not a trade: {reason}" for reason in faults[faults != ""]],
                "source": source,
                "origin": origin,
                "row_number": numbers,
                "payload": [{"row": json.dumps(rows[number - 1])} for number in numbers],
            },
            columns=list(REJECTED_COLUMNS),
        )
    ignored = {REPEATED: int(repeated.sum())} if repeated.any() else {}
    return ParsedBars(bars, rejected, len(bars) + len(rejected), ignored)
