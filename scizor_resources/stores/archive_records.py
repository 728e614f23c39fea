"""What is on record of the archive's files: `market.archive_files` and `archive_instruments`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from scizor_resources.errors import ArchiveError
from scizor_resources.stores.archive_files import FileFacts, MonthKey
from scizor_resources.stores.connection import Row
from scizor_resources.stores.warehouse import Warehouse


@dataclass(frozen=True)
class ArchivedMonth:
    """A row of `market.archive_files`."""

    key: MonthKey
    path: str
    replaced_path: str | None
    rows: int
    first_ts: datetime
    last_ts: datetime
    bytes: int
    sha256: str
    content: str | None
    last_ingested_at: datetime
    state: str
    written_at: datetime
    verified_at: datetime | None
    released_at: datetime | None


def recorded_months(warehouse: Warehouse) -> list[ArchivedMonth]:
    """Return what is archived, by market, timeframe and month."""
    with warehouse.connect() as connection:
        rows = connection.execute(
            "SELECT market, timeframe, month, path, replaced_path, rows, first_ts, last_ts, "
            "bytes, sha256, content, last_ingested_at, state, written_at, verified_at, released_at "
            "FROM market.archive_files ORDER BY market, timeframe, month"
        ).fetchall()
    return [_archived(row) for row in rows]


def recorded(warehouse: Warehouse, key: MonthKey) -> ArchivedMonth | None:
    """Return what is on record of a month, None where it is not archived."""
    return next((each for each in recorded_months(warehouse) if each.key == key), None)


def require_record(warehouse: Warehouse, key: MonthKey) -> ArchivedMonth:
    """Return what is on record of a month.

    Raises:
        ArchiveError: there is no record.
    """
    found = recorded(warehouse, key)
    if found is None:
        raise ArchiveError(f"The record of {key} has gone from market.archive_files.")
    return found


def put_record(
    connection: psycopg.Connection[Row],
    key: MonthKey,
    path: str,
    facts: FileFacts,
    *,
    released_content: str | None = None,
) -> None:
    """Put a file on record.

    Args:
        connection: with a transaction of the caller's.
        key: its month.
        path: where it is.
        facts: what it holds.
        released_content: digest of its rows, where it is the next version of a released month's;
            without it the month is in state written.
    """
    released = released_content is not None
    parts = key_parts(key)
    ids = [each.instrument_id for each in facts.instruments]
    connection.execute(
        "INSERT INTO market.archive_files AS f (market, timeframe, month, path, rows, first_ts, "
        "last_ts, min_instrument_id, max_instrument_id, bytes, sha256, content, last_ingested_at, "
        "state, written_at, verified_at, released_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, "
        "%s, %s, %s, %s, %s, now(), CASE WHEN %s THEN now() END, CASE WHEN %s THEN now() END) "
        "ON CONFLICT (market, timeframe, month) DO UPDATE SET path = excluded.path, "
        "replaced_path = nullif(f.path, excluded.path), "
        "rows = excluded.rows, first_ts = excluded.first_ts, last_ts = excluded.last_ts, "
        "min_instrument_id = excluded.min_instrument_id, "
        "max_instrument_id = excluded.max_instrument_id, bytes = excluded.bytes, "
        "sha256 = excluded.sha256, content = excluded.content, "
        "last_ingested_at = excluded.last_ingested_at, state = excluded.state, "
        "written_at = excluded.written_at, verified_at = excluded.verified_at, "
        "released_at = CASE WHEN excluded.state = 'released' THEN f.released_at END",
        [
            *parts,
            path,
            facts.rows,
            min(each.first_ts for each in facts.instruments),
            max(each.last_ts for each in facts.instruments),
            min(ids),
            max(ids),
            facts.bytes,
            facts.sha256,
            released_content,
            facts.last_ingested_at,
            "released" if released else "written",
            released,
            released,
        ],
    )
    connection.execute(
        "DELETE FROM market.archive_instruments WHERE (market, timeframe, month) = (%s, %s, %s)",
        parts,
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO market.archive_instruments VALUES "
            "(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                [
                    *parts,
                    each.instrument_id,
                    each.rows,
                    each.first_ts,
                    each.last_ts,
                    each.first_session,
                    each.last_session,
                    each.segment.first_close,
                    each.segment.first_volume,
                    each.segment.last_close,
                    each.segment.signed_volume,
                ]
                for each in facts.instruments
            ],
        )


def key_parts(key: MonthKey) -> list[Any]:
    """Return a month's key as its columns."""
    return [key.market, key.timeframe, key.month]


def _archived(row: Row) -> ArchivedMonth:
    values: dict[str, Any] = dict(row)
    key = MonthKey(values.pop("market"), values.pop("timeframe"), values.pop("month"))
    return ArchivedMonth(key, **values)
