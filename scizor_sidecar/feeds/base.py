"""The seam behind which every live feed stands: what it is asked for and what it hands over.

A feed knows the wire. It knows nothing of bars, stores or reconnection: `run` serves one connection
and returns or raises when that ends; `scizor_sidecar.feeds.connection` begins the next one.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from scizor_core.markets import MARKETS, PriceSteps


@dataclass(frozen=True, order=True)
class Stream:
    """One instrument that is to be streamed.

    Attributes:
        market: name of the market.
        symbol: code in that market.
        instrument_id: permanent id.
        depth: whether the order book is wanted too.
    """

    market: str
    symbol: str
    instrument_id: int
    depth: bool = False


class Wanted:
    """The streams that a feed is to have, as they change; a feed follows without reconnecting."""

    def __init__(self, streams: frozenset[Stream] = frozenset()) -> None:
        self._streams = streams
        self._version = 0
        self._changed = asyncio.Condition()

    @property
    def streams(self) -> frozenset[Stream]:
        """What is wanted now."""
        return self._streams

    @property
    def version(self) -> int:
        """Number of changes so far."""
        return self._version

    async def set(self, streams: frozenset[Stream]) -> None:
        """Replace what is wanted."""
        if streams == self._streams:
            return
        async with self._changed:
            self._streams = streams
            self._version += 1
            self._changed.notify_all()

    async def changed_since(self, version: int) -> int:
        """Wait until what is wanted is another than at that version; returns the present one."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._version != version)
            return self._version


class Sink(Protocol):
    """Where a feed hands over what it receives. All times are microseconds since 1970 UTC."""

    def connected(self) -> None:
        """Say that the subscription stands: from now on nothing is missed."""

    def lost(self, why: str) -> None:
        """Say that from now on things are missed although the connection stands.

        `connected` says that they come again.
        """

    def alive(self) -> None:
        """Say that the connection lives although no trade came (heartbeat, pong)."""

    def trades(
        self,
        streams: Sequence[Stream],
        ts: Sequence[int],
        price: Sequence[float],
        size: Sequence[float],
        trade_id: Sequence[str | int | None],
        condition: Sequence[int] | None = None,
    ) -> None:
        """Hand over trades in the order of their arrival; equally long columns.

        A value that could not be read is NaN (price, size) or `NO_TIME` (ts): the row is kept as
        refused, not lost.
        """

    def quote(
        self,
        stream: Stream,
        ts: int,
        bid: float,
        ask: float,
        bid_size: float | None = None,
        ask_size: float | None = None,
    ) -> None:
        """Hand over the best bid and ask; a side that is missing is NaN."""

    def book(
        self,
        stream: Stream,
        ts: int,
        bids: Sequence[tuple[float, float]],
        asks: Sequence[tuple[float, float]],
    ) -> None:
        """Hand over the whole book as it stands, best first: (price, size)."""

    def refused(self, what: str, raw: str) -> None:
        """Hand over a message that could not be read: what is wrong with it, and its text."""

    def gap(self, missed: int) -> None:
        """Say that the feed's own numbering shows messages that never came."""

    def rejected(self, stream: Stream, why: str) -> None:
        """Say that the provider does not serve a stream; the others go on."""

    def limited(self, sampled: Collection[Stream], without_book: Mapping[Stream, str]) -> None:
        """Say of which streams less comes than is wanted; said of all whenever it changes.

        Args:
            sampled: those of whose trades only a sample comes. It is said before the first of
                these trades.
            without_book: those whose order book is wanted and does not come, and why.
        """

    async def room(self) -> None:
        """Wait until more can be taken: a feed that outruns us is read more slowly."""


@dataclass(frozen=True)
class FeedLimits:
    """What a provider allows.

    Attributes:
        streams: instruments at a time, None without limit.
        depths: order books at a time.
    """

    streams: int | None = None
    depths: int = 0


class Feed(Protocol):
    """A provider's live feed."""

    @property
    def name(self) -> str:
        """The provider's name, as in chains and in the `source` column."""

    @property
    def limits(self) -> FeedLimits:
        """What the provider allows."""

    async def run(self, wanted: Wanted, sink: Sink) -> None:
        """Connect, subscribe, hand over what comes, follow `wanted`, until the connection ends.

        Raises:
            ProviderError: it could not be connected, or broke; says whether trying again helps.
        """


@runtime_checkable
class KnowsPriceSteps(Protocol):
    """A feed whose venue gives each instrument a price step of its own."""

    def price_steps(self, stream: Stream) -> PriceSteps:
        """Return an instrument's steps; empty before they are known."""


def price_steps_of(feed: Feed) -> Callable[[Stream], PriceSteps]:
    """Return what tells the price steps of a feed's instruments: its own, else the market's."""

    def steps(stream: Stream) -> PriceSteps:
        own = feed.price_steps(stream) if isinstance(feed, KnowsPriceSteps) else ()
        return own or MARKETS[stream.market].price_steps

    return steps
