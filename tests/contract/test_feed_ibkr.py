"""The live feed of IBKR, through the real ib_async against a stand-in gateway on loopback."""

import asyncio
import functools
import importlib
import math
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scizor_core.stream.trades import NO_TIME, Condition
from scizor_resources.errors import AuthError, BadRequest, ProviderError, TransientError
from scizor_sidecar.feeds.base import Stream, Wanted
from scizor_sidecar.feeds.connection import Connection, FeedState, Patience
from scizor_sidecar.feeds.ibkr import IbkrFeed
from scizor_sidecar.feeds.ibkr_plan import Quota
from scizor_sidecar.feeds.ibkr_session import IbkrPatience
from scizor_sidecar.pipeline import FeedPipeline
from tests.contract.lab.heard import HeardState, connection_of, until
from tests.contract.lab.ibkr_live import (
    BOOK,
    LINE,
    NOT_SUBSCRIBED,
    TICKS,
    TOO_MANY,
    LiveGateway,
)
from tests.contract.lab.tape_bars import SIZES, LastBars, assert_bars_are_those_of
from tests.contract.lab.trade_tape import SECOND_US, TradeTape, make_tape
from tests.unit.sidecar.fakes import Clock, Recorder

#: Tuesday, 11:00 in Sydney.
OPEN = datetime(2026, 3, 3, 0, 0, tzinfo=UTC)
NAMES = ("ANZ", "BHP", "CBA", "CSL", "WBC")
ASX_18 = (
    "ANZ", "BHP", "CBA", "COL", "CSL", "FMG", "GMG", "JHX", "MQG", "NAB", "QBE", "RIO", "STO",
    "TCL", "TLS", "WBC", "WES", "WOW",
)  # fmt: skip
#: No pause that a test would have to wait for.
QUICK = IbkrPatience(same_instrument=0.0, book_pause=0.0, farm=0.0)
LOST = (1100, "Connectivity between IBKR and Trader Workstation has been lost.")
LOST_FARM = (2103, "Market data farm connection is broken:hfarm")

Row = tuple[str, int, float, float, int]


@pytest.fixture(scope="module", autouse=True)
def ib_async_is_imported() -> None:
    """Import ib_async: on a busy machine it takes longer than any test should wait."""
    importlib.import_module("ib_async")


def stream(symbol: str, *, depth: bool = False) -> Stream:
    return Stream("asx", symbol, sum(symbol.encode()), depth)


def streams(*symbols: str) -> frozenset[Stream]:
    return frozenset(stream(each) for each in symbols)


CBA, BHP = streams("CBA"), streams("BHP")
DEEP = frozenset({stream("CBA", depth=True)})


class Heard(HeardState):
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.quotes: dict[str, tuple[float, float, float | None, float | None]] = {}
        self.books: list[tuple[list[tuple[float, float]], list[tuple[float, float]]]] = []
        self.losses: list[str] = []
        self.has_room = asyncio.Event()
        self.has_room.set()

    def lost(self, why: str) -> None:
        self.losses.append(why)

    def trades(
        self,
        streams: Sequence[Stream],
        ts: Sequence[int],
        price: Sequence[float],
        size: Sequence[float],
        trade_id: Sequence[str | int | None],
        condition: Sequence[int] | None = None,
    ) -> None:
        assert set(trade_id) == {None}
        assert condition is not None
        symbols = [each.symbol for each in streams]
        self.rows += zip(symbols, ts, price, size, condition, strict=True)

    def quote(
        self,
        stream: Stream,
        ts: int,
        bid: float,
        ask: float,
        bid_size: float | None = None,
        ask_size: float | None = None,
    ) -> None:
        del ts
        self.quotes[stream.symbol] = (bid, ask, bid_size, ask_size)

    def book(
        self,
        stream: Stream,
        ts: int,
        bids: Sequence[tuple[float, float]],
        asks: Sequence[tuple[float, float]],
    ) -> None:
        del stream, ts
        self.books.append((list(bids), list(asks)))

    async def room(self) -> None:
        await self.has_room.wait()


def feed_of(
    gateway: LiveGateway,
    *,
    quota: Quota | None = None,
    patience: IbkrPatience = QUICK,
    backup_port: int | None = None,
) -> IbkrFeed:
    return IbkrFeed(
        gateway.url,
        quota=quota,
        patience=patience,
        backup_port=backup_port,
        now=lambda: OPEN,
    )


@asynccontextmanager
async def running(
    feed: IbkrFeed, sink: Heard, wanted: Wanted, connections: int = 1
) -> AsyncIterator["asyncio.Task[None]"]:
    async with connection_of(feed, sink, wanted) as task:
        await until(lambda: sink.connections == connections or task.done())
        yield task


@asynccontextmanager
async def listening(
    wanted: frozenset[Stream], refusals: Mapping[tuple[str, str], tuple[int, str]] | None = None
) -> AsyncIterator[tuple[LiveGateway, Heard]]:
    """Run a gateway and a feed that is connected to it, and keep what the feed tells."""
    sink = Heard()
    with LiveGateway(NAMES) as gateway:
        gateway.refusals |= refusals or {}
        async with running(feed_of(gateway), sink, Wanted(wanted)):
            yield gateway, sink


def second(number: int) -> int:
    """Return the time of a second of the session."""
    return (int(OPEN.timestamp()) + number) * SECOND_US


def rows_of(tape: TradeTape) -> list[Row]:
    """Return what is to arrive; IBKR tells times in whole seconds."""
    return [
        (row.symbol, row.ts // SECOND_US * SECOND_US, row.price, row.size, 0)
        for row in tape.frame().iloc[tape.arrival].itertuples()
    ]


def tape_of(symbols: tuple[str, ...], trades: int, **settings: object) -> TradeTape:
    return make_tape(symbols, trades, start=OPEN, **settings)  # type: ignore[arg-type]


# ---- trades


def test_every_trade_arrives_with_its_price_size_and_the_second_of_the_exchange():
    tape = tape_of(NAMES, 3_000)

    async def play() -> tuple[Heard, frozenset[Stream]]:
        sink = Heard()
        with LiveGateway(NAMES) as gateway:
            feed = feed_of(gateway)
            async with running(feed, sink, Wanted(streams(*NAMES))):
                await asyncio.to_thread(gateway.play, tape)
                await until(lambda: len(sink.rows) >= len(tape))
                return sink, feed.sampled

    sink, sampled = asyncio.run(play())
    for name in NAMES:
        expected = [row for row in rows_of(tape) if row[0] == name]
        assert [row for row in sink.rows if row[0] == name] == expected
    assert len(sink.rows) == len(tape)
    assert (sink.unreadable, sink.rejections, sink.gaps) == ([], {}, 0)
    assert sampled == streams("CSL", "WBC")
    assert sink.sampled == {"CSL", "WBC"}


def test_a_trade_that_is_not_reported_counts_for_neither_price_nor_volume():
    async def play() -> Heard:
        async with listening(CBA) as (gateway, sink):
            await until(lambda: gateway.subscribed(TICKS))
            gateway.trade("CBA", second(5), 100.5, 3, mask=2)
            await until(lambda: sink.rows)
        return sink

    both = int(Condition.NOT_IN_PRICE | Condition.NOT_IN_VOLUME)
    assert asyncio.run(play()).rows == [("CBA", second(5), 100.5, 3.0, both)]


NO_TICKS = {(TICKS, name): TOO_MANY[TICKS] for name in NAMES}


def test_what_a_line_leaves_out_of_its_sample_is_in_the_volume():
    async def play() -> Heard:
        async with listening(CBA, NO_TICKS) as (gateway, sink):
            gateway.trade("CBA", second(1), 100.0, 10)
            gateway.trade("CBA", second(2), 101.0, 7, is_sampled=False)
            gateway.trade("CBA", second(2), 101.5, 5, is_sampled=False)
            gateway.trade("CBA", second(3), 102.0, 20)
            await until(lambda: len(sink.rows) == 3)
        return sink

    assert asyncio.run(play()).rows == [
        ("CBA", second(1), 100.0, 10.0, 0),
        ("CBA", second(3), 102.0, 12.0, int(Condition.NOT_IN_PRICE)),
        ("CBA", second(3), 102.0, 20.0, 0),
    ]


def test_a_line_that_tells_a_trade_again_does_not_make_it_two():
    async def play() -> Heard:
        async with listening(CBA, NO_TICKS) as (gateway, sink):
            text = f"100.5;10;{second(1) // 1000};10;100.5;true"
            for _ in range(2):
                gateway.tell(LINE, "CBA", 46, 6, None, 48, text)
            gateway.trade("CBA", second(3), 102.0, 20)
            await until(lambda: sink.rows and sink.rows[-1][2] == 102.0)
        return sink

    assert [row[1:4] for row in asyncio.run(play()).rows] == [
        (second(1), 100.5, 10.0),
        (second(3), 102.0, 20.0),
    ]


def test_the_last_trade_before_the_subscription_makes_no_minute_of_one_trade():
    async def play() -> Heard:
        sink = Heard()
        with LiveGateway(NAMES) as gateway:
            gateway.refusals |= NO_TICKS
            gateway.at = second(60) // SECOND_US
            async with running(feed_of(gateway), sink, Wanted(CBA)):
                gateway.trade("CBA", second(7), 100.0, 10)
                gateway.trade("CBA", second(61), 101.0, 20)
                await until(lambda: sink.rows)
        return sink

    assert asyncio.run(play()).rows == [("CBA", second(61), 101.0, 20.0, 0)]


def test_tick_by_tick_that_says_nothing_is_replaced_by_the_line():
    async def play() -> tuple[Heard, frozenset[Stream]]:
        sink = Heard()
        with LiveGateway(NAMES) as gateway:
            gateway.silent.add((TICKS, "CBA"))
            feed = feed_of(gateway, patience=IbkrPatience(first_tick=0.05))
            async with running(feed, sink, Wanted(CBA)):
                gateway.trade("CBA", second(1), 100.0, 10)
                await until(lambda: sink.rows)
                gateway.trade("CBA", second(2), 100.5, 11)
                await until(lambda: len(sink.rows) == 2)
                await until(lambda: not gateway.subscribed(TICKS))
                return sink, feed.sampled

    sink, sampled = asyncio.run(play())
    assert [row[2] for row in sink.rows] == [100.0, 100.5]
    assert sampled == CBA


def test_that_trades_are_a_sample_is_told_before_the_first_of_them():
    class Marking(Heard):
        def __init__(self) -> None:
            super().__init__()
            self.marks: list[bool] = []

        def trades(self, streams: Sequence[Stream], *columns: Any) -> None:
            super().trades(streams, *columns)
            self.marks += [each.symbol in self.sampled for each in streams]

    async def play() -> Marking:
        sink = Marking()
        with LiveGateway(NAMES) as gateway:
            gateway.silent.add((TICKS, "CBA"))
            feed = feed_of(gateway, patience=IbkrPatience(first_tick=0.05))
            async with running(feed, sink, Wanted(CBA)):
                gateway.trade("CBA", second(1), 100.0, 10)
                await until(lambda: sink.rows)
        return sink

    assert asyncio.run(play()).marks == [True]


def test_a_book_for_which_no_line_is_left_is_told_with_the_reason():
    wanted = frozenset(stream(each, depth=True) for each in ("BHP", "CBA"))

    async def play() -> dict[str, str]:
        sink = Heard()
        with LiveGateway(NAMES) as gateway:
            feed = feed_of(gateway, quota=Quota(lines=40, depths=1))
            async with running(feed, sink, Wanted(wanted)):
                await until(lambda: sink.without_book)
        return sink.without_book

    ((symbol, why),) = asyncio.run(play()).items()
    assert symbol == "CBA"
    assert "the 1 order books" in why


def test_a_feed_is_read_no_faster_than_there_is_room():
    tape = tape_of(("CBA",), 30_000)

    async def play() -> tuple[int, int]:
        async with listening(CBA) as (gateway, sink):
            sink.has_room.clear()
            playing = asyncio.ensure_future(asyncio.to_thread(gateway.play, tape))
            await until(lambda: len(sink.rows) >= 5_000)
            for _ in range(20):
                await asyncio.sleep(0.01)
            before = len(sink.rows)
            sink.has_room.set()
            await until(lambda: len(sink.rows) == len(tape))
            await playing
        return before, len(sink.rows)

    before, after = asyncio.run(play())
    assert before < 20_000
    assert after == 30_000


# ---- what IBKR refuses


@pytest.mark.parametrize(
    "refusal",
    [
        NOT_SUBSCRIBED,
        (10089, "Requested market data requires additional subscription for API."),
        (10168, "Requested market data is not subscribed. Delayed market data is not enabled."),
        (10167, "Requested market data is not subscribed. Displaying delayed market data."),
        TOO_MANY[LINE],
    ],
    ids=lambda refusal: str(refusal[0]),
)
def test_a_refused_line_rejects_its_stream_with_the_reason_and_the_others_go_on(
    refusal: tuple[int, str],
):
    async def play() -> Heard:
        async with listening(BHP | CBA, {(LINE, "BHP"): refusal}) as (gateway, sink):
            gateway.trade("CBA", second(1), 100.0, 10)
            await until(lambda: sink.rows)
        return sink

    sink = asyncio.run(play())
    assert list(sink.rejections) == ["BHP"]
    assert f"error {refusal[0]}: {refusal[1].rstrip('.')}" in sink.rejections["BHP"]


def test_delayed_data_are_rejected():
    async def play() -> Heard:
        sink = Heard()
        with LiveGateway(NAMES) as gateway:
            gateway.delayed.add("BHP")
            async with running(feed_of(gateway), sink, Wanted(BHP | CBA)):
                await until(lambda: sink.rejections and gateway.subscribed(LINE) == {"CBA"})
        return sink

    assert list(asyncio.run(play()).rejections) == ["BHP"]


def test_a_symbol_that_ibkr_does_not_know_is_rejected_and_the_others_go_on():
    async def play() -> Heard:
        async with listening(CBA | streams("XYZ")) as (gateway, sink):
            gateway.trade("CBA", second(1), 100.0, 10)
            await until(lambda: sink.rows)
        return sink

    rejections = asyncio.run(play()).rejections
    assert list(rejections) == ["XYZ"]
    assert "No security definition" in rejections["XYZ"]


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [(CBA, AuthError), (streams("XYZ"), BadRequest)],
    ids=["not subscribed", "unknown"],
)
def test_where_nothing_is_served_the_connection_ends_with_the_reason(
    wanted: frozenset[Stream], kind: type[ProviderError]
):
    async def play() -> BaseException | None:
        with LiveGateway(NAMES) as gateway:
            gateway.refusals[LINE, "CBA"] = NOT_SUBSCRIBED
            run = feed_of(gateway).run(Wanted(wanted), Heard())
            (error,) = await asyncio.gather(run, return_exceptions=True)
        return error

    error = asyncio.run(play())
    assert type(error) is kind
    assert "serves none of the symbols" in str(error)


def test_refused_tick_by_tick_falls_back_to_the_line_without_losing_a_trade():
    tape = tape_of(("CBA",), 500)

    async def play() -> Heard:
        sink = Heard()
        with LiveGateway(NAMES) as gateway:
            gateway.silent.add((TICKS, "CBA"))
            async with running(feed_of(gateway), sink, Wanted(CBA)):
                await asyncio.to_thread(gateway.play, tape)
                gateway.fail(TICKS, "CBA", *TOO_MANY[TICKS])
                await until(lambda: len(sink.rows) >= len(tape))
        return sink

    assert asyncio.run(play()).rows == rows_of(tape)


def test_a_refused_order_book_leaves_quotes_and_trades():
    async def play() -> tuple[Heard, dict[tuple[str, str], str]]:
        sink = Heard()
        with LiveGateway(NAMES) as gateway:
            gateway.refusals[BOOK, "CBA"] = TOO_MANY[BOOK]
            feed = feed_of(gateway)
            async with running(feed, sink, Wanted(DEEP)):
                gateway.quote("CBA", 99.5, 200, 100.5, 300)
                gateway.trade("CBA", second(1), 100.0, 10)
                await until(lambda: sink.rows and sink.quotes and feed.without_book)
                return sink, dict(feed.without_book)

    sink, without = asyncio.run(play())
    assert sink.quotes == {"CBA": (99.5, 100.5, 200.0, 300.0)}
    assert sink.rejections == {}
    assert "error 309" in without["asx", "CBA"]
    assert sink.without_book == {"CBA": without["asx", "CBA"]}


@pytest.mark.parametrize("code", [100, 504, 1300, 10197])
def test_a_code_that_ends_all_data_ends_the_connection_to_be_tried_again(code: int):
    async def play() -> BaseException | None:
        sink = Heard()
        with LiveGateway(NAMES) as gateway:
            async with running(feed_of(gateway), sink, Wanted(CBA)) as task:
                gateway.fail(LINE, "CBA", code, "it ends")
                (error,) = await asyncio.gather(task, return_exceptions=True)
        return error

    error = asyncio.run(play())
    assert isinstance(error, ProviderError)
    assert "it ends" in str(error)


# ---- limits


def test_the_asx_stocks_fit_into_the_lines_and_the_liquid_ones_come_trade_by_trade():
    wanted = frozenset(stream(name, depth=name in ("CBA", "BHP", "WBC")) for name in ASX_18)

    async def play() -> LiveGateway:
        sink = Heard()
        with LiveGateway(ASX_18) as gateway:
            async with running(feed_of(gateway), sink, Wanted(wanted)):
                await until(lambda: len(gateway.subscribed(BOOK)) == 3)
                assert gateway.subscribed(LINE) == set(ASX_18)
                assert gateway.subscribed(TICKS) == {"CBA", "BHP", "WBC"}
                assert sink.rejections == {}
        return gateway

    assert asyncio.run(play()).peak == 24


def test_no_more_lines_are_taken_than_there_are_while_what_is_wanted_changes():
    async def play() -> tuple[LiveGateway, Heard]:
        chance = random.Random(1)
        sink, wanted = Heard(), Wanted(frozenset(stream(name) for name in ASX_18))
        with LiveGateway(ASX_18) as gateway:
            async with running(feed_of(gateway, quota=Quota(12, 2)), sink, wanted):
                await until(lambda: len(gateway.subscribed(LINE)) == 12)
                for _ in range(10):
                    some = chance.sample(ASX_18, chance.randint(1, 12))
                    await wanted.set(
                        frozenset(stream(name, depth=chance.random() < 0.4) for name in some)
                    )
                    await until(lambda names=set(some): gateway.subscribed(LINE) == names)
        return gateway, sink

    gateway, sink = asyncio.run(play())
    assert gateway.peak <= 12
    assert len(sink.rejections) == 6
    assert all("All 12 market data lines" in why for why in sink.rejections.values())


def test_tick_by_tick_of_an_instrument_is_not_asked_for_again_before_ibkr_allows_it():
    async def play() -> LiveGateway:
        with LiveGateway(NAMES) as gateway:
            feed = feed_of(gateway, patience=IbkrPatience(same_instrument=3600))
            async with running(feed, Heard(), Wanted(CBA)):
                pass
            again = asyncio.ensure_future(feed.run(Wanted(CBA), Heard()))
            await until(lambda: gateway.asked_for.count((LINE, "CBA")) == 2)
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)
        return gateway

    assert asyncio.run(play()).asked_for.count((TICKS, "CBA")) == 1


def test_what_is_wanted_changes_without_a_new_connection():
    async def play() -> tuple[Heard, int]:
        sink, wanted = Heard(), Wanted(CBA)
        with LiveGateway(NAMES) as gateway:
            async with running(feed_of(gateway), sink, wanted):
                await until(lambda: gateway.subscribed(TICKS) == {"CBA"})
                gateway.trade("CBA", second(1), 100.0, 10)
                await until(lambda: len(sink.rows) == 1)
                await wanted.set(BHP)
                await until(lambda: gateway.subscribed(TICKS) == {"BHP"})
                await until(lambda: gateway.subscribed(LINE) == {"BHP"})
                gateway.trade("CBA", second(2), 100.0, 10)
                gateway.trade("BHP", second(3), 50.0, 20)
                await until(lambda: len(sink.rows) == 2)
            return sink, gateway.connections

    sink, connections = asyncio.run(play())
    assert [row[:2] for row in sink.rows] == [("CBA", second(1)), ("BHP", second(3))]
    assert (connections, sink.connections, sink.unreadable) == (1, 1, [])


# ---- quotes and books


def test_a_side_of_the_quote_where_nobody_is_has_no_price():
    async def play() -> Heard:
        async with listening(CBA) as (gateway, sink):
            gateway.quote("CBA", 99.5, 200, 100.5, 300)
            gateway.tell(LINE, "CBA", 2, 6, None, 0, 250)
            gateway.tell(LINE, "CBA", 1, 6, None, 2, -1, 0, 1)
            await until(lambda: "CBA" in sink.quotes and math.isnan(sink.quotes["CBA"][1]))
        return sink

    assert asyncio.run(play()).quotes["CBA"][::2] == (99.5, 250.0)


FIRST_BOOK = ((0, 1, 99.5, 10), (1, 1, 99.25, 20), (0, 0, 100.5, 30), (1, 0, 100.75, 40))


def send_book(gateway: LiveGateway) -> None:
    for position, side, price, size in FIRST_BOOK:
        gateway.book_row("CBA", position, 0, side, price, size)


def test_an_order_book_follows_rows_put_in_replaced_and_taken_out():
    async def play() -> Heard:
        async with listening(DEEP) as (gateway, sink):
            await until(lambda: gateway.subscribed(BOOK))
            send_book(gateway)
            gateway.book_row("CBA", 0, 0, 1, 99.75, 5)
            gateway.book_row("CBA", 2, 2, 1, 0, 0)
            gateway.book_row("CBA", 1, 1, 0, 100.75, 41)
            last = ([(99.75, 5.0), (99.5, 10.0)], [(100.5, 30.0), (100.75, 41.0)])
            await until(lambda: sink.books and sink.books[-1] == last)
        return sink

    assert asyncio.run(play()).gaps == 0


def test_a_book_that_ibkr_resets_begins_anew():
    async def play() -> Heard:
        async with listening(DEEP) as (gateway, sink):
            await until(lambda: gateway.subscribed(BOOK))
            send_book(gateway)
            await until(lambda: sink.books and len(sink.books[-1][1]) == 2)
            gateway.fail(BOOK, "CBA", 317, "Market depth data has been RESET.")
            await until(lambda: sink.books[-1] == ([], []))
            gateway.book_row("CBA", 0, 0, 1, 98.0, 1)
            await until(lambda: sink.books[-1] == ([(98.0, 1.0)], []))
        return sink

    assert asyncio.run(play()).gaps == 0


def test_a_book_whose_rows_were_lost_is_counted_and_asked_for_again():
    async def play() -> Heard:
        async with listening(DEEP) as (gateway, sink):
            await until(lambda: gateway.subscribed(BOOK))
            send_book(gateway)
            gateway.book_row("CBA", 5, 0, 1, 90.0, 1)
            await until(lambda: gateway.asked_for.count((BOOK, "CBA")) == 2)
            send_book(gateway)
            expected = ([(99.5, 10.0), (99.25, 20.0)], [(100.5, 30.0), (100.75, 40.0)])
            await until(lambda: sink.books and sink.books[-1] == expected)
        return sink

    assert asyncio.run(play()).gaps == 1


# ---- the link between the gateway and IBKR


def test_a_lost_link_is_told_at_once_and_1102_goes_on_with_the_same_subscriptions():
    async def play() -> tuple[Heard, int]:
        async with listening(CBA) as (gateway, sink):
            await until(lambda: len(gateway.asked_for) == 2)
            gateway.say(*LOST)
            await until(lambda: sink.losses)
            assert sink.connections == 1
            gateway.say(1102, "Connectivity has been restored - data maintained.")
            await until(lambda: sink.connections == 2)
            gateway.trade("CBA", second(9), 100.0, 10)
            await until(lambda: sink.rows)
        return sink, len(gateway.asked_for)

    sink, asked = asyncio.run(play())
    assert asked == 2
    assert sink.losses == [f"the gateway reports 1100, {LOST[1].rstrip('.')}"]


def test_1101_makes_all_subscriptions_again():
    async def play() -> Counter[tuple[str, str]]:
        async with listening(DEEP | BHP) as (gateway, sink):
            await until(lambda: len(gateway.asked_for) == 5)
            gateway.say(*LOST)
            await until(lambda: sink.losses)
            gateway.lose_subscriptions()
            gateway.say(1101, "Connectivity has been restored - data lost.")
            await until(lambda: sink.connections == 2)
            gateway.trade("CBA", second(9), 100.0, 10)
            gateway.trade("BHP", second(9), 50.0, 10)
            await until(lambda: len(sink.rows) == 2)
        return Counter(gateway.asked_for)

    assert asyncio.run(play()) == {
        (LINE, "CBA"): 2,
        (LINE, "BHP"): 2,
        (TICKS, "CBA"): 2,
        (TICKS, "BHP"): 2,
        (BOOK, "CBA"): 2,
    }


def test_what_was_traded_while_the_link_was_lost_is_not_put_into_a_later_minute():
    async def play() -> Heard:
        async with listening(CBA, NO_TICKS) as (gateway, sink):
            gateway.trade("CBA", second(1), 100.0, 10)
            await until(lambda: sink.rows)
            gateway.say(*LOST)
            await until(lambda: sink.losses)
            gateway.trade("CBA", second(30), 101.0, 500, is_sent=False)
            gateway.say(1102, "Connectivity has been restored - data maintained.")
            await until(lambda: sink.connections == 2)
            gateway.trade("CBA", second(70), 102.0, 20)
            await until(lambda: len(sink.rows) > 1)
        return sink

    assert [row[3] for row in asyncio.run(play()).rows] == [10.0, 20.0]


def test_a_link_that_stays_lost_ends_the_connection():
    async def play() -> BaseException | None:
        sink = Heard()
        with LiveGateway(NAMES) as gateway:
            feed = feed_of(gateway, patience=IbkrPatience(link=0.05))
            async with running(feed, sink, Wanted(CBA)) as task:
                gateway.say(*LOST)
                (error,) = await asyncio.gather(task, return_exceptions=True)
        return error

    assert type(asyncio.run(play())) is TransientError


def test_a_broken_farm_is_a_loss_until_it_is_ok():
    async def play() -> Heard:
        async with listening(CBA) as (gateway, sink):
            gateway.say(2105, "HMDS data farm connection is broken:ushmds")
            gateway.say(*LOST_FARM)
            await until(lambda: sink.losses)
            gateway.say(2104, "Market data farm connection is OK:usfarm")
            gateway.say(2106, "HMDS data farm connection is OK:hfarm")
            gateway.say(2104, "Market data farm connection is OK:hfarm")
            await until(lambda: sink.connections == 2)
        return sink

    sink = asyncio.run(play())
    assert sink.losses == [f"the gateway reports 2103, {LOST_FARM[1]}"]


def test_a_broken_farm_that_our_data_do_not_come_from_is_no_loss_any_more():
    async def play() -> Heard:
        async with listening(CBA) as (gateway, sink):
            gateway.say(*LOST_FARM)
            await until(lambda: sink.losses)
            gateway.trade("CBA", second(9), 100.0, 10)
            await until(lambda: sink.connections == 2)
        return sink

    assert len(asyncio.run(play()).losses) == 1


def test_the_gateways_time_is_a_sign_of_life_where_nothing_trades():
    async def play() -> int:
        sink = Heard()
        with LiveGateway(NAMES) as gateway:
            feed = feed_of(gateway, patience=IbkrPatience(heartbeat=0.01))
            async with running(feed, sink, Wanted(CBA)):
                before = sink.lives
                await until(lambda: sink.lives > before + 5)
        return len(sink.rows)

    assert asyncio.run(play()) == 0


# ---- connecting


def test_a_client_id_in_use_gives_way_to_the_next():
    async def play() -> list[int]:
        sink = Heard()
        with LiveGateway(NAMES) as gateway:
            gateway.taken_client_ids = {21, 22}
            async with running(feed_of(gateway), sink, Wanted(CBA)):
                return gateway.client_ids

    assert asyncio.run(play()) == [23]


def test_a_gateway_that_restarts_is_a_cut_and_the_next_connection_goes_on():
    async def play() -> tuple[Heard, BaseException | None]:
        sink = Heard()
        with LiveGateway(NAMES) as gateway:
            feed, wanted = feed_of(gateway), Wanted(CBA)
            async with running(feed, sink, wanted) as task:
                await until(lambda: gateway.subscribed(TICKS))
                gateway.trade("CBA", second(1), 100.0, 10)
                await until(lambda: sink.rows)
                gateway.hang_up()
                (error,) = await asyncio.gather(task, return_exceptions=True)
            async with running(feed, sink, wanted, connections=2):
                await until(lambda: gateway.subscribed(TICKS))
                gateway.trade("CBA", second(2), 100.5, 20)
                await until(lambda: len(sink.rows) == 2)
        return sink, error

    sink, error = asyncio.run(play())
    assert type(error) is TransientError
    assert [row[1] for row in sink.rows] == [second(1), second(2)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_where_the_first_gateway_is_away_the_backup_serves():
    async def play() -> int:
        sink = Heard()
        with LiveGateway(NAMES) as backup:
            feed = IbkrFeed(
                f"tcp://127.0.0.1:{free_port()}", backup_port=backup.port, patience=QUICK
            )
            async with running(feed, sink, Wanted(CBA)):
                return backup.connections

    assert asyncio.run(play()) == 1


def test_where_the_first_gateway_has_no_link_the_next_connection_is_to_the_backup():
    async def play() -> tuple[BaseException | None, list[int]]:
        sink = Heard()
        with LiveGateway(NAMES) as first, LiveGateway(NAMES) as backup:
            first.is_deaf = True
            feed = feed_of(first, backup_port=backup.port, patience=IbkrPatience(confirm=1.0))
            (error,) = await asyncio.gather(feed.run(Wanted(CBA), sink), return_exceptions=True)
            async with running(feed, sink, Wanted(CBA)):
                return error, [first.connections, backup.connections]

    error, connections = asyncio.run(play())
    assert type(error) is TransientError
    assert connections == [1, 1]


def test_where_no_gateway_listens_it_is_tried_again():
    async def play() -> BaseException | None:
        feed = IbkrFeed(f"tcp://127.0.0.1:{free_port()}", patience=QUICK)
        (error,) = await asyncio.gather(feed.run(Wanted(CBA), Heard()), return_exceptions=True)
        return error

    error = asyncio.run(play())
    assert type(error) is TransientError
    assert "No gateway could be reached" in str(error)


# ---- what cannot be read


def test_garbage_is_counted_and_the_trades_after_it_arrive():
    kinds = ("1", "2", "4", "9", "10", "12", "13", "46", "49", "52", "58", "61", "81", "99")
    garbage = [(), ("",), ("x",), ("-1",), ("9" * 400,), *((kind, "x", "y") for kind in kinds)]

    async def play() -> Heard:
        async with listening(CBA) as (gateway, sink):
            await until(lambda: gateway.subscribed(TICKS))
            for fields in garbage:
                gateway.send_raw(gateway.frame(*fields))
            gateway.trade("CBA", second(1), 100.0, 10)
            await until(lambda: sink.rows)
        return sink

    sink = asyncio.run(play())
    assert len(sink.unreadable) == len(garbage)
    assert sink.rows == [("CBA", second(1), 100.0, 10.0, 0)]


def test_a_frame_longer_than_any_message_ends_the_connection():
    async def play() -> tuple[Heard, BaseException | None]:
        sink = Heard()
        with LiveGateway(NAMES) as gateway:
            async with running(feed_of(gateway), sink, Wanted(CBA)) as task:
                head = struct.pack(">I", 2**31)
                await asyncio.to_thread(gateway.send_raw, head + b"x" * 5_000_000)
                (error,) = await asyncio.gather(task, return_exceptions=True)
        return sink, error

    sink, error = asyncio.run(play())
    assert type(error) is TransientError
    assert sink.unreadable[0] == "a frame of more than 4 MB"


def test_a_trade_that_cannot_be_one_is_handed_over_as_such():
    async def play() -> Heard:
        async with listening(CBA) as (gateway, sink):
            await until(lambda: gateway.subscribed(TICKS))
            gateway.tell(TICKS, "CBA", 99, None, 2, "noon", "much", "-", 0, "ASX", "")
            await until(lambda: sink.rows)
        return sink

    ((_, ts, price, size, _),) = asyncio.run(play()).rows
    assert ts == NO_TIME
    assert math.isnan(price)
    assert math.isnan(size)


# ---- through the pipeline


def test_a_lost_link_and_its_return_are_states_of_the_feed():
    async def play() -> list[FeedState]:
        recorder = Recorder()
        pipeline = FeedPipeline("ibkr", [recorder], Clock(OPEN).now)
        with LiveGateway(NAMES) as gateway:
            keeper = Connection(feed_of(gateway), Wanted(CBA), pipeline)
            task = asyncio.ensure_future(keeper.keep())
            await until(lambda: pipeline.is_connected)
            gateway.say(*LOST)
            await until(lambda: not pipeline.is_connected)
            gateway.say(1102, "Connectivity has been restored - data maintained.")
            await until(lambda: pipeline.is_connected)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return [state for state, _ in recorder.states]

    assert asyncio.run(play()) == [
        FeedState.CONNECTING,
        FeedState.CONNECTED,
        FeedState.WAITING,
        FeedState.CONNECTED,
    ]


def play_tape(tape: TradeTape, cuts: Sequence[int] = ()) -> tuple[FeedPipeline, LastBars]:
    """Play a tape through the pipeline; before the trades of those numbers the feed is cut."""
    bars = LastBars()
    pipeline = FeedPipeline("ibkr", [bars], Clock(OPEN + timedelta(hours=1)).now)
    patience = Patience(first_seconds=0.01, longest_seconds=0.01, silence_seconds=120)

    def wait_for(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    async def play() -> None:
        with LiveGateway(ASX_18) as gateway:

            def cut(number: int) -> None:
                wait_for(lambda: pipeline.counts.trades == number)
                connections = pipeline.counts.connections
                gateway.hang_up()
                wait_for(lambda: pipeline.counts.connections > connections)

            keeper = Connection(
                feed_of(gateway), Wanted(streams(*ASX_18)), pipeline, patience=patience
            )
            tasks = [asyncio.ensure_future(each) for each in (keeper.keep(), pipeline.run())]
            await until(lambda: pipeline.is_connected)
            at = {number: functools.partial(cut, number) for number in cuts}
            await asyncio.to_thread(gateway.play, tape, at)
            await until(lambda: pipeline.counts.trades >= len(tape))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            pipeline.step(last=True)

    asyncio.run(play())
    return pipeline, bars


@pytest.mark.parametrize("trades", SIZES)
def test_the_bars_of_a_tape_are_those_of_its_trades(trades: int):
    tape = tape_of(ASX_18, trades, minutes=30, quiet_share=0.3)
    pipeline, bars = play_tape(tape)
    assert (pipeline.counts.trades, pipeline.counts.quarantined) == (len(tape), 0)
    assert_bars_are_those_of(tape.frame(), bars)


def test_five_cuts_neither_lose_nor_double_a_trade_of_the_time_between_them():
    tape = tape_of(ASX_18, 5_000, minutes=30, quiet_share=0.3)
    pipeline, bars = play_tape(tape, cuts=(500, 1_000, 2_000, 3_000, 4_500))
    counts = pipeline.counts
    assert (counts.trades, counts.repeated, counts.connections) == (len(tape), 0, 6)
    assert_bars_are_those_of(tape.frame(), bars)
