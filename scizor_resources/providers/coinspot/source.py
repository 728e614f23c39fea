"""`CoinspotSource`: bars of the prices that were sampled from CoinSpot and stored."""

from collections.abc import Callable, Sequence
from datetime import datetime

import pandas as pd

from scizor_resources.providers.asking import require_served
from scizor_resources.providers.base import (
    BarBatch,
    BarRequest,
    Capabilities,
    empty_rejected,
)
from scizor_resources.providers.coinspot.prices import TITLE
from scizor_resources.providers.coinspot.samples import SOURCE_NAME, bars_from_samples

#: Samples are taken every five minutes, so that a bar of five minutes has one price.
CAPABILITIES = Capabilities(markets=frozenset({"crypto"}), timeframes=frozenset({"5m", "1d"}))

#: Reads samples: symbols, start, end -> columns `SAMPLE_COLUMNS`.
ReadSamples = Callable[[Sequence[str], datetime, datetime], pd.DataFrame]


class CoinspotSource:
    """A `BarSource` over stored samples; it asks nobody.

    Args:
        read: reads stored samples.
        now: clock, UTC; decides which bars are final.
    """

    def __init__(self, read: ReadSamples, *, now: Callable[[], datetime]) -> None:
        self._read, self._now = read, now

    @property
    def name(self) -> str:
        """The name of this source in chains; rows carry `coinspot:sampled`."""
        return SOURCE_NAME

    @property
    def capabilities(self) -> Capabilities:
        """What samples allow."""
        return CAPABILITIES

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        """Return bars of the samples in a window; a symbol without samples has none.

        Raises:
            BadRequest: the market or timeframe is not served.
        """
        require_served(request, SOURCE_NAME, TITLE, CAPABILITIES)
        symbols = [ref.symbol for ref in request.symbols]
        samples = self._read(symbols, request.start, request.end)
        batch = BarBatch(
            bars_from_samples(samples, request.timeframe, now=self._now()), empty_rejected()
        )
        sampled = set(samples["symbol"])
        batch.empty_reasons = {
            symbol: f"no price of {symbol} was sampled from {TITLE} in the window"
            for symbol in symbols
            if symbol not in sampled
        }
        return batch
