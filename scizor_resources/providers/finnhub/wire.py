"""Finnhub's answers as bars, quotes, splits and earnings: pure functions, no I/O, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd

from scizor_core.errors import ContractError
from scizor_resources.errors import SchemaDrift
from scizor_resources.providers.actions import CorporateAction
from scizor_resources.providers.rows import (
    AskWindow,
    ParsedBars,
    epoch_to_ts,
    judge_rows,
    nothing_parsed,
    session_days,
)

SOURCE_NAME = "finnhub"
CANDLE_PATH = "/stock/candle"
QUOTE_PATH = "/quote"
SPLIT_PATH = "/stock/split"
EARNINGS_PATH = "/calendar/earnings"

_COLUMNS = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}


@dataclass(frozen=True)
class Quote:
    """The last price of a US equity and its day so far, in US dollars.

    Attributes:
        symbol: the platform's symbol.
        price: last price.
        change: price less the previous close; None where Finnhub does not say.
        change_percent: the same in percent of the previous close.
        open, high, low: of the running or last session.
        previous_close: close of the session before.
        ts: time of the price, UTC; None where Finnhub does not say.
    """

    symbol: str
    price: float
    change: float | None
    change_percent: float | None
    open: float
    high: float
    low: float
    previous_close: float
    ts: datetime | None


@dataclass(frozen=True)
class EarningsRelease:
    """One report of earnings, past or to come; figures are not by GAAP.

    Attributes:
        symbol: Finnhub's symbol of the company.
        report_date: day of the report, in the exchange's zone.
        hour: "bmo" before the open, "amc" after the close, "dmh" in between; None if not known.
        year: fiscal year of the quarter reported on.
        quarter: that quarter, 1 to 4.
        eps_estimate: expected earnings per share, US dollars; None if not known, as the rest.
        eps_actual: reported earnings per share.
        revenue_estimate: expected revenue, US dollars.
        revenue_actual: reported revenue.
    """

    symbol: str
    report_date: date
    hour: str | None
    year: int
    quarter: int
    eps_estimate: float | None
    eps_actual: float | None
    revenue_estimate: float | None
    revenue_actual: float | None


def drift(endpoint: str, found: str) -> SchemaDrift:
    """Return the error of an answer that does not have the agreed shape."""
    return SchemaDrift(
        f"The answer of Finnhub for {endpoint} does not have the agreed shape: {found}. "
        "The adapter has to be looked at before it can be used.",
        provider=SOURCE_NAME,
        endpoint=endpoint,
        status=200,
    )


def parse_candles(answer: Any, window: AskWindow, *, now: datetime) -> ParsedBars:
    """Turn an answer with candles into bars; `{"s": "no_data"}` is one without.

    Daily candles carry either the session's open or its date at 00:00 UTC, both within one answer
    (issues 387 and 449 of Finnhub-API). A stamp at 00:00 UTC is taken as the date itself, any
    other as the day in New York that it lies in.

    Args:
        answer: `{"s": "ok", "t": [...], "o": [...], ...}`, `t` in epoch seconds.
        window: what was asked.
        now: the present, UTC.

    Raises:
        SchemaDrift: it is not such an answer, or its lists differ in length.
    """
    status = answer.get("s") if isinstance(answer, Mapping) else None
    if status == "no_data":
        return nothing_parsed()
    if status != "ok":
        raise drift(CANDLE_PATH, f"'s' is {status!r} and neither ok nor no_data")
    lists = {name: answer.get(name) for name in ("t", *_COLUMNS)}
    stamps = lists["t"]
    if not isinstance(stamps, list):
        raise drift(CANDLE_PATH, "'t' is not a list")
    for name, values in lists.items():
        if not isinstance(values, list) or len(values) != len(stamps):
            raise drift(CANDLE_PATH, f"'{name}' does not have one value for each time")
    raw = pd.DataFrame(lists, dtype="object")
    ts = epoch_to_ts(stamps)
    if window.timeframe == "1d":
        ts = ts.where(ts == ts.normalize(), session_days(ts, window.market))
    rows = raw.rename(columns=_COLUMNS).assign(ts=ts)
    return judge_rows(
        rows,
        raw.to_dict("records"),
        window,
        source=SOURCE_NAME,
        origin=f"{CANDLE_PATH} {window.timeframe}",
        now=now,
    )


def parse_quote(answer: Any, symbol: str) -> Quote | None:
    """Return the quote of an answer, None where all is zero: Finnhub does not know the symbol.

    Raises:
        SchemaDrift: a price is missing or no number.
    """
    if not isinstance(answer, Mapping):
        raise drift(QUOTE_PATH, "it is not an object")
    prices = {name: _number(answer.get(name)) for name in ("c", "o", "h", "l", "pc")}
    missing = [name for name, value in prices.items() if value is None]
    if missing:
        raise drift(QUOTE_PATH, f"there is no number in {', '.join(missing)}")
    price, opened, high, low, previous = (value or 0.0 for value in prices.values())
    if not any((price, opened, high, low, previous)):
        return None
    stamp = _number(answer.get("t"))
    return Quote(
        symbol=symbol,
        price=price,
        change=_number(answer.get("d")),
        change_percent=_number(answer.get("dp")),
        open=opened,
        high=high,
        low=low,
        previous_close=previous,
        ts=datetime.fromtimestamp(stamp, tz=UTC) if stamp else None,
    )


def parse_splits(answer: Any, symbol: str) -> list[CorporateAction]:
    """Return the splits of a US equity: `[{symbol, date, fromFactor, toFactor}]`.

    Raises:
        SchemaDrift: it is not such a list.
    """
    if not isinstance(answer, list):
        raise drift(SPLIT_PATH, "it is not a list")
    try:
        return [
            CorporateAction(
                symbol,
                "us",
                date.fromisoformat(row["date"]),
                "split",
                SOURCE_NAME,
                ratio_from=float(row["fromFactor"]),
                ratio_to=float(row["toFactor"]),
                payload=dict(row),
            )
            for row in answer
        ]
    except (KeyError, TypeError, ValueError, ContractError) as error:
        raise drift(SPLIT_PATH, f"a split: {type(error).__name__} {error}") from None


def parse_earnings(answer: Any) -> list[EarningsRelease]:
    """Return the releases of an earnings calendar, by date and symbol.

    Raises:
        SchemaDrift: it is not `{"earningsCalendar": [...]}`, or a row has no date or quarter.
    """
    rows = answer.get("earningsCalendar") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list):
        raise drift(EARNINGS_PATH, "there is no list 'earningsCalendar'")
    try:
        releases = [
            EarningsRelease(
                symbol=str(row["symbol"]),
                report_date=date.fromisoformat(row["date"]),
                hour=row.get("hour") or None,
                year=int(row["year"]),
                quarter=int(row["quarter"]),
                eps_estimate=_number(row.get("epsEstimate")),
                eps_actual=_number(row.get("epsActual")),
                revenue_estimate=_number(row.get("revenueEstimate")),
                revenue_actual=_number(row.get("revenueActual")),
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise drift(EARNINGS_PATH, f"a release: {type(error).__name__} {error}") from None
    return sorted(releases, key=lambda release: (release.report_date, release.symbol))


def _number(value: Any) -> float | None:
    """Return a number as it is, None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)
