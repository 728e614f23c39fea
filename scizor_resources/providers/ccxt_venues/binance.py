"""Binance's wire format: klines, 1000 per call, back to the listing.

Source: GET /api/v3/klines, Binance Spot API documentation; shape checked against recordings.
"""

from datetime import datetime
from typing import Any

import pandas as pd

from scizor_resources.errors import AuthError, RateLimited, TransientError
from scizor_resources.providers.ccxt_venues.answers import VenueAnswer, without_filled
from scizor_resources.providers.ccxt_venues.exchange import Dialect, Exchange
from scizor_resources.providers.rows import (
    AskWindow,
    epoch_to_ts,
    judge_rows,
    nothing_parsed,
    session_days,
)

KLINES_PER_CALL = 1000
KLINES_ENDPOINT = "/api/v3/klines"
_FIELDS = 9

#: 403 comes from the firewall before the exchange, for too many requests; 451 where Binance does
#: not serve the caller's country.
DIALECT = Dialect(
    "binance",
    settings={"options": {"fetchMarkets": {"types": ["spot"]}}},
    words=(("-1000: ", TransientError), ("-1001: ", TransientError), ("-1003: ", RateLimited)),
    statuses={403: RateLimited, 451: AuthError},
    weights={KLINES_ENDPOINT: 2, "/api/v3/exchangeInfo": 20},
)


def ask(
    exchange: Exchange,
    pair: str,
    window: AskWindow,
    *,
    title: str,  # noqa: ARG001  # the venues' common form
    source: str,
    now: datetime,
    trade_pages: int,  # noqa: ARG001
) -> VenueAnswer:
    """Fetch a window of at most `KLINES_PER_CALL` bars.

    Args:
        exchange: makes the call.
        pair: Binance's name of the market.
        window: what is wanted.
        title: not used.
        source: name for the `source` column.
        now: the present, UTC.
        trade_pages: not used.

    Raises:
        ProviderError: the call failed.
    """
    params = {
        "symbol": pair,
        "interval": window.timeframe,
        "startTime": _milliseconds(window.start),
        "endTime": _milliseconds(window.end) - 1,
        "limit": KLINES_PER_CALL,
    }
    rows = exchange.call(lambda sdk: sdk.publicGetKlines(params))
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and len(row) >= _FIELDS for row in rows
    ):
        raise exchange.drift(KLINES_ENDPOINT, "it is not a list of klines")
    return parse_klines(rows, window, source=source, now=now)


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def parse_klines(rows: list[Any], window: AskWindow, *, source: str, now: datetime) -> VenueAnswer:
    """Turn klines into an answer.

    A kline is `[open time in ms, open, high, low, close, volume, close time, turnover in the quote
    currency, number of trades, ...]`. `vwap` is turnover over volume. Binance fills intervals
    without a trade with the last price and volume 0; intervals in which it was closed are absent.

    Args:
        rows: as received.
        window: what was asked.
        source: name for the `source` column.
        now: the present, UTC.
    """
    if not rows:
        return VenueAnswer(nothing_parsed())
    places = {"open": 1, "high": 2, "low": 3, "close": 4, "volume": 5, "trade_count": 8}
    frame = pd.DataFrame(
        {name: [row[at] for row in rows] for name, at in places.items()}, dtype="object"
    )
    ts = epoch_to_ts([row[0] for row in rows], "ms")
    frame.insert(0, "ts", session_days(ts, window.market) if window.timeframe == "1d" else ts)
    frame["vwap"] = _mean_prices(frame, [row[7] for row in rows])
    parsed = judge_rows(frame, rows, window, source=source, origin=KLINES_ENDPOINT, now=now)
    return without_filled(parsed, window.timeframe)


def _mean_prices(frame: pd.DataFrame, turnover: list[Any]) -> "pd.Series[float]":
    def numbers(values: Any) -> "pd.Series[float]":
        return pd.to_numeric(pd.Series(values), errors="coerce").astype("float64")

    volume = numbers(frame["volume"])
    mean = numbers(turnover) / volume.mask(volume <= 0)
    # Volumes are rounded to eight decimals, which can carry the mean a hair outside the bar.
    return mean.clip(numbers(frame["low"]), numbers(frame["high"]))
