"""Fundamentals of protocols with everything that was known when: `protocol_fundamentals`."""

from collections.abc import Sequence
from datetime import date, datetime

import pandas as pd

from scizor_core.schemas.fundamentals import FUNDAMENTAL_COLUMNS, validate_fundamentals
from scizor_resources.stores.restated import RestatedStore, RestatedTable, RestatedWritten
from scizor_resources.stores.warehouse import Warehouse

_TYPES: dict[str, str] = {
    "day": "date",
    "value_usd": "float8",
    "is_final": "boolean",
    "point_at": "timestamptz",
    "observed_at": "timestamptz",
}
_TABLE = RestatedTable(
    name="glass.protocol_fundamental_values",
    columns={name: _TYPES.get(name, "text") for name in FUNDAMENTAL_COLUMNS},
    key=("protocol", "metric", "day"),
    values=("value_usd", "is_final"),
    time="day",
    lock=7_249_009,
    shown={"day": "day::timestamp"},
)

#: What a write came to.
FundamentalsWritten = RestatedWritten


class FundamentalStore:
    """Access to `glass.protocol_fundamental_values`; rows are added, never changed."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._rows = RestatedStore(warehouse, _TABLE)

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
        return self._rows.write(arrays)

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
        return self._rows.read(start, end, {"protocol": protocols, "metric": metrics}, as_of)
