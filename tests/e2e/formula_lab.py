"""Coinbase on loopback with a bar for every minute there ever was, up to now, by formula."""

from datetime import UTC, datetime
from typing import Any

from tests.contract.lab.coinbase import (
    CANDLES_PER_CALL,
    TIMEFRAMES,
    CoinbaseLab,
    candle,
    refused,
)
from tests.contract.lab.server import Reply, Row, Seen


def bar_at(product: str, epoch: int, seconds: int) -> Row:
    """Return what traded in the interval that begins then; every one of them differs."""
    steps = epoch // seconds
    price = (100 if product.startswith("BTC") else 50) + steps % 997 / 10
    volume = 1 + steps % 89 / 4
    ts = datetime.fromtimestamp(epoch, UTC)
    return Row(ts, price, price + 0.75, price - 0.25, price + 0.5, volume)


def bars_between(product: str, first: int, last: int, seconds: int = 60) -> list[Row]:
    """Return the bars that begin from `first` to `last` (seconds since 1970), both included."""
    begin = -(-first // seconds) * seconds
    return [bar_at(product, epoch, seconds) for epoch in range(begin, last + 1, seconds)]


class FormulaLab(CoinbaseLab):
    """Serves the formula's bars instead of rows that were put in."""

    def respond(self, seen: Seen) -> Reply:
        if not self.concerns_data(seen):
            return super().respond(seen)
        product, (_, seconds) = seen.path.split("/")[-2], TIMEFRAMES[seen.query["granularity"]]
        first, last = int(seen.query["start"]), int(seen.query["end"])
        if (last - first) // seconds + 1 > CANDLES_PER_CALL:
            return refused(400, "INVALID_ARGUMENT", "number of candles should be less than 350")
        now = int(datetime.now(UTC).timestamp())
        rows = bars_between(product, first, min(last, now), seconds)
        candles: list[dict[str, Any]] = [candle(row) for row in reversed(rows)]
        return Reply({"candles": candles})
