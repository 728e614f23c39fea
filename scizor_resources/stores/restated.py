"""Values that are restated: kept with the time from which they were known, added, never changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import pandas as pd

from scizor_core.errors import InvalidInputError
from scizor_resources.stores.warehouse import Warehouse


@dataclass(frozen=True)
class RestatedWritten:
    """What a write came to.

    Attributes:
        new: values that had none before.
        restated: values that differ from what was known, or that are now final; kept beside it.
        unchanged: values that were known already.
    """

    new: int = 0
    restated: int = 0
    unchanged: int = 0


@dataclass(frozen=True)
class RestatedTable:
    """A table of values with `observed_at`, from when on each was known.

    Names end up in statements as they are: they are constants of the store that has the table.

    Attributes:
        name: with its schema.
        columns: column -> SQL type, in the order of the frames; `observed_at` is one of them.
        key: columns that make a value; its time is one of them.
        values: columns that are compared with what is known.
        time: column of the value's own time.
        lock: number under which writers take turns.
        shown: column -> SQL expression to read it by, where that is not the column itself.
    """

    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    values: tuple[str, ...]
    time: str
    lock: int
    shown: Mapping[str, str] = field(default_factory=dict)


class RestatedStore:
    """Access to one such table.

    Args:
        warehouse: where it is.
        table: what has to be known of it.
    """

    def __init__(self, warehouse: Warehouse, table: RestatedTable) -> None:
        self._warehouse = warehouse
        self._table = table
        self._write = _write_statement(table)

    def write(self, arrays: Mapping[str, Sequence[Any]]) -> RestatedWritten:
        """Keep what is new, restated, or has become final.

        A value that is equal to the latest one known adds nothing, and neither does one that was
        observed before it.

        Args:
            arrays: column -> values, all of one length, each key once.
        """
        count = len(arrays["observed_at"])
        if not count:
            return RestatedWritten()
        with self._warehouse.connect() as connection:
            # Two runs that find the same restatement must keep it once.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [self._table.lock])
            row = connection.execute(self._write, dict(arrays)).fetchone()
        added, new = (int(row["added"]), int(row["new"])) if row else (0, 0)
        return RestatedWritten(new, added - new, count - added)

    def read(
        self,
        start: date | datetime,
        end: date | datetime,
        wanted: Mapping[str, Sequence[str] | None],
        as_of: datetime | None = None,
    ) -> pd.DataFrame:
        """Return the values with `start <= time < end`, one row per key, ordered by the key.

        Args:
            start: first time.
            end: first time no longer asked for.
            wanted: column -> the values of it that are asked for, None for all.
            as_of: return what was known at that instant (aware), None for what is known now.

        Raises:
            InvalidInputError: `as_of` has no time zone.
        """
        table = self._table
        parameters: list[object] = [start, end]
        where = [f"{table.time} >= $1", f"{table.time} < $2"]
        for column, values in wanted.items():
            if values is not None:
                parameters.append(list(values))
                where.append(f"{column} = ANY(${len(parameters)})")
        if as_of is not None:
            if as_of.tzinfo is None:
                raise InvalidInputError(f"as_of has no time zone: {as_of}. Give an aware time.")
            parameters.append(as_of)
            where.append(f"observed_at <= ${len(parameters)}")
        columns = ", ".join(
            f"{table.shown[name]} AS {name}" if name in table.shown else name
            for name in table.columns
        )
        key = ", ".join(table.key)
        return self._warehouse.read(
            f"SELECT {columns} FROM (SELECT DISTINCT ON ({key}) * FROM {table.name} "  # noqa: S608  # names are constants, values are bound
            f"WHERE {' AND '.join(where)} ORDER BY {key}, observed_at DESC) AS known "
            f"ORDER BY {', '.join(f'known.{name}' for name in table.key)}",
            parameters,
        )


def _write_statement(table: RestatedTable) -> str:
    """Return the statement that adds what is new and says how much that was."""
    columns = ", ".join(table.columns)
    given = ", ".join(f"%({name})s::{kind}[]" for name, kind in table.columns.items())
    same_key = " AND ".join(f"v.{name} = given.{name}" for name in table.key)
    values = ", ".join(table.values)
    known = ", ".join(f"known.{name} AS known_{name}" for name in (*table.values, "observed_at"))
    return f"""
        WITH given AS (
            SELECT * FROM unnest({given}) AS g ({columns})
        ), compared AS (
            SELECT given.*, {known}
            FROM given LEFT JOIN LATERAL (
                SELECT {values}, observed_at FROM {table.name} AS v
                WHERE {same_key} ORDER BY observed_at DESC LIMIT 1
            ) AS known ON true
        ), added AS (
            INSERT INTO {table.name} ({columns})
            SELECT {columns} FROM compared
            WHERE known_observed_at IS NULL OR (
                known_observed_at < observed_at
                AND ({", ".join(f"known_{name}" for name in table.values)}) <> ({values})
            )
            RETURNING {", ".join(table.key)}
        )
        SELECT count(*) AS added,
            count(*) FILTER (WHERE compared.known_observed_at IS NULL) AS new
        FROM added JOIN compared USING ({", ".join(table.key)})
        """  # noqa: S608  # names are constants, values are bound
