"""Prices that were sampled from a quote: table `price_data_5min`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from scizor_core.schemas.samples import SAMPLE_ROW_COLUMNS, STEP, validate_samples
from scizor_resources.stores.warehouse import Warehouse


class SampleStore:
    """Access to `price_data_5min`."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def write(self, samples: pd.DataFrame) -> int:
        """Keep samples (`SAMPLE_COLUMNS` of the CoinSpot adapter), the last of each five minutes.

        A sample that is older than the one stored for its five minutes changes nothing.

        Returns:
            Number of rows that were new or replaced an older sample.

        Raises:
            ContractError: the samples break the contract; nothing is written.
        """
        if samples.empty:
            return 0
        rows = samples.sort_values("sampled_at").assign(
            timestamp=lambda frame: frame["sampled_at"].dt.floor(STEP)
        )
        rows = rows.drop_duplicates(["source", "symbol", "timestamp"], keep="last")
        rows = validate_samples(rows[list(SAMPLE_ROW_COLUMNS)])
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

    def stored(self, source: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Return the samples of `[start, end)` of all symbols.

        Returns:
            Columns `SAMPLE_ROW_COLUMNS`, by symbol and time.
        """
        return self._warehouse.read(
            'SELECT symbol, "timestamp", source, bid, ask, last, sampled_at '
            'FROM public.price_data_5min WHERE source = $1 AND "timestamp" >= $2 '
            'AND "timestamp" < $3 ORDER BY symbol, "timestamp"',
            [source, start, end],
        )

    def coverage(self, source: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
        """Return per symbol in how many five minutes of `[start, end)` it was seen, and since when.

        Returns:
            Rows symbol, slots, first (start of the first five minutes, UTC), by symbol.
        """
        with self._warehouse.connect() as connection:
            return connection.execute(
                'SELECT symbol, count(*) AS slots, min("timestamp") AS first '
                "FROM public.price_data_5min "
                'WHERE source = %s AND "timestamp" >= %s AND "timestamp" < %s '
                "GROUP BY symbol ORDER BY symbol",
                [source, start, end],
            ).fetchall()

    def wide(
        self, source: str, start: datetime, end: datetime, percent: float
    ) -> list[dict[str, Any]]:
        """Return the samples whose bid and ask cross or are further apart than so many percent.

        Returns:
            Rows symbol, timestamp, bid, ask, spread_percent, widest first.
        """
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                'SELECT symbol, "timestamp", bid, ask, 200 * (ask - bid) / (ask + bid) '
                "AS spread_percent FROM public.price_data_5min "
                'WHERE source = %s AND "timestamp" >= %s AND "timestamp" < %s '
                "AND bid > 0 AND ask > 0 AND (ask < bid OR 200 * (ask - bid) > %s * (ask + bid)) "
                "ORDER BY abs(ask - bid) / (ask + bid) DESC, symbol",
                [source, start, end, percent],
            ).fetchall()
        return [{**row, "timestamp": row["timestamp"].isoformat()} for row in rows]


def _or_null(value: Any) -> Any:
    return None if pd.isna(value) else value
