"""Bars of live feeds into PostgreSQL: few at a time, at once, and never over a better one.

Beside `Warehouse.write_bars`, whose contract, locks and revisions are the same, this path makes no
frame: at the close of a minute that would cost more than the database does. Rows that are new,
which they mostly are, are copied; only rows that are there already are merged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pyarrow as pa
from psycopg.conninfo import make_conninfo

from scizor_core.markets import TIMEFRAMES
from scizor_resources.stores.connection import KeptConnection, Row
from scizor_resources.stores.merging import (
    WriteResult,
    copy_rows,
    limits_of,
    make_temporary,
    merge_rows,
)
from scizor_resources.stores.tables import BARS

_MICROSECONDS = 1_000_000
_LONGEST_SOURCE = 64
_CONNECT_SECONDS = 5
_ID_END = 2**31
#: Bars of other times than 1990 to 2199 are a mistake; each would make a partition.
_FIRST_US, _END_US = 631_152_000 * _MICROSECONDS, 7_258_118_400 * _MICROSECONDS
_FIND = """
SELECT (s.place - 1)::int AS place, t.source, t.is_final, t.trade_count, t.ingested_at
FROM unnest(%s::int[], %s::text[], %s::bigint[]) WITH ORDINALITY
    AS s (instrument_id, timeframe, seconds, place)
JOIN market.bars AS t ON t.instrument_id = s.instrument_id AND t.timeframe = s.timeframe
    AND t.ts = to_timestamp(s.seconds) AND t.ts BETWEEN to_timestamp(%s) AND to_timestamp(%s)
"""
_WITHDRAW = """
WITH gone AS (
    DELETE FROM market.bars AS t
    USING unnest(%s::int[], %s::text[], %s::bigint[], %s::text[])
        AS s (instrument_id, timeframe, seconds, source)
    WHERE t.instrument_id = s.instrument_id AND t.timeframe = s.timeframe
        AND t.ts = to_timestamp(s.seconds) AND t.source = s.source
        AND t.ts BETWEEN to_timestamp(%s) AND to_timestamp(%s)
    RETURNING t.*
), kept AS (
    INSERT INTO market.bar_revisions (
        instrument_id, timeframe, ts, open, high, low, close, volume, vwap, trade_count, adj_close,
        source, is_final, ingested_at, superseded_by
    )
    SELECT instrument_id, timeframe, ts, open, high, low, close, volume, vwap, trade_count,
        adj_close, source, is_final, ingested_at, source
    FROM gone
), without AS (
    DELETE FROM market.indicators AS i
    USING gone
    WHERE (i.instrument_id, i.timeframe, i.ts) = (gone.instrument_id, gone.timeframe, gone.ts)
)
SELECT ts FROM gone
"""


class LiveBarRow(NamedTuple):
    """A bar of a live feed as it is stored.

    `start` is microseconds UTC, `session_day` the exchange's date as days since 1970; `vwap` is
    None where no size counts. `is_withdrawn` says that there is no such bar: all of its trades were
    taken back; then only what it is a bar of, and its source, count.
    """

    instrument_id: int
    timeframe: str
    start: int
    session_day: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None
    trade_count: int
    source: str
    is_final: bool
    is_withdrawn: bool = False


@dataclass
class LiveWrite:
    """What a write came to.

    Attributes:
        written: rows inserted, changed, unchanged, protected.
        held_back: rows left out because what is stored is better.
        refused: rows that break the contract of `market.bars`; none of them was written.
        at: the database's time of it.
        withdrawn: bars that were taken out; their values are in the revisions.
    """

    written: WriteResult = WriteResult()
    held_back: list[LiveBarRow] = field(default_factory=list)
    refused: list[LiveBarRow] = field(default_factory=list)
    at: datetime | None = None
    withdrawn: int = 0


class LiveBarStore:
    """Writes the bars of live feeds.

    What is stored stays where it is final and its source stands earlier in the chain, or where the
    new bar is provisional and another source's, or has seen fewer trades, or where another process
    has written it since this one wrote anything.

    Args:
        url: libpq URL.
        ensure_partitions: makes the monthly partitions of `market.bars` that times need.
        rank: (instrument_id, source) -> the source's place in the chain of its market.
    """

    def __init__(
        self,
        url: str,
        ensure_partitions: "Callable[[str, pd.Series[pd.Timestamp]], None]",
        rank: Callable[[int, str], int],
    ) -> None:
        # A server that does not even refuse must not hold up the end of the process.
        self._kept = KeptConnection(make_conninfo(url, connect_timeout=_CONNECT_SECONDS))
        self._ensure_partitions, self._rank = ensure_partitions, rank
        self._known_months: set[int] = set()
        self._newest: dict[tuple[int, str], int] = {}
        self._last_at: datetime | None = None

    def close(self) -> None:
        """Close the connection; the next write opens it anew."""
        self._kept.close()

    def write(
        self, rows: Sequence[LiveBarRow], before_commit: Callable[[], None] = lambda: None
    ) -> LiveWrite:
        """Store bars durably, in one transaction.

        Args:
            rows: bars, none twice.
            before_commit: called at the end of the transaction; where it raises, nothing is stored.

        Raises:
            WarehouseAway: PostgreSQL cannot be reached; nothing was written, as far as is known.
            WarehouseError: PostgreSQL refused; nothing was written.
        """
        gone = [row for row in rows if row.is_withdrawn]
        outcome = LiveWrite(withdrawn=self._withdraw(gone, before_commit) if gone else 0)
        if len(gone) == len(rows):
            return outcome
        ordered = sorted((row for row in rows if not row.is_withdrawn), key=lambda row: row[:3])
        columns = _Columns(ordered)
        good = columns.good()
        if not good.all():
            outcome.refused = [
                row for row, is_good in zip(ordered, good, strict=True) if not is_good
            ]
            ordered = [row for row, is_good in zip(ordered, good, strict=True) if is_good]
            if not ordered:
                return outcome
            columns = _Columns(ordered)
        self._make_partitions(columns.start)
        try:
            with self._kept.lend() as connection:
                make_temporary(self._kept, connection, BARS)
                is_stored = self._are_new(ordered) and _copied(
                    connection, columns, outcome, before_commit
                )
                if not is_stored:
                    with connection.transaction():
                        self._write(connection, ordered, columns, outcome)
                        before_commit()
        except BaseException:
            # A partition may be gone: the archive lets go of old months.
            self._known_months.clear()
            self._newest.clear()
            raise
        self._last_at = outcome.at
        for row in ordered:
            key = (row.instrument_id, row.timeframe)
            self._newest[key] = max(self._newest.get(key, row.start), row.start)
        return outcome

    def _withdraw(self, rows: Sequence[LiveBarRow], before_commit: Callable[[], None]) -> int:
        """Take bars out that are the feed's own, and their indicators; returns how many."""
        columns = _Columns(rows)
        seconds = columns.start // _MICROSECONDS
        with self._kept.lend() as connection, connection.transaction():
            _take_turns(connection, columns)
            found = connection.execute(
                _WITHDRAW,
                [
                    columns.ids.tolist(), columns.timeframes, seconds.tolist(), columns.sources,
                    int(seconds.min()), int(seconds.max()),
                ],
            ).fetchall()  # fmt: skip
            before_commit()
        return len(found)

    def _are_new(self, rows: Sequence[LiveBarRow]) -> bool:
        """Say whether all rows come after what this process has written of their series."""
        return all(
            row.start > self._newest.get((row.instrument_id, row.timeframe), _END_US)
            for row in rows
        )

    def _write(
        self,
        connection: psycopg.Connection[Row],
        rows: Sequence[LiveBarRow],
        columns: "_Columns",
        outcome: LiveWrite,
    ) -> None:
        outcome.at = _take_turns(connection, columns)
        seconds = columns.start // _MICROSECONDS
        found = connection.execute(
            _FIND,
            [
                columns.ids.tolist(), columns.timeframes, seconds.tolist(),
                int(seconds.min()), int(seconds.max()),
            ],
        ).fetchall()  # fmt: skip
        table = columns.table()
        if not found:
            copy_rows(connection, f"market.{BARS.name}", table)
            outcome.written = WriteResult(inserted=len(table))
            return
        fresh, merged = np.ones(len(rows), dtype=np.bool_), np.zeros(len(rows), dtype=np.bool_)
        for stored in found:
            place = stored["place"]
            fresh[place] = False
            merged[place] = not self._stays(rows[place], stored)
        stays = np.flatnonzero(~fresh & ~merged).tolist()
        outcome.held_back = [rows[place] for place in stays]
        if fresh.any():
            copy_rows(connection, f"market.{BARS.name}", table.filter(pa.array(fresh)))
            outcome.written = WriteResult(inserted=int(fresh.sum()))
        if merged.any():
            there = table.filter(pa.array(merged))
            outcome.written += merge_rows(connection, BARS, there, limits_of(there))

    def _stays(self, new: LiveBarRow, stored: Row) -> bool:
        """Say whether what is stored is better than a new bar."""
        if not stored["is_final"] or "simulated" in stored["source"]:
            return False
        if not new.is_final:
            is_others = self._last_at is not None and stored["ingested_at"] > self._last_at
            has_less = new.trade_count < (stored["trade_count"] or 0)
            return new.source != stored["source"] or has_less or is_others
        if new.source == stored["source"]:
            return False
        one = new.instrument_id
        return self._rank(one, new.source) > self._rank(one, stored["source"])

    def _make_partitions(self, start: npt.NDArray[np.int64]) -> None:
        months = set(_months(start).tolist())
        if months <= self._known_months:
            return
        instants = pd.Series(pd.to_datetime(np.unique(start), unit="us", utc=True))
        self._ensure_partitions(BARS.name, instants)
        self._known_months |= months


def _take_turns(connection: psycopg.Connection[Row], columns: "_Columns") -> datetime:
    """Wait until nobody else writes to these months, as every writer of bars does.

    Returns the transaction's time, which its rows are stamped with.
    """
    row = connection.execute(
        "SELECT now() AS at, pg_advisory_xact_lock(%s, month) FROM unnest(%s::int[]) AS month",
        [BARS.lock, columns.months()],
    ).fetchone()
    assert row is not None  # noqa: S101  # there is a month
    at: datetime = row["at"]
    return at


def _copied(
    connection: psycopg.Connection[Row],
    columns: "_Columns",
    outcome: LiveWrite,
    before_commit: Callable[[], None],
) -> bool:
    """Store rows that are new, as it seems; false where one of them was there, and none is stored.

    To ask first would take a third of the whole time.
    """
    table = columns.table()
    try:
        with connection.transaction():
            outcome.at = _take_turns(connection, columns)
            copy_rows(connection, f"market.{BARS.name}", table)
            before_commit()
    except psycopg.errors.UniqueViolation:
        return False
    outcome.written = WriteResult(inserted=len(table))
    return True


class _Columns:
    """Rows as columns."""

    def __init__(self, rows: Sequence[LiveBarRow]) -> None:
        (
            ids, self.timeframes, starts, days, *prices, vwaps, counts, self.sources, finals, _,
        ) = (list(column) for column in zip(*rows, strict=True))  # fmt: skip
        self.ids = np.array(ids, dtype=np.int64)
        self.start = np.array(starts, dtype=np.int64)
        self.days = np.array(days, dtype=np.int32)
        self.prices = [np.array(column, dtype=np.float64) for column in prices]
        # None becomes NaN.
        self.vwaps = np.array(vwaps, dtype=np.float64)
        self.counts = np.array(counts, dtype=np.int64)
        self.finals = np.array(finals, dtype=np.bool_)

    def good(self) -> npt.NDArray[np.bool_]:
        """Say for each row whether it keeps the contract of `scizor_core.schemas.bars`."""
        opened, high, low, close, volume = self.prices
        good = (self.ids > 0) & (self.ids < _ID_END) & (self.counts >= 0)
        good &= (self.start >= _FIRST_US) & (self.start < _END_US)
        good &= (volume >= 0) & (volume < np.inf)
        for price in (opened, high, low, close):
            good &= (price > 0) & (price < np.inf) & (price <= high) & (price >= low)
        good &= np.isnan(self.vwaps) | ((self.vwaps > 0) & (self.vwaps < np.inf))
        if not set(self.timeframes) <= set(TIMEFRAMES):
            good &= np.array([each in TIMEFRAMES for each in self.timeframes])
        if not all(1 <= len(each) <= _LONGEST_SOURCE for each in set(self.sources)):
            good &= np.array([1 <= len(each) <= _LONGEST_SOURCE for each in self.sources])
        return good

    def months(self) -> list[int]:
        """Return the months of the rows, in order: months since year 0."""
        found: list[int] = np.unique(_months(self.start)).tolist()
        return found

    def table(self) -> pa.Table:
        """Return the rows in the types of the table."""
        values: dict[str, Any] = {
            "instrument_id": pa.array(self.ids.astype(np.int32)),
            "timeframe": pa.array(self.timeframes, pa.string()),
            "ts": pa.array(self.start).view(pa.timestamp("us", tz="UTC")),
            "session_date": pa.array(self.days).view(pa.date32()),
            **{
                name: pa.array(column)
                for name, column in zip(
                    ("open", "high", "low", "close", "volume"), self.prices, strict=True
                )
            },
            "vwap": pa.array(self.vwaps, from_pandas=True),
            "trade_count": pa.array(self.counts),
            "adj_close": pa.nulls(len(self.ids), pa.float64()),
            "source": pa.array(self.sources, pa.string()),
            "is_final": pa.array(self.finals),
        }
        return pa.table([values[name] for name in BARS.arrow_schema.names], BARS.arrow_schema)


def _months(start: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    days = start.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    return days + 1970 * 12
