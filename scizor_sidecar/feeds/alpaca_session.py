"""One connection to one of Alpaca's streams: subscriptions, and from frames to the sink.

alpaca-py connects, logs in, splits requests into fragments and sends them. Its own loop of reading
is not used: it connects again by itself, goes on after errors that it only logs, and leaves out
messages without a count; and to subscribe from within the loop it runs in, it waits for ever.
"""

import asyncio
import importlib
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from websockets.exceptions import ConnectionClosed, WebSocketException

from scizor_core.errors import InvalidInputError
from scizor_core.stream.trades import NO_TIME
from scizor_resources.errors import AuthError, BadRequest, ProviderError, TransientError
from scizor_resources.providers.alpaca.symbols import to_alpaca_symbol
from scizor_resources.providers.http import kind_of_status
from scizor_sidecar.feeds.alpaca_wire import (
    CHANNELS,
    SLOW_CLIENT,
    Ends,
    QuoteMoved,
    Refused,
    Standing,
    TakenBack,
    Trades,
    TradingStatus,
    kind_of_words,
    read_frame,
)
from scizor_sidecar.feeds.base import Sink, Stream, Wanted
from scizor_sidecar.feeds.ccxt_wire import Unreadable
from scizor_sidecar.feeds.notices import NoticeSink

PROVIDER = "alpaca"
#: A subscription that is not confirmed within this time ends the connection.
_CONFIRMATION_SECONDS = 20.0
_LOOK_SECONDS = 1.0
#: Between two signs of life of a stream on which nothing happens.
_PING_SECONDS = 10.0
#: So much of a message that cannot be read is handed on.
_RAW_BYTES = 250
#: The time of so many trades is remembered, for when one is taken back.
_REMEMBERED_TRADES = 100_000
#: Frames are larger than any minute's trades; a larger one ends the connection.
_LARGEST_FRAME_BYTES = 1 << 24
_CLOSE_SECONDS = 1.0
_SUBSCRIPTION_ADVICE = (
    "The plan of this key does not have this feed: set SCIZOR_ALPACA_FEED=iex or take another plan"
)


@dataclass(frozen=True)
class Login:
    """Where and as whom to connect.

    Attributes:
        market: us or crypto; each has a stream of its own.
        key: key id.
        secret: secret of that key.
        feed: iex or sip; for us.
        ws_url: scheme and host that stand in for the stream's; None is the real ones.
        timeout_seconds: longest wait for connection and login together.
    """

    market: str
    key: str
    secret: str
    feed: str
    ws_url: str | None
    timeout_seconds: float

    def __repr__(self) -> str:
        """Return what may be shown."""
        return f"Login(market={self.market!r}, feed={self.feed!r}, ws_url={self.ws_url!r})"


def import_sdk() -> None:
    """Import what a connection needs; takes seconds the first time."""
    for name in ("alpaca.data.live.stock", "alpaca.data.live.crypto", "msgpack"):
        importlib.import_module(name)


def _open_sdk(login: Login) -> Any:
    options: dict[str, Any] = {
        "raw_data": True,
        "websocket_params": {
            # Pinged by us, so that an answer counts as a sign of life.
            "ping_interval": None,
            "close_timeout": _CLOSE_SECONDS,
            "max_size": _LARGEST_FRAME_BYTES,
            "max_queue": 1024,
        },
    }
    if login.market == "crypto":
        crypto = importlib.import_module("alpaca.data.live.crypto")
        if login.ws_url:
            options["url_override"] = f"{login.ws_url}/v1beta3/crypto/us"
        return crypto.CryptoDataStream(login.key, login.secret, **options)
    stock = importlib.import_module("alpaca.data.live.stock")
    if login.ws_url:
        options["url_override"] = f"{login.ws_url}/v2/{login.feed}"
    feed = importlib.import_module("alpaca.data.enums").DataFeed(login.feed)
    return stock.StockDataStream(login.key, login.secret, feed=feed, **options)


@dataclass(frozen=True)
class _Request:
    """What was asked for and has not been answered; `begin` is False to end it."""

    channel: str
    names: frozenset[str]
    begin: bool


class AlpacaSession:
    """One connection.

    Args:
        login: where and as whom.
        sink: where to hand over.
        standing: called each time all trades asked for have been confirmed.
        times: times of trades by what cancels and corrections call them, of the connections
            before too; it is added to.
    """

    def __init__(
        self,
        login: Login,
        sink: Sink,
        standing: Callable[[], None],
        times: "OrderedDict[str, int]",
    ) -> None:
        self._login, self._sink, self._standing = login, sink, standing
        self._times = times
        self._notices = sink if isinstance(sink, NoticeSink) else None
        self._sdk: Any = None
        self._streams: dict[str, Stream] = {}
        self._former: set[str] = set()
        self._rejected: set[Stream] = set()
        self._requests: deque[_Request] = deque()
        #: Names whose trades are not confirmed, and since when, by the loop's clock.
        self._pending: dict[str, float] = {}
        self.is_standing = False

    async def serve(self, wanted: Wanted) -> None:
        """Connect and follow what is wanted until the connection ends or nothing is wanted.

        Raises:
            ProviderError: it could not be connected, or broke, or serves nothing of what is wanted.
        """
        self._sdk = _open_sdk(self._login)
        try:
            await self._connect()
            await self._until_first(
                self._read_frames(), self._follow(wanted), self._ping(), self._check_pending()
            )
        finally:
            await self._close()

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._login.timeout_seconds):
                await self._sdk._start_ws()
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            # Words of a refusal, or a first message that is not as agreed.
            raise self._refusal(str(error)) from None
        except (OSError, WebSocketException) as error:
            raise self._broken(error) from error

    async def _until_first(self, *work: Coroutine[Any, Any, None]) -> None:
        """Do all at once until the first of them is done."""
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (OSError, WebSocketException) as error:
            raise self._broken(error) from error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(2 * _CLOSE_SECONDS):
                await self._sdk.close()
        except (OSError, WebSocketException):
            # It was broken before.
            return

    # ---- subscriptions

    async def _follow(self, wanted: Wanted) -> None:
        while streams := wanted.streams:
            version = wanted.version
            await self._subscribe(streams)
            await wanted.changed_since(version)

    async def _subscribe(self, streams: frozenset[Stream]) -> None:
        names: dict[str, Stream] = {}
        for stream in sorted(streams - self._rejected):
            try:
                names[to_alpaca_symbol(stream.market, stream.symbol)] = stream
            except InvalidInputError as error:
                self._reject(stream, str(error))
        if not names:
            raise BadRequest(
                "Alpaca streams none of the symbols that are wanted of it.", provider=PROVIDER
            )
        leaving = sorted(self._streams.keys() - names.keys())
        new = sorted(names.keys() - self._streams.keys())
        self._former = (self._former | set(leaving)) - names.keys()
        self._forget_pending(leaving)
        self._pending |= dict.fromkeys(new, asyncio.get_running_loop().time())
        self._streams = names
        for channel in CHANNELS:
            await self._leave(channel, leaving)
        # One request each: a plan without room for quotes still has its trades.
        for channel in CHANNELS:
            await self._ask(channel, new)
        self._look_whether_standing()

    async def _ask(self, channel: str, names: list[str]) -> None:
        handlers = self._sdk._handlers[channel]
        if not names or (channel == "statuses" and self._login.market == "crypto"):
            return
        for name in names:
            handlers[name] = _unused
        self._requests.append(_Request(channel, frozenset(names), begin=True))
        await self._sdk._send_subscribe_msg()

    async def _leave(self, channel: str, names: list[str]) -> None:
        handlers = self._sdk._handlers[channel]
        leaving = [name for name in names if handlers.pop(name, None) is not None]
        if leaving:
            self._requests.append(_Request(channel, frozenset(leaving), begin=False))
            await self._sdk._send_unsubscribe_msg(channel, leaving)

    def _answered(self, answer: Standing | Refused) -> None:
        """Take the answer to the oldest request; they come in order."""
        if not self._requests:
            return
        request = self._requests.popleft()
        if not request.begin:
            return
        stands = answer.symbols[request.channel] if isinstance(answer, Standing) else frozenset()
        missing = sorted(request.names - stands)
        for name in missing:
            # Else each later request would ask for it again, and be refused for it.
            self._sdk._handlers[request.channel].pop(name, None)
        if request.channel == "trades":
            why = answer.words if isinstance(answer, Refused) else "it was not confirmed"
            for name in missing:
                if (stream := self._streams.get(name)) is not None:
                    self._reject(stream, f"Alpaca does not stream {name}: {why}.")
            self._forget_pending(request.names)
            if self._streams and not self._sdk._handlers["trades"]:
                raise BadRequest(
                    f"Alpaca streams none of the symbols that are wanted of it: {why}.",
                    provider=PROVIDER,
                )
            self._look_whether_standing()

    def _look_whether_standing(self) -> None:
        if not self._pending:
            self.is_standing = True
            self._standing()

    def _forget_pending(self, names: Iterable[str]) -> None:
        for name in names:
            self._pending.pop(name, None)

    async def _check_pending(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            asked_until = asyncio.get_running_loop().time() - _CONFIRMATION_SECONDS
            late = sorted(name for name, at in self._pending.items() if at <= asked_until)
            if late:
                raise TransientError(
                    f"Alpaca did not confirm {len(late)} subscriptions ({', '.join(late[:5])}).",
                    provider=PROVIDER,
                )

    def _reject(self, stream: Stream, why: str) -> None:
        self._rejected.add(stream)
        self._sink.rejected(stream, why)

    # ---- frames

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(_PING_SECONDS)
            answer = await self._sdk._ws.ping()
            await answer
            self._sink.alive()

    async def _read_frames(self) -> None:
        while True:
            await self._sink.room()
            self._hear(await self._sdk._ws.recv())

    def _hear(self, frame: str | bytes) -> None:
        self._sink.alive()
        for each in read_frame(frame):
            if isinstance(each, Trades):
                self._take(each)
            elif isinstance(each, QuoteMoved):
                self._take_quote(each)
            elif isinstance(each, Standing | Refused):
                self._answered(each)
            elif isinstance(each, Ends):
                self._end(each)
            elif isinstance(each, TradingStatus | TakenBack):
                self._notify(each)
            else:
                self._garbage(each, frame)

    def _take(self, trades: Trades) -> None:
        streams = [self._streams.get(name) for name in trades.names]
        known = [row for row, stream in enumerate(streams) if stream is not None]
        for row, stream in enumerate(streams):
            if stream is None and trades.names[row] not in self._former:
                what = "a trade of a symbol that was not asked for"
                self._sink.refused(what, repr(trades.names[row]))
        if not known:
            return
        if self._notices is not None:
            self._times.update(zip(trades.keys, trades.ts, strict=True))
            while len(self._times) > _REMEMBERED_TRADES:
                self._times.popitem(last=False)
        self._sink.trades(
            [stream for stream in streams if stream is not None],
            [trades.ts[row] for row in known],
            [trades.price[row] for row in known],
            [trades.size[row] for row in known],
            [trades.ids[row] for row in known],
            [trades.conditions[row] for row in known],
        )

    def _take_quote(self, quote: QuoteMoved) -> None:
        stream = self._streams.get(quote.name)
        if stream is not None:
            self._sink.quote(stream, quote.ts, quote.bid, quote.ask, quote.bid_size, quote.ask_size)

    def _notify(self, notice: TradingStatus | TakenBack) -> None:
        stream = self._streams.get(notice.name)
        if stream is None or self._notices is None:
            return
        if isinstance(notice, TakenBack):
            # By itself it does not say surely when the trade was.
            times = {self._times.get(notice.key, notice.ts), notice.ts} - {NO_TIME}
            for ts in sorted(times):
                self._notices.taken_back(stream, ts, notice.why)
        elif notice.is_halted:
            self._notices.halted(stream, notice.ts, notice.reason)
        else:
            self._notices.resumed(stream, notice.ts)

    def _garbage(self, found: Unreadable, frame: str | bytes) -> None:
        raw = frame if isinstance(frame, str) else frame[:_RAW_BYTES].hex()
        self._sink.refused(found.what, raw[: 2 * _RAW_BYTES])

    # ---- ends

    def _end(self, end: Ends) -> None:
        if end.code == SLOW_CLIENT:
            # How much was left out it does not say; it is fetched after the next connection.
            self._sink.gap(1)
        raise end.kind(f"Alpaca ended the connection: {end.words} ({end.code}).", provider=PROVIDER)

    def _refusal(self, words: str) -> ProviderError:
        kind = kind_of_words(words)
        text = words
        for secret in (self._login.key, self._login.secret):
            text = text.replace(secret, "***") if secret else text
        if kind is AuthError and "subscription" in words.lower():
            text = f"{text}. {_SUBSCRIPTION_ADVICE}"
        return kind(f"Alpaca refused the connection: {text}.", provider=PROVIDER)

    def _broken(self, error: Exception) -> ProviderError:
        status = getattr(error, "status_code", None)
        if isinstance(status, int):
            kind = kind_of_status(status) or TransientError
            return kind(
                f"Alpaca refused the connection with status {status}.",
                provider=PROVIDER,
                status=status,
            )
        how = error if isinstance(error, ConnectionClosed) or str(error) else type(error).__name__
        return TransientError(f"The connection to Alpaca broke: {how}", provider=PROVIDER)


async def _unused(_: object) -> None:
    """Stand for the SDK's handler of a symbol: frames are read before it would be called."""
