"""The live feeds of the crypto exchanges, through the real ccxt.pro against one on loopback."""

import asyncio
import importlib
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest

from scizor_resources.errors import AuthError, ProviderError, RateLimited, TransientError
from scizor_resources.providers.gate import Gate
from scizor_sidecar.feeds import ccxt_session
from scizor_sidecar.feeds.base import Stream, Wanted
from scizor_sidecar.feeds.ccxt_pro import WIRES, CcxtFeed
from scizor_sidecar.feeds.connection import Connection, Patience
from scizor_sidecar.pipeline import FeedPipeline
from tests.contract.lab.heard import HeardState, connection_of, error_of_joining, until
from tests.contract.lab.tape_bars import SIZES, LastBars, assert_bars_are_those_of
from tests.contract.lab.trade_tape import START, TradeTape, make_tape
from tests.contract.lab.ws_dialects import Kraken, Order
from tests.contract.lab.ws_exchanges import LoopbackExchange
from tests.unit.sidecar.fakes import Clock

VENUES = tuple(WIRES)
BTC = Stream("crypto", "BTC/USD", 1)
ETH = Stream("crypto", "ETH/USD", 2)
BOTH = frozenset({BTC, ETH})
NAMES = ("BTC/USD", "ETH/USD")
DEEP = frozenset({Stream("crypto", "BTC/USD", 1, depth=True)})


@pytest.fixture(scope="module", autouse=True)
def ccxt_is_imported() -> None:
    """Import ccxt.pro: on a busy machine it takes longer than any test should wait."""
    importlib.import_module("ccxt.pro")


Row = tuple[str, int, float, float, str]


class Heard(HeardState):
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.quotes: list[tuple[float, float]] = []
        self.books: list[tuple[Sequence[tuple[float, float]], Sequence[tuple[float, float]]]] = []
        self.times: list[int] = []

    def trades(
        self,
        streams: Sequence[Stream],
        ts: Sequence[int],
        price: Sequence[float],
        size: Sequence[float],
        trade_id: Sequence[str | int | None],
        condition: Sequence[int] | None = None,
    ) -> None:
        assert condition is None
        symbols = [stream.symbol for stream in streams]
        ids = [str(each) for each in trade_id]
        self.rows += zip(symbols, ts, price, size, ids, strict=True)

    def quote(
        self,
        stream: Stream,
        ts: int,
        bid: float,
        ask: float,
        bid_size: float | None = None,
        ask_size: float | None = None,
    ) -> None:
        del stream, bid_size, ask_size
        self.times.append(ts)
        self.quotes.append((bid, ask))

    def book(
        self,
        stream: Stream,
        ts: int,
        bids: Sequence[tuple[float, float]],
        asks: Sequence[tuple[float, float]],
    ) -> None:
        del stream, ts
        self.books.append((bids, asks))


def feed_of(exchange: LoopbackExchange) -> CcxtFeed:
    gate = Gate(exchange.venue)
    return CcxtFeed(exchange.venue, gate, ws_url=exchange.urls.ws, base_url=exchange.urls.rest)


def running(
    exchange: LoopbackExchange, sink: Heard, wanted: Wanted
) -> AbstractAsyncContextManager["asyncio.Task[None]"]:
    return connection_of(feed_of(exchange), sink, wanted)


def rows_of(tape: TradeTape, venue: str, rows: object = slice(None)) -> set[Row]:
    """Return what is to arrive; Binance tells times in milliseconds."""
    step = 1000 if venue == "binance" else 1
    frame = tape.frame().iloc[rows]  # type: ignore[call-overload]
    return {
        (row.symbol, row.ts // step * step, row.price, row.size, str(row.trade_id))
        for row in frame.itertuples()
    }


@pytest.mark.parametrize("venue", VENUES)
def test_every_trade_arrives_with_its_price_size_id_and_time(venue: str):
    tape = make_tape(NAMES, 5_000, reorder_seconds=2)
    expected = rows_of(tape, venue)

    async def play() -> Heard:
        sink = Heard()
        with LoopbackExchange(venue, tape, repeat_share=0.02) as exchange:
            async with running(exchange, sink, Wanted(BOTH)):
                await until(lambda: exchange.played.is_set() and len(sink.rows) >= len(tape))
        return sink

    sink = asyncio.run(play())
    assert set(sink.rows) == expected
    assert (sink.connections, sink.unreadable, sink.gaps) == (1, [], 0)


@pytest.mark.parametrize("venue", VENUES)
def test_after_a_cut_the_next_connection_misses_nothing_that_happens_from_then_on(venue: str):
    tape = make_tape(NAMES, 2_000)

    async def play() -> tuple[Heard, type[BaseException] | None]:
        sink = Heard()
        with LoopbackExchange(venue, tape) as exchange:
            exchange.at(800, lambda: exchange.cut(missed=200))
            feed, wanted = feed_of(exchange), Wanted(BOTH)
            (error,) = await asyncio.gather(feed.run(wanted, sink), return_exceptions=True)
            again = asyncio.ensure_future(feed.run(wanted, sink))
            after = rows_of(tape, venue, tape.arrival[1_000:])
            await until(lambda: exchange.played.is_set() and after <= set(sink.rows))
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)
        return sink, type(error)

    sink, error = asyncio.run(play())
    assert error is TransientError
    assert set(sink.rows) <= rows_of(tape, venue)
    assert sink.connections == 2


GARBAGE: tuple[str | bytes, ...] = (
    "",
    "not JSON",
    "{",
    "null",
    "[]",
    "[1, 2]",
    '"text"',
    "{}",
    '{"channel":"nothing"}',
    b"\x00\xff\xfe",
    '{"channel":"trade","data":NaN}',
    '{"channel":"trade","data":[[1]]}',
    '{"channel":"market_trades","events":[{"trades":[7]}]}',
    '{"e":"nothing"}',
    "[" * 5_000,
    "x" * 2_000_000,
)


@pytest.mark.parametrize("venue", VENUES)
def test_garbage_is_counted_and_the_trades_after_it_arrive(venue: str):
    tape = make_tape(NAMES, 300)

    async def play() -> Heard:
        sink = Heard()
        with LoopbackExchange(venue, tape) as exchange:
            exchange.hold()
            async with running(exchange, sink, Wanted(BOTH)):
                await until(lambda: sink.connections == 1)
                exchange.send_raw(*GARBAGE)
                await until(lambda: len(sink.unreadable) >= len(GARBAGE))
                exchange.resume()
                await until(lambda: len(sink.rows) >= len(tape))
        return sink

    sink = asyncio.run(play())
    assert set(sink.rows) == rows_of(tape, venue)
    assert len(sink.unreadable) == len(GARBAGE)


BAD_TRADES = {
    "kraken": '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","price":-1,'
    '"qty":"much","trade_id":9,"timestamp":"yesterday"}]}',
    "binance": '{"e":"trade","s":"BTCUSD","t":9,"p":"-1","q":"much","T":"yesterday"}',
    "coinbase": '{"channel":"market_trades","events":[{"type":"update","trades":[{"trade_id":"9",'
    '"product_id":"BTC-USD","price":"-1","size":"much","time":"yesterday"}]}]}',
}


@pytest.mark.parametrize("venue", VENUES)
def test_a_trade_that_cannot_be_one_is_handed_over_and_quarantined(venue: str):
    async def play() -> FeedPipeline:
        clock = Clock()
        pipeline = FeedPipeline(venue, [], clock.now)
        with LoopbackExchange(venue, make_tape(NAMES, 10)) as exchange:
            exchange.hold()
            task = asyncio.ensure_future(feed_of(exchange).run(Wanted(BOTH), pipeline))
            await until(lambda: pipeline.is_connected)
            exchange.send_raw(BAD_TRADES[venue])
            await until(lambda: pipeline.waiting)
            pipeline.step()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return pipeline

    counts = asyncio.run(play()).counts
    assert (counts.trades, counts.quarantined, counts.unreadable) == (0, 1, 0)


@pytest.mark.parametrize("venue", VENUES)
def test_what_is_wanted_changes_without_a_new_connection(venue: str):
    tape = make_tape(NAMES, 400)

    async def play() -> tuple[Heard, int]:
        sink, wanted = Heard(), Wanted(frozenset({BTC}))
        with LoopbackExchange(venue, tape, snapshot=0) as exchange:
            exchange.at(200, exchange.hold)
            async with running(exchange, sink, wanted):
                btc = {row for row in rows_of(tape, venue, slice(200)) if row[0] == "BTC/USD"}
                await until(lambda: set(sink.rows) == btc)
                await wanted.set(frozenset({ETH}))
                await until(lambda: (False, "trades", ("BTC/USD",)) in exchange.subscriptions)
                await until(lambda: (True, "trades", ("ETH/USD",)) in exchange.subscriptions)
                exchange.resume()
                eth = {row for row in rows_of(tape, venue, slice(200, 400)) if row[0] == "ETH/USD"}
                await until(lambda: exchange.played.is_set() and eth <= set(sink.rows))
            return sink, exchange.connections

    sink, connections = asyncio.run(play())
    before, after = (
        {row for row in rows_of(tape, venue, part) if row[0] == symbol}
        for symbol, part in (("BTC/USD", slice(200)), ("ETH/USD", slice(200, 400)))
    )
    assert set(sink.rows) == before | after
    assert connections == 1


@pytest.mark.parametrize("venue", VENUES)
def test_a_symbol_that_the_exchange_does_not_have_is_rejected_and_the_others_go_on(venue: str):
    tape = make_tape(NAMES, 50)

    async def play() -> Heard:
        sink = Heard()
        with LoopbackExchange(venue, tape) as exchange:
            wanted = Wanted(BOTH | {Stream("crypto", "BTC/EUR", 3)})
            async with running(exchange, sink, wanted):
                await until(lambda: len(sink.rows) >= len(tape))
        return sink

    rejections = asyncio.run(play()).rejections
    assert list(rejections) == ["BTC/EUR"]
    assert "has no market BTC/EUR. It trades BTC against USD." in rejections["BTC/EUR"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, RateLimited), (503, TransientError), (401, AuthError)],
    ids=["429", "503", "401"],
)
def test_a_refused_connection_is_the_error_that_says_whether_to_try_again(
    status: int, kind: type[ProviderError]
):
    async def play() -> BaseException | None:
        with LoopbackExchange("kraken", make_tape(NAMES, 1)) as exchange:
            exchange.refusal = status
            run = feed_of(exchange).run(Wanted(BOTH), Heard())
            (error,) = await asyncio.gather(run, return_exceptions=True)
        return error

    error = asyncio.run(play())
    assert type(error) is kind
    assert error.status == status


def test_kraken_under_maintenance_ends_the_connection_to_be_tried_again():
    async def play() -> BaseException | None:
        sink = Heard()
        with LoopbackExchange("kraken", make_tape(NAMES, 1)) as exchange:
            exchange.hold()
            async with running(exchange, sink, Wanted(BOTH)) as task:
                await until(lambda: sink.connections == 1)
                exchange.send_raw('{"channel":"status","data":[{"system":"maintenance"}]}')
                (error,) = await asyncio.gather(task, return_exceptions=True)
        return error

    error = asyncio.run(play())
    assert type(error) is TransientError
    assert "maintenance" in str(error)


def test_kraken_saying_that_a_book_cannot_be_ended_leaves_the_trades_alone():
    tape = make_tape(NAMES, 50)

    async def play() -> Heard:
        sink = Heard()
        with LoopbackExchange("kraken", tape) as exchange:
            exchange.hold()
            async with running(exchange, sink, Wanted(BOTH)):
                await until(lambda: sink.connections == 1)
                exchange.send_raw(
                    '{"method":"unsubscribe","success":false,"symbol":"BTC/USD",'
                    '"error":"Subscription Not Found","req_id":7}'
                )
                exchange.resume()
                await until(lambda: len(sink.rows) >= len(tape))
        return sink

    sink = asyncio.run(play())
    assert (sink.rejections, sink.unreadable) == ({}, [])


class SilentKraken(Kraken):
    """Answers to no subscription of ETH/USD."""

    def acks(self, order: Order, known: set[str], standing: set[str]) -> list[str]:
        return [] if "ETH/USD" in order.symbols else super().acks(order, known, standing)


def test_a_symbol_that_joins_later_and_is_not_confirmed_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(ccxt_session, "_CONFIRMATION_SECONDS", 0.5)

    async def play() -> BaseException | None:
        sink, wanted = Heard(), Wanted(frozenset({BTC}))
        with LoopbackExchange("kraken", make_tape(NAMES, 1), dialect=SilentKraken()) as exchange:
            exchange.hold()
            async with running(exchange, sink, wanted) as task:
                return await error_of_joining(task, sink, wanted, BOTH, 1)

    error = asyncio.run(play())
    assert type(error) is TransientError
    assert "did not confirm 1 subscriptions (ETH/USD)" in str(error)


def test_messages_that_coinbase_numbered_and_that_never_came_are_counted():
    async def play() -> tuple[Heard, BaseException | None]:
        sink = Heard()
        with LoopbackExchange("coinbase", make_tape(NAMES, 50)) as exchange:
            exchange.hold()
            async with running(exchange, sink, Wanted(BOTH)) as task:
                await until(lambda: sink.connections == 1)
                exchange.skip_numbers(3)
                exchange.resume()
                (error,) = await asyncio.gather(task, return_exceptions=True)
        return sink, error

    sink, error = asyncio.run(play())
    assert sink.gaps == 3
    assert type(error) is TransientError


@pytest.mark.parametrize("venue", VENUES)
def test_a_book_follows_its_changes_best_first_and_a_crossed_one_is_a_quote_only(venue: str):
    async def play() -> Heard:
        sink = Heard()
        with LoopbackExchange(venue, make_tape(NAMES, 1)) as exchange:
            exchange.hold()
            exchange.change_book("BTC/USD", [(99.5, 1), (99.25, 2)], [(100.5, 3), (100.75, 4)])
            async with running(exchange, sink, Wanted(DEEP)):
                await until(lambda: any(each[1] == "book" for each in exchange.subscriptions))
                size = 5.0
                # Binance's first book is fetched; changes show when it is there.
                async with asyncio.timeout(60):
                    while not sink.books:
                        size += 1
                        exchange.change_book("BTC/USD", [(99.25, size)])
                        await asyncio.sleep(0.05)
                exchange.change_book("BTC/USD", [(99.75, 6), (99.25, 0)])
                await until(lambda: sink.books[-1][0] == [(99.75, 6), (99.5, 1)])
                exchange.change_book("BTC/USD", [(100.6, 1)])
                await until(lambda: sink.quotes[-1] == (100.6, 100.5))
        return sink

    sink = asyncio.run(play())
    assert sink.books[-1] == ([(99.75, 6), (99.5, 1)], [(100.5, 3), (100.75, 4)])
    assert sink.gaps == 0


@pytest.mark.parametrize("venue", ["kraken", "binance"])
def test_a_book_whose_change_was_lost_is_counted_and_begins_again(venue: str):
    async def play() -> Heard:
        sink = Heard()
        with LoopbackExchange(venue, make_tape(NAMES, 1)) as exchange:
            exchange.hold()
            exchange.change_book("BTC/USD", [(99.5, 1)], [(100.5, 3)])
            async with running(exchange, sink, Wanted(DEEP)):
                size = 5.0
                async with asyncio.timeout(60):
                    while not sink.books:
                        size += 1
                        exchange.change_book("BTC/USD", [(99.25, size)])
                        await asyncio.sleep(0.05)
                exchange.change_book("BTC/USD", [(99.75, 6)], lost=True)
                async with asyncio.timeout(60):
                    while sink.books[-1][0][0] != (99.75, 6):
                        size += 1
                        exchange.change_book("BTC/USD", [(99.25, size)])
                        await asyncio.sleep(0.05)
        return sink

    assert asyncio.run(play()).gaps >= 1


@pytest.mark.parametrize("trades", SIZES)
@pytest.mark.parametrize("venue", VENUES)
def test_the_bars_of_a_tape_are_those_of_its_trades(venue: str, trades: int):
    symbols = tuple(f"S{number:02d}/USD" for number in range(50))
    tape = make_tape(symbols, trades, minutes=30, reorder_seconds=2, quiet_share=0.3)
    streams = frozenset(Stream("crypto", name, at) for at, name in enumerate(symbols))

    async def play() -> tuple[LastBars, FeedPipeline]:
        bars = LastBars()
        pipeline = FeedPipeline(venue, [bars], Clock(START + timedelta(hours=1)).now)
        with LoopbackExchange(venue, tape, repeat_share=0.01) as exchange:
            keeper = Connection(
                feed_of(exchange), Wanted(streams), pipeline, patience=Patience(silence_seconds=120)
            )
            tasks = [asyncio.ensure_future(each) for each in (keeper.keep(), pipeline.run())]
            await asyncio.to_thread(exchange.played.wait, 600)
            await until(lambda: pipeline.counts.trades >= len(tape))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            pipeline.step(last=True)
        return bars, pipeline

    bars, pipeline = asyncio.run(play())
    assert (pipeline.counts.trades, pipeline.counts.quarantined) == (len(tape), 0)
    frame = tape.frame()
    if venue == "binance":
        frame["ts"] = frame["ts"] // 1000 * 1000
    assert_bars_are_those_of(frame, bars)
