"""Adjustment of prices and volumes for splits and cash dividends.

One rule decides which splits a bar still lacks: those that went ex after its `basis date`. A raw
bar is in the shares of its own session, so its basis date is its session date. A bar of a provider
that rewrites its history after each split is in the shares of the day it was fetched, so its basis
date is the exchange's date of that moment. Dividends are never in stored prices.

A dividend lowers all earlier prices by the factor 1 - amount / close, with the last close before
the ex-date, both in the same shares; the factors of several dividends multiply (the method of CRSP
and of the adjusted closes that most providers publish).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from scizor_core.markets import TIMEFRAMES, Timeframe

#: Timeframes that a source's bars come split-adjusted in; every other source is raw. The marts
#: hold the same list (`dbt_project/models/staging/stg_bars_daily.sql`).
SPLIT_ADJUSTED_SOURCES: dict[str, tuple[Timeframe, ...]] = {
    "yahoo": TIMEFRAMES,
    "ibkr": TIMEFRAMES,
    "finnhub": ("1d",),
}
#: An opening price that differs by more than this fraction from what a split makes of the close
#: before it contradicts the split.
SPLIT_TOLERANCE = 0.30
#: Bars further than this from the ex-date say nothing about a split.
EVIDENCE_DAYS = 10

#: So many sessions in a row whose closes differ by one factor are a rewritten history.
REWRITE_SESSIONS = 5
#: Closes that differ by less than this fraction are equal but for rounding.
RATIO_TOLERANCE = 0.01
#: Quotients of closes that mean another unit (pence and pounds), not other shares.
UNIT_RATIOS: tuple[float, ...] = (100.0, 0.01)

#: Sources of actions, the one that counts first. "manual" is a row put in by hand. Alpaca has
#: amounts as declared; Yahoo's are divided by later splits, rounded, and multiplied back.
PREFERENCE: tuple[str, ...] = ("manual", "alpaca", "yahoo", "finnhub")
#: Two sources mean the same action when their ex-dates are this close: one may have the Friday of
#: a Monday.
SAME_ACTION_DAYS = 4
#: Amounts that are this close, as a fraction, agree: sources round differently.
VALUE_TOLERANCE = 0.01

Dates = npt.NDArray[np.datetime64]
Factors = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """A split: from `ex_date` on there are `ratio` new shares for each old one (10 to 1: 0.1)."""

    ex_date: date
    ratio: float


@dataclass(frozen=True)
class Dividend:
    """A cash dividend: `amount` for each share held before `ex_date`, as declared."""

    ex_date: date
    amount: float


@dataclass(frozen=True)
class StoredPrice:
    """A price of one stored bar with what is needed to bring it to other shares.

    Attributes:
        session_date: session of the bar.
        price: as stored.
        basis_date: see the module's docstring.
    """

    session_date: date
    price: float
    basis_date: date


def is_split_adjusted(source: str, timeframe: Timeframe) -> bool:
    """Say whether bars of a source carry the splits known when they were fetched.

    Args:
        source: as stored on the row: a name, which may say more ("alpaca-iex", "tape/file"), or
            several joined by "+", which all have to be adjusted.
        timeframe: timeframe of the bars.
    """
    return all(_is_adjusted(part, timeframe) for part in source.split("+"))


def _is_adjusted(source: str, timeframe: Timeframe) -> bool:
    for name, timeframes in SPLIT_ADJUSTED_SOURCES.items():
        if source == name or source.startswith((f"{name}/", f"{name}-", f"{name}:")):
            return timeframe in timeframes
    return False


def basis_date(
    session_date: date, source: str, ingested_at: datetime, timeframe: Timeframe, timezone: str
) -> date:
    """Return the date in whose shares a bar is.

    Args:
        session_date: session of the bar.
        source: as stored on the row.
        ingested_at: when the row was last written, aware.
        timeframe: timeframe of the bar.
        timezone: IANA name of the exchange's zone.

    Returns:
        The date; for simulated bars the last there is, because invented prices lack no split.
    """
    if "simulated" in source:
        return date.max
    if not is_split_adjusted(source, timeframe):
        return session_date
    return max(session_date, ingested_at.astimezone(ZoneInfo(timezone)).date())


def basis_dates(bars: pd.DataFrame, timeframe: Timeframe, timezone: str) -> Dates:
    """Return `basis_date` of each row of a frame with session_date, source and ingested_at."""
    sessions: Dates = bars["session_date"].to_numpy().astype("datetime64[D]")
    arrived = bars["ingested_at"].dt.tz_convert(timezone).dt.tz_localize(None)
    fetched: Dates = arrived.to_numpy().astype("datetime64[D]")
    kinds = {str(name): _kind(str(name), timeframe) for name in bars["source"].unique()}
    kind = bars["source"].map(kinds).to_numpy(dtype="str")
    later = np.maximum(sessions, fetched)
    never = np.datetime64(date.max, "D")
    return np.where(kind == "raw", sessions, np.where(kind == "adjusted", later, never))


def _kind(source: str, timeframe: Timeframe) -> str:
    if "simulated" in source:
        return "simulated"
    return "adjusted" if is_split_adjusted(source, timeframe) else "raw"


def split_factors(dates: Dates, splits: Sequence[Split]) -> Factors:
    """Return for each basis date the factor that brings a price to the shares after all splits.

    Prices are multiplied by it, volumes divided: after a 4-for-1 split an earlier price has the
    factor 0.25.
    """
    return _after(dates, [(each.ex_date, 1 / each.ratio) for each in splits])


def split_factor(day: date, splits: Sequence[Split]) -> float:
    """Return the factor of one basis date, see `split_factors`."""
    return math.prod(1 / each.ratio for each in splits if each.ex_date > day)


def dividend_factors(
    session_dates: Dates,
    dividends: Sequence[Dividend],
    closes: Sequence[StoredPrice | None],
    splits: Sequence[Split],
) -> Factors:
    """Return for each session the factor by which its price is lowered for later dividends.

    Args:
        session_dates: sessions of the bars.
        dividends: cash dividends.
        closes: of each dividend the last stored daily close before its ex-date, None without one;
            such a dividend has nothing to lower.
        splits: the splits that count.
    """
    steps = [
        (dividend.ex_date, factor)
        for dividend, close in zip(dividends, closes, strict=True)
        if close is not None and (factor := dividend_factor(dividend, close, splits)) is not None
    ]
    return _after(session_dates, steps)


def dividend_factor(
    dividend: Dividend, close: StoredPrice, splits: Sequence[Split]
) -> float | None:
    """Return 1 - amount / close, both in the shares after all splits; None where it is not in 0..1.

    Args:
        dividend: its amount is in the shares of its ex-date.
        close: the last daily close before the ex-date.
        splits: the splits that count.
    """
    amount = dividend.amount * split_factor(dividend.ex_date, splits)
    price = close.price * split_factor(close.basis_date, splits)
    factor = 1 - amount / price if price > 0 else 0.0
    return factor if 0 < factor <= 1 else None


def _after(dates: Dates, steps: Sequence[tuple[date, float]]) -> Factors:
    """Return for each date the product of the factors of all steps after it."""
    if not steps:
        return np.ones(len(dates))
    ordered = sorted(steps)
    days = np.array([day for day, _ in ordered], dtype="datetime64[D]")
    products = np.append(np.cumprod([factor for _, factor in reversed(ordered)])[::-1], 1.0)
    factors: Factors = products[np.searchsorted(days, dates.astype("datetime64[D]"), side="right")]
    return factors


def contradiction(
    split: Split, close: StoredPrice, opening: StoredPrice, others: Sequence[Split]
) -> float | None:
    """Return by how many times the price fell over the ex-date, where that contradicts the split.

    Args:
        split: the split to judge.
        close: the last stored daily close before its ex-date.
        opening: the first stored daily open from its ex-date on.
        others: the other splits that count.

    Returns:
        The fall that was seen (1 where the price did not move), None where it agrees with the
        ratio within `SPLIT_TOLERANCE` or the bars cannot tell: they are too far away, or the
        close was stored with the split in it already.
    """
    near = max(
        (split.ex_date - close.session_date).days, (opening.session_date - split.ex_date).days
    )
    if near > EVIDENCE_DAYS or close.basis_date >= split.ex_date:
        return None
    before = close.price * split_factor(close.basis_date, others)
    after = opening.price * split_factor(opening.basis_date, others)
    fall = before / after
    return fall if abs(fall / split.ratio - 1) > SPLIT_TOLERANCE else None


def rewrite_ratio(stored: "pd.Series[float]", fresh: "pd.Series[float]") -> float | None:
    """Return the one factor between stored and fresh closes, where there is one.

    Args:
        stored: closes as stored, by session.
        fresh: closes of the same source as it has them now, by session.

    Returns:
        The constant stored / fresh of those sessions that differ; None where fewer than
        `REWRITE_SESSIONS` do, or where they differ in no common way.
    """
    both = pd.concat([stored.rename("stored"), fresh.rename("fresh")], axis=1, join="inner")
    ratios = (both["stored"] / both["fresh"]).to_numpy(dtype="float64")
    differing = ratios[np.abs(ratios - 1) > RATIO_TOLERANCE]
    if len(differing) < REWRITE_SESSIONS:
        return None
    ratio = float(np.median(differing))
    return ratio if bool((np.abs(differing / ratio - 1) <= RATIO_TOLERANCE).all()) else None


def is_unit_ratio(ratio: float) -> bool:
    """Say whether a factor between two prices means another unit, such as pence for pounds."""
    return any(abs(ratio / each - 1) <= RATIO_TOLERANCE for each in UNIT_RATIOS)


@dataclass(frozen=True)
class Report:
    """What one source says of one action.

    Attributes:
        source: who says so.
        action: the split or dividend.
        currency: ISO code of a dividend's amount, empty for a split.
    """

    source: str
    action: Split | Dividend
    currency: str = ""


@dataclass(frozen=True)
class Evidence:
    """Stored daily prices around an ex-date: last close before it, first open from it on."""

    close: StoredPrice | None = None
    opening: StoredPrice | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether a reported action counts.

    Attributes:
        applied: it is part of the adjusted series.
        note: why not, or in what other sources differ; empty where there is nothing to say.
        kind: what the note is about. "" nothing worth an alert, "contradicted" by prices or
            impossible, "disagreement" with the source that counts.
    """

    applied: bool
    note: str = ""
    kind: Literal["", "contradicted", "disagreement"] = ""


def judge(
    reports: Sequence[Report], evidence: Mapping[date, Evidence], currency: str, today: date
) -> list[Verdict]:
    """Say of each report on one instrument whether it counts; of each action one does at most.

    Reports of different sources are of the same action where they are of the same kind and their
    ex-dates lie within `SAME_ACTION_DAYS`. The source that stands first in `PREFERENCE` counts,
    unless its report cannot be.

    Args:
        reports: what the sources say, any order.
        evidence: stored prices around each ex-date.
        currency: ISO code of the instrument's prices.
        today: date at the exchange; what goes ex later does not count yet.

    Returns:
        Verdicts in the order of `reports`.
    """
    verdicts: dict[int, Verdict] = {}
    accepted: list[Report] = []
    splits = _first_reported([each for each in reports if each.action.ex_date <= today])
    for index in sorted(range(len(reports)), key=lambda each: _place(reports[each].source)):
        report = reports[index]
        fault = _fault(report, evidence.get(report.action.ex_date), currency, splits)
        same = next((each for each in accepted if _is_same(each, report)), None)
        if report.action.ex_date > today:
            verdicts[index] = Verdict(applied=False, note="to come")
        elif fault:
            verdicts[index] = Verdict(applied=False, note=fault, kind="contradicted")
        elif same is not None:
            verdicts[index] = _second(report, same)
        elif isinstance(report.action, Dividend) and report.currency not in ("", currency):
            note = f"paid in {report.currency}, prices are in {currency}"
            verdicts[index] = Verdict(applied=False, note=note)
        else:
            accepted.append(report)
            verdicts[index] = Verdict(applied=True)
    return [verdicts[index] for index in range(len(reports))]


def _place(source: str) -> tuple[int, str]:
    known = source in PREFERENCE
    return (PREFERENCE.index(source) if known else len(PREFERENCE), source)


def _is_same(one: Report, other: Report) -> bool:
    """Say whether two sources mean the same action; within a source every action is its own."""
    days = abs((one.action.ex_date - other.action.ex_date).days)
    return (
        one.source != other.source
        and type(one.action) is type(other.action)
        and days <= SAME_ACTION_DAYS
    )


def _first_reported(reports: Sequence[Report]) -> list[Split]:
    """Return each split once, as the most preferred source has it."""
    kept: list[tuple[Report, Split]] = []
    for report in sorted(reports, key=lambda each: _place(each.source)):
        action = report.action
        if isinstance(action, Split) and not any(_is_same(each, report) for each, _ in kept):
            kept.append((report, action))
    return [split for _, split in kept]


def _fault(
    report: Report, evidence: Evidence | None, currency: str, splits: Sequence[Split]
) -> str:
    """Return why the action cannot have happened as reported, "" where it can."""
    action = report.action
    if evidence is None or evidence.close is None:
        return ""
    if isinstance(action, Dividend):
        if report.currency in ("", currency) and (
            dividend_factor(action, evidence.close, splits) is None
        ):
            return f"{action.amount:g} is more than the price of {evidence.close.price:g} before"
        return ""
    if evidence.opening is None:
        return ""
    others = [
        each for each in splits if abs((each.ex_date - action.ex_date).days) > SAME_ACTION_DAYS
    ]
    fall = contradiction(action, evidence.close, evidence.opening, others)
    if fall is None:
        return ""
    return (
        f"prices contradict it: {evidence.close.price:g} on {evidence.close.session_date} to "
        f"{evidence.opening.price:g} on {evidence.opening.session_date} is a factor of "
        f"{fall:.4g}, not {action.ratio:g}"
    )


def _second(report: Report, first: Report) -> Verdict:
    """Return the verdict on an action that a more preferred source has reported."""
    one, other = _value(first), _value(report)
    differs = []
    if first.action.ex_date != report.action.ex_date:
        differs.append(f"ex-date {first.action.ex_date}")
    if first.currency != report.currency:
        differs.append(f"{one:g} {first.currency}")
    elif abs(other / one - 1) > VALUE_TOLERANCE:
        differs.append(f"{one:g}")
    if not differs:
        return Verdict(applied=False, note=f"as {first.source} has it")
    note = f"{first.source} counts and has {', '.join(differs)}"
    return Verdict(applied=False, note=note, kind="disagreement")


def _value(report: Report) -> float:
    action = report.action
    return action.ratio if isinstance(action, Split) else action.amount
