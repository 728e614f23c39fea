"""Live trades, quotes, halts and taken back trades of US stocks and crypto, through alpaca-py."""

import asyncio
from collections import OrderedDict
from typing import Any

from pydantic import SecretStr

from scizor_resources.errors import AuthError, BadRequest
from scizor_resources.platform import Platform
from scizor_resources.settings import Settings
from scizor_sidecar.feeds.alpaca_session import PROVIDER, AlpacaSession, Login, import_sdk
from scizor_sidecar.feeds.base import FeedLimits, Sink, Stream, Wanted

_MARKETS = ("us", "crypto")
#: What the free plan streams at a time; Alpaca names it "30 symbols".
_FREE_STREAMS = 30


class AlpacaFeed:
    """Alpaca's live feed; stocks and crypto have a connection each and stand or fall together.

    Args:
        key: key id of an account.
        secret: secret of that key.
        feed: iex or sip, for stocks.
        ws_url: scheme and host that stand in for the streams'; None is the real ones.
        timeout_seconds: longest wait for connection and login together.
    """

    name = PROVIDER

    def __init__(
        self,
        key: SecretStr | None,
        secret: SecretStr | None,
        *,
        feed: str = "iex",
        ws_url: str | None = None,
        timeout_seconds: float = 20.0,
    ) -> None:
        self._key, self._secret, self._feed = key, secret, feed
        self._ws_url = ws_url.rstrip("/") if ws_url else None
        self._timeout_seconds = timeout_seconds
        self._times: OrderedDict[str, int] = OrderedDict()
        self.limits = FeedLimits(streams=_FREE_STREAMS if feed == "iex" else None)

    async def run(self, wanted: Wanted, sink: Sink) -> None:
        """Serve one connection to each stream that something is wanted of.

        A trade id is Alpaca's number with exchange and day: see
        `scizor_resources.providers.alpaca.trades.identity_of`.

        Raises:
            ProviderError: one of them could not be connected, or broke.
        """
        self._login("us")
        await asyncio.to_thread(import_sdk)
        sink.alive()
        sessions = _Sessions(self, sink)
        try:
            while streams := wanted.streams:
                version = wanted.version
                await sessions.follow(streams)
                change = asyncio.ensure_future(wanted.changed_since(version))
                try:
                    await sessions.until_end_or(change)
                finally:
                    change.cancel()
        finally:
            await sessions.close()

    def session(self, market: str, sink: Sink, sessions: "_Sessions") -> AlpacaSession:
        """Return a new connection to the stream of a market."""
        return AlpacaSession(self._login(market), sink, sessions.look, self._times)

    def _login(self, market: str) -> Login:
        if self._key is None or self._secret is None:
            raise AuthError(
                "Alpaca's streams need a key: set SCIZOR_ALPACA_API_KEY and SCIZOR_ALPACA_SECRET.",
                provider=PROVIDER,
            )
        return Login(
            market=market,
            key=self._key.get_secret_value(),
            secret=self._secret.get_secret_value(),
            feed=self._feed,
            ws_url=self._ws_url,
            timeout_seconds=self._timeout_seconds,
        )


class _Sessions:
    """The connections of one run, by market."""

    def __init__(self, feed: AlpacaFeed, sink: Sink) -> None:
        self._feed, self._sink = feed, sink
        self._open: dict[str, tuple[AlpacaSession, Wanted, asyncio.Task[None]]] = {}
        self._rejected: set[Stream] = set()
        self._is_connected = False

    async def follow(self, streams: frozenset[Stream]) -> None:
        """Tell each connection what is wanted of it; begin those that are new."""
        for stream in sorted(streams - self._rejected):
            if stream.market not in _MARKETS:
                self._rejected.add(stream)
                why = f"Alpaca has no symbols of market '{stream.market}'."
                self._sink.rejected(stream, why)
        for market in _MARKETS:
            mine = frozenset(each for each in streams if each.market == market)
            if market in self._open:
                await self._open[market][1].set(mine)
            elif mine:
                wanted = Wanted(mine)
                session = self._feed.session(market, self._sink, self)
                task = asyncio.ensure_future(session.serve(wanted))
                self._open[market] = (session, wanted, task)
        if not self._open:
            raise BadRequest(
                "Alpaca streams none of the symbols that are wanted of it.", provider=PROVIDER
            )

    async def until_end_or(self, change: "asyncio.Future[int]") -> None:
        """Wait for the change, or for a connection to end; one that is not wanted may."""
        tasks: dict[asyncio.Future[Any], str] = {
            each[2]: market for market, each in self._open.items()
        }
        done, _ = await asyncio.wait({change, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {change}:
            del self._open[tasks[task]]
            task.result()

    def look(self) -> None:
        """Say that the feed is connected as soon as all of its connections stand."""
        if not self._is_connected and all(each[0].is_standing for each in self._open.values()):
            self._is_connected = True
            self._sink.connected()

    async def close(self) -> None:
        """End all connections."""
        tasks = [each[2] for each in self._open.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def make_alpaca(settings: Settings, platform: Platform) -> AlpacaFeed:
    """Return the feed as the settings describe it."""
    del platform
    return AlpacaFeed(
        settings.alpaca_api_key,
        settings.alpaca_secret,
        feed=settings.alpaca_feed,
        ws_url=settings.alpaca_ws_url,
        timeout_seconds=settings.provider_timeout_seconds,
    )
