"""Answers of the gateway, as ib_async decodes them, become bars and trades. Pure.

IBKR writes -1 where it has no value. Volumes are in shares: on the ASX always, in the US from
server version 163 on (an older gateway is refused) as long as the gateway's setting "send market
data in lots" is off.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, Protocol

import pandas as pd

from scizor_core.ticks import TICK_COLUMNS
from scizor_resources.errors import SchemaDrift
from scizor_resources.providers.ibkr.pages import Page
from scizor_resources.providers.ibkr.verdicts import SOURCE_NAME
from scizor_resources.providers.rows import (
    OUTSIDE_WINDOW,
    AskWindow,
    ParsedBars,
    judge_rows,
    nothing_parsed,
)

#: Columns of `tick_frame`, in order: those of `scizor_core.ticks`, the venue's and the condition
#: codes, and whether the trade counts for the last price and the volume (odd lots and the like do
#: not).
IBKR_TICK_COLUMNS: tuple[str, ...] = (*TICK_COLUMNS, "venue", "conditions", "is_reported")

NO_VALUE = -1.0


class Bar(Protocol):
    """The part of ib_async's `BarData` that is used."""

    date: Any
    open: float
    high: float
    low: float
    close: float
    volume: float
    average: float
    barCount: int  # noqa: N815  # ib_async's name


class Tick(Protocol):
    """The part of ib_async's `HistoricalTickLast` that is used."""

    @property
    def time(self) -> datetime:
        """Exchange time, whole seconds."""

    @property
    def tickAttribLast(self) -> Any:  # noqa: N802  # ib_async's name
        """Flags `pastLimit` and `unreported`."""

    @property
    def price(self) -> float:
        """Price in the quote currency."""

    @property
    def size(self) -> float:
        """Shares."""

    @property
    def exchange(self) -> str:
        """Venue."""

    @property
    def specialConditions(self) -> str:  # noqa: N802  # ib_async's name
        """Condition codes."""


def parse_bars(
    answers: Sequence[tuple[Page, Sequence[Bar]]], window: AskWindow, *, now: datetime
) -> ParsedBars:
    """Return the bars of a window, whose pages are judged together.

    A duration is often longer than its page, so that an answer brings bars of the pages before;
    those are counted as outside the window and left to their own page.

    Args:
        answers: each page with its bars, as ib_async decodes them with `formatDate=2`.
        window: what was asked.
        now: the present, UTC.

    Raises:
        SchemaDrift: a daily bar without a date, or another one without an instant.
    """
    starts: list[datetime] = []
    bars: list[Bar] = []
    received = 0
    for page, answer in answers:
        received += len(answer)
        for bar in answer:
            start = _start(bar, window)
            if page.start <= start < page.end:
                starts.append(start)
                bars.append(bar)
    parsed = _judge(starts, bars, window, now) if bars else nothing_parsed()
    ignored = dict(parsed.ignored)
    if received > len(bars):
        ignored[OUTSIDE_WINDOW] = ignored.get(OUTSIDE_WINDOW, 0) + received - len(bars)
    return replace(parsed, received=received, ignored=ignored)


def _judge(starts: list[datetime], bars: list[Bar], window: AskWindow, now: datetime) -> ParsedBars:
    volume = [_value(each.volume) for each in bars]
    rows = pd.DataFrame(
        {
            "ts": pd.DatetimeIndex(starts).as_unit("us"),
            "open": [_value(each.open) for each in bars],
            "high": [_value(each.high) for each in bars],
            "low": [_value(each.low) for each in bars],
            "close": [_value(each.close) for each in bars],
            "volume": volume,
            "vwap": [
                _value(each.average) if traded else None
                for each, traded in zip(bars, volume, strict=True)
            ],
            "trade_count": [_value(each.barCount) for each in bars],
        }
    )
    return judge_rows(
        rows,
        [vars(each) for each in bars],
        window,
        source=SOURCE_NAME,
        origin=f"reqHistoricalData/{window.symbol}",
        now=now,
    )


def tick_frame(ticks: Sequence[Tick], start: datetime, end: datetime) -> pd.DataFrame:
    """Return the trades of `[start, end)` (UTC), columns `IBKR_TICK_COLUMNS`, as received.

    IBKR tells the time in whole seconds and gives no trade ids; `row_number` keeps the order.
    A missing price or size is NaN, for `scizor_core.ticks.tick_faults` to find.
    """
    kept = [each for each in ticks if start <= each.time < end]
    frame = pd.DataFrame(
        {
            "ts": pd.DatetimeIndex([each.time for each in kept], tz=UTC).as_unit("us"),
            "price": [_value(each.price) for each in kept],
            "size": [_value(each.size) for each in kept],
            "row_number": range(1, len(kept) + 1),
            "venue": pd.Series([each.exchange for each in kept], dtype="str"),
            "conditions": pd.Series([each.specialConditions for each in kept], dtype="str"),
            "is_reported": [not each.tickAttribLast.unreported for each in kept],
        }
    ).astype({"price": "float64", "size": "float64", "row_number": "int64", "is_reported": "bool"})
    frame["trade_id"] = pd.Series(pd.NA, index=frame.index, dtype="str")
    return frame[list(IBKR_TICK_COLUMNS)]


def _value(number: float) -> float | None:
    return None if number == NO_VALUE else number


def _start(bar: Bar, window: AskWindow) -> datetime:
    """Return a bar's start, UTC."""
    moment = bar.date
    daily = window.timeframe == "1d"
    if daily and isinstance(moment, date) and not isinstance(moment, datetime):
        return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if not daily and isinstance(moment, datetime) and moment.tzinfo is not None:
        return moment.astimezone(UTC)
    raise SchemaDrift(
        f"IBKR's {window.timeframe} bars of {window.symbol} do not have the agreed shape: a bar's "
        f"time is {moment!r}. The adapter has to be looked at before it can be used.",
        provider=SOURCE_NAME,
        endpoint="reqHistoricalData",
    )
