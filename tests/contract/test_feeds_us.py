"""The live feeds of US stocks against servers on loopback, Alpaca's through the real SDK."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgpack
import numpy as np
import pytest
from pydantic import SecretStr

from scizor_core.stream.trades import Condition
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    TransientError,
)
from scizor_resources.providers.gate import Gate
from scizor_resources.trades.alpaca import AlpacaTrades
from scizor_resources.trades.base import TradeColumns
from scizor_sidecar.feeds import alpaca_session
from scizor_sidecar.feeds.alpaca import AlpacaFeed
from scizor_sidecar.feeds.alpaca_session import import_sdk
from scizor_sidecar.feeds.base import Feed, Stream, Wanted
from scizor_sidecar.feeds.connection import Connection, Patience
from scizor_sidecar.feeds.finnhub import FinnhubFeed
from scizor_sidecar.pipeline import FeedPipeline
from tests.contract.lab.alpaca import KEY_ID, SECRET
from tests.contract.lab.heard import HeardTrades, Row, connection_of, error_of_joining, until
from tests.contract.lab.tape_bars import SIZES, LastBars, assert_bars_are_those_of
from tests.contract.lab.trade_tape import TradeTape, make_tape
from tests.contract.lab.ws_alpaca import AlpacaExchange, packed, stamp
from tests.contract.lab.ws_exchanges import LoopbackExchange, _Client
from tests.contract.lab.ws_finnhub import TOKEN, FinnhubExchange
from tests.unit.sidecar.fakes import Clock

FEEDS = ("alpaca", "finnhub")
#: New York, a Monday morning.
OPEN = datetime(2026, 3, 2, 15, tzinfo=UTC)
NOON_US = int(OPEN.timestamp()) * 1_000_000
NAMES = ("AAPL", "MSFT")
AAPL, MSFT = Stream("us", "AAPL", 1), Stream("us", "MSFT", 2)
BOTH = frozenset({AAPL, MSFT})
ASX, CRYPTO = Stream("asx", "CBA", 3), Stream("crypto", "BTC/USD", 4)


@pytest.fixture(scope="module", autouse=True)
def sdk_is_imported() -> None:
    """Import alpaca-py: on a busy machine it takes longer than any test should wait."""
    import_sdk()


def exchange_of(feed: str, tape: TradeTape) -> LoopbackExchange:
    return AlpacaExchange(tape) if feed == "alpaca" else FinnhubExchange(tape)


def feed_of(exchange: LoopbackExchange, *, secret: str = SECRET, token: str = TOKEN) -> Feed:
    if exchange.venue == "finnhub":
        return FinnhubFeed(SecretStr(token), not_in_price=("12",), ws_url=exchange.urls.ws)
    return AlpacaFeed(SecretStr(KEY_ID), SecretStr(secret), ws_url=exchange.urls.ws)


def stock_tape(trades: int, **settings: object) -> TradeTape:
    return make_tape(NAMES, trades, start=OPEN, **settings)  # type: ignore[arg-type]


def running(
    exchange: LoopbackExchange, sink: HeardTrades, wanted: Wanted
) -> AbstractAsyncContextManager["asyncio.Task[None]"]:
    return connection_of(feed_of(exchange), sink, wanted)


def error_of(exchange: LoopbackExchange, wanted: Wanted, **login: str) -> BaseException | None:
    """Return what a connection ends with."""

    async def run() -> BaseException | None:
        feed = feed_of(exchange, **login)
        (error,) = await asyncio.gather(feed.run(wanted, HeardTrades()), return_exceptions=True)
        return error

    return asyncio.run(run())


def rows_of(tape: TradeTape, feed: str, rows: object = slice(None)) -> list[Row]:
    """Return what is to arrive, sorted; Finnhub tells times in milliseconds."""
    step = 1000 if feed == "finnhub" else 1
    frame = tape.frame().iloc[rows]  # type: ignore[call-overload]
    return sorted(
        (row.symbol, row.ts // step * step, row.price, row.size) for row in frame.itertuples()
    )


@pytest.mark.parametrize("feed", FEEDS)
def test_every_trade_arrives_with_its_price_size_and_time(feed: str):
    tape = stock_tape(5_000, reorder_seconds=2)

    async def play() -> HeardTrades:
        sink = HeardTrades()
        with exchange_of(feed, tape) as exchange:
            exchange.hold()
            async with running(exchange, sink, Wanted(BOTH)):
                await until(lambda: sink.connections == 1)
                exchange.resume()
                await until(lambda: exchange.played.is_set() and len(sink.rows) >= len(tape))
        return sink

    sink = asyncio.run(play())
    assert sorted(sink.rows) == rows_of(tape, feed)
    assert (sink.connections, sink.unreadable, sink.gaps) == (1, [], 0)


class SilentAlpaca(AlpacaExchange):
    """Answers to no request about MSFT."""

    async def _answer(self, client: _Client, message: dict[str, Any]) -> None:
        if "MSFT" not in message.get("trades", ()):
            await super()._answer(client, message)


def test_a_symbol_that_joins_later_and_is_not_confirmed_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(alpaca_session, "_CONFIRMATION_SECONDS", 0.5)

    async def play() -> BaseException | None:
        sink, wanted = HeardTrades(), Wanted(frozenset({AAPL}))
        with SilentAlpaca(stock_tape(1)) as exchange:
            exchange.hold()
            async with running(exchange, sink, wanted) as task:
                return await error_of_joining(task, sink, wanted, BOTH, 2)

    error = asyncio.run(play())
    assert type(error) is TransientError
    assert "did not confirm 1 subscriptions (MSFT)" in str(error)


@pytest.mark.parametrize("feed", FEEDS)
def test_after_a_cut_the_next_connection_misses_nothing_that_happens_from_then_on(feed: str):
    tape = stock_tape(2_000)

    async def play() -> tuple[HeardTrades, type[BaseException]]:
        sink = HeardTrades()
        with exchange_of(feed, tape) as exchange:
            exchange.at(800, exchange.hold)
            live, wanted = feed_of(exchange), Wanted(BOTH)
            running = asyncio.ensure_future(live.run(wanted, sink))
            # A cut that comes before anything was read takes the confirmation with it.
            await until(lambda: exchange.position == 800 and sink.connections == 1)  # noqa: PLR2004
            exchange.cut(missed=200)
            (error,) = await asyncio.gather(running, return_exceptions=True)
            # What was on its way when the connection broke may be lost.
            first = len(sink.rows)
            again = asyncio.ensure_future(live.run(wanted, sink))
            await until(lambda: sink.connections == 2)
            exchange.resume()
            await until(lambda: exchange.played.is_set() and len(sink.rows) >= first + 1_000)
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)
            sink.rows = sink.rows[first:]
        return sink, type(error)

    sink, error = asyncio.run(play())
    assert error is TransientError
    assert sorted(sink.rows) == rows_of(tape, feed, tape.arrival[1_000:])
    assert sink.connections == 2


GARBAGE: dict[str, tuple[str | bytes, ...]] = {
    "alpaca": (
        b"",
        b"\xc1",
        b"\x00\xff\xfe",
        b"not MessagePack at all",
        "text",
        '[{"T":"t","S":"AAPL"}]',
        msgpack.packb(7),
        msgpack.packb([1]),
        msgpack.packb([{"T": ["t"]}]),
        msgpack.packb([{"T": "q"}]),
        msgpack.packb([{"T": "q", "S": "AAPL"}]),
        msgpack.packb([{"T": "nothing", "S": "AAPL"}]),
        msgpack.packb([{"T": "error", "code": "x"}]),
        msgpack.packb([{"T": "error", "code": 499, "msg": None}]),
        msgpack.packb([{"T": "t", "S": 5, "i": 1}]),
        b"\x91" * 3_000,
        b"x" * 2_000_000,
    ),
    "finnhub": (
        "",
        "not JSON",
        "{",
        "null",
        "[]",
        '"text"',
        "{}",
        '{"type":["trade"]}',
        '{"type":"nothing"}',
        '{"type":"trade","data":7}',
        '{"type":"trade","data":[7]}',
        '{"type":"trade","data":[{"s":5}]}',
        '{"type":"trade","data":NaN}',
        '{"type":"error"}',
        b"\x00\xff\xfe",
        "[" * 5_000,
        "x" * 2_000_000,
    ),
}


@pytest.mark.parametrize("feed", FEEDS)
def test_garbage_is_counted_and_the_trades_after_it_arrive(feed: str):
    tape = stock_tape(300)

    async def play() -> HeardTrades:
        sink = HeardTrades()
        with exchange_of(feed, tape) as exchange:
            exchange.hold()
            async with running(exchange, sink, Wanted(BOTH)):
                await until(lambda: sink.connections == 1)
                exchange.send_raw(*GARBAGE[feed])
                await until(lambda: len(sink.unreadable) >= len(GARBAGE[feed]))
                exchange.resume()
                await until(lambda: len(sink.rows) >= len(tape))
        return sink

    sink = asyncio.run(play())
    assert sorted(sink.rows) == rows_of(tape, feed)
    assert len(sink.unreadable) == len(GARBAGE[feed])


BAD_TRADES = {
    "alpaca": packed({"T": "t", "S": "AAPL", "i": [], "x": 3, "p": -1, "s": "much", "t": "now"}),
    "finnhub": '{"type":"trade","data":[{"s":"AAPL","p":-1,"v":"much","t":"now","c":7}]}',
}


@pytest.mark.parametrize("feed", FEEDS)
def test_a_trade_that_cannot_be_one_is_handed_over_and_quarantined(feed: str):
    async def play() -> FeedPipeline:
        pipeline = FeedPipeline(feed, [], Clock(OPEN).now)
        with exchange_of(feed, stock_tape(10)) as exchange:
            exchange.hold()
            task = asyncio.ensure_future(feed_of(exchange).run(Wanted(BOTH), pipeline))
            await until(lambda: pipeline.is_connected)
            exchange.send_raw(BAD_TRADES[feed])
            await until(lambda: pipeline.waiting)
            pipeline.step()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return pipeline

    counts = asyncio.run(play()).counts
    assert (counts.trades, counts.quarantined, counts.unreadable) == (0, 1, 0)


@pytest.mark.parametrize("feed", FEEDS)
def test_what_is_wanted_changes_without_a_new_connection(feed: str):
    tape = stock_tape(400)
    before, after = (
        [row for row in rows_of(tape, feed, part) if row[0] == symbol]
        for symbol, part in (("AAPL", slice(200)), ("MSFT", slice(200, 400)))
    )

    async def play() -> tuple[HeardTrades, int]:
        sink, wanted = HeardTrades(), Wanted(frozenset({AAPL}))
        with exchange_of(feed, tape) as exchange:
            exchange.at(200, exchange.hold)
            async with running(exchange, sink, wanted):
                await until(lambda: len(sink.rows) == len(before))
                await wanted.set(frozenset({MSFT}))
                await until(lambda: (False, "trades", ("AAPL",)) in exchange.subscriptions)
                await until(lambda: [s for s in exchange.subscriptions if "MSFT" in s[2]])
                exchange.resume()
                await until(
                    lambda: exchange.played.is_set() and len(sink.rows) >= len(before + after)
                )
            return sink, exchange.connections

    sink, connections = asyncio.run(play())
    assert sorted(sink.rows) == sorted(before + after)
    assert connections == 1


@pytest.mark.parametrize("feed", FEEDS)
def test_a_symbol_that_is_not_served_is_rejected_and_the_others_go_on(feed: str):
    tape = stock_tape(50)
    missing = Stream("us", "NONE", 5)

    async def play() -> HeardTrades:
        sink = HeardTrades()
        with exchange_of(feed, tape) as exchange:
            exchange.hold()
            async with running(exchange, sink, Wanted(BOTH | {ASX, missing})):
                await until(lambda: sink.connections == 1)
                exchange.resume()
                await until(lambda: len(sink.rows) >= len(tape) and len(sink.rejections) == 2)
        return sink

    rejections = asyncio.run(play()).rejections
    assert "market 'asx'" in rejections["CBA"]
    assert "does not stream NONE" in rejections["NONE"]


@pytest.mark.parametrize("feed", FEEDS)
def test_a_feed_of_which_nothing_can_be_had_says_so(feed: str):
    with exchange_of(feed, stock_tape(1)) as exchange:
        error = error_of(exchange, Wanted(frozenset({ASX})))
    assert type(error) is BadRequest


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, RateLimited), (503, TransientError), (403, AuthError)],
    ids=["429", "503", "403"],
)
def test_a_refused_connection_is_the_error_that_says_whether_to_try_again(
    feed: str, status: int, kind: type[ProviderError]
):
    with exchange_of(feed, stock_tape(1)) as exchange:
        exchange.refusal = status
        error = error_of(exchange, Wanted(BOTH))
    assert type(error) is kind
    assert error.status == status


@pytest.mark.parametrize("feed", FEEDS)
def test_a_wrong_key_is_an_error_that_does_not_show_it(feed: str):
    with exchange_of(feed, stock_tape(1)) as exchange:
        error = error_of(exchange, Wanted(BOTH), secret="wrong-secret", token="wrong-token")
    assert type(error) is AuthError
    assert "wrong-" not in str(error)


@pytest.mark.parametrize("feed", [AlpacaFeed(None, None), FinnhubFeed(None)], ids=FEEDS)
def test_without_a_key_the_feed_says_which_settings_it_needs(feed: Feed):
    async def run() -> BaseException | None:
        work = feed.run(Wanted(BOTH), HeardTrades())
        return (await asyncio.gather(work, return_exceptions=True))[0]

    error = asyncio.run(run())
    assert type(error) is AuthError
    assert f"SCIZOR_{feed.name.upper()}_API_KEY" in str(error)


# ---- Alpaca


@pytest.mark.parametrize(
    ("code", "words", "kind"),
    [
        (402, "auth failed", AuthError),
        (404, "auth timeout", TransientError),
        (406, "connection limit exceeded", RateLimited),
        (409, "insufficient subscription", AuthError),
    ],
    ids=["402", "404", "406", "409"],
)
def test_a_refused_login_to_alpaca_says_whether_to_try_again(
    code: int, words: str, kind: type[ProviderError]
):
    with AlpacaExchange(stock_tape(1)) as exchange:
        exchange.login_error = (code, words)
        error = error_of(exchange, Wanted(BOTH))
    assert type(error) is kind
    assert words in str(error)


async def _end_by(*messages: dict[str, object]) -> tuple[HeardTrades, BaseException]:
    sink = HeardTrades()
    with AlpacaExchange(stock_tape(1)) as exchange:
        exchange.hold()
        async with running(exchange, sink, Wanted(BOTH)) as task:
            await until(lambda: sink.connections == 1)
            exchange.say(*messages)
            (error,) = await asyncio.gather(task, return_exceptions=True)
    assert error is not None
    return sink, error


@pytest.mark.parametrize(
    ("code", "kind"), [(406, RateLimited), (500, TransientError)], ids=["406", "500"]
)
def test_an_error_frame_that_ends_alpacas_connection_ends_ours(
    code: int, kind: type[ProviderError]
):
    _, error = asyncio.run(_end_by({"T": "error", "code": code, "msg": "words"}))
    assert type(error) is kind


def test_being_too_slow_for_alpaca_is_counted_as_a_gap_and_connected_anew():
    sink, error = asyncio.run(_end_by({"T": "error", "code": 407, "msg": "slow client"}))
    assert (type(error), sink.gaps) == (TransientError, 1)


def test_symbols_beyond_alpacas_limit_are_rejected_and_those_before_go_on():
    tape = stock_tape(200)

    async def play() -> HeardTrades:
        sink, wanted = HeardTrades(), Wanted(frozenset({AAPL}))
        with AlpacaExchange(tape) as exchange:
            exchange.hold()
            exchange.most_symbols = 1
            async with running(exchange, sink, wanted):
                await until(lambda: sink.connections == 1)
                await wanted.set(BOTH)
                await until(lambda: sink.rejections)
                exchange.resume()
                await until(exchange.played.is_set)
                exchange.say({"T": "nothing"})
                await until(lambda: sink.unreadable)
        return sink

    sink = asyncio.run(play())
    assert "symbol limit exceeded (405)" in sink.rejections["MSFT"]
    assert sorted(sink.rows) == [row for row in rows_of(tape, "alpaca") if row[0] == "AAPL"]


def test_a_plan_of_alpacas_without_quotes_still_streams_trades():
    tape = stock_tape(100)

    async def play() -> HeardTrades:
        sink = HeardTrades()
        with AlpacaExchange(tape) as exchange:
            exchange.no_room = ("quotes", "statuses")
            async with running(exchange, sink, Wanted(BOTH)):
                await until(lambda: len(sink.rows) >= len(tape))
        return sink

    sink = asyncio.run(play())
    assert sorted(sink.rows) == rows_of(tape, "alpaca")
    assert sink.rejections == {}


def test_a_subscription_of_more_than_one_fragment_arrives_whole():
    names = tuple(f"S{number:06d}" for number in range(6_000))
    tape = make_tape(names, 10, start=OPEN)
    streams = frozenset(Stream("us", name, at) for at, name in enumerate(names))

    async def play() -> list[tuple[bool, str, tuple[str, ...]]]:
        sink = HeardTrades()
        with AlpacaExchange(tape) as exchange:
            async with running(exchange, sink, Wanted(streams)):
                await until(lambda: sink.connections == 1)
            return list(exchange.subscriptions)

    assert (True, "trades", names) in asyncio.run(play())


def test_stocks_and_crypto_of_alpaca_have_a_connection_each():
    tape = make_tape(("AAPL", "BTC/USD"), 200, start=OPEN)

    async def play() -> tuple[HeardTrades, list[str]]:
        sink = HeardTrades()
        with AlpacaExchange(tape) as exchange:
            exchange.hold()
            async with running(exchange, sink, Wanted(frozenset({AAPL, CRYPTO}))):
                await until(lambda: sink.connections == 1)
                exchange.resume()
                await until(lambda: len(sink.rows) >= len(tape))
            return sink, exchange.paths

    sink, paths = asyncio.run(play())
    assert sorted(sink.rows) == rows_of(tape, "alpaca")
    assert sorted(paths) == ["/v1beta3/crypto/us", "/v2/iex"]


def test_a_connection_of_alpacas_that_nothing_is_wanted_of_is_closed_and_made_again():
    tape = make_tape(("AAPL", "BTC/USD"), 100, start=OPEN)

    async def play() -> list[str]:
        sink, wanted = HeardTrades(), Wanted(frozenset({AAPL, CRYPTO}))
        with AlpacaExchange(tape) as exchange:
            exchange.hold()
            async with running(exchange, sink, wanted):
                await until(lambda: sink.connections == 1)
                await wanted.set(frozenset({AAPL}))
                await until(lambda: len(exchange._clients) == 1)
                await wanted.set(frozenset({AAPL, CRYPTO}))
                await until(lambda: len(exchange.paths) == 3)
            return exchange.paths

    assert sorted(asyncio.run(play())) == ["/v1beta3/crypto/us"] * 2 + ["/v2/iex"]


async def _heard(
    *messages: dict[str, object], done: Callable[[HeardTrades], object]
) -> HeardTrades:
    """Return what a sink hears of messages that are sent one after the other."""
    sink = HeardTrades()
    with AlpacaExchange(stock_tape(1)) as exchange:
        exchange.hold()
        async with running(exchange, sink, Wanted(BOTH)):
            await until(lambda: sink.connections == 1)
            exchange.send_raw(*(packed(message) for message in messages))
            await until(lambda: done(sink))
    return sink


def test_alpacas_history_tells_trades_as_its_live_feed_does():
    tape = stock_tape(500)

    async def play() -> tuple[HeardTrades, TradeColumns]:
        sink = HeardTrades()
        with AlpacaExchange(tape) as exchange:
            async with running(exchange, sink, Wanted(frozenset({AAPL}))):
                await until(exchange.played.is_set)
                history = AlpacaTrades(
                    Gate("alpaca"),
                    base_url=exchange.urls.rest,
                    key=SecretStr(KEY_ID),
                    secret=SecretStr(SECRET),
                )
                found = await asyncio.to_thread(
                    history.fetch_trades, AAPL, NOON_US, NOON_US + 3_600_000_000
                )
                history.close()
                await until(lambda: len(sink.rows) >= len(found))
        return sink, found

    sink, found = asyncio.run(play())
    asked = zip(found.ts, found.price, found.size, found.trade_id, strict=True)
    live = [(*row[1:], name) for row, name in zip(sink.rows, sink.ids, strict=True)]
    assert sorted(asked) == sorted(live)
    assert len(live) == len(rows_of(tape, "alpaca")) - sum(tape.symbol)


def test_a_quotes_missing_side_is_no_price():
    quote = {"T": "q", "S": "AAPL", "bp": 10.5, "bs": 2, "ap": 0, "as": 0, "t": stamp(NOON_US)}
    sink = asyncio.run(_heard(quote, done=lambda sink: sink.quotes))
    ((symbol, bid, ask),) = sink.quotes
    assert (symbol, bid) == ("AAPL", 10.5)
    assert np.isnan(ask)


def trade(number: int, ts: int, **fields: object) -> dict[str, object]:
    common = {"T": "t", "S": "AAPL", "i": number, "x": "V", "p": 10.0, "s": 5, "z": "C"}
    return {**common, "t": stamp(ts), **fields}


def test_a_sale_condition_takes_a_trade_out_of_the_price():
    odd_lot = trade(1, NOON_US, c=["@", "I"])
    sink = asyncio.run(_heard(odd_lot, done=lambda sink: sink.rows))
    assert sink.conditions == [Condition.NOT_IN_PRICE]


def test_one_number_on_two_exchanges_or_days_is_two_trades():
    day = 86_400 * 1_000_000
    sent = (trade(1, NOON_US), trade(1, NOON_US, x="Q"), trade(1, NOON_US + day))
    sink = asyncio.run(_heard(*sent, trade(1, NOON_US), done=lambda sink: len(sink.rows) == 4))
    assert len(set(sink.ids)) == 3
    assert sink.ids[3] == sink.ids[0]


def test_a_halt_is_told_with_its_reason_and_so_is_its_end():
    words = {"sm": "Trading Halt", "rc": "T12", "rm": "Information Requested", "z": "C"}
    status = {"T": "s", "S": "AAPL", "t": stamp(NOON_US)}
    sink = asyncio.run(
        _heard(
            {**status, "sc": "H", **words},
            {**status, "sc": "T", "t": stamp(NOON_US + 1)},
            done=lambda sink: len(sink.notices) == 2,
        )
    )
    assert sink.notices == [
        ("halted", "AAPL", NOON_US, "Trading Halt, T12, Information Requested"),
        ("resumed", "AAPL", NOON_US + 1, ""),
    ]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"T": "x", "i": 7, "a": "C"}, "a trade was cancelled"),
        ({"T": "c", "oi": 7, "ci": 8}, "a trade was corrected"),
    ],
    ids=["cancel", "correction"],
)
def test_a_trade_taken_back_is_told_with_the_time_of_the_trade(
    message: dict[str, object], why: str
):
    later = NOON_US + 300_000_000
    taken = {**message, "S": "AAPL", "x": "V", "t": stamp(later)}
    sink = asyncio.run(_heard(trade(7, NOON_US), taken, done=lambda sink: sink.notices))
    assert ("taken back", "AAPL", NOON_US, why) in sink.notices


def test_a_trade_of_the_connection_before_that_is_taken_back_is_told_with_its_time():
    cancel = {"T": "x", "i": 7, "S": "AAPL", "x": "V", "t": stamp(NOON_US + 300_000_000)}

    async def play() -> HeardTrades:
        sink = HeardTrades()
        with AlpacaExchange(stock_tape(1)) as exchange:
            exchange.hold()
            feed, wanted = feed_of(exchange), Wanted(BOTH)
            async with connection_of(feed, sink, wanted):
                await until(lambda: sink.connections == 1)
                exchange.say(trade(7, NOON_US))
                await until(lambda: sink.rows)
            async with connection_of(feed, sink, wanted):
                await until(lambda: sink.connections == 2)
                exchange.say(cancel)
                await until(lambda: sink.notices)
        return sink

    notices = asyncio.run(play()).notices
    assert ("taken back", "AAPL", NOON_US, "a trade was cancelled") in notices


# ---- Finnhub


async def _told(message: str, done: Callable[[HeardTrades], object]) -> HeardTrades:
    sink = HeardTrades()
    with FinnhubExchange(stock_tape(1)) as exchange:
        exchange.hold()
        async with running(exchange, sink, Wanted(BOTH)) as task:
            await until(lambda: sink.connections == 1)
            exchange.send_raw(message)
            await until(lambda: task.done() or done(sink))
            if task.done():
                task.result()
    return sink


def test_finnhubs_odd_lots_are_not_in_the_price():
    message = '{"type":"trade","data":[{"s":"AAPL","p":1,"v":2,"t":1772463600000,"c":["1","12"]}]}'
    sink = asyncio.run(_told(message, done=lambda sink: sink.rows))
    assert sink.rows == [("AAPL", 1772463600000_000, 1.0, 2.0)]
    assert sink.conditions == [Condition.NOT_IN_PRICE]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Invalid API key", AuthError),
        ("Subscribing to too many symbols", BadRequest),
        ("API limit reached", RateLimited),
    ],
    ids=["key", "symbols", "limit"],
)
def test_what_finnhub_complains_of_decides_whether_to_try_again(
    words: str, kind: type[ProviderError]
):
    with pytest.raises(kind):
        asyncio.run(_told(f'{{"type":"error","msg":"{words}"}}', done=lambda _: False))


# ---- bars


@pytest.mark.parametrize("trades", SIZES)
@pytest.mark.parametrize("feed", FEEDS)
def test_the_bars_of_a_tape_are_those_of_its_trades(feed: str, trades: int):
    symbols = tuple(f"S{number:02d}" for number in range(50))
    tape = make_tape(symbols, trades, minutes=30, reorder_seconds=2, quiet_share=0.3, start=OPEN)
    streams = frozenset(Stream("us", name, at) for at, name in enumerate(symbols))

    async def play() -> tuple[LastBars, FeedPipeline]:
        bars = LastBars()
        pipeline = FeedPipeline(feed, [bars], Clock(OPEN + timedelta(hours=1)).now)
        with exchange_of(feed, tape) as exchange:
            keeper = Connection(
                feed_of(exchange), Wanted(streams), pipeline, patience=Patience(silence_seconds=120)
            )
            exchange.hold()
            tasks = [asyncio.ensure_future(each) for each in (keeper.keep(), pipeline.run())]
            await until(lambda: pipeline.is_connected)
            exchange.resume()
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
    if feed == "finnhub":
        # Trades of one millisecond have no other order than that of their arrival.
        frame = frame.iloc[tape.arrival].reset_index(drop=True)
        frame["ts"] = frame["ts"] // 1000 * 1000
        frame["trade_id"] = np.arange(len(frame))
    assert_bars_are_those_of(frame, bars)
