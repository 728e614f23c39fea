import json
import math
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scizor_core.stream.trades import NO_TIME
from scizor_resources.errors import RateLimited, TransientError
from scizor_sidecar.feeds.ccxt_binance import BinanceWire
from scizor_sidecar.feeds.ccxt_coinbase import CoinbaseWire
from scizor_sidecar.feeds.ccxt_kraken import KrakenWire
from scizor_sidecar.feeds.ccxt_wire import (
    Confirmed,
    Ends,
    Numbered,
    Refused,
    Trades,
    Unreadable,
    Wire,
    number_of,
    time_of,
)

#: 2026-03-02 12:00:00 UTC, from `date -u -d ... +%s`.
NOON_US = 1_772_452_800_000_000
WIRES: dict[str, Wire] = {
    "kraken": KrakenWire(), "binance": BinanceWire(), "coinbase": CoinbaseWire(),
}  # fmt: skip

KRAKEN_TRADES = {
    "channel": "trade",
    "type": "update",
    "data": [
        {
            "symbol": "BTC/USD",
            "side": "sell",
            "price": 91250.1,
            "qty": 0.00031,
            "ord_type": "limit",
            "trade_id": 771_001,
            "timestamp": "2026-03-02T12:00:00.123456789Z",
        }
    ],
}
KRAKEN_BOOK = {
    "channel": "book",
    "type": "update",
    "data": [
        {
            "symbol": "BTC/USD",
            "bids": [{"price": 91250.1, "qty": 1.5}],
            "asks": [],
            "checksum": 7,
            "timestamp": "2026-03-02T12:00:00.5Z",
        }
    ],
}
BINANCE_TRADE = {
    "e": "trade",
    "E": 1_772_452_800_124,
    "s": "BTCUSDT",
    "t": 9001,
    "p": "91250.10000000",
    "q": "0.00031000",
    "T": 1_772_452_800_123,
    "m": True,
    "M": True,
}
COINBASE_TRADES = {
    "channel": "market_trades",
    "client_id": "",
    "timestamp": "2026-03-02T12:00:01Z",
    "sequence_num": 4,
    "events": [
        {
            "type": "update",
            "trades": [
                {
                    "trade_id": "502",
                    "product_id": "BTC-USD",
                    "price": "91250.2",
                    "size": "0.2",
                    "side": "BUY",
                    "time": "2026-03-02T12:00:00.200001Z",
                },
                {
                    "trade_id": "501",
                    "product_id": "BTC-USD",
                    "price": "91250.1",
                    "size": "0.1",
                    "side": "SELL",
                    "time": "2026-03-02T12:00:00.1Z",
                },
            ],
        }
    ],
}
SAMPLES: dict[str, list[dict[str, Any]]] = {
    "kraken": [KRAKEN_TRADES, KRAKEN_BOOK],
    "binance": [BINANCE_TRADE, {"result": None, "id": 1}, {"error": {"code": 2}, "id": 3}],
    "coinbase": [COINBASE_TRADES, {"type": "error", "message": "no"}],
}


def test_a_trade_of_kraken_keeps_its_id_and_the_microseconds_of_its_time():
    (trades,) = KrakenWire().read(KRAKEN_TRADES)

    expected = (["BTC/USD"], [NOON_US + 123_456], [91250.1], [0.00031], [771_001])
    assert isinstance(trades, Trades)
    assert (trades.symbols, trades.ts, trades.price, trades.size, trades.ids) == expected


def test_a_trade_of_binance_has_its_own_time_and_not_that_of_the_message():
    (trades,) = BinanceWire().read(BINANCE_TRADE)

    assert isinstance(trades, Trades)
    assert (trades.ts, trades.price, trades.ids) == ([NOON_US + 123_000], [91250.1], [9001])


def test_trades_of_coinbase_come_newest_first_and_are_handed_over_in_order():
    number, trades = CoinbaseWire().read(COINBASE_TRADES)

    assert number == Numbered(4)
    assert isinstance(trades, Trades)
    assert (trades.ids, trades.ts) == (["501", "502"], [NOON_US + 100_000, NOON_US + 200_001])


@pytest.mark.parametrize(
    ("venue", "message", "heard"),
    [
        (
            "kraken",
            {
                "method": "subscribe",
                "success": True,
                "result": {"channel": "trade", "symbol": "BTC/USD"},
            },
            Confirmed(frozenset({"BTC/USD"})),
        ),
        (
            "kraken",
            {
                "method": "subscribe",
                "success": False,
                "error": "Currency pair not supported XX/USD",
                "symbol": "XX/USD",
            },
            Refused("Currency pair not supported XX/USD", frozenset({"XX/USD"})),
        ),
        (
            "kraken",
            {"method": "subscribe", "success": False, "error": "Exceeded msg rate"},
            Ends(RateLimited, "Exceeded msg rate"),
        ),
        ("binance", {"result": None, "id": 7}, Confirmed(request=7)),
        (
            "binance",
            {"error": {"code": 3, "msg": "Too many requests"}, "id": 7},
            Ends(RateLimited, "Too many requests"),
        ),
        (
            "binance",
            {"error": {"code": 2, "msg": "Invalid request"}, "id": 7},
            Refused("Invalid request", request=7),
        ),
        ("binance", {"e": "serverShutdown"}, Ends(TransientError, "it closes this connection")),
        (
            "coinbase",
            {
                "channel": "subscriptions",
                "events": [{"subscriptions": {"market_trades": ["BTC-USD"]}}],
            },
            Confirmed(frozenset({"BTC-USD"})),
        ),
        (
            "coinbase",
            {"type": "error", "message": "rate limit exceeded"},
            Ends(RateLimited, "rate limit exceeded"),
        ),
    ],
    ids=[
        "kraken-confirms", "kraken-does-not-know", "kraken-rate", "binance-confirms",
        "binance-rate", "binance-refuses", "binance-leaves", "coinbase-confirms", "coinbase-rate",
    ],
)  # fmt: skip
def test_answers_are_understood(venue: str, message: dict[str, Any], heard: object):
    assert WIRES[venue].read(message) == [heard]


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-03-02T12:00:00Z", NOON_US),
        ("2026-03-02T12:00:00.000000999Z", NOON_US),
        ("2026-03-02T12:00:00.9999999+00:00", NOON_US + 999_999),
        ("2026-03-02T12:00:00.5+10:00", NO_TIME),
        ("2026-13-02T12:00:00Z", NO_TIME),
        ("", NO_TIME),
        (5, NO_TIME),
        (None, NO_TIME),
    ],
)
def test_times_are_cut_to_microseconds_and_never_rounded_up(text: object, micros: int):
    assert time_of(text) == micros


@pytest.mark.parametrize("value", [None, True, "", "much", [], {}, "9" * 50])
def test_what_is_no_number_is_not_taken_for_one(value: object):
    assert math.isnan(number_of(value))


def test_a_whole_number_beyond_all_prices_is_no_number():
    assert math.isnan(number_of(10**400))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where something stands in a message: keys and positions from the outside in."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    out = []
    for key, each in inner if isinstance(value, dict | list) else ():
        out += (
            [(*path, key), *places(each, (*path, key))]
            if isinstance(each, dict | list)
            else [(*path, key)]
        )
    return out


@pytest.mark.parametrize("venue", WIRES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_message_whatever_it_holds_is_an_error(venue: str, data: st.DataObject):
    message: Any = json.loads(json.dumps(data.draw(st.sampled_from(SAMPLES[venue]))))
    path = data.draw(st.sampled_from(places(message)))
    inner = message
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = data.draw(ANYTHING)

    heard = WIRES[venue].read(message)

    for each in heard:
        if isinstance(each, Trades):
            columns = (each.symbols, each.ts, each.price, each.size, each.ids)
            assert len({len(column) for column in columns}) == 1


@pytest.mark.parametrize("venue", WIRES)
@given(message=ANYTHING)
@settings(max_examples=100, deadline=None)
def test_what_is_not_a_message_of_the_venue_is_unreadable(venue: str, message: object):
    assert isinstance(WIRES[venue].read(message)[-1], Unreadable)


def test_the_checksum_of_kraken_is_of_the_digits_of_ten_asks_and_ten_bids():
    bids = [(float(f"{45283.5 - step / 10:.1f}"), 0.1) for step in range(10)]
    asks = [(float(f"{45285.2 + step / 10:.1f}"), 0.00100000) for step in range(10)]
    market = {"info": {"pair_decimals": 1, "lot_decimals": 8}}
    digits = "".join(f"{452852 + step}100000" for step in range(10))
    digits += "".join(f"{452835 - step}10000000" for step in range(10))

    assert KrakenWire().checksum_of(market, bids, asks) == zlib.crc32(digits.encode())
