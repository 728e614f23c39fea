"""What clients get: a snapshot, what has changed since, nobody held up by anybody."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
import pytest

from scizor_core.errors import UnknownSymbolError
from scizor_core.markets import Timeframe
from scizor_core.stream.engine import LiveBar
from scizor_resources.errors import WarehouseAway
from scizor_sidecar.face.clients import MOST_SUBSCRIPTIONS, Client, TooManyError
from scizor_sidecar.face.hub import Hub
from scizor_sidecar.face.topics import TopicName
from scizor_sidecar.face.wire import Item, UnreadableError, join, read_request
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.pipeline import FORMING_SECONDS, FeedPipeline, StreamedBar
from tests.unit.sidecar.fakes import BTC, ETH, Clock, eventually
from tests.unit.sidecar.streamed import window

pytestmark = pytest.mark.anyio

SECOND = 1_000_000
BARS = TopicName("bars", "crypto", "BTC/USD", "1m")
TICKS = TopicName("ticks", "crypto", "BTC/USD")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class StoredBars:
    """A history with some bars in it."""

    def __init__(self, rows: list[tuple[int, Item]] | None = None) -> None:
        self.stored = rows or []
        self.asked: list[TopicName] = []
        self.error: Exception | None = None

    async def check(self, market: str, symbol: str) -> None:
        if symbol == "NO/SUCH":
            raise UnknownSymbolError(f"{market} has no {symbol}.")

    async def rows(self, name: TopicName, last: int) -> list[tuple[int, Item]]:
        self.asked.append(name)
        if self.error is not None:
            raise self.error
        return self.stored[-last:]


class Row(NamedTuple):
    """The indicators of a bar."""

    stream: Stream
    timeframe: Timeframe
    start: int
    values: dict[str, float | None]


class Desk:
    """A hub behind a pipeline of one feed."""

    def __init__(self, history: StoredBars, sent: Callable[[Stream, int, int], None]) -> None:
        self.clock = Clock()
        self.history = history
        self.hub = Hub(self.clock.now, history, most_clients=3, on_sent=sent)
        self.pipeline = FeedPipeline(
            "kraken", [self.hub], self.clock.now, monotonic=self.clock.monotonic
        )
        self.pipeline.connecting()
        self.pipeline.connected()
        self._number = 0

    def trade(self, *prices: float, stream: Stream = BTC, seconds: float = 0) -> None:
        for price in prices:
            self._number += 1
            at = round((self.clock.at.timestamp() + seconds) * SECOND)
            self.pipeline.trades([stream], [at], [price], [1], [self._number])
        self.pipeline.step()

    def rest(self) -> None:
        """Let a minute that forms be given out again."""
        self.clock.at += timedelta(seconds=2 * FORMING_SECONDS)

    async def follow(self, *names: TopicName, **kept: int) -> Client:
        client = self.hub.join()
        for name in names:
            self.hub.subscribe(client, name, kept.get("resume"))
        await eventually(lambda: all(client.subscriptions[each].topic.is_ready for each in names))
        return client


@asynccontextmanager
async def a_desk(
    history: StoredBars | None = None, sent: Callable[[Stream, int, int], None] = lambda *_: None
) -> AsyncIterator[Desk]:
    desk = Desk(history or StoredBars(), sent)
    running = asyncio.ensure_future(desk.hub.run())
    try:
        yield desk
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def taken(client: Client) -> list[dict[str, Any]]:
    return [json.loads(each.payload) for each in client.take()]


def of_type(client: Client, kind: str) -> list[dict[str, Any]]:
    return [each for each in taken(client) if each["type"] == kind]


async def test_a_subscription_begins_with_a_snapshot_of_stored_and_live_bars():
    stored: list[tuple[int, Item]] = [(0, {"t": "1970-01-01T00:00:00Z", "c": 1.0})]
    async with a_desk(StoredBars(stored)) as desk:
        desk.trade(10, 11)

        client = await desk.follow(BARS)

        (snapshot,) = taken(client)
        assert (snapshot["type"], snapshot["key"]) == ("snapshot", "bars|crypto:BTC/USD|1m")
        assert [bar["c"] for bar in snapshot["data"]] == [1.0, 11]
        assert snapshot["data"][1]["state"] == "forming"


async def test_a_delta_holds_what_has_changed_and_says_after_what():
    async with a_desk() as desk:
        client = await desk.follow(BARS)
        (snapshot,) = taken(client)

        desk.trade(10)
        (first,) = taken(client)
        desk.rest()
        desk.trade(12)
        (second,) = taken(client)

        assert first["after"] == snapshot["seq"]
        assert second["after"] == first["seq"]
        assert [bar["h"] for bar in second["data"]] == [12]


async def test_bars_of_a_client_that_is_behind_come_once_in_their_newest_state():
    async with a_desk() as desk:
        client = await desk.follow(BARS)
        taken(client)

        for price in range(10, 60):
            desk.trade(price)
            desk.rest()

        (delta,) = taken(client)
        assert [(bar["o"], bar["c"], bar["n"]) for bar in delta["data"]] == [(10, 59, 50)]


async def test_trades_of_a_client_that_is_behind_are_kept_and_what_is_left_out_is_counted():
    async with a_desk() as desk:
        client = await desk.follow(TICKS)
        taken(client)

        for _ in range(3):
            desk.trade(*[10.0] * 500)
        desk.trade(99)

        delta, notice = taken(client)
        assert len(delta["data"]) == 1000
        assert delta["data"][-1][1] == 99
        assert (notice["code"], notice["count"]) == ("trades_left_out", 501)
        assert desk.hub.counts.trades_left_out == 501


async def test_trades_of_a_pass_with_very_many_are_counted_too():
    async with a_desk() as desk:
        client = await desk.follow(TICKS)
        taken(client)
        at = round(desk.clock.at.timestamp() * SECOND)
        rows = 8_000

        desk.pipeline.trades([BTC] * rows, [at] * rows, [10] * rows, [1] * rows, range(rows))
        desk.pipeline.step()

        delta, notice = taken(client)
        assert len(delta["data"]) + notice["count"] == rows


async def test_a_quote_comes_after_the_trades():
    async with a_desk() as desk:
        client = await desk.follow(TICKS)
        taken(client)
        at = round(desk.clock.at.timestamp() * SECOND)

        desk.pipeline.quote(BTC, at, 9.9, float("nan"))
        desk.trade(10)

        (delta,) = taken(client)
        assert delta["data"] == [
            [at, 10.0, 1.0],
            {
                "t": "2026-03-02T12:00:00Z",
                "bid": 9.9,
                "ask": None,
                "bid_size": None,
                "ask_size": None,
            },
        ]


async def test_resuming_gives_what_has_changed_and_nothing_else():
    async with a_desk() as desk:
        first = await desk.follow(BARS, TICKS)
        desk.trade(10)
        seen = {each["channel"]: each["seq"] for each in taken(first)}
        desk.hub.leave(first)
        desk.clock.at += timedelta(minutes=1)
        desk.trade(20)

        again = desk.hub.join()
        for name in (BARS, TICKS):
            desk.hub.subscribe(again, name, seen[name.channel])

        messages = {each["channel"]: each for each in taken(again)}
        assert {each["type"] for each in messages.values()} == {"delta"}
        assert [bar["c"] for bar in messages["bars"]["data"]] == [20]
        assert [trade[1] for trade in messages["ticks"]["data"]] == [20]


@pytest.mark.parametrize("seq", [0, 2**52], ids=["of an earlier process", "never given out"])
async def test_what_cannot_be_resumed_begins_anew_and_says_so(seq: int):
    async with a_desk() as desk:
        desk.trade(10)

        client = await desk.follow(BARS, resume=seq)

        (snapshot,) = taken(client)
        assert (snapshot["type"], snapshot["reason"]) == ("snapshot", "too_old")


async def test_a_message_is_encoded_once_for_clients_that_keep_step():
    async with a_desk() as desk:
        clients = [await desk.follow(BARS) for _ in range(2)]
        for client in clients:
            taken(client)
        desk.trade(10)

        (one,), (other,) = (list(client.take()) for client in clients)

        assert one.payload is other.payload


async def test_msgpack_says_the_same_as_json():
    async with a_desk() as desk:
        client, binary = await desk.follow(BARS, TICKS), await desk.follow(BARS, TICKS)
        binary.format = "msgpack"
        desk.trade(10)

        told = [msgspec.msgpack.decode(each.payload) for each in binary.take()]

        assert told == taken(client)


async def test_many_messages_go_out_as_one_array():
    texts = [b'{"a":1}', b'{"b":2}']
    packed = [msgspec.msgpack.encode({"a": 1}), msgspec.msgpack.encode({"b": 2})]

    assert json.loads(join(texts, "json")) == [{"a": 1}, {"b": 2}]
    assert msgspec.msgpack.decode(join(packed, "msgpack")) == [{"a": 1}, {"b": 2}]


async def test_an_instrument_that_does_not_exist_is_an_error_and_wanted_by_nobody():
    async with a_desk() as desk:
        client = desk.hub.join()
        desk.hub.subscribe(client, TopicName("bars", "crypto", "NO/SUCH", "1m"))
        await eventually(lambda: not client.subscriptions)

        (error,) = taken(client)
        assert (error["type"], error["symbol"]) == ("error", "crypto:NO/SUCH")
        assert desk.hub.wanted() == frozenset()


async def test_what_clients_look_at_is_wanted_until_the_last_of_them_goes():
    async with a_desk() as desk:
        one, other = await desk.follow(BARS), await desk.follow(TICKS)

        assert desk.hub.wanted() == {("crypto", "BTC/USD")}
        desk.hub.leave(one)
        assert desk.hub.wanted() == {("crypto", "BTC/USD")}
        desk.hub.leave(other)
        assert desk.hub.wanted() == frozenset()


async def test_live_bars_go_on_while_the_database_is_away():
    history = StoredBars()
    history.error = WarehouseAway("PostgreSQL is being restarted.")
    async with a_desk(history) as desk:
        client = await desk.follow(BARS)
        desk.trade(10)

        kinds = {each["type"]: each for each in taken(client)}
        assert kinds["notice"]["code"] == "database_away"
        assert [bar["c"] for bar in kinds["snapshot"]["data"]] == [10]


async def test_stored_bars_follow_when_the_database_is_back():
    history = StoredBars([(0, {"t": "1970-01-01T00:00:00Z", "c": 1.0})])
    history.error = WarehouseAway("PostgreSQL is being restarted.")
    async with a_desk(history) as desk:
        client = await desk.follow(BARS)
        topic = client.subscriptions[BARS].topic
        (snapshot,) = of_type(client, "snapshot")

        history.error = None
        await desk.hub._load_again()
        await eventually(lambda: topic.seq > snapshot["seq"])

        (delta,) = of_type(client, "delta")
        assert [bar["c"] for bar in delta["data"]] == [1.0]


async def test_a_book_and_a_quote_of_before_are_there_at_once():
    async with a_desk() as desk:
        desk.pipeline.book(BTC, 0, [(10, 1)], [(11, 1)])
        desk.pipeline.quote(BTC, 0, 10, 11)
        desk.trade(10)

        client = await desk.follow(TopicName("book", "crypto", "BTC/USD"), TICKS)

        book, ticks = taken(client)
        assert book["data"][0]["bids"] == [[10, 1]]
        assert [each["bid"] for each in ticks["data"]] == [10]


async def test_a_feed_that_is_cut_is_told_to_clients_old_and_new():
    async with a_desk() as desk:
        desk.trade(10)
        old, stranger = desk.hub.join(), desk.hub.join()
        desk.hub.welcome(old)
        taken(old)
        desk.pipeline.disconnected(FeedState.WAITING, "the connection broke")
        new = desk.hub.join()
        desk.hub.welcome(new)

        for client in (old, new):
            (feed,) = of_type(client, "feed")
            assert (feed["state"], feed["why"]) == ("waiting", "the connection broke")
            assert (feed["feed"], feed["market"]) == ("kraken", "crypto")
        assert taken(stranger) == []


async def test_what_guards_find_comes_by_instrument_rule_and_verdict():
    name = TopicName("quality", "crypto", "BTC/USD")
    async with a_desk() as desk:
        client = await desk.follow(name)
        taken(client)

        desk.trade(10, -1, -2, 20)

        (delta,) = taken(client)
        found = {(each["rule"], each["verdict"], each["count"]) for each in delta["data"]}
        assert found == {("bad_price", "quarantine", 2), ("price_jump", "flag", 1)}


async def test_an_order_book_comes_in_its_newest_state():
    name = TopicName("book", "crypto", "BTC/USD")
    async with a_desk() as desk:
        client = await desk.follow(name)
        taken(client)
        for price in (10.0, 11.0):
            desk.pipeline.book(BTC, 0, [(price, 1.0)], [(price + 1, 2.0)])
            desk.pipeline.step()

        (delta,) = taken(client)
        assert [each["bids"] for each in delta["data"]] == [[[11.0, 1.0]]]


async def test_indicators_come_by_the_start_of_their_bar():
    name = TopicName("indicators", "crypto", "BTC/USD", "1m")
    async with a_desk() as desk:
        client = await desk.follow(name)
        taken(client)

        desk.hub.on_indicators([Row(BTC, "1m", 60 * SECOND, {"sma_20": 10.5, "sma_200": None})])

        (delta,) = taken(client)
        assert delta["data"] == [
            {"t": "1970-01-01T00:01:00Z", "values": {"sma_20": 10.5, "sma_200": None}}
        ]


async def test_a_client_gets_nothing_that_it_has_not_asked_for():
    async with a_desk() as desk:
        client = await desk.follow(BARS)
        taken(client)

        desk.trade(10, stream=ETH)

        assert taken(client) == []


async def test_nothing_comes_after_unsubscribing():
    async with a_desk() as desk:
        client = await desk.follow(BARS)
        desk.trade(10)

        desk.hub.unsubscribe(client, BARS)

        assert taken(client) == []


async def test_messages_beside_the_stream_do_not_pile_up_for_a_client_that_reads_nothing():
    async with a_desk() as desk:
        client = desk.hub.join()
        desk.hub.welcome(client)

        for number in range(10_000):
            desk.hub.announce("kpi", {"type": "kpi", "number": number})
            client.tell({"type": "error", "error": "unreadable"})

        assert len(taken(client)) <= 2_000


async def test_clients_and_subscriptions_have_their_limits():
    async with a_desk() as desk:
        client = desk.hub.join()
        desk.hub.join()
        desk.hub.join()
        with pytest.raises(TooManyError):
            desk.hub.join()

        for number in range(MOST_SUBSCRIPTIONS):
            desk.hub.subscribe(client, TopicName("bars", "us", f"A{number}", "1m"))
        with pytest.raises(TooManyError):
            desk.hub.subscribe(client, BARS)


async def test_topics_that_nobody_follows_are_forgotten_and_numbers_still_grow():
    async with a_desk() as desk:
        client = await desk.follow(BARS)
        (before,) = taken(client)
        desk.hub.leave(client)
        await desk.hub._tidy()
        desk.clock.at += timedelta(minutes=11)
        await desk.hub._tidy()

        again = await desk.follow(BARS, resume=before["seq"])

        (snapshot,) = taken(again)
        assert snapshot["reason"] == "too_old"
        assert snapshot["seq"] > before["seq"]


async def test_when_live_data_was_handed_over_is_told_with_when_it_had_come():
    told: list[tuple[str, int, int]] = []
    async with a_desk(sent=lambda stream, *times: told.append((stream.symbol, *times))) as desk:
        client = await desk.follow(BARS)
        taken(client)
        desk.trade(10)
        desk.clock.at += timedelta(milliseconds=5)
        desk.hub.sent(client.take())

    came = round(Clock().at.timestamp() * SECOND)
    assert told == [("BTC/USD", came, came + 5_000)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        '{"op": 1}',
        '{"op": "drop table"}',
        '{"op": "subscribe", "symbols": "asx:CBA"}',
        '{"op": "subscribe", "symbols": [1]}',
        '{"op": "subscribe", "channels": ["orders"]}',
        '{"op": "subscribe", "resume": {"a": -1}}',
        '{"op": "subscribe", "resume": {"a": 1e400}}',
        '{"op": "subscribe", "interval_ms": NaN}',
        '{"op": "subscribe", "interval_ms": 99999999999999999999}',
        '{"op": "subscribe", "x": ' + "[" * 20_000,
        '{"op": "subscribe", "symbols": ["' + "A" * 100 + '"]}',
    ],
    ids=range(15),
)
def test_what_is_no_message_is_refused_by_name(text: str):
    with pytest.raises(UnreadableError):
        read_request(text)
    with pytest.raises(UnreadableError):
        read_request(text.encode())


async def test_a_bar_that_is_withdrawn_is_told_without_numbers_and_is_no_recent_one():
    async with a_desk() as desk:
        desk.trade(10)
        desk.clock.at += timedelta(minutes=1)
        desk.trade(11)
        client = await desk.follow(BARS)
        taken(client)

        gone = LiveBar.withdrawn(0, "1m", 1_772_452_800 * SECOND)
        desk.hub.on_window(window(StreamedBar(BTC, gone, "kraken", 0)))

        (delta,) = taken(client)
        assert delta["data"] == [
            {"t": "2026-03-02T12:00:00Z", "state": "withdrawn", "source": "kraken"}
        ]
        recent = desk.hub.recent_bars("crypto", "BTC/USD", "1m")
        assert [each.bar.close for each in recent] == [11]
