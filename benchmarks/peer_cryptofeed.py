"""What cryptofeed's own aggregator makes of trades; runs in an environment that has cryptofeed.

    .venv-peers/bin/python benchmarks/peer_cryptofeed.py TRADES SYMBOLS ROUNDS

Imports nothing of SCIZOR. Prints trades per second of each round as JSON. The trades are made
before the clock starts; what is timed is what its FeedHandler does with a parsed trade when OHLCV
is the callback. It judges nothing, knows no repeated trade and ends its window by the wall clock.
"""

import asyncio
import json
import random
import sys
import time
from decimal import Decimal

from cryptofeed.backends.aggregate import OHLCV
from cryptofeed.types import Trade


async def _round(trades: list[Trade]) -> float:
    async def take(_: object) -> None:
        """Let a finished window go."""

    aggregator = OHLCV(take, window=60)
    began = time.perf_counter()
    for trade in trades:
        await aggregator(trade, 0.0)
    return len(trades) / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    count, symbols, rounds = (int(each) for each in sys.argv[1:4])
    draw = random.Random(7)  # noqa: S311  # figures, not secrets
    trades = [
        Trade(
            "KRAKEN",
            f"S{draw.randrange(symbols)}-USD",
            "buy",
            Decimal(draw.randrange(1, 5_000)) / 100,
            Decimal(10_000 + draw.randrange(-50, 50)) / 100,
            1_700_000_000 + row / 5_000,
            id=str(row),
        )
        for row in range(count)
    ]
    found = [asyncio.run(_round(trades)) for _ in range(rounds)]
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
