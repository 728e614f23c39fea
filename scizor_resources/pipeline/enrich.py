"""Compute and store the indicators of a range of sessions, whatever order they are asked in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

import pandas as pd

from scizor_core.indicators import WARMUP_BARS, compute_indicators_window
from scizor_core.markets import Timeframe
from scizor_core.sessions import get_calendar
from scizor_resources.stores.merging import WriteResult
from scizor_resources.stores.reference import ReferenceStore
from scizor_resources.stores.warehouse import Warehouse

#: Relative to its level; sums of many volumes differ in the last digits with their order.
SHIFT_TOLERANCE = 1e-9


@dataclass
class EnrichReport:
    """What one computation did.

    Attributes:
        rows: indicator rows computed.
        symbols: instruments that had bars.
        written: rows inserted, changed, unchanged.
        first_ts: first bar start, None without bars.
        last_ts: last bar start, None without bars.
        refreshed: rows after the range that have changed, because bars that came in late now
            stand before them.
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
    a backfill began. Rows after the range that were computed before its bars came in (a backfill
    from new to old, a repaired gap, a run at the same time) are brought up to date in the same
    run: `WARMUP_BARS` of them are computed again, and on-balance volume, which forgets nothing,
    is moved in all that follow.

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
    with warehouse.connect() as guard:
        # Two runs that read each other's sessions half written would both be wrong for good.
        guard.execute(
            "SELECT pg_advisory_xact_lock(7249005, hashtext(%s))", [f"{market} {timeframe}"]
        )
        return _enrich_window(warehouse, market, timeframe, window, ids)


def _enrich_window(
    warehouse: Warehouse,
    market: str,
    timeframe: Timeframe,
    window: tuple[datetime, datetime],
    ids: list[int] | None,
) -> EnrichReport:
    bars = warehouse.read_bars(timeframe, *window, market=market, instrument_ids=ids)
    if bars.empty:
        return EnrichReport()
    instrument_ids = [int(each) for each in bars["instrument_id"].unique()]
    earlier = warehouse.read_bars_around(
        timeframe, instrument_ids, window[0], WARMUP_BARS, before=True
    )
    stored = _stored_after(warehouse, timeframe, instrument_ids, window[1])
    if stored.empty:
        later = bars.iloc[:0]
    else:
        later = warehouse.read_bars_around(
            timeframe, instrument_ids, window[1], WARMUP_BARS, before=False
        )
        last = stored.groupby("instrument_id")["ts"].max()
        later = later[later["ts"] <= later["instrument_id"].map(last)]
    every = pd.concat([frame for frame in (earlier, bars, later) if not frame.empty])
    values = _compute(warehouse, timeframe, every, pd.Timestamp(window[0]))
    inside = values["ts"] < pd.Timestamp(window[1])
    written = warehouse.write_indicators(values[inside])
    # Only rows that are there already: what has never been asked for is left to its own run.
    again = values[~inside].merge(stored, on=["instrument_id", "ts"])
    moved = _far_ahead(warehouse, timeframe, stored, again)
    refreshed = 0 if again.empty else warehouse.write_indicators(again).changed
    refreshed += _move_obv(warehouse, timeframe, moved)
    return EnrichReport(
        rows=int(inside.sum()),
        symbols=len(instrument_ids),
        written=written,
        first_ts=bars["ts"].min(),
        last_ts=bars["ts"].max(),
        refreshed=refreshed,
    )


def _compute(
    warehouse: Warehouse, timeframe: Timeframe, bars: pd.DataFrame, first_ts: pd.Timestamp
) -> pd.DataFrame:
    """Return the rows of `market.indicators` from `first_ts` on; earlier bars are warm-up."""
    every = bars.sort_values(["instrument_id", "ts"], ignore_index=True)
    base = warehouse.obv_before(timeframe, every.groupby("instrument_id")["ts"].min())
    values = compute_indicators_window(every, first_ts, base)
    position = every.groupby("instrument_id").cumcount().clip(upper=WARMUP_BARS)
    computed = every["ts"] >= first_ts
    values["warmup_bars"] = position[computed].to_numpy()
    values["source"] = every.loc[computed, "source"].to_numpy()
    values["source"] = values["source"].astype("str")
    values["timeframe"] = pd.Series(timeframe, index=values.index, dtype="str")
    return values


def _stored_after(
    warehouse: Warehouse, timeframe: Timeframe, instrument_ids: list[int], at: datetime
) -> pd.DataFrame:
    """Return the first `WARMUP_BARS` stored rows from `at` on: instrument_id, ts, stored_obv."""
    with warehouse.connect() as connection:
        rows = connection.execute(
            "SELECT i.* FROM unnest(%s::int[]) AS s (instrument_id) CROSS JOIN LATERAL ("
            "SELECT x.instrument_id, x.ts, x.obv AS stored_obv FROM market.indicators AS x "
            "WHERE x.instrument_id = s.instrument_id AND x.timeframe = %s AND x.ts >= %s "
            "ORDER BY x.ts LIMIT %s) AS i",
            [instrument_ids, timeframe, at, WARMUP_BARS],
        ).fetchall()
    frame = pd.DataFrame(rows, columns=["instrument_id", "ts", "stored_obv"])
    return frame.astype(
        {"instrument_id": "int64", "ts": "datetime64[us, UTC]", "stored_obv": "float64"}
    )


def _far_ahead(
    warehouse: Warehouse, timeframe: Timeframe, stored: pd.DataFrame, again: pd.DataFrame
) -> pd.DataFrame:
    """Return per instrument the row from which on only on-balance volume can have changed.

    Returns:
        instrument_id, ts, obv as it has to be, stored_obv as it is; the rows after ts are to move.
    """
    columns = ["instrument_id", "ts", "obv", "stored_obv"]
    last = again.sort_values("ts").groupby("instrument_id").tail(1)[columns]
    # Bars without indicators may fill the whole warm-up; the first row after them tells then.
    beyond = stored[~stored["instrument_id"].isin(last["instrument_id"])]
    beyond = beyond.sort_values("ts").groupby("instrument_id").head(1)
    if beyond.empty:
        return last
    instant = pd.Timedelta(microseconds=1)
    base = warehouse.obv_before(timeframe, beyond.set_index("instrument_id")["ts"] + instant)
    exact = beyond.assign(obv=beyond["instrument_id"].map(base["obv"]), ts=beyond["ts"] - instant)
    return pd.concat([frame for frame in (last, exact[columns]) if not frame.empty])


def _move_obv(warehouse: Warehouse, timeframe: Timeframe, last: pd.DataFrame) -> int:
    """Move the on-balance volume of all rows after `last` by what is wrong in `last`.

    Returns:
        Number of rows moved.
    """
    step = last["obv"] - last["stored_obv"]
    scale = last[["obv", "stored_obv"]].abs().max(axis=1)
    # The tolerance with which a write tells a changed value from an equal one.
    wrong = last.assign(step=step)[step.abs() > 1e-9 * scale]
    return sum(
        warehouse.shift_obv(timeframe, instrument_id, ts + pd.Timedelta(microseconds=1), shift)
        for instrument_id, ts, shift in zip(
            wrong["instrument_id"].tolist(), wrong["ts"], wrong["step"].tolist(), strict=True
        )
    )
