"""Live trades of US stocks from Finnhub's WebSocket: batches without ids or acknowledgements.

Source: finnhub.io/docs/api/websocket-trades; the free plan's 50 symbols, the numbers of sale
conditions and the words of errors are written down from memory.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from scizor_core.errors import InvalidInputError
from scizor_core.stream.trades import Condition
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    TransientError,
)
from scizor_resources.platform import Platform
from scizor_resources.providers.finnhub.symbols import to_finnhub_symbol
from scizor_resources.providers.http import kind_of_status, retry_after
from scizor_resources.settings import Settings
from scizor_sidecar.feeds.base import FeedLimits, Sink, Stream, Wanted
from scizor_sidecar.feeds.ccxt_wire import Unreadable, millis_of, number_of

PROVIDER = "finnhub"
_WS_URL = "wss://ws.finnhub.io"
_FREE_STREAMS = 50
_PING_SECONDS = 10.0
_CLOSE_SECONDS = 1.0
_LARGEST_FRAME_BYTES = 1 << 24
_RAW_CHARACTERS = 500


@dataclass(slots=True)
class Batch:
    """Trades of one message, in equally long columns; conditions as in `Condition`."""

    names: list[str] = field(default_factory=list)
    ts: list[int] = field(default_factory=list)
    price: list[float] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    conditions: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Complaint:
    """An error that Finnhub tells of."""

    words: str


def read_message(text: str | bytes, not_in_price: Collection[str] = ()) -> Any:
    """Return what a message says: a `Batch`, a `Complaint`, `Unreadable`, or None for no news.

    Args:
        text: the message as it came; any is taken.
        not_in_price: numbers of sale conditions that take a trade out of the price.
    """
    try:
        message = orjson.loads(text)
    except ValueError:
        return Unreadable("it is not JSON")
    kind = message.get("type") if isinstance(message, dict) else None
    if kind == "ping":
        return None
    if kind == "error":
        words = message.get("msg")
        return Complaint(words if isinstance(words, str) else "no reason given")
    if kind != "trade":
        return Unreadable("its type is not known")
    rows = message.get("data")
    if rows is None:
        return None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return Unreadable("its trades are not a list of objects")
    return _batch(rows, not_in_price)


def _batch(rows: Sequence[Mapping[str, Any]], not_in_price: Collection[str]) -> Batch:
    out = Batch()
    for row in rows:
        name, codes = row.get("s"), row.get("c")
        found = Condition.NONE
        if isinstance(codes, list) and any(str(code) in not_in_price for code in codes):
            found = Condition.NOT_IN_PRICE
        out.names.append(name if isinstance(name, str) else "")
        out.ts.append(millis_of(row.get("t")))
        out.price.append(number_of(row.get("p")))
        out.size.append(number_of(row.get("v")))
        out.conditions.append(int(found))
    return out


class FinnhubFeed:
    """Finnhub's live feed.

    Args:
        key: API key.
        not_in_price: numbers of sale conditions that take a trade out of the price.
        ws_url: scheme and host that stand in for ws.finnhub.io; None is the real one.
        timeout_seconds: longest wait for the connection.
    """

    name = PROVIDER
    limits = FeedLimits(streams=_FREE_STREAMS)

    def __init__(
        self,
        key: SecretStr | None,
        *,
        not_in_price: Collection[str] = (),
        ws_url: str | None = None,
        timeout_seconds: float = 20.0,
    ) -> None:
        self._key, self._ws_url = key, (ws_url or _WS_URL).rstrip("/")
        self._not_in_price = frozenset(not_in_price)
        self._timeout_seconds = timeout_seconds

    async def run(self, wanted: Wanted, sink: Sink) -> None:
        """Serve one connection.

        Subscriptions are not acknowledged: they stand when an answer to a ping that was sent after
        them has come.

        Raises:
            ProviderError: it could not be connected, or broke, or serves nothing of what is wanted.
        """
        if self._key is None:
            raise AuthError(
                "Finnhub's stream needs a key: set SCIZOR_FINNHUB_API_KEY.", provider=PROVIDER
            )
        key = self._key.get_secret_value()
        try:
            socket = await connect(
                f"{self._ws_url}?token={quote(key, safe='')}",
                open_timeout=self._timeout_seconds,
                close_timeout=_CLOSE_SECONDS,
                ping_interval=None,
                max_size=_LARGEST_FRAME_BYTES,
            )
        except (OSError, WebSocketException) as error:
            raise _broken(error, key) from None
        session = _Session(socket, sink, self._not_in_price)
        try:
            await session.serve(wanted)
        except (OSError, WebSocketException) as error:
            raise _broken(error, key) from error
        finally:
            await socket.close()


class _Session:
    """One connection: subscriptions, and from messages to the sink."""

    def __init__(self, socket: ClientConnection, sink: Sink, not_in_price: frozenset[str]) -> None:
        self._socket, self._sink, self._not_in_price = socket, sink, not_in_price
        self._streams: dict[str, Stream] = {}
        self._former: set[str] = set()
        self._rejected: set[Stream] = set()
        self._is_connected = False

    async def serve(self, wanted: Wanted) -> None:
        """Follow what is wanted until the connection ends or nothing is wanted."""
        work = (self._read(), self._follow(wanted), self._ping())
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, wanted: Wanted) -> None:
        while streams := wanted.streams:
            version = wanted.version
            await self._subscribe(streams)
            if not self._is_connected:
                await (await self._socket.ping())
                self._is_connected = True
                self._sink.connected()
            await wanted.changed_since(version)

    async def _subscribe(self, streams: frozenset[Stream]) -> None:
        names: dict[str, Stream] = {}
        for stream in sorted(streams - self._rejected):
            try:
                names[to_finnhub_symbol(stream.market, stream.symbol)] = stream
            except InvalidInputError as error:
                self._reject(stream, str(error))
        self._require(names)
        leaving = sorted(self._streams.keys() - names.keys())
        new = sorted(names.keys() - self._streams.keys())
        self._former = (self._former | set(leaving)) - names.keys()
        self._streams = names
        for kind, symbols in (("unsubscribe", leaving), ("subscribe", new)):
            for symbol in symbols:
                order = orjson.dumps({"type": kind, "symbol": symbol}).decode()
                await self._socket.send(order)

    def _require(self, names: Mapping[str, Stream]) -> None:
        if not names:
            raise BadRequest(
                "Finnhub streams none of the symbols that are wanted of it.", provider=PROVIDER
            )

    def _reject(self, stream: Stream, why: str) -> None:
        self._rejected.add(stream)
        self._sink.rejected(stream, why)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(_PING_SECONDS)
            await (await self._socket.ping())
            self._sink.alive()

    async def _read(self) -> None:
        while True:
            await self._sink.room()
            text = await self._socket.recv()
            self._sink.alive()
            heard = read_message(text, self._not_in_price)
            if isinstance(heard, Batch):
                self._take(heard)
            elif isinstance(heard, Complaint):
                self._complain(heard.words)
            elif isinstance(heard, Unreadable):
                raw = text if isinstance(text, str) else text.decode("utf-8", "replace")
                self._sink.refused(heard.what, raw[:_RAW_CHARACTERS])

    def _take(self, batch: Batch) -> None:
        streams = [self._streams.get(name) for name in batch.names]
        known = [row for row, stream in enumerate(streams) if stream is not None]
        for row, stream in enumerate(streams):
            if stream is None and batch.names[row] not in self._former:
                what = "a trade of a symbol that was not asked for"
                self._sink.refused(what, repr(batch.names[row]))
        if known:
            self._sink.trades(
                [stream for stream in streams if stream is not None],
                [batch.ts[row] for row in known],
                [batch.price[row] for row in known],
                [batch.size[row] for row in known],
                [None] * len(known),
                [batch.conditions[row] for row in known],
            )

    def _complain(self, words: str) -> None:
        """Take an error: about a symbol that it names, about the key or the plan, or counted."""
        lower = words.lower()
        if "api key" in lower or "unauthorized" in lower or "token" in lower:
            raise AuthError("Finnhub refuses the key.", provider=PROVIDER)
        named = set(lower.replace(",", " ").replace(":", " ").replace("'", " ").split())
        about = [stream for name, stream in self._streams.items() if name.lower() in named]
        if about:
            for stream in about:
                self._reject(stream, f"Finnhub does not stream {stream.symbol}: {words}")
            self._streams = {k: v for k, v in self._streams.items() if v not in self._rejected}
            self._require(self._streams)
        elif "too many symbols" in lower:
            raise BadRequest(f"Finnhub: {words}.", provider=PROVIDER)
        elif "limit" in lower or "too many" in lower:
            raise RateLimited(f"Finnhub: {words}.", provider=PROVIDER)
        else:
            self._sink.refused("an error of Finnhub's", words[:_RAW_CHARACTERS])


def _broken(error: Exception, key: str) -> ProviderError:
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        kind = kind_of_status(status) or TransientError
        return kind(
            f"Finnhub refused the connection with status {status}.",
            provider=PROVIDER,
            status=status,
            retry_after=retry_after(error.response.headers),
        )
    # An address that cannot be used is told with its query, where the key is.
    words = (str(error) or type(error).__name__).replace(key, "***")
    return TransientError(f"The connection to Finnhub broke: {words}", provider=PROVIDER)


def make_finnhub(settings: Settings, platform: Platform) -> FinnhubFeed:
    """Return the feed as the settings describe it."""
    del platform
    return FinnhubFeed(
        settings.finnhub_api_key,
        not_in_price=settings.finnhub_not_in_price,
        ws_url=settings.finnhub_ws_url,
        timeout_seconds=settings.provider_timeout_seconds,
    )
