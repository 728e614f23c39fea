"""The venues served through ccxt, as data."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from scizor_core.errors import ConfigError
from scizor_core.markets import TIMEFRAMES, Timeframe
from scizor_resources.providers.base import Capabilities
from scizor_resources.providers.ccxt_venues import binance, coinbase, kraken
from scizor_resources.providers.ccxt_venues.answers import VenueAnswer, interval_of
from scizor_resources.providers.ccxt_venues.exchange import Dialect, Exchange
from scizor_resources.providers.coinbase.candles import CANDLES_PER_CALL
from scizor_resources.providers.rows import AskWindow

MARKET = "crypto"


class Ask(Protocol):
    """Fetches one window of one market."""

    def __call__(
        self,
        exchange: Exchange,
        pair: str,
        window: AskWindow,
        *,
        title: str,
        source: str,
        now: datetime,
        trade_pages: int,
    ) -> VenueAnswer:
        """Return what the venue tells about the window.

        Raises:
            ProviderError: a call failed.
        """


def _list_markets(sdk: Any) -> list[dict[str, Any]]:
    markets: list[dict[str, Any]] = sdk.fetch_markets()
    return markets


@dataclass(frozen=True)
class Venue:
    """One venue.

    Attributes:
        name: name in chains and in the `source` column.
        title: name in sentences.
        dialect: how it is reached and what it means by its refusals.
        ask: fetches a window.
        list_markets: asks a ccxt exchange for its markets.
        bars_per_call: bars that one call holds at most, None where a window is one call.
        bars_kept: bars of each timeframe that it keeps, None where it keeps them all.
        tells_trades: True where older bars can be built from its trades.
    """

    name: str
    title: str
    dialect: Dialect
    ask: Ask
    list_markets: Callable[[Any], list[dict[str, Any]]] = field(default=_list_markets)
    bars_per_call: int | None = None
    bars_kept: int | None = None
    tells_trades: bool = False

    def capabilities(self, *, from_trades: bool) -> Capabilities:
        """Return what the venue serves.

        Args:
            from_trades: True where older bars are built from trades, if it tells them; then its
                bars reach back without limit.
        """
        limited = not (from_trades and self.tells_trades)
        return Capabilities(
            markets=frozenset({MARKET}),
            timeframes=frozenset(TIMEFRAMES),
            max_age=_spans(self.bars_kept) if limited else {},
            max_window=_spans(self.bars_per_call),
        )


def _spans(bars: int | None) -> dict[Timeframe, timedelta]:
    if bars is None:
        return {}
    return {timeframe: bars * interval_of(timeframe) for timeframe in TIMEFRAMES}


VENUES: dict[str, Venue] = {
    venue.name: venue
    for venue in (
        Venue(
            name="kraken",
            title="Kraken",
            dialect=kraken.DIALECT,
            ask=kraken.ask,
            bars_kept=kraken.CANDLES_KEPT,
            tells_trades=True,
        ),
        Venue(
            name="binance",
            title="Binance",
            dialect=binance.DIALECT,
            ask=binance.ask,
            bars_per_call=binance.KLINES_PER_CALL,
        ),
        Venue(
            name="ccxt_coinbase",
            title="Coinbase (ccxt)",
            dialect=coinbase.DIALECT,
            ask=coinbase.ask,
            list_markets=coinbase.list_markets,
            bars_per_call=CANDLES_PER_CALL,
        ),
    )
}


def get_venue(name: str) -> Venue:
    """Return the venue called `name`.

    Raises:
        ConfigError: there is no such venue; the message lists those there are.
    """
    try:
        return VENUES[name]
    except KeyError:
        raise ConfigError(
            f"There is no exchange '{name}'. Known exchanges: {', '.join(VENUES)}."
        ) from None
