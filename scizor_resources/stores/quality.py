"""What was refused: the quarantine in PostgreSQL. Gaps and completeness: `stores.gaps`."""

import hashlib
from typing import Any

import pandas as pd
from psycopg.types.json import Jsonb

from scizor_resources.stores.warehouse import Warehouse


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
