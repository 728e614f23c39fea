"""Alpaca's answers as bars and corporate actions: pure functions, no I/O, no clock."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pandas as pd

from scizor_core.errors import ContractError, InvalidInputError
from scizor_resources.errors import SchemaDrift
from scizor_resources.providers.actions import CorporateAction
from scizor_resources.providers.alpaca.symbols import from_alpaca_symbol
from scizor_resources.providers.rows import (
    NEEDED_COLUMNS,
    OUTSIDE_WINDOW,
    AskWindow,
    ParsedBars,
    judge_rows,
    nothing_parsed,
    session_days,
)

SOURCE_NAME = "alpaca"
REPEATED_HOUR = "repeated hourly row of a day"

_COLUMNS = {
    "o": "open",
    "h": "high",
    "l": "low",
    "c": "close",
    "v": "volume",
    "vw": "vwap",
    "n": "trade_count",
}


def drift(endpoint: str, found: str) -> SchemaDrift:
    """Return the error of an answer that does not have the agreed shape."""
    return SchemaDrift(
        f"The answer of Alpaca for {endpoint} does not have the agreed shape: {found}. "
        "The adapter has to be looked at before it can be used.",
        provider=SOURCE_NAME,
        endpoint=endpoint,
        status=200,
    )


def page_token(answer: Any, endpoint: str) -> str | None:
    """Return the token of the next page, None on the last one.

    Raises:
        SchemaDrift: the answer is not an object, or its token is not text.
    """
    if not isinstance(answer, Mapping):
        raise drift(endpoint, "it is not an object")
    token = answer.get("next_page_token")
    if token is not None and not isinstance(token, str):
        raise drift(endpoint, "next_page_token is not text")
    return token or None


def page_rows(answer: Any, asked: Sequence[str], endpoint: str) -> dict[str, list[Any]]:
    """Return the rows of a page of bars: Alpaca's symbol -> rows as received.

    A page can hold only some of the symbols, and a part of their rows. `{"bars": null}` is a page
    without bars.

    Args:
        answer: decoded page, `{"bars": {symbol: [row, ...]}, "next_page_token": ...}`.
        asked: Alpaca's symbols that were asked for.
        endpoint: what was called, for the error.

    Raises:
        SchemaDrift: the page is not one of bars of those symbols.
    """
    if not isinstance(answer, Mapping) or "bars" not in answer:
        raise drift(endpoint, "there is no 'bars'")
    bars = answer["bars"]
    if bars is None:
        return {}
    if not isinstance(bars, Mapping):
        raise drift(endpoint, "'bars' is not an object by symbol")
    for symbol, rows in bars.items():
        if symbol not in asked:
            raise drift(endpoint, f"it has bars of '{symbol}', which was not asked for")
        if rows is not None and not isinstance(rows, list):
            raise drift(endpoint, f"the bars of '{symbol}' are not a list")
    return {symbol: rows for symbol, rows in bars.items() if rows}


def parse_bars(
    rows: Sequence[Any], window: AskWindow, *, source: str, endpoint: str, now: datetime
) -> ParsedBars:
    """Turn the rows of one symbol, of all pages, into bars.

    `t` is the bar's start, RFC 3339 in UTC; of a daily bar midnight in New York, which becomes the
    session date at 00:00 UTC. Minutes before the open and after the close are counted and left.
    The average price 0 of a bar without volume is no price and becomes missing.

    A daily bar of Alpaca's crypto data runs from midnight to midnight in Chicago (05:00 or 06:00
    UTC; issue 169 of alpaca-py), but the platform's crypto day is the UTC day. Daily crypto bars
    are therefore made of hourly rows.

    Args:
        rows: `{t, o, h, l, c, v, n, vw}` each; hourly ones for daily crypto bars.
        window: what was asked.
        source: name for the `source` column.
        endpoint: what was called.
        now: the present, UTC.

    Raises:
        SchemaDrift: a row is not an object with a time.
    """
    if not rows:
        return nothing_parsed()
    if not all(isinstance(row, Mapping) and isinstance(row.get("t"), str) for row in rows):
        raise drift(endpoint, f"a bar of '{window.symbol}' is not an object with a time 't'")
    received = pd.DataFrame(list(rows))
    wire = pd.DataFrame(
        {"ts": pd.to_datetime(received["t"], utc=True, format="ISO8601", errors="coerce")}
    )
    for letter, name in _COLUMNS.items():
        if letter in received:
            wire[name] = pd.to_numeric(received[letter], errors="coerce").astype("float64")
    missing = [name for name in NEEDED_COLUMNS if name not in wire]
    if missing:
        raise drift(endpoint, f"the bars of '{window.symbol}' have no {', '.join(missing)}")
    if "vwap" in wire:
        wire["vwap"] = wire["vwap"].where(wire["volume"] != 0)
    payloads: Sequence[Any] = rows
    ignored: dict[str, int] = {}
    if is_made_of_hours(window):
        wire, payloads, ignored = _days_of_hours(wire, rows, window, endpoint)
    elif window.timeframe == "1d":
        wire["ts"] = session_days(pd.DatetimeIndex(wire["ts"]), window.market)
    parsed = judge_rows(wire, payloads, window, source=source, origin=endpoint, now=now)
    return replace(parsed, ignored={**parsed.ignored, **ignored}) if ignored else parsed


def is_made_of_hours(window: AskWindow) -> bool:
    """Say whether a window is asked for in hourly rows: daily bars of crypto."""
    return window.timeframe == "1d" and window.market == "crypto"


def _days_of_hours(
    hours: pd.DataFrame, rows: Sequence[Any], window: AskWindow, endpoint: str
) -> tuple[pd.DataFrame, list[Any], dict[str, int]]:
    """Return UTC days made of hourly rows, the rows of each, and what was left out.

    A day with an hour that lacks a value has no values: it cannot be known, and is refused later.
    """
    if hours["ts"].isna().any():
        raise drift(endpoint, f"an hour of '{window.symbol}' has no readable time")
    inside = (hours["ts"] >= window.start) & (hours["ts"] < window.end)
    repeated = inside & hours.duplicated("ts", keep="first")
    counts = {OUTSIDE_WINDOW: int((~inside).sum()), REPEATED_HOUR: int(repeated.sum())}
    ignored = {reason: count for reason, count in counts.items() if count}
    kept = (
        hours[inside & ~repeated]
        .sort_values("ts")
        .assign(day=lambda each: each["ts"].dt.floor("D"))
    )
    for name in ("vwap", "trade_count"):
        if name not in kept:
            kept[name] = float("nan")
    kept["turnover"] = kept["vwap"] * kept["volume"]
    groups = kept.groupby("day")
    days = groups.agg(
        open=("open", "first"),
        high=("high", "max"),
        low=("low", "min"),
        close=("close", "last"),
        volume=("volume", "sum"),
        turnover=("turnover", "sum"),
        trade_count=("trade_count", "sum"),
    )
    days["vwap"] = (days["turnover"] / days["volume"]).where(days["volume"] > 0)
    lacking = kept.loc[kept[list(NEEDED_COLUMNS)].isna().any(axis=1), "day"].unique()
    days.loc[days.index.isin(lacking), list(NEEDED_COLUMNS)] = float("nan")
    payloads = [{"hours": [rows[number] for number in groups.groups[day]]} for day in days.index]
    return days.drop(columns="turnover").rename_axis("ts").reset_index(), payloads, ignored


def parse_actions(answer: Any, endpoint: str) -> Iterator[CorporateAction]:
    """Yield the splits, stock dividends and cash dividends of a page of corporate actions.

    A stock dividend of rate 0.05 is a split from 1 to 1.05. Amounts of cash are in US dollars
    unless the row says otherwise.

    Raises:
        SchemaDrift: the page or a row does not have the agreed shape.
    """
    groups = answer.get("corporate_actions") if isinstance(answer, Mapping) else None
    if groups is None and isinstance(answer, Mapping) and "corporate_actions" in answer:
        return
    if not isinstance(groups, Mapping):
        raise drift(endpoint, "there is no 'corporate_actions' by kind")
    for kind in ("forward_splits", "reverse_splits", "stock_dividends", "cash_dividends"):
        for row in groups.get(kind) or []:
            try:
                yield _action(kind, row)
            except (KeyError, TypeError, ValueError, ContractError, InvalidInputError) as error:
                found = f"a row of {kind}: {type(error).__name__} {error}"
                raise drift(endpoint, found) from None


def _action(kind: str, row: Mapping[str, Any]) -> CorporateAction:
    symbol = from_alpaca_symbol("us", row["symbol"])
    ex_date, payload = date.fromisoformat(row["ex_date"]), dict(row)
    if kind == "cash_dividends":
        return CorporateAction(
            symbol,
            "us",
            ex_date,
            "dividend",
            SOURCE_NAME,
            cash_amount=float(row["rate"]),
            currency=str(row.get("currency") or "USD"),
            payload=payload,
        )
    if kind == "stock_dividends":
        ratio_from, ratio_to = 1.0, 1.0 + float(row["rate"])
    else:
        ratio_from, ratio_to = float(row["old_rate"]), float(row["new_rate"])
    return CorporateAction(
        symbol, "us", ex_date, "split", SOURCE_NAME, ratio_from, ratio_to, payload=payload
    )
