"""Bars from finer bars: resampling that invents nothing and looks nowhere ahead."""

from collections.abc import Iterable

import pandas as pd

from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe

#: Which finer bars the bars of a timeframe are made of.
FINER: dict[Timeframe, Timeframe] = {"5m": "1m", "15m": "5m"}

#: What the contract of `market.bars` leaves room for.
_LONGEST_SOURCE = 64


def resample_bars(bars: pd.DataFrame, timeframe: Timeframe) -> pd.DataFrame:
    """Return bars of a coarser intraday timeframe, one per bucket in which a finer bar exists.

    Args:
        bars: finer bars of one or more instruments: instrument_id, ts, session_date, open, high,
            low, close, volume, vwap, trade_count, source, is_final.
        timeframe: "5m" or "15m". Buckets start at whole multiples of it in UTC, which is where
            every supported session opens.

    Returns:
        Columns as given, ordered by instrument_id and ts. `vwap` is weighted by volume and only
        there when every traded finer bar has one, `trade_count` likewise. `source` is the finer
        bars' source, joined by "+" where they differ, simulated ones first, so that a bar with
        one simulated minute counts as simulated. A bucket is final when all its bars are.
    """
    if bars.empty:
        return bars.copy()
    ordered = bars.sort_values(["instrument_id", "ts"], kind="stable")
    bucket = ordered["ts"].dt.floor(f"{TIMEFRAME_MINUTES[timeframe]}min")
    traded = ordered["volume"] > 0
    ordered = ordered.assign(
        ts=bucket,
        _turnover=(ordered["vwap"] * ordered["volume"]).where(traded, 0.0),
        _no_vwap=traded & ordered["vwap"].isna(),
        _no_count=ordered["trade_count"].isna(),
    )
    groups = ordered.groupby(["instrument_id", "ts"], sort=True)
    out = groups.agg(
        session_date=("session_date", "first"),
        open=("open", "first"),
        high=("high", "max"),
        low=("low", "min"),
        close=("close", "last"),
        volume=("volume", "sum"),
        trade_count=("trade_count", "sum"),
        is_final=("is_final", "all"),
        _turnover=("_turnover", "sum"),
        _no_vwap=("_no_vwap", "any"),
        _no_count=("_no_count", "any"),
    )
    usable = (out["volume"] > 0) & ~out["_no_vwap"]
    out["vwap"] = (out["_turnover"] / out["volume"].where(usable)).astype("float64")
    out["trade_count"] = out["trade_count"].astype("Int64").mask(out["_no_count"])
    out["source"] = _joined_sources(ordered, out.index)
    out["adj_close"] = float("nan")
    return out.drop(columns=["_turnover", "_no_vwap", "_no_count"]).reset_index()


def _joined_sources(ordered: pd.DataFrame, buckets: pd.Index) -> "pd.Series[str]":
    first = ordered["source"].iloc[0]
    if (ordered["source"] == first).all():
        return pd.Series(_join([first]), index=buckets, dtype="str")
    pairs = ordered[["instrument_id", "ts", "source"]].drop_duplicates()
    return pairs.groupby(["instrument_id", "ts"])["source"].agg(_join).astype("str")


def _join(sources: Iterable[str]) -> str:
    # A finer bar may be a joined one itself: 1m -> 5m -> 15m says the same as 1m -> 15m.
    names = {name for source in sources for name in source.split("+")}
    joined = "+".join(sorted(names, key=lambda name: (not name.startswith("simulated"), name)))
    return joined if len(joined) <= _LONGEST_SOURCE else joined[: _LONGEST_SOURCE - 3] + "..."
