"""Hands what the pipelines make to the clients that have asked for it; nobody waits for anybody.

The hub keeps topics (`scizor_sidecar.face.topics`) and for each client which of them have changed
since it was last written to. A client that reads slowly costs nothing more than that list: when it
comes round it gets the newest state.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from scizor_core.errors import ScizorError
from scizor_core.stream.engine import BarState
from scizor_core.stream.guards import RULES
from scizor_core.stream.trades import MICROSECONDS
from scizor_resources.errors import WarehouseError
from scizor_sidecar.face.clients import (
    MOST_SUBSCRIPTIONS,
    Client,
    HubCounts,
    Outgoing,
    Subscription,
    Told,
    TooManyError,
)
from scizor_sidecar.face.seams import History, IndicatorRow
from scizor_sidecar.face.topics import Topic, TopicName
from scizor_sidecar.face.trades import trades_by_instrument
from scizor_sidecar.face.wire import (
    BY_TIMEFRAME,
    Item,
    as_iso,
    bar_item,
    book_item,
    iso,
    quote_item,
)
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.pipeline import Book, Quote, StreamedBar, Window

#: Bars that are kept of every instrument, asked for or not: the stores have what is older.
_RECENT_BARS = 40
#: Bars, or rows of indicators, that a new topic is filled with.
_HISTORY = 500
_LOADERS = 4
_IDLE_SECONDS = 600.0
#: What could not be read is tried again after so long.
_AGAIN_SECONDS = 5.0
#: Channels whose way to the clients is measured.
_MEASURED = frozenset({"ticks", "bars"})

Name = tuple[str, str]


class Hub:
    """Fans out what pipelines make; a `Listener` of them.

    Args:
        now: clock, aware.
        history: what was before the stream.
        most_clients: no more are let in.
        on_sent: told of each message with live data that was handed to a client's connection:
            the instrument, when the data had come, and when that was (microseconds UTC).
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        history: History,
        *,
        most_clients: int = 2_000,
        on_sent: Callable[[Stream, int, int], None] = lambda *_: None,
    ) -> None:
        self._now, self._history, self._most_clients = now, history, most_clients
        self._on_sent = on_sent
        self.counts = HubCounts()
        self.clients: dict[Client, None] = {}
        self._topics: dict[TopicName, Topic] = {}
        self._ticks: dict[Name, Topic] = {}
        self._recent: dict[tuple[str, str, str], dict[int, StreamedBar]] = {}
        self._numbers: dict[str, dict[Name, int]] = {}
        self._streams: dict[Name, Stream] = {}
        self._quotes: dict[Name, Quote] = {}
        self._books: dict[Name, Book] = {}
        self._standing: dict[Hashable, Told] = {}
        self._feeds: dict[str, dict[str, Any]] = {}
        self._to_load: asyncio.Queue[Topic] = asyncio.Queue()
        self._without_history: dict[Topic, None] = {}
        self._jobs: list[tuple[float, Callable[[], Awaitable[None]]]] = []
        self._wanted: frozenset[Name] | None = frozenset()
        self._idle_since: dict[TopicName, datetime] = {}

    # ---- what the pipelines tell

    def on_window(self, window: Window) -> None:
        """Take what a pass of a pipeline has made."""
        numbers = self._learn(window)
        arrived = window.received_at[1]
        self._take_bars(window.bars)
        quotes = {(each.stream.market, each.stream.symbol): each for each in window.quotes}
        trades = None if window.intake is None else window.intake.trades
        if self._ticks and (quotes or trades is not None):
            items = {} if trades is None else trades_by_instrument(trades, numbers, self._ticks)
            for key in items.keys() | (quotes.keys() & self._ticks.keys()):
                last = quote_item(quotes[key]) if key in quotes else None
                rows, skipped = items.get(key, ([], 0))
                self._ticks[key].put_items(rows, last, arrived, skipped)
        for quote in window.quotes:
            self._quotes[quote.stream.market, quote.stream.symbol] = quote
        for book in window.books:
            self._books[book.stream.market, book.stream.symbol] = book
            name = TopicName("book", book.stream.market, book.stream.symbol)
            if name in self._topics:
                self._topics[name].put_states([(0, book_item(book))], arrived)
        self._take_quality(window)

    def on_state(self, feed: str, state: FeedState, why: str, at: int) -> None:
        """Take a feed's new state."""
        self._feeds[feed] = {"state": state.value, "why": why, "since": iso(at)}
        self._tell_feed(feed)

    def on_indicators(self, changed: Iterable[IndicatorRow]) -> None:
        """Take indicators of live bars; values are read of those only that somebody follows."""
        for each in changed:
            stream = each.stream
            name = TopicName("indicators", stream.market, stream.symbol, each.timeframe)
            if name in self._topics:
                item = {"t": iso(each.start), "values": dict(each.values)}
                self._topics[name].put_states([(each.start, item)])

    def _learn(self, window: Window) -> dict[Name, int]:
        """Return the numbers of a feed's instruments."""
        numbers = self._numbers.setdefault(window.feed, {})
        if len(numbers) != len(window.streams):
            for number in range(len(numbers), len(window.streams)):
                stream = window.streams[number]
                name = (stream.market, stream.symbol)
                numbers[name] = number
                self._streams[name] = stream
            self._tell_feed(window.feed)
        return numbers

    def _tell_feed(self, feed: str) -> None:
        markets = sorted({market for market, _ in self._numbers.get(feed, {})})
        known = self._feeds.setdefault(
            feed, {"state": "idle", "why": "not started", "since": as_iso(self._now())}
        )
        self.announce(
            ("feed", feed),
            {
                "type": "feed",
                "feed": feed,
                "market": markets[0] if markets else None,
                "markets": markets,
                **known,
            },
        )

    def _take_bars(self, bars: Iterable[StreamedBar]) -> None:
        changed: dict[Topic, list[tuple[int, Item]]] = {}
        came: dict[Topic, int] = {}
        for streamed in bars:
            bar, stream = streamed.bar, streamed.stream
            recent = self._recent.setdefault((stream.market, stream.symbol, bar.timeframe), {})
            if bar.state is BarState.WITHDRAWN:
                recent.pop(bar.start, None)
            else:
                recent[bar.start] = streamed
            if len(recent) > _RECENT_BARS:
                del recent[min(recent)]
            topic = self._topics.get(TopicName("bars", stream.market, stream.symbol, bar.timeframe))
            if topic is not None:
                changed.setdefault(topic, []).append((bar.start, bar_item(streamed)))
                came[topic] = max(came.get(topic, 0), streamed.received_at)
        for topic, pairs in changed.items():
            topic.put_states(pairs, came[topic])

    def _take_quality(self, window: Window) -> None:
        found: dict[Name, list[tuple[str, int]]] = {}
        if window.intake is not None:
            for (number, rule), rows in window.intake.odd.items():
                stream = window.streams[number]
                found.setdefault((stream.market, stream.symbol), []).append((rule, rows))
        for quote in window.quotes:
            if quote.rule is not None:
                name = (quote.stream.market, quote.stream.symbol)
                found.setdefault(name, []).append((quote.rule, 1))
        for (market, symbol), odd in found.items():
            topic = self._topics.get(TopicName("quality", market, symbol))
            if topic is not None:
                at = as_iso(self._now())
                topic.put_items(
                    [
                        {"t": at, "rule": rule, "verdict": RULES[rule].name.lower(), "count": rows}
                        for rule, rows in odd
                    ]
                )

    # ---- what clients ask

    def join(self) -> Client:
        """Return a new client.

        Raises:
            TooManyError: there are too many.
        """
        if len(self.clients) >= self._most_clients:
            self.counts.refused_clients += 1
            raise TooManyError(f"{self._most_clients} clients are connected already")
        client = Client(self.counts)
        self.clients[client] = None
        self.counts.clients += 1
        return client

    def welcome(self, client: Client) -> None:
        """Tell a client what stands (states of feeds, alerts), and from now on what changes."""
        client.is_welcome = True
        for key, told in self._standing.items():
            client.tell(told, key)

    def leave(self, client: Client) -> None:
        """Forget a client."""
        self.clients.pop(client, None)
        for name in list(client.subscriptions):
            self.unsubscribe(client, name)

    def subscribe(self, client: Client, name: TopicName, resume: int | None = None) -> None:
        """Let a client follow a topic.

        Args:
            client: who.
            name: what; market and symbol in their canonical spelling.
            resume: the last number that the client has seen of it.

        Raises:
            TooManyError: the client follows too many.
        """
        if name in client.subscriptions:
            return
        if len(client.subscriptions) >= MOST_SUBSCRIPTIONS:
            raise TooManyError(f"{MOST_SUBSCRIPTIONS} subscriptions are the most")
        topic = self._topics.get(name) or self._make(name)
        subscription = Subscription(client, topic)
        if resume is not None and topic.can_resume(resume):
            subscription.seq, subscription.total = resume, topic.total_at(resume)
        elif resume is not None:
            subscription.reason = "too_old"
        client.subscriptions[name] = subscription
        topic.followers[subscription] = None
        self._idle_since.pop(name, None)
        self._wanted = None
        client.mark(subscription)

    def unsubscribe(self, client: Client, name: TopicName) -> None:
        """Let a client follow a topic no longer."""
        subscription = client.subscriptions.pop(name, None)
        if subscription is None:
            return
        subscription.topic.followers.pop(subscription, None)
        client.unmark(subscription)
        self._wanted = None

    def wanted(self) -> frozenset[Name]:
        """Return market and symbol of what connected clients look at, of what is known."""
        if self._wanted is None:
            self._wanted = frozenset(
                (name.market, name.symbol)
                for name, topic in self._topics.items()
                if topic.followers and topic.is_ready
            )
        return self._wanted

    def last_bar(self, market: str, symbol: str) -> StreamedBar | None:
        """Return the newest minute of an instrument that is streamed."""
        recent = self._recent.get((market, symbol, "1m"))
        return recent[max(recent)] if recent else None

    def recent_bars(self, market: str, symbol: str, timeframe: str) -> list[StreamedBar]:
        """Return the last bars out of the stream, oldest first."""
        recent = self._recent.get((market, symbol, timeframe), {})
        return [recent[start] for start in sorted(recent)]

    def sent(self, messages: Iterable[Outgoing]) -> None:
        """Note that messages were handed to a client's connection, all of them now."""
        at = int(self._now().timestamp() * MICROSECONDS)
        for _, topic, received_at in messages:
            if topic is not None and received_at and topic.name.channel in _MEASURED:
                # A name is channel, market, symbol, timeframe.
                stream = self._streams.get(topic.name[1:3])
                if stream is not None:
                    self._on_sent(stream, received_at, at)

    def feed_state(self, feed: str) -> Mapping[str, Any]:
        """Return state, why and since of a feed; empty where it has not said anything."""
        return self._feeds.get(feed, {})

    def _make(self, name: TopicName) -> Topic:
        # Milliseconds since 1970: a later process begins with higher numbers than this one ends.
        topic = Topic(name, int(self._now().timestamp() * 1000))
        self._topics[name] = topic
        key = (name.market, name.symbol)
        if name.channel == "ticks":
            self._ticks[key] = topic
            if key in self._quotes:
                topic.put_history([(0, quote_item(self._quotes[key]))])
        elif name.channel == "book" and key in self._books:
            topic.put_history([(0, book_item(self._books[key]))])
        if name.channel not in BY_TIMEFRAME and key in self._streams:
            topic.is_ready = True
        else:
            self._to_load.put_nowait(topic)
        return topic

    # ---- messages to all

    def announce(self, key: Hashable, message: Mapping[str, Any], *, keep: bool = True) -> None:
        """Tell all clients that are welcome; later ones too, where it is kept."""
        told = Told(message)
        if keep:
            self._standing[key] = told
        else:
            self._standing.pop(key, None)
        for client in self.clients:
            if client.is_welcome:
                client.tell(told, key)

    def every(self, seconds: float, job: Callable[[], Awaitable[None]]) -> None:
        """Do something again and again while the hub runs."""
        self._jobs.append((seconds, job))

    # ---- life

    async def run(self) -> None:
        """Load what topics begin with, and tidy, until cancelled."""
        self.every(_IDLE_SECONDS / 10, self._tidy)
        self.every(_AGAIN_SECONDS, self._load_again)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_LOADERS):
                tasks.create_task(self._load_forever())
            for seconds, job in self._jobs:
                tasks.create_task(_repeat(seconds, job))

    async def flush(self) -> None:
        """Do nothing: clients ask the stores for what they have missed."""

    async def _load_forever(self) -> None:
        while True:
            topic = await self._to_load.get()
            await self._load(topic)

    async def _load(self, topic: Topic) -> None:
        name = topic.name
        stored: Sequence[tuple[int, Item]] = ()
        try:
            await self._history.check(name.market, name.symbol)
            if name.channel in BY_TIMEFRAME:
                stored = await self._history.rows(name, _HISTORY)
        except WarehouseError as error:
            self._without_history[topic] = None
            self._tell_away(topic, str(error))
        except ScizorError as error:
            self._refuse(topic, str(error))
            return
        if topic.is_ready:
            topic.put_missing(stored)
            return
        if name.channel == "bars":
            live = self._recent.get((name.market, name.symbol, name.timeframe or ""), {})
            topic.put_history([(start, bar_item(each)) for start, each in live.items()])
        # What is there already is newer, and stays.
        topic.put_history(stored)
        topic.is_ready = True
        self._wanted = None
        for follower in topic.followers:
            follower.changed()

    async def _load_again(self) -> None:
        """Load what could not be read."""
        waiting, self._without_history = self._without_history, {}
        for topic in waiting:
            if self._topics.get(topic.name) is topic:
                self._to_load.put_nowait(topic)

    def _refuse(self, topic: Topic, why: str) -> None:
        name = topic.name
        self._drop(name)
        for client in self._followers(topic):
            self.unsubscribe(client, name)
            client.tell(
                {
                    "type": "error",
                    "error": why,
                    "what_to_do": "Look it up in GET /api/watchlist, or add it there.",
                    "symbol": f"{name.market}:{name.symbol}",
                },
                ("unknown", name.market, name.symbol),
            )

    def _tell_away(self, topic: Topic, why: str) -> None:
        if topic.is_ready:
            # They were told before.
            return
        notice = Told(
            {
                "type": "notice",
                "code": "database_away",
                "text": f"What was before the stream cannot be read: {why}",
                "key": topic.name.key,
            }
        )
        for client in self._followers(topic):
            client.tell(notice, ("away", topic.name.key))

    def _followers(self, topic: Topic) -> list[Client]:
        return [each.client for each in topic.followers if isinstance(each, Subscription)]

    async def _tidy(self) -> None:
        """Forget topics that nobody has followed for a while."""
        now = self._now()
        for name, topic in list(self._topics.items()):
            if topic.followers:
                continue
            since = self._idle_since.setdefault(name, now)
            if (now - since).total_seconds() >= _IDLE_SECONDS:
                self._drop(name)

    def _drop(self, name: TopicName) -> None:
        self._topics.pop(name, None)
        self._idle_since.pop(name, None)
        if name.channel == "ticks":
            self._ticks.pop((name.market, name.symbol), None)


async def _repeat(seconds: float, job: Callable[[], Awaitable[None]]) -> None:
    while True:
        await job()
        await asyncio.sleep(seconds)
