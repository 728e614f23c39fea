"""Outages of live feeds in `quality.outages`: begun, ended, and what became of them.

Each statement can be repeated: what is there already stays as it is.
"""

from dataclasses import dataclass

from scizor_core.gaps import from_micros
from scizor_resources.stores.connection import database_errors
from scizor_resources.stores.warehouse import Warehouse


@dataclass(frozen=True)
class OutageKey:
    """What an outage is of.

    Attributes:
        feed: name of the feed.
        market: name of the market.
        instrument_id: the one instrument concerned, None where all of the market's are.
    """

    feed: str
    market: str
    instrument_id: int | None = None


class OutageStore:
    """Access to `quality.outages`."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def begin(self, key: OutageKey, start_us: int, reason: str) -> None:
        """Write that an outage has begun; one that is open already goes on.

        Raises:
            WarehouseError: PostgreSQL refused.
        """
        with database_errors(), self._warehouse.connect() as connection:
            connection.execute(
                "INSERT INTO quality.outages (feed, market, instrument_id, start_ts, reason) "
                "VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [key.feed, key.market, key.instrument_id, from_micros(start_us), reason],
            )

    def end(self, key: OutageKey, end_us: int) -> None:
        """Write that the open outage is over.

        Raises:
            WarehouseError: PostgreSQL refused.
        """
        with database_errors(), self._warehouse.connect() as connection:
            connection.execute(
                "UPDATE quality.outages SET end_ts = greatest(start_ts, %s) "
                "WHERE feed = %s AND market = %s AND instrument_id IS NOT DISTINCT FROM %s "
                "AND end_ts IS NULL",
                [from_micros(end_us), key.feed, key.market, key.instrument_id],
            )

    def tell(self, key: OutageKey, start_us: int, detail: str) -> None:
        """Write what became of the outage that began at an instant or goes on from it.

        Raises:
            WarehouseError: PostgreSQL refused.
        """
        with database_errors(), self._warehouse.connect() as connection:
            connection.execute(
                "UPDATE quality.outages SET detail = %s WHERE outage_id = ("
                "SELECT outage_id FROM quality.outages WHERE feed = %s AND market = %s "
                "AND instrument_id IS NOT DISTINCT FROM %s AND start_ts <= %s "
                "ORDER BY start_ts DESC LIMIT 1)",
                [detail, key.feed, key.market, key.instrument_id, from_micros(start_us)],
            )
