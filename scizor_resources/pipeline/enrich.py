"""Compute and store the indicators of a range of sessions, whatever order they are asked in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

import pandas as pd

from scizor_core.indicators import WARMUP_BARS, compute_indicators_window
from scizor_core.markets import Timeframe
from scizor_core.sessions import get_calendar
from scizor_resources.stores.reference import ReferenceStore
from scizor_resources.stores.warehouse import Warehouse, WriteResult


@dataclass
class EnrichReport:
    """What one computation did.

    Attributes:
        rows: indicator rows computed.
        symbols: instruments that had bars.
        written: rows inserted, changed, unchanged.
        first_ts: first bar start, None without bars.
        last_ts: last bar start, None without bars.
        refreshed: rows after the range that were computed again, because bars that came in late
            now stand in their warm-up.
    """

    rows: int = 0
    symbols: int = 0
    written: WriteResult = WriteResult()
    first_ts: pd.Timestamp | None = None
    last_ts: pd.Timestamp | None = None
    refreshed: int = 0


def enrich(
    warehouse: Warehouse,
    reference: ReferenceStore,
    market: str,
    timeframe: Timeframe,
    start: date,
    end: date,
    symbols: Sequence[str] | None = None,
) -> EnrichReport:
    """Compute the indicators of sessions `start <= session_date < end` from the stored bars.

    The `WARMUP_BARS` bars before the range are read along, so that values do not depend on where
    a backfill began. Rows right after the range that were computed before its bars came in (a
    backfill from new to old, a repaired gap) are computed again in the same run.

    Raises:
        UnknownSymbolError: a symbol that the platform does not know.
        WarehouseError: PostgreSQL refused.
    """
    if timeframe == "1d":
        window = datetime.combine(start, time(), UTC), datetime.combine(end, time(), UTC)
    else:
        bounds = get_calendar(market).window(start, end)
        if bounds is None:
            return EnrichReport()
        window = bounds
    ids = None
    if symbols is not None:
        ids = [each.instrument_id for each in reference.resolve(market, symbols)]
    bars = warehouse.read_bars(timeframe, *window, market=market, instrument_ids=ids)
    if bars.empty:
        return EnrichReport()
    instrument_ids = [int(each) for each in bars["instrument_id"].unique()]
    first_ts = pd.Timestamp(window[0])
    earlier = warehouse.read_bars_around(
        timeframe, instrument_ids, window[0], WARMUP_BARS, before=True
    )
    later = warehouse.read_bars_around(
        timeframe, instrument_ids, window[1], WARMUP_BARS, before=False
    )
    stale = warehouse.last_stale_indicator(
        timeframe, instrument_ids, window[1], WARMUP_BARS, bars["ingested_at"].max()
    )
    later = later[later["ts"] <= stale] if stale is not None else later.iloc[:0]
    every = pd.concat([frame for frame in (earlier, bars, later) if not frame.empty])
    every = every.sort_values(["instrument_id", "ts"], ignore_index=True)
    base = warehouse.obv_before(timeframe, every.groupby("instrument_id")["ts"].min())
    values = compute_indicators_window(every, first_ts, base)
    position = every.groupby("instrument_id").cumcount().clip(upper=WARMUP_BARS)
    computed = every["ts"] >= first_ts
    values["warmup_bars"] = position[computed].to_numpy()
    values["source"] = every.loc[computed, "source"].to_numpy()
    values["source"] = values["source"].astype("str")
    values["timeframe"] = pd.Series(timeframe, index=values.index, dtype="str")
    written = warehouse.write_indicators(values)
    return EnrichReport(
        rows=len(values) - len(later),
        symbols=len(instrument_ids),
        written=written,
        first_ts=bars["ts"].min(),
        last_ts=bars["ts"].max(),
        refreshed=len(later),
    )
