"""Live trades and order books of Kraken, Coinbase and Binance, through ccxt.pro."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scizor_core.errors import InvalidInputError
from scizor_core.markets import PriceSteps
from scizor_resources.errors import BadRequest, SchemaDrift
from scizor_resources.platform import Platform
from scizor_resources.providers.ccxt_venues.exchange import Exchange
from scizor_resources.providers.ccxt_venues.markets import Markets, find_market, parse_markets
from scizor_resources.providers.ccxt_venues.venues import MARKET, Venue, get_venue
from scizor_resources.providers.coinbase.markets import VenueMarket
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.registry import PROVIDERS
from scizor_resources.settings import Settings
from scizor_sidecar.feeds.base import FeedLimits, Sink, Stream, Wanted
from scizor_sidecar.feeds.ccxt_binance import BinanceWire
from scizor_sidecar.feeds.ccxt_coinbase import CoinbaseWire
from scizor_sidecar.feeds.ccxt_kraken import KrakenWire
from scizor_sidecar.feeds.ccxt_session import CcxtSession
from scizor_sidecar.feeds.ccxt_wire import Wire

#: Feed -> how it speaks, and the venue whose REST API lists its markets.
WIRES: Mapping[str, tuple[Callable[[], Wire], str]] = {
    "kraken": (KrakenWire, "kraken"),
    "coinbase": (CoinbaseWire, "ccxt_coinbase"),
    "binance": (BinanceWire, "binance"),
}
#: The list of markets is asked for again when it is older.
_MARKETS_AGE_SECONDS = 6 * 3600.0
#: Order books at a time: each is read and kept in full.
_DEPTHS = 20
#: Binance takes 1024 streams on a connection, the books among them; the others name no number.
_STREAMS = 1000


class CcxtFeed:
    """The live feed of one crypto exchange.

    Args:
        name: kraken, coinbase or binance.
        gate: what its REST requests pass (the list of markets, Binance's first books).
        ws_url: scheme and host that stand in for its WebSocket's; None is the real ones.
        base_url: the same for its REST API.
        timeout_seconds: longest wait for one answer.
    """

    limits = FeedLimits(streams=_STREAMS, depths=_DEPTHS)

    def __init__(
        self,
        name: str,
        gate: Gate,
        *,
        ws_url: str | None = None,
        base_url: str | None = None,
        timeout_seconds: float = 20.0,
    ) -> None:
        make, venue = WIRES[name]
        self.name = name
        self._wire = make()
        self._venue: Venue = get_venue(venue)
        self._title = PROVIDERS[name].title
        self._ws_url, self._base_url = ws_url, base_url
        self._timeout_seconds = timeout_seconds
        self._rest = Exchange(
            self._venue.dialect,
            provider=name,
            title=self._title,
            gate=gate,
            base_url=base_url,
            timeout_seconds=timeout_seconds,
        )
        self._rest_lock = asyncio.Lock()
        self._found: Sequence[Mapping[str, Any]] = ()
        self._markets: Markets = {}
        self._listed_at = 0.0
        self._streamed: set[str] = set()

    async def run(self, wanted: Wanted, sink: Sink) -> None:
        """Serve one connection.

        What a venue sends first, trades from before the subscription, is handed over only for
        symbols that have been streamed before: to others it would make minutes that are not whole.

        Raises:
            ProviderError: it could not be connected, or broke.
        """
        await self._list_markets()
        session = CcxtSession(
            self._wire,
            self._venue.dialect,
            sink,
            self._look_up,
            self._fetch_book,
            provider=self.name,
            title=self._title,
            streamed=frozenset(self._streamed),
        )
        await asyncio.to_thread(
            session.open,
            asyncio.get_running_loop(),
            self._found,
            ws_url=self._ws_url,
            base_url=self._base_url,
            timeout_seconds=self._timeout_seconds,
        )
        try:
            await session.serve(wanted)
        finally:
            self._streamed |= session.confirmed
            await session.close()

    def price_steps(self, stream: Stream) -> PriceSteps:
        """Return the venue's step of a price; empty before its markets are known."""
        market = self._markets.get(stream.symbol)
        if market is None or market.price_step is None or market.price_step <= 0:
            return ()
        return ((0.0, float(market.price_step)),)

    async def _list_markets(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._markets and now - self._listed_at < _MARKETS_AGE_SECONDS:
            return
        found = await self._ask(self._venue.list_markets)
        markets = parse_markets(found, MARKET)
        if not markets:
            raise SchemaDrift(
                f"{self._title}'s list of markets has no spot market. Check the base URL.",
                provider=self.name,
            )
        self._found, self._markets = [each for each in found if each.get("spot")], markets
        self._listed_at = now

    def _look_up(self, stream: Stream) -> VenueMarket:
        """Return the venue's market of a stream.

        Raises:
            BadRequest: there is none.
        """
        try:
            return find_market(
                self._markets,
                stream.market,
                stream.symbol,
                provider=self.name,
                title=self._title,
            )
        except InvalidInputError as error:
            raise BadRequest(str(error), provider=self.name) from None

    async def _fetch_book(self, symbol: str, limit: int) -> Any:
        """Fetch the book that Binance's changes begin from, as the SDK's own method does."""
        asked = {"symbol": self._markets[symbol].venue_symbol, "limit": limit}
        answer = await self._ask(lambda sdk: sdk.publicGetDepth(asked))
        sides = {
            side: [[float(price), float(size)] for price, size in answer[side]]
            for side in ("bids", "asks")
        }
        return {**sides, "nonce": int(answer["lastUpdateId"]), "timestamp": None, "datetime": None}

    async def _ask(self, use: Callable[[Any], Any]) -> Any:
        # ccxt takes a moment to import, and its REST requests block.
        async with self._rest_lock:
            return await asyncio.to_thread(self._rest.call, use)


def _maker(name: str) -> Callable[[Settings, Platform], CcxtFeed]:
    def make(settings: Settings, platform: Platform) -> CcxtFeed:
        return CcxtFeed(
            name,
            platform.gate(name, "live"),
            ws_url=getattr(settings, f"{name}_ws_url"),
            base_url=getattr(settings, f"{name}_base_url"),
            timeout_seconds=settings.provider_timeout_seconds,
        )

    return make


#: Name of the feed -> what makes it.
CCXT_FEEDS: Mapping[str, Callable[[Settings, Platform], CcxtFeed]] = {
    name: _maker(name) for name in WIRES
}
