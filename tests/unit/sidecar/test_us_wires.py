"""What the readers of Alpaca's and Finnhub's messages make of anything at all."""

import msgpack
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scizor_core.stream.trades import Condition, make_batch
from scizor_resources.providers.alpaca.trades import condition_of, identity_of, trade_of
from scizor_sidecar.feeds.alpaca_wire import (
    Ends,
    QuoteMoved,
    Refused,
    Standing,
    TakenBack,
    Trades,
    TradingStatus,
    read_frame,
)
from scizor_sidecar.feeds.ccxt_wire import Unreadable
from scizor_sidecar.feeds.finnhub import Batch, Complaint, read_message

KINDS = (
    Trades, QuoteMoved, Standing, Refused, Ends, TradingStatus, TakenBack, Unreadable,
)  # fmt: skip

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.builds(msgpack.Timestamp, st.integers(-(2**62), 2**62), st.integers(0, 999_999_999))
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
_NAMED = st.dictionaries(
    st.sampled_from(["S", "i", "x", "p", "s", "c", "t", "z", "bp", "ap", "sc", "oi", "code", "msg",
                     "trades", "quotes"]),
    _VALUES,
)  # fmt: skip
_MESSAGES = st.builds(
    lambda kind, fields: {**fields, "T": kind},
    st.sampled_from(["t", "q", "s", "c", "x", "error", "subscription", "b", "?"]) | _VALUES,
    _NAMED,
)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_from_alpaca_are_read_without_an_error(frame: bytes):
    assert all(isinstance(each, KINDS) for each in read_frame(frame))


@settings(max_examples=100, deadline=None)
@given(st.lists(_MESSAGES | _VALUES, max_size=4))
def test_messages_of_wrong_types_from_alpaca_are_read_without_an_error(messages: list[object]):
    heard = read_frame(msgpack.packb(messages))
    assert all(isinstance(each, KINDS) for each in heard)
    for each in heard:
        if isinstance(each, Trades):
            make_batch([0] * len(each.ts), each.ts, each.price, each.size, each.ids)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_from_finnhub_are_read_without_an_error(message: bytes):
    assert isinstance(read_message(message), Batch | Complaint | Unreadable | None)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
_ROW = st.dictionaries(st.sampled_from(["s", "p", "t", "v", "c"]), _JSON)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["trade", "error", "ping", "news"]) | _JSON, st.lists(_ROW | _JSON) | _JSON)
def test_messages_of_wrong_types_from_finnhub_are_read_without_an_error(kind: object, data: object):
    heard = read_message(orjson.dumps({"type": kind, "data": data, "msg": data}), {"12"})
    assert isinstance(heard, Batch | Complaint | Unreadable | None)
    if isinstance(heard, Batch):
        make_batch([0] * len(heard.ts), heard.ts, heard.price, heard.size)


def test_every_trade_of_a_frame_is_read_whatever_the_others_are():
    good = {"T": "t", "S": "AAPL", "i": 1, "p": 1.0, "s": 1, "t": msgpack.Timestamp(1, 5_000)}
    (trades, broken, quote) = read_frame(
        msgpack.packb([good, 7, {**good, "i": 2}, {"T": "q", "S": "A", "t": good["t"]}, good])
    )
    assert isinstance(trades, Trades)
    assert trades.ts == [1_000_005] * 3
    assert isinstance(broken, Unreadable)
    assert isinstance(quote, QuoteMoved)


# Of the two plans' matrices of sale conditions: does it set the last price, does it count.
@pytest.mark.parametrize(
    ("codes", "tape", "expected"),
    [
        (["@"], "C", Condition.NONE),
        ([" "], "A", Condition.NONE),
        (["@", "F"], "C", Condition.NONE),
        (["O"], "A", Condition.NONE),
        (["5"], "C", Condition.NONE),
        (["6"], "C", Condition.NONE),
        (["X"], "C", Condition.NONE),
        (["@", "I"], "C", Condition.NOT_IN_PRICE),
        (["@", "F", "I"], "C", Condition.NOT_IN_PRICE),
        (["T"], "B", Condition.NOT_IN_PRICE),
        (["4"], "A", Condition.NOT_IN_PRICE),
        (["7", "V"], "A", Condition.NOT_IN_PRICE),
        (["W"], "C", Condition.NOT_IN_PRICE),
        (["B"], "A", Condition.NOT_IN_PRICE),
        (["B"], "C", Condition.NONE),
        (["M"], "A", Condition.NOT_IN_PRICE | Condition.NOT_IN_VOLUME),
        (["Q"], "C", Condition.NOT_IN_PRICE | Condition.NOT_IN_VOLUME),
        (["9"], "A", Condition.NOT_IN_VOLUME),
        (None, None, Condition.NONE),
        ([5, None, []], 7, Condition.NONE),
    ],
    ids=str,
)
def test_sale_conditions_leave_a_trade_out_as_the_tapes_plans_say(
    codes: object, tape: object, expected: Condition
):
    assert condition_of(codes, tape) == expected


def test_trades_of_one_microsecond_are_ordered_by_its_parts():
    at = 1_772_463_600_000_000_000
    ids = [identity_of(at + part, exchange, 10) for part, exchange in ((999, "A"), (1, "Z"))]
    batch = make_batch([0, 0], [at // 1000] * 2, [1, 1], [1, 1], ids)
    assert batch.order[1] < batch.order[0]


def test_trades_of_one_instant_keep_the_order_of_their_arrival():
    at = 1_772_463_600_000_000_000
    ids = [identity_of(at, exchange, number) for exchange, number in (("Z", 10), ("A", 9))]
    batch = make_batch([0, 0], [at // 1000] * 2, [1, 1], [1, 1], ids)
    assert batch.order[0] == batch.order[1]
    assert batch.trade_id[0] != batch.trade_id[1]


def test_a_trade_is_the_same_streamed_and_asked_for():
    row = {"i": 52_983_525, "x": "V", "p": 10.5, "s": 3, "c": ["@"], "z": "C"}
    streamed = msgpack.packb([{"T": "t", "S": "AAPL", **row, "t": msgpack.Timestamp(10, 123)}])
    (live,) = read_frame(streamed)
    asked = trade_of(row, 10_000_000_123)
    assert isinstance(live, Trades)
    assert (live.ts, live.ids) == ([asked.ts], [asked.trade_id])
