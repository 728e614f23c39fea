"""Fundamentals of protocols with everything that was known when: `protocol_fundamentals`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pandas as pd

from scizor_core.errors import InvalidInputError
from scizor_core.schemas.fundamentals import FUNDAMENTAL_COLUMNS, validate_fundamentals
from scizor_resources.stores.warehouse import Warehouse

#: Two runs that find the same restatement must keep it once; any constant will do.
_LOCK_KEY = 7_249_003
_TABLE = "glass.protocol_fundamental_values"


@dataclass(frozen=True)
class FundamentalsWritten:
    """What a write came to.

    Attributes:
        new: values of days that had none.
        restated: values that differ from what was known, or that are now final; kept beside it.
        unchanged: values that were known already.
    """

    new: int = 0
    restated: int = 0
    unchanged: int = 0


class FundamentalStore:
    """Access to `glass.protocol_fundamental_values`; rows are added, never changed."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def write(self, values: pd.DataFrame) -> FundamentalsWritten:
        """Keep what is new: values of new days, restated ones, partial ones that became final.

        A value that is equal to the latest one known adds nothing, and neither does one that was
        observed before it.

        Args:
            values: columns `FUNDAMENTAL_COLUMNS`.

        Raises:
            ContractError: the frame breaks the contract; nothing is written.
        """
        if values.empty:
            return FundamentalsWritten()
        sound = validate_fundamentals(values)
        arrays = {name: sound[name].tolist() for name in FUNDAMENTAL_COLUMNS}
        arrays["day"] = [each.date() for each in sound["day"]]
        with self._warehouse.connect() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_KEY])
            row = connection.execute(_WRITE, arrays).fetchone()
        added, new = (int(row["added"]), int(row["new"])) if row else (0, 0)
        return FundamentalsWritten(new, added - new, len(sound) - added)

    def read(
        self,
        start: date,
        end: date,
        *,
        protocols: Sequence[str] | None = None,
        metrics: Sequence[str] | None = None,
        as_of: datetime | None = None,
    ) -> pd.DataFrame:
        """Return the values of the UTC days `start <= day < end`, by protocol, metric and day.

        Args:
            start: first UTC day.
            end: day after the last one.
            protocols: only these slugs, None for all.
            metrics: only these metrics, None for all.
            as_of: return what was known at that instant (aware), None for what is known now.

        Returns:
            Columns `FUNDAMENTAL_COLUMNS`, one row per protocol, metric and day.

        Raises:
            InvalidInputError: `as_of` has no time zone.
        """
        parameters: list[object] = [start, end]
        where = ["day >= $1", "day < $2"]
        for column, wanted in (("protocol", protocols), ("metric", metrics)):
            if wanted is not None:
                parameters.append(list(wanted))
                where.append(f"{column} = ANY(${len(parameters)})")
        if as_of is not None:
            if as_of.tzinfo is None:
                raise InvalidInputError(f"as_of has no time zone: {as_of}. Give an aware time.")
            parameters.append(as_of)
            where.append(f"observed_at <= ${len(parameters)}")
        columns = ", ".join(
            "day::timestamp AS day" if name == "day" else name for name in FUNDAMENTAL_COLUMNS
        )
        return self._warehouse.read(
            f"SELECT {columns} FROM (SELECT DISTINCT ON (protocol, metric, day) * FROM {_TABLE} "  # noqa: S608  # names are constants of this module
            f"WHERE {' AND '.join(where)} "
            "ORDER BY protocol, metric, day, observed_at DESC) AS known "
            "ORDER BY protocol, metric, known.day",
            parameters,
        )


_WRITE = f"""
WITH given AS (
    SELECT * FROM unnest(
        %(protocol)s::text[], %(metric)s::text[], %(day)s::date[], %(value_usd)s::float8[],
        %(is_final)s::boolean[], %(point_at)s::timestamptz[], %(observed_at)s::timestamptz[],
        %(protocol_name)s::text[], %(source)s::text[]
    ) AS g ({", ".join(FUNDAMENTAL_COLUMNS)})
), compared AS (
    SELECT given.*, known.value_usd AS known_value, known.is_final AS known_final,
        known.observed_at AS known_at
    FROM given LEFT JOIN LATERAL (
        SELECT v.value_usd, v.is_final, v.observed_at FROM {_TABLE} AS v
        WHERE v.protocol = given.protocol AND v.metric = given.metric AND v.day = given.day
        ORDER BY v.observed_at DESC LIMIT 1
    ) AS known ON true
), added AS (
    INSERT INTO {_TABLE} ({", ".join(FUNDAMENTAL_COLUMNS)})
    SELECT {", ".join(FUNDAMENTAL_COLUMNS)} FROM compared
    WHERE known_at IS NULL
        OR (known_at < observed_at AND (known_value, known_final) <> (value_usd, is_final))
    RETURNING protocol, metric, day
)
SELECT count(*) AS added, count(*) FILTER (WHERE compared.known_at IS NULL) AS new
FROM added JOIN compared USING (protocol, metric, day)
"""  # noqa: S608  # names are constants of this module
