"""Splits and dividends of Yahoo's chart answer: a pure function from decoded JSON to records."""

from collections.abc import Mapping
from datetime import date
from math import prod
from typing import Any

import pandas as pd

from scizor_core.errors import ContractError
from scizor_core.markets import get_market
from scizor_resources.providers.actions import CorporateAction
from scizor_resources.providers.rows import AskWindow
from scizor_resources.providers.yahoo.chart import SOURCE_NAME, drift, read_chart, session_dates


def parse_actions(payload: Mapping[str, Any], window: AskWindow) -> list[CorporateAction]:
    """Return the splits and cash dividends of a window from a decoded daily chart answer.

    Yahoo tells of past dividends in shares of today, that is divided by every later split. They
    are brought back to what one share of that time received, for which the answer has to reach
    from the window to the present. Capital gains of funds are left.

    Args:
        payload: the whole answer, `{"chart": {"result": [...], "error": null}}`.
        window: the symbol and its session dates, timeframe "1d".

    Returns:
        Actions with `start <= ex_date < end`, by ex-date; the payload of each is Yahoo's record.

    Raises:
        SchemaDrift: the answer is not the chart that was asked for, or an event of the window is
            incomplete.
    """
    result, meta = read_chart(payload, window)
    events = result.get("events") or {}
    if not isinstance(events, Mapping):
        raise drift(window, "its events are not an object")
    splits = _dated(events, "splits", meta, window)
    try:
        found = [_split(day, event, window) for day, event in splits]
        for day, event in _dated(events, "dividends", meta, window):
            later = [split for split in found if split.ex_date > day]
            found.append(_dividend(day, event, later, meta, window))
    except (KeyError, TypeError, ValueError, ContractError) as error:
        raise drift(window, f"an event is incomplete: {type(error).__name__} {error}") from None
    first, stop = window.start.date(), window.end.date()
    wanted = [action for action in found if first <= action.ex_date < stop]
    return sorted(wanted, key=lambda action: (action.ex_date, action.kind))


def _dated(
    events: Mapping[str, Any], kind: str, meta: Mapping[str, Any], window: AskWindow
) -> list[tuple[date, Mapping[str, Any]]]:
    """Return the events of a kind with their session dates in the exchange's zone."""
    group = events.get(kind) or {}
    if not isinstance(group, Mapping):
        raise drift(window, f"events.{kind} is not an object")
    found = list(group.values())
    if not all(
        isinstance(event, Mapping) and isinstance(event.get("date"), int) for event in found
    ):
        raise drift(window, f"an event of events.{kind} has no date")
    if not found:
        return []
    instants = pd.Series(pd.to_datetime([event["date"] for event in found], unit="s", utc=True))
    local = instants.dt.tz_convert(meta["exchangeTimezoneName"])
    days = session_dates(local, get_market(window.market)).dt.date
    return list(zip(days, found, strict=True))


def _split(day: date, event: Mapping[str, Any], window: AskWindow) -> CorporateAction:
    return CorporateAction(
        window.symbol,
        window.market,
        day,
        "split",
        SOURCE_NAME,
        ratio_from=float(event["denominator"]),
        ratio_to=float(event["numerator"]),
        payload=dict(event),
    )


def _dividend(
    day: date,
    event: Mapping[str, Any],
    later: list[CorporateAction],
    meta: Mapping[str, Any],
    window: AskWindow,
) -> CorporateAction:
    shares = prod((split.ratio_to or 1.0) / (split.ratio_from or 1.0) for split in later)
    currency = event.get("currency") or meta.get("currency")
    return CorporateAction(
        window.symbol,
        window.market,
        day,
        "dividend",
        SOURCE_NAME,
        cash_amount=float(event["amount"]) * shares,
        currency=str(currency) if currency else None,
        payload=dict(event),
    )
