"""Does the ledger add up? What contradicts it in PostgreSQL, found by SQL alone."""

from datetime import date
from typing import Any

from scizor_resources.stores.warehouse import Warehouse

#: Column of `quality.completeness` -> reason in `quality.gaps`.
COLUMNS: dict[str, str] = {
    "quiet": "no trades",
    "feed_down": "feed down",
    "not_fetched": "not yet fetched",
    "refused": "provider refused",
    "absent": "absent in every source",
    "halted": "halted",
    "outside_history": "outside history",
    "delisted": "delisted",
}
_SUMS = ", ".join(
    f"coalesce(sum(bars) FILTER (WHERE reason = '{reason}'), 0) AS {column}"
    for column, reason in COLUMNS.items()
)
_STATED = ", ".join(f"c.{column}" for column in COLUMNS)
_COUNTED = ", ".join(f"coalesce(g.{column}, 0)" for column in COLUMNS)
_CHOSEN = (
    "s.market = %(market)s AND (x.timeframe = '1d') = %(daily)s "
    "AND x.session_date >= %(start)s AND x.session_date < %(end)s"
)
_CONTRADICTIONS = f"""
WITH gaps AS (
    SELECT x.*, s.symbol,
        (extract(epoch FROM x.end_ts - x.start_ts) / CASE x.timeframe
            WHEN '1m' THEN 60 WHEN '5m' THEN 300 WHEN '15m' THEN 900 ELSE 86400 END)::integer
            AS bars,
        lag(x.end_ts) OVER (PARTITION BY x.instrument_id, x.timeframe ORDER BY x.start_ts)
            AS end_before
    FROM quality.gaps AS x JOIN public.symbols AS s USING (instrument_id) WHERE {_CHOSEN}
), summed AS (
    SELECT instrument_id, timeframe, session_date, {_SUMS} FROM gaps
    GROUP BY instrument_id, timeframe, session_date
), stated AS (
    SELECT x.*, s.symbol
    FROM quality.completeness AS x JOIN public.symbols AS s USING (instrument_id) WHERE {_CHOSEN}
)
SELECT c.symbol, c.timeframe, c.session_date::text AS session,
    'sums of gaps differ from completeness' AS fault
FROM stated AS c LEFT JOIN summed AS g USING (instrument_id, timeframe, session_date)
WHERE ({_STATED}) IS DISTINCT FROM ({_COUNTED})
UNION ALL
SELECT c.symbol, c.timeframe, c.session_date::text,
    'expected is not present + quiet + excused + missing'
FROM stated AS c WHERE c.expected <> c.present + c.quiet + c.excused + c.missing
UNION ALL
SELECT DISTINCT g.symbol, g.timeframe, g.session_date::text, 'gaps without completeness'
FROM gaps AS g LEFT JOIN stated AS c USING (instrument_id, timeframe, session_date)
WHERE c.instrument_id IS NULL
UNION ALL
SELECT g.symbol, g.timeframe, g.session_date::text, 'gaps overlap'
FROM gaps AS g WHERE g.start_ts < g.end_before
UNION ALL
SELECT DISTINCT g.symbol, g.timeframe, g.session_date::text, 'a stored bar lies in a gap'
FROM gaps AS g JOIN market.bars AS b ON b.instrument_id = g.instrument_id
    AND b.timeframe = g.timeframe AND b.ts >= g.start_ts AND b.ts < g.end_ts
ORDER BY 3, 1, 2
"""  # noqa: S608  # built from constants


def contradictions(
    warehouse: Warehouse, market: str, start: date, end: date, *, daily: bool
) -> list[dict[str, Any]]:
    """Return what in the ledger of sessions `start <= session_date < end` does not add up.

    Args:
        warehouse: where the ledger is.
        market: name of the market.
        start: first session date.
        end: first date no longer looked at.
        daily: daily bars if true, the shorter ones if not.

    Returns:
        symbol, timeframe, session and fault of each contradiction; empty where all is well.
    """
    parameters = {"market": market, "daily": daily, "start": start, "end": end}
    with warehouse.connect() as connection:
        return connection.execute(_CONTRADICTIONS, parameters).fetchall()
