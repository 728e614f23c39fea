"""Prices that were sampled from a quote: table `price_data_5min`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from scizor_resources.stores.warehouse import Warehouse

_STEP = pd.Timedelta(minutes=5)


class SampleStore:
    """Access to `price_data_5min`."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def write(self, samples: pd.DataFrame) -> int:
        """Keep samples (`SAMPLE_COLUMNS` of the CoinSpot adapter), the last of each five minutes.

        A sample that is older than the one stored for its five minutes changes nothing.

        Returns:
            Number of rows that were new or replaced an older sample.
        """
        if samples.empty:
            return 0
        rows = samples.sort_values("sampled_at").assign(
            timestamp=lambda frame: frame["sampled_at"].dt.floor(_STEP)
        )
        rows = rows.drop_duplicates(["source", "symbol", "timestamp"], keep="last")
        with self._warehouse.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO public.price_data_5min AS p "
                '(symbol, "timestamp", source, bid, ask, last, sampled_at) '
                "VALUES (%(symbol)s, %(timestamp)s, %(source)s, %(bid)s, %(ask)s, %(last)s, "
                '%(sampled_at)s) ON CONFLICT (source, symbol, "timestamp") DO UPDATE SET '
                "bid = excluded.bid, ask = excluded.ask, last = excluded.last, "
                "sampled_at = excluded.sampled_at WHERE p.sampled_at < excluded.sampled_at",
                [
                    {str(name): _or_null(value) for name, value in row.items()}
                    for row in rows.to_dict("records")
                ],
            )
            return max(cursor.rowcount, 0)

    def read(
        self, source: str, symbols: Sequence[str], start: datetime, end: datetime
    ) -> pd.DataFrame:
        """Return stored samples with `start <= timestamp < end`, by symbol and time.

        Returns:
            Columns symbol, bid, ask, last (float64), sampled_at (datetime64[us, UTC]), source.
        """
        return self._warehouse.read(
            "SELECT symbol, bid, ask, last, sampled_at, source FROM public.price_data_5min "
            'WHERE source = $1 AND symbol = ANY($2) AND "timestamp" >= $3 AND "timestamp" < $4 '
            "ORDER BY symbol, sampled_at",
            [source, list(symbols), start, end],
        )


def _or_null(value: Any) -> Any:
    return None if pd.isna(value) else value
