"""Metrics of coins and tokens with everything that was known when: `on_chain_metrics`."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time

import pandas as pd

from scizor_core.errors import InvalidInputError
from scizor_core.schemas.on_chain import ON_CHAIN_COLUMNS, ON_CHAIN_KEY, validate_on_chain
from scizor_resources.stores.restated import RestatedStore, RestatedTable, RestatedWritten
from scizor_resources.stores.warehouse import Warehouse

_TYPES: dict[str, str] = {
    "ts": "timestamptz",
    "value": "float8",
    "is_final": "boolean",
    "observed_at": "timestamptz",
}
_TABLE = RestatedTable(
    name="glass.on_chain_metric_values",
    columns={name: _TYPES.get(name, "text") for name in ON_CHAIN_COLUMNS},
    key=ON_CHAIN_KEY,
    values=("value", "is_final"),
    time="ts",
    lock=7_249_010,
)


class OnChainStore:
    """Access to `glass.on_chain_metric_values`; rows are added, never changed."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._rows = RestatedStore(warehouse, _TABLE)

    def write(self, values: pd.DataFrame) -> RestatedWritten:
        """Keep what is new: values of new intervals, restated ones, partial ones now final.

        A value that is equal to the latest one known adds nothing, and neither does one that was
        observed before it.

        Args:
            values: columns `ON_CHAIN_COLUMNS`.

        Raises:
            ContractError: the frame breaks the contract; nothing is written.
        """
        if values.empty:
            return RestatedWritten()
        sound = validate_on_chain(values)
        return self._rows.write({name: sound[name].tolist() for name in ON_CHAIN_COLUMNS})

    def read(  # noqa: PLR0913  # filters by name, each optional
        self,
        start: date | datetime,
        end: date | datetime,
        *,
        metrics: Sequence[str] | None = None,
        assets: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        as_of: datetime | None = None,
    ) -> pd.DataFrame:
        """Return the values of the intervals that start in `start <= ts < end`, by their key.

        Args:
            start: first start of an interval, aware; a date stands for its midnight UTC.
            end: first start no longer asked for, as `start`.
            metrics: only these metrics, None for all.
            assets: only these codes, None for all.
            sources: only these providers, None for all.
            as_of: return what was known at that instant (aware), None for what is known now.

        Returns:
            Columns `ON_CHAIN_COLUMNS`, one row per source, metric, asset, asset_id, chain,
            resolution and ts.

        Raises:
            InvalidInputError: a time has no time zone.
        """
        wanted = {"metric": metrics, "asset": assets, "source": sources}
        return self._rows.read(_instant(start), _instant(end), wanted, as_of)


def _instant(value: date | datetime) -> datetime:
    if not isinstance(value, datetime):
        return datetime.combine(value, time(), UTC)
    if value.tzinfo is None:
        raise InvalidInputError(f"{value} has no time zone. Give an aware time, or a date.")
    return value
