"""One connection to a TWS or IB Gateway, from what is wanted to what comes.

ib_async connects, shakes hands, throttles what is sent, and reads contract details and errors.
Messages about live data are read here (`ibkr_wire`) and handed over (`ibkr_desk`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from scizor_core.errors import InvalidInputError
from scizor_resources.errors import AuthError, BadRequest, ProviderError
from scizor_resources.providers.ibkr.gateway import (
    DETAILS,
    ContractDetails,
    one_listing,
    stock_of,
)
from scizor_resources.providers.ibkr.session import GatewaySession
from scizor_resources.providers.ibkr.symbols import get_route, to_ibkr_symbol
from scizor_resources.providers.ibkr.verdicts import SOURCE_NAME, TITLE, unreachable
from scizor_sidecar.feeds.base import Sink, Stream, Wanted
from scizor_sidecar.feeds.ibkr_desk import Desk
from scizor_sidecar.feeds.ibkr_link import LinkNews, Links
from scizor_sidecar.feeds.ibkr_plan import Key, Plan, Quota, key_of, make_plan
from scizor_sidecar.feeds.ibkr_refusals import BOOK_RESET, DELAYED_INSTEAD, Fate, fate_of, refusal
from scizor_sidecar.feeds.ibkr_subscriptions import BOOK_ROWS, Kind, Memory, Subscriptions
from scizor_sidecar.feeds.ibkr_wire import (
    FOR_SDK,
    BookRow,
    DataType,
    LiveTrade,
    ServerTime,
    Side,
    Unreadable,
    VolumeTick,
    read,
)

Answer = TypeVar("Answer")

#: So much of a message that cannot be read is handed on.
_RAW_CHARACTERS = 500
#: No message of live data is longer; what is, is no message.
_LONGEST_FRAME = 4_000_000

#: What the SDK's handlers raise for a frame that is not as they expect.
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, NameError, TypeError, ValueError)


@dataclass(frozen=True)
class IbkrPatience:
    """How long is waited for what, in seconds.

    Attributes:
        heartbeat: pause between two questions for the gateway's time.
        confirm: longest wait for the first message of each line.
        link: a link that is lost longer ends the connection, so that another gateway is tried.
        same_instrument: IBKR takes no second request for tick-by-tick of an instrument sooner.
        first_tick: a tick-by-tick subscription that is silent so long while its line tells of
            trades is given up.
        book_pause: pause before a book that broke is asked for again.
        farm: data that come so long after a farm was lost are not of that farm.
    """

    heartbeat: float = 15.0
    confirm: float = 10.0
    link: float = 120.0
    same_instrument: float = 15.0
    first_tick: float = 10.0
    book_pause: float = 1.0
    farm: float = 2.0


class IbkrSession:
    """One connection.

    Args:
        gateway: what connects.
        sink: where to hand over.
        memory: what is known from connections before; it is added to.
        quota: what may be subscribed at a time.
        now: clock, aware; times of quotes and books, for which IBKR tells none.
        patience: how long is waited for what.
    """

    def __init__(
        self,
        gateway: GatewaySession,
        sink: Sink,
        memory: Memory,
        quota: Quota,
        now: Callable[[], datetime],
        patience: IbkrPatience,
    ) -> None:
        self._gateway, self._sink, self._memory = gateway, sink, memory
        self._quota, self._patience = quota, patience
        self._loop = asyncio.get_running_loop()
        self._desk = Desk(sink, now, BOOK_ROWS)
        self._ib: Any = None
        self._subscriptions = Subscriptions(None, self._desk, memory)
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._time: asyncio.Future[int] = self._loop.create_future()
        self._timers: set[asyncio.TimerHandle] = set()
        self._reading: asyncio.Task[None] | None = None
        self._bytes_unread = 0
        self._links, self._lost_at = Links(), 0.0
        self._up, self._again = asyncio.Event(), asyncio.Event()
        self._up.set()
        self._is_subscribed = self._is_connected = self._was_connected = False
        self._streams: dict[Key, Stream] = {}
        self._rejected: dict[Key, ProviderError] = {}
        self._left_out: set[Key] = set()
        self._no_book: dict[Key, str] = {}
        self._bookless: set[Key] = set()
        self._told: tuple[frozenset[Stream], dict[Stream, str]] | None = None

    @property
    def is_of_no_use(self) -> bool:
        """Whether the gateway answers, but nothing comes from it: it has no link to IBKR."""
        was_reached = self._ib is not None
        return self._links.is_link_lost or (was_reached and not self._was_connected)

    @property
    def sampled(self) -> frozenset[Stream]:
        """Streams whose trades are a sample: their lines are all that there is."""
        return frozenset(self._streams[key] for key in self._desk.sampled if key in self._streams)

    @property
    def without_book(self) -> dict[Stream, str]:
        """Streams whose order book is wanted and does not come: why."""
        full = (
            f"Others have the {self._quota.depths} order books that {TITLE} allows in "
            f"{self._quota.lines} market data lines."
        )
        found = {**dict.fromkeys(self._bookless, full), **self._no_book}
        return {
            self._streams[key]: why
            for key, why in found.items()
            if key in self._streams and self._streams[key].depth
        }

    async def close(self) -> None:
        """Hand over what waits; the connection is closed by who opened it."""
        self._desk.flush()
        self._subscriptions.remember()
        for timer in self._timers:
            timer.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._ended.done():
            self._ended.exception()
        if self._ib is not None:
            self._ib.errorEvent -= self._on_error
            self._ib.client.apiEnd -= self._on_end
            self._ib.client.conn.hasData -= self._on_data

    async def serve(self, wanted: Wanted) -> None:
        """Follow what is wanted until the connection ends.

        Raises:
            ProviderError: the connection ended, or IBKR serves nothing of what is wanted.
        """
        self._ib = await self._gateway.open()
        client = self._ib.client
        self._subscriptions = Subscriptions(client, self._desk, self._memory)
        self._ib.errorEvent += self._on_error
        client.apiEnd += self._on_end
        client.conn.hasData += self._on_data
        client.decoder.interpret = self._hear
        self._sink.alive()
        self._beat()
        while wanted.streams:
            await self._until(self._up.wait())
            self._again.clear()
            version, streams = wanted.version, wanted.streams
            await self._until(self._follow(streams))
            await self._until(_first(wanted.changed_since(version), self._again.wait()))

    async def _until(self, work: Awaitable[Answer]) -> Answer:
        """Return what work returns, or raise what ends the connection before it."""
        task = asyncio.ensure_future(work)
        waiting: set[asyncio.Future[Any]] = {task, self._ended}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._ended.done():
            self._ended.result()
        return task.result()

    def _end(self, error: ProviderError) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _later(self, seconds: float, do: Callable[..., None], *arguments: Any) -> None:
        self._timers = {each for each in self._timers if each.when() >= self._loop.time()}
        self._timers.add(self._loop.call_later(seconds, do, *arguments))

    # ---- what is wanted

    async def _follow(self, streams: Iterable[Stream]) -> None:
        """Subscribe what is wanted and not there, end what is there and not wanted."""
        wanted = {key_of(each): each for each in sorted(streams)}
        await self._look_up([key for key in wanted if key not in self._rejected], wanted)
        self._streams = {key: each for key, each in wanted.items() if key not in self._rejected}
        self._check_served()
        there = self._subscriptions
        generation = there.generation
        grows = bool(self._streams.keys() - there.have(Kind.LINE))
        if grows:
            self._desk.began = await self._server_time()
        plan = self._plan()
        there.keep_only(plan)
        new = [key for key in plan.lines if not there.has(Kind.LINE, key)]
        for key in new:
            there.open_line(key, holds=key in plan.tick_by_tick)
        for key in plan.books:
            there.open_book(key)
        for key in (each for each in new if each in plan.tick_by_tick):
            await there.open_ticks(key, self._patience.same_instrument)
        await there.wait_for_lines(self._patience.confirm)
        if grows:
            # Tick-by-tick is not confirmed; the gateway takes one request after the other.
            await self._server_time()
        # Error 1101 may have ended them all meanwhile.
        if generation == there.generation:
            self._is_subscribed = True
            self._connect_if_ready()

    def _plan(self) -> Plan:
        there = self._subscriptions
        plan = make_plan(
            self._streams.values(),
            self._quota,
            lined=there.have(Kind.LINE),
            ticked=there.have(Kind.TICKS),
            booked=there.have(Kind.BOOK),
            no_book=self._no_book,
        )
        self._bookless = {key for key, each in self._streams.items() if each.depth} - plan.books
        left_out = set(plan.left_out)
        for key in sorted(left_out - self._left_out):
            self._sink.rejected(
                self._streams[key],
                f"All {self._quota.lines} market data lines of {TITLE} are taken by others.",
            )
        self._left_out = left_out
        self._desk.streams = {key: self._streams[key] for key in plan.lines}
        return plan

    async def _look_up(self, keys: Iterable[Key], streams: dict[Key, Stream]) -> None:
        """Ask for the contracts that are not known yet, all at once."""
        unknown = [key for key in keys if key not in self._memory.listings]
        found = await asyncio.gather(
            *(self._listing(*key) for key in unknown), return_exceptions=True
        )
        for key, answer in zip(unknown, found, strict=True):
            if isinstance(answer, ContractDetails):
                self._memory.listings[key] = answer
            elif isinstance(answer, BadRequest | AuthError):
                self._reject(streams[key], answer)
            elif isinstance(answer, BaseException):
                raise answer

    async def _listing(self, market: str, symbol: str) -> ContractDetails:
        try:
            ticker, route = to_ibkr_symbol(market, symbol), get_route(market)
        except InvalidInputError as error:
            raise BadRequest(str(error), provider=SOURCE_NAME, endpoint=DETAILS) from None
        stock = stock_of(ticker, route)
        found = await self._gateway.ask(
            DETAILS, ticker, stock, lambda client, id_: client.reqContractDetails(id_, stock)
        )
        return one_listing(found, ticker, route)

    def _check_served(self) -> None:
        if self._streams or not self._rejected:
            return
        last = list(self._rejected.values())[-1]
        raise type(last)(
            f"{TITLE} serves none of the symbols that are wanted of it; its last answer: {last}",
            provider=SOURCE_NAME,
            status=last.status,
        )

    async def _server_time(self) -> int:
        """Return the gateway's time, microseconds UTC."""
        if self._time.done():
            self._time = self._loop.create_future()
        self._ib.client.reqCurrentTime()
        try:
            async with asyncio.timeout(self._patience.confirm):
                return await asyncio.shield(self._time)
        except TimeoutError:
            raise unreachable(
                "The gateway does not tell its time",
                "Try again later; if it stays so, look at the gateway.",
                endpoint="reqCurrentTime",
            ) from None

    def _connect_if_ready(self) -> None:
        if self._is_subscribed and not self._is_connected and not self._links.why:
            self._is_connected = self._was_connected = True
            self._sink.connected()

    def _tell_limits(self) -> None:
        """Say what is less than is wanted, if that has changed."""
        told = self.sampled, self.without_book
        if told != self._told:
            self._told = told
            self._sink.limited(*told)

    # ---- what the gateway says

    def _on_data(self, data: bytes) -> None:
        """Note that bytes came; called after ib_async has read the frames in them."""
        self._sink.alive()
        self._bytes_unread += len(data)
        if self._bytes_unread > _LONGEST_FRAME:
            self._sink.refused("a frame of more than 4 MB", "")
            self._end(unreachable("The gateway sends no frames any more", "Try again."))
        # Before the trades that it has brought.
        self._tell_limits()
        self._desk.flush_soon()
        transport = self._ib.client.conn.transport
        if self._reading is None and transport is not None and self._desk.takes_a_pause():
            transport.pause_reading()
            self._reading = asyncio.ensure_future(self._wait_for_room(transport))

    async def _wait_for_room(self, transport: Any) -> None:
        self._desk.flush()
        await self._sink.room()
        self._reading = None
        transport.resume_reading()

    def _on_end(self, *_: object) -> None:
        self._end(
            unreachable(
                "The gateway closed the connection", "Try again; it restarts itself once a day."
            )
        )

    def _beat(self) -> None:
        if self._ib.client.isReady():
            self._ib.client.reqCurrentTime()
            self._later(self._patience.heartbeat, self._beat)

    def _let_sdk_read(self, fields: list[str]) -> None:
        """Hand a frame to the SDK's handler; its own `interpret` would only log what it cannot."""
        try:
            self._ib.client.decoder.handlers[int(fields[0])](fields)
        except _UNREADABLE as error:
            self._refuse(f"the SDK cannot read it: {error}", fields)

    def _hear(self, fields: list[str]) -> None:
        """Take the fields of a frame."""
        self._bytes_unread = 0
        heard = read(fields)
        if heard is None:
            if fields[0] in FOR_SDK:
                self._let_sdk_read(fields)
        elif isinstance(heard, Unreadable):
            self._refuse(heard.what, fields)
        elif isinstance(heard, ServerTime):
            if not self._time.done():
                self._time.set_result(heard.ts)
        elif (about := self._subscriptions.about(heard.request)) is not None:
            self._subscriptions.confirm(heard.request)
            self._take(about[1], heard)
            if not self._is_connected:
                self._heard_data()
        elif not self._subscriptions.was_ours(heard.request):
            self._refuse("it is about no subscription of ours", fields)

    def _refuse(self, what: str, fields: Sequence[str]) -> None:
        self._sink.refused(what, "|".join(fields)[:_RAW_CHARACTERS])

    def _take(self, key: Key, heard: object) -> None:
        if isinstance(heard, LiveTrade):
            self._desk.trade(key, heard)
        elif isinstance(heard, VolumeTick):
            if self._desk.sampled_trade(key, heard):
                self._later(self._patience.first_tick, self._check_ticks, key)
        elif isinstance(heard, Side):
            self._desk.side(key, heard)
        elif isinstance(heard, BookRow):
            if not self._desk.book_row(key, heard):
                self._restart_book(key)
        elif isinstance(heard, DataType) and heard.is_delayed:
            self._on_refusal(heard.request, DELAYED_INSTEAD, "Delayed market data came")

    def _heard_data(self) -> None:
        if self._links.why and self._loop.time() - self._lost_at > self._patience.farm:
            self._on_news(self._links.data_came())

    def _restart_book(self, key: Key) -> None:
        """Ask for a book from its beginning, as changes of it are missing."""
        self._sink.gap(1)
        self._subscriptions.cancel(Kind.BOOK, key)
        self._later(self._patience.book_pause, self._again.set)

    def _check_ticks(self, key: Key) -> None:
        """Give up a tick-by-tick subscription that has sent nothing while there were trades."""
        if self._desk.is_holding(key):
            self._subscriptions.cancel(Kind.TICKS, key)
            self._tell_limits()

    # ---- errors and links

    def _on_error(self, number: int, code: int, words: str, _contract: object) -> None:
        news, about = self._links.hear(code, words), self._subscriptions.about(number)
        if news is not None:
            self._on_news(news)
        elif about is not None and code == BOOK_RESET:
            self._desk.clear_book(about[1])
        elif about is not None and fate_of(code) is Fate.REFUSED:
            self._on_refusal(number, code, words)
        if fate_of(code) is Fate.CONNECTION_ENDS:
            self._end(refusal(code, words, endpoint="connect", subject="live data"))

    def _on_refusal(self, number: int, code: int, words: str) -> None:
        about = self._subscriptions.about(number)
        if about is None:
            return
        kind, key = about
        error = refusal(code, words, endpoint=kind, subject=key[1])
        if kind is Kind.LINE:
            self._reject(self._streams[key], error)
            return
        if kind is Kind.BOOK:
            self._no_book[key] = str(error)
        self._subscriptions.cancel(kind, key)

    def _reject(self, stream: Stream, error: ProviderError) -> None:
        key = key_of(stream)
        self._rejected[key] = error
        self._sink.rejected(stream, str(error))
        for kind in (Kind.TICKS, Kind.BOOK, Kind.LINE):
            self._subscriptions.cancel(kind, key)
        if self._streams.pop(key, None) is not None:
            # What it had is free for others; where nothing is left this ends the connection.
            self._again.set()

    def _on_news(self, news: LinkNews | None) -> None:
        if news is LinkNews.LOST:
            self._lost_at = self._loop.time()
            self._is_connected = False
            self._up.clear()
            self._sink.lost(self._links.why)
            self._later(self._patience.link, self._check_link, self._lost_at)
        elif news is not None:
            self._desk.forget_totals()
            if news is LinkNews.BACK_WITHOUT_DATA:
                self._is_subscribed = self._is_connected = False
                self._subscriptions.drop_all()
                self._again.set()
            self._up.set()
            self._connect_if_ready()

    def _check_link(self, lost_at: float) -> None:
        if self._links.is_link_lost and self._lost_at == lost_at:
            self._end(unreachable(f"Nothing comes: {self._links.why}", "Try again later."))


async def _first(*works: Awaitable[object]) -> None:
    """Wait until one of several is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
