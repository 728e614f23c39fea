"""Coinbase's candles as bars: pure functions from decoded JSON to frames.

Candles come newest first, numbers and times as text. An interval in which nothing traded has no
candle. Coinbase tells neither a mean price nor how many trades there were.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe
from scizor_resources.providers.coinbase.shapes import field_in, list_in
from scizor_resources.providers.rows import (
    AskWindow,
    ParsedBars,
    epoch_to_ts,
    judge_rows,
    nothing_parsed,
    session_days,
)

GRANULARITIES: dict[Timeframe, str] = {
    "1m": "ONE_MINUTE",
    "5m": "FIVE_MINUTE",
    "15m": "FIFTEEN_MINUTE",
    "1d": "ONE_DAY",
}
#: Candles asked for per call. More than 350 are said to be refused; 300 is what ccxt asks for.
CANDLES_PER_CALL = 300
MAX_WINDOW: dict[Timeframe, timedelta] = {
    timeframe: timedelta(minutes=CANDLES_PER_CALL * TIMEFRAME_MINUTES[timeframe])
    for timeframe in GRANULARITIES
}
#: A candle that is absent this long after its end is absent because nothing traded.
SETTLED_AFTER = timedelta(minutes=5)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def candle_params(window: AskWindow) -> dict[str, str | int]:
    """Return the query for a window's candles.

    `end` is the last second of the window: whether Coinbase takes it to belong to the window or
    not, the answer is the same.
    """
    return {
        "granularity": GRANULARITIES[window.timeframe],
        "start": str(int(window.start.timestamp())),
        "end": str(int(window.end.timestamp()) - 1),
    }


def parse_candles(
    answer: Any, window: AskWindow, *, source: str, origin: str, now: datetime
) -> ParsedBars:
    """Turn a decoded answer into bars, refused rows and rows not asked for.

    Args:
        answer: `{"candles": [{"start": "1712192400", "low": ..., ...}, ...]}`.
        window: what was asked.
        source: name for the `source` column.
        origin: what was called.
        now: the present, UTC.

    Raises:
        ValueError: the answer has another shape; the message says what was found.
    """
    candles = list_in(answer, "candles")
    starts = [field_in(candle, "start") for candle in candles]
    if not candles:
        return nothing_parsed()
    rows = pd.DataFrame(
        {
            name: [candle.get(name) for candle in candles]
            for name in ("open", "high", "low", "close", "volume")
        },
        dtype="object",
    )
    ts = epoch_to_ts(starts)
    if window.timeframe == "1d":
        ts = session_days(ts, window.market)
    rows.insert(0, "ts", ts)
    return judge_rows(rows, candles, window, source=source, origin=origin, now=now)


def seen_window(
    parsed: ParsedBars, window: AskWindow, *, now: datetime
) -> tuple[datetime, datetime] | None:
    """Return the part of a window in which an absent candle means that nothing traded.

    An answer without any bar proves nothing: it could as well be a service that has lost its
    data. Of the newest intervals only those count that are long over or that a candle follows.
    """
    final = parsed.bars.loc[parsed.bars["is_final"], "ts"]
    if final.empty:
        return None
    interval = timedelta(minutes=TIMEFRAME_MINUTES[window.timeframe])
    settled = now - SETTLED_AFTER
    settled -= (settled - _EPOCH) % interval
    end = min(window.end, max(settled, final.max().to_pydatetime() + interval))
    return (window.start, end) if window.start < end else None
