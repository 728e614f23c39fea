"""Kraken's wire format: candles of the newest 720 intervals, trades for what is older.

Source: GET /0/public/OHLC (up to 720 of the most recent entries, older ones cannot be had, the
last one still runs) and GET /0/public/Trades (1000 per call, `since` in nanoseconds), Kraken API
reference, read on 2026-11-21.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pandas as pd

from scizor_core.markets import TIMEFRAME_MINUTES
from scizor_resources.errors import AuthError, BadRequest, SchemaDrift, TransientError
from scizor_resources.providers.ccxt_venues.answers import (
    VenueAnswer,
    added_up,
    floor_to,
    interval_of,
    without_filled,
)
from scizor_resources.providers.ccxt_venues.exchange import Dialect, Exchange
from scizor_resources.providers.ccxt_venues.trades import TRADES_PER_CALL, bars_from_trades
from scizor_resources.providers.rows import (
    AskWindow,
    epoch_to_ts,
    judge_rows,
    nothing_parsed,
    session_days,
)

#: Complete candles that Kraken keeps of each timeframe; one more still runs.
CANDLES_KEPT = 720

OHLC_ENDPOINT = "/0/public/OHLC"
TRADES_ENDPOINT = "/0/public/Trades"

#: Kraken refuses in answers of status 200. These are not in ccxt's table; the categories follow
#: the ones it has.
DIALECT = Dialect(
    "kraken",
    words=(
        ("EQuery:Unknown asset pair", BadRequest),
        ("EGeneral:Unknown method", SchemaDrift),
        ("EService:", TransientError),
        ("EAPI:Invalid key", AuthError),
        ("EAPI:Invalid signature", AuthError),
        ("EQuery:", BadRequest),
    ),
)

_COLUMNS = ("open", "high", "low", "close", "vwap", "volume", "trade_count")


def ask(
    exchange: Exchange,
    pair: str,
    window: AskWindow,
    *,
    title: str,
    source: str,
    now: datetime,
    trade_pages: int,
) -> VenueAnswer:
    """Fetch a window: what the candles hold from them, the rest from trades.

    Args:
        exchange: makes the calls.
        pair: Kraken's name of the market.
        window: what is wanted.
        title: Kraken's name in sentences.
        source: name for the `source` column.
        now: the present, UTC.
        trade_pages: calls for trades that one window is worth; 0 = never.

    Raises:
        ProviderError: a call failed.
    """
    interval = interval_of(window.timeframe)
    earliest = floor_to(now, interval) - CANDLES_KEPT * interval
    older_end = window.end
    answers: list[VenueAnswer] = []
    if window.end > earliest:
        older_end = max(window.start, earliest)
        rows = _fetch_candles(exchange, pair, replace(window, start=older_end))
        if window.start < earliest:
            # While the call was under way the oldest candle may have been dropped.
            older_end = max(older_end, _first_start(rows) or older_end)
        recent = replace(window, start=older_end)
        answers.append(parse_candles(rows, recent, source=source, now=now))
    older = replace(window, end=min(older_end, window.end))
    if older.start < older.end and trade_pages:
        answers.append(_fetch_older(exchange, pair, older, title, source, trade_pages))
    return added_up(answers)


def _fetch_candles(exchange: Exchange, pair: str, window: AskWindow) -> list[Any]:
    params = {
        "pair": pair,
        "interval": TIMEFRAME_MINUTES[window.timeframe],
        # Rows after this second: the first one wanted begins one later.
        "since": int(window.start.timestamp()) - 1,
    }
    answer = exchange.call(lambda sdk: sdk.publicGetOHLC(params))
    rows = _rows_of(exchange, OHLC_ENDPOINT, answer)
    if not all(isinstance(row, list) and len(row) > len(_COLUMNS) for row in rows):
        raise exchange.drift(OHLC_ENDPOINT, "a candle does not have eight values")
    return rows


def _rows_of(exchange: Exchange, endpoint: str, answer: Any) -> list[Any]:
    """Return the one list of `{"result": {<pair>: [...], "last": ...}}`.

    The key is Kraken's internal name of the pair, which need not be the one asked with.
    """
    result = answer.get("result") if isinstance(answer, Mapping) else None
    lists = [value for value in result.values() if isinstance(value, list)] if result else []
    if len(lists) != 1:
        raise exchange.drift(endpoint, "its result does not hold one list of rows")
    rows: list[Any] = lists[0]
    return rows


def _first_start(rows: list[Any]) -> datetime | None:
    starts = epoch_to_ts([row[0] for row in rows]).dropna()
    return starts.min().to_pydatetime() if len(starts) else None


def parse_candles(rows: list[Any], window: AskWindow, *, source: str, now: datetime) -> VenueAnswer:
    """Turn candles `[time, open, high, low, close, vwap, volume, count]` into an answer.

    Kraken fills intervals without a trade with the last price, volume 0 and vwap 0.

    Args:
        rows: as received, each of eight values.
        window: what was asked.
        source: name for the `source` column.
        now: the present, UTC.
    """
    if not rows:
        return VenueAnswer(nothing_parsed())
    frame = pd.DataFrame(
        {name: [row[at] for row in rows] for at, name in enumerate(_COLUMNS, start=1)},
        dtype="object",
    )
    ts = epoch_to_ts([row[0] for row in rows])
    frame.insert(0, "ts", session_days(ts, window.market) if window.timeframe == "1d" else ts)
    parsed = judge_rows(frame, rows, window, source=source, origin=OHLC_ENDPOINT, now=now)
    return without_filled(parsed, window.timeframe)


def _fetch_older(
    exchange: Exchange, pair: str, window: AskWindow, title: str, source: str, pages: int
) -> VenueAnswer:
    def ask_trades(since: int) -> tuple[list[Any], int]:
        params = {"pair": pair, "since": str(since), "count": TRADES_PER_CALL}
        answer = exchange.call(lambda sdk: sdk.publicGetTrades(params))
        rows = _rows_of(exchange, TRADES_ENDPOINT, answer)
        try:
            return rows, int(answer["result"]["last"])
        except (KeyError, TypeError, ValueError):
            raise exchange.drift(TRADES_ENDPOINT, "'last' is not a whole number") from None

    try:
        return bars_from_trades(
            window, ask_trades, title=title, source=source, origin=TRADES_ENDPOINT, max_pages=pages
        )
    except ValueError as error:
        raise exchange.drift(TRADES_ENDPOINT, str(error)) from None
