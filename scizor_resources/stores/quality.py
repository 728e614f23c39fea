"""What was refused, what is absent and why: quarantine, gaps, completeness in PostgreSQL."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pandas as pd
from psycopg.types.json import Jsonb

from scizor_core.markets import Timeframe
from scizor_resources.stores.warehouse import Warehouse


@dataclass(frozen=True)
class QuietInterval:
    """An interval `[start, end)` (UTC) of a session in which an instrument did not trade."""

    instrument_id: int
    session_date: date
    start: datetime
    end: datetime
    source: str


class QualityStore:
    """Access to schema `quality`."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def quarantine(self, dataset: str, market: str, timeframe: str, rejected: pd.DataFrame) -> int:
        """Keep refused rows (columns `REJECTED_COLUMNS`), each once however often it comes.

        Args:
            dataset: "bars" or "ticks".
            market: name of the market.
            timeframe: timeframe of the rows, "tick" for ticks.
            rejected: the rows.

        Returns:
            Number of rows that were not there yet.
        """
        if rejected.empty:
            return 0
        rows = [
            _quarantine_row(dataset, market, timeframe, row)
            for row in rejected.to_dict(orient="records")
        ]
        with self._warehouse.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO quality.quarantine (fingerprint, dataset, market, symbol, timeframe, "
                "ts, reason, source, origin, row_number, payload) VALUES (%(fingerprint)s, "
                "%(dataset)s, %(market)s, %(symbol)s, %(timeframe)s, %(ts)s, %(reason)s, "
                "%(source)s, %(origin)s, %(row_number)s, %(payload)s) "
                "ON CONFLICT (fingerprint) DO NOTHING",
                rows,
            )
            return max(cursor.rowcount, 0)

    def write_no_trades(
        self,
        timeframe: Timeframe,
        intervals: Sequence[QuietInterval],
        covered: Sequence[tuple[int, datetime, datetime]],
    ) -> None:
        """Replace the known quiet intervals of what a source has fully seen.

        Equal rows are left alone, so that a rerun changes nothing, not even a time stamp.

        Args:
            timeframe: timeframe of the absent bars.
            intervals: where nothing traded.
            covered: (instrument_id, start, end) windows that the source has fully seen; intervals
                stored earlier that start inside them and are no longer given are removed.
        """
        with self._warehouse.connect() as connection, connection.cursor() as cursor:
            for instrument_id, start, end in covered:
                kept = [each.start for each in intervals if each.instrument_id == instrument_id]
                cursor.execute(
                    "DELETE FROM quality.gaps WHERE instrument_id = %s AND timeframe = %s "
                    "AND start_ts >= %s AND start_ts < %s AND NOT start_ts = ANY(%s)",
                    [instrument_id, timeframe, start, end, kept],
                )
            cursor.executemany(
                "INSERT INTO quality.gaps AS g (instrument_id, timeframe, session_date, start_ts, "
                "end_ts, reason, source) VALUES (%s, %s, %s, %s, %s, 'no trades', %s) "
                "ON CONFLICT (instrument_id, timeframe, start_ts) DO UPDATE SET "
                "end_ts = excluded.end_ts, source = excluded.source, detected_at = now() "
                "WHERE (g.end_ts, g.source) IS DISTINCT FROM (excluded.end_ts, excluded.source)",
                [
                    (
                        each.instrument_id,
                        timeframe,
                        each.session_date,
                        each.start,
                        each.end,
                        each.source,
                    )
                    for each in intervals
                ],
            )

    def write_completeness(self, rows: Sequence[dict[str, Any]]) -> int:
        """Store completeness rows; equal ones are not touched.

        Returns:
            Number of rows that were new or differed.
        """
        if not rows:
            return 0
        columns = [name for name in rows[0] if name not in _COMPLETENESS_KEY]
        names = ", ".join((*_COMPLETENESS_KEY, *columns))
        values = ", ".join(f"%({name})s" for name in (*_COMPLETENESS_KEY, *columns))
        assignments = ", ".join(f"{name} = excluded.{name}" for name in columns)
        stored = ", ".join(f"c.{name}" for name in columns)
        given = ", ".join(f"excluded.{name}" for name in columns)
        with self._warehouse.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO quality.completeness AS c ({names}) VALUES ({values}) "  # noqa: S608  # names are constants of the callers' dataclass
                f"ON CONFLICT ({', '.join(_COMPLETENESS_KEY)}) DO UPDATE SET {assignments}, "
                f"updated_at = now() WHERE ({stored}) IS DISTINCT FROM ({given})",
                rows,
            )
            return max(cursor.rowcount, 0)


_COMPLETENESS_KEY = ("instrument_id", "timeframe", "session_date")


def _quarantine_row(
    dataset: str, market: str, timeframe: str, row: dict[Any, Any]
) -> dict[str, Any]:
    ts = None if pd.isna(row["ts"]) else row["ts"]
    number = None if pd.isna(row["row_number"]) else int(row["row_number"])
    # PostgreSQL keeps no NUL character, and a damaged file may well have one.
    payload = {
        str(key).replace("\0", "\ufffd"): str(value).replace("\0", "\ufffd")
        for key, value in dict(row["payload"] or {}).items()
    }
    parts = (dataset, market, row["symbol"], timeframe, ts, row["reason"], row["origin"], number)
    text = repr((*(str(part) for part in parts), sorted(payload.items())))
    return {
        "fingerprint": hashlib.sha256(text.encode()).hexdigest(),
        "dataset": dataset,
        "market": market,
        "symbol": row["symbol"],
        "timeframe": timeframe,
        "ts": ts,
        "reason": row["reason"].replace("\0", "\ufffd"),
        "source": row["source"],
        "origin": row["origin"] if isinstance(row["origin"], str) else "",
        "row_number": number,
        "payload": Jsonb(payload),
    }
