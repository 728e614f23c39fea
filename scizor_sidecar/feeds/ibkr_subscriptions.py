"""The subscriptions of one connection to a TWS or IB Gateway: made, confirmed and ended."""

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from scizor_resources.providers.ibkr.gateway import ContractDetails, contract_of
from scizor_resources.providers.ibkr.verdicts import unreachable
from scizor_sidecar.feeds.ibkr_desk import Desk
from scizor_sidecar.feeds.ibkr_plan import Key, Plan

#: Rows of a side of an order book.
BOOK_ROWS = 10
#: Generic tick that makes a line tell each trade with its time and the day's volume (RTVolume).
_RT_VOLUME = "233"


class Kind(StrEnum):
    """What is subscribed, by the name of the request."""

    LINE = "reqMktData"
    TICKS = "reqTickByTickData"
    BOOK = "reqMktDepth"


@dataclass
class Memory:
    """What is kept from one connection to the next.

    Attributes:
        listings: what IBKR knows about an instrument; its ids are permanent.
        streamed: instruments that have been streamed.
        ticks_asked: when tick-by-tick was last asked for, seconds of the loop's clock.
    """

    listings: dict[Key, ContractDetails] = field(default_factory=dict)
    streamed: set[Key] = field(default_factory=set)
    ticks_asked: dict[Key, float] = field(default_factory=dict)


class Subscriptions:
    """What is subscribed, by the ids of the requests.

    Args:
        client: ib_async's, connected.
        desk: where the lines and books are kept that belong to them.
        memory: what is known from connections before; it is added to.
    """

    def __init__(self, client: Any, desk: Desk, memory: Memory) -> None:
        self._client, self._desk, self._memory = client, desk, memory
        self._about: dict[int, tuple[Kind, Key]] = {}
        self._numbers: dict[tuple[Kind, Key], int] = {}
        self._former: set[int] = set()
        self._pending: set[int] = set()
        self._confirmed = asyncio.Event()
        #: How often all of them were taken as ended.
        self.generation = 0

    def about(self, number: int) -> tuple[Kind, Key] | None:
        """Return what a request is about, None where it is none that stands."""
        return self._about.get(number)

    def was_ours(self, number: int) -> bool:
        """Whether there was a request of that id."""
        return number in self._former

    def has(self, kind: Kind, key: Key) -> bool:
        """Whether something is subscribed."""
        return (kind, key) in self._numbers

    def have(self, kind: Kind) -> set[Key]:
        """Return the instruments that have a subscription of a kind."""
        return {key for each, key in self._numbers if each is kind}

    # ---- making

    def open_line(self, key: Key, *, holds: bool) -> None:
        """Subscribe a market data line; `holds` where tick-by-tick is asked for too."""
        self._desk.open_line(key, is_new=key not in self._memory.streamed, holds=holds)
        number, contract = self._new(Kind.LINE, key)
        self._pending.add(number)
        self._confirmed.clear()
        self._client.reqMktData(number, contract, _RT_VOLUME, False, False, [])

    async def open_ticks(self, key: Key, pause: float) -> None:
        """Subscribe tick-by-tick, not sooner than a pause in seconds after the last time."""
        last = self._memory.ticks_asked.get(key)
        now = asyncio.get_running_loop().time
        if last is not None:
            await asyncio.sleep(last + pause - now())
        if self.has(Kind.LINE, key):
            self._memory.ticks_asked[key] = now()
            number, contract = self._new(Kind.TICKS, key)
            self._client.reqTickByTickData(number, contract, "AllLast", 0, False)

    def open_book(self, key: Key) -> None:
        """Subscribe an order book that is not subscribed yet."""
        if not self.has(Kind.BOOK, key):
            self._desk.open_book(key)
            number, contract = self._new(Kind.BOOK, key)
            self._client.reqMktDepth(number, contract, BOOK_ROWS, False, [])

    def _new(self, kind: Kind, key: Key) -> tuple[int, Any]:
        contract = contract_of(self._memory.listings[key])
        number: int = self._client.getReqId()
        self._about[number] = (kind, key)
        self._numbers[kind, key] = number
        return number, contract

    # ---- confirming

    def confirm(self, number: int) -> None:
        """Note that a subscription has sent something, or is none any more."""
        if self._pending:
            self._pending.discard(number)
            if not self._pending:
                self._confirmed.set()

    async def wait_for_lines(self, seconds: float) -> None:
        """Wait until each new line has sent something or was refused.

        One that is silent while others are not is taken to stand.

        Raises:
            TransientError: none of the lines has sent anything.
        """
        if not self._pending:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._confirmed.wait()
        except TimeoutError:
            lines = len(self.have(Kind.LINE))
            if len(self._pending) >= lines:
                raise unreachable(
                    f"The gateway has answered none of {lines} subscriptions",
                    "Try again later; if it stays so, look at the gateway.",
                    endpoint=Kind.LINE,
                ) from None
            self._pending.clear()

    # ---- ending

    def keep_only(self, plan: Plan) -> None:
        """End what a plan does not have."""
        keep = {
            Kind.LINE: frozenset(plan.lines),
            Kind.TICKS: plan.tick_by_tick,
            Kind.BOOK: plan.books,
        }
        for kind, key in list(self._numbers):
            if key not in keep[kind]:
                self.cancel(kind, key)

    def cancel(self, kind: Kind, key: Key) -> None:
        """End a subscription, if there is one."""
        number = self._numbers.pop((kind, key), None)
        if number is None:
            return
        self._about.pop(number, None)
        self._former.add(number)
        self.confirm(number)
        if kind is Kind.LINE:
            self._client.cancelMktData(number)
            self._desk.close_line(key)
            self._memory.streamed.add(key)
        elif kind is Kind.TICKS:
            self._client.cancelTickByTickData(number)
            self._desk.release(key)
        else:
            self._client.cancelMktDepth(number, False)
            self._desk.close_book(key)

    def drop_all(self) -> None:
        """Take all of them as ended by the gateway."""
        self.remember()
        for kind, key in self._numbers:
            if kind is Kind.LINE:
                self._desk.close_line(key)
            elif kind is Kind.BOOK:
                self._desk.close_book(key)
        self._former |= self._about.keys()
        self._about, self._numbers = {}, {}
        self._pending.clear()
        self._confirmed.set()
        self.generation += 1

    def remember(self) -> None:
        """Note for the next connection what was streamed in this one."""
        self._memory.streamed |= self.have(Kind.LINE)
