"""Histories of trades over each wire format: every trade, once, as the live feed tells it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from scizor_core.stream.trades import MICROSECONDS, Condition
from scizor_resources.errors import AuthError, BadRequest, SchemaDrift, TransientError
from scizor_resources.providers.alpaca.trades import trade_of
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.ibkr.source import IbkrSource
from scizor_resources.trades.alpaca import AlpacaTrades
from scizor_resources.trades.base import TradeColumns, TradeSource
from scizor_resources.trades.crypto import CryptoTrades
from scizor_resources.trades.ibkr import IbkrTrades
from scizor_resources.trades.values import micros_of_seconds, nanos_of_text
from scizor_sidecar.feeds.base import Stream
from tests.contract.lab.alpaca import KEY_ID, SECRET
from tests.contract.lab.ibkr import IbkrLab
from tests.contract.lab.ibkr import Trade as IbkrTrade
from tests.contract.lab.server import HttpLab, Reply, Seen
from tests.contract.lab.trade_tape import START, TradeTape, make_tape
from tests.contract.lab.ws_dialects import Coinbase, Kraken, Query, Rows
from tests.contract.lab.ws_exchanges import LoopbackExchange

VENUES = ("kraken", "binance", "coinbase")
BTC = Stream("crypto", "BTC/USD", 1)
AAPL = Stream("us", "AAPL", 2)
NOON = int(START.timestamp()) * MICROSECONDS
MINUTE = 60 * MICROSECONDS

Row = tuple[int, float, float, str]


def source_of(exchange: LoopbackExchange) -> CryptoTrades:
    return CryptoTrades(
        exchange.venue, Gate(exchange.venue), title="Lab", base_url=exchange.urls.rest
    )


def happened(exchange: LoopbackExchange, trades: int) -> None:
    """Let trades happen that nobody is sent."""
    exchange.cut(missed=trades)
    while exchange.position < trades:
        pass


def expected(tape: TradeTape, venue: str, start: int, end: int) -> list[Row]:
    step = 1000 if venue == "binance" else 1
    frame = tape.frame()
    frame["ts"] = frame["ts"] // step * step
    frame = frame[(frame["symbol"] == "BTC/USD") & (frame["ts"] >= start) & (frame["ts"] < end)]
    return [(row.ts, row.price, row.size, str(row.trade_id)) for row in frame.itertuples()]


def rows_of(columns: TradeColumns) -> list[Row]:
    return [
        (ts, price, size, str(identity))
        for ts, price, size, identity in zip(
            columns.ts, columns.price, columns.size, columns.trade_id, strict=True
        )
    ]


def fetch_all(source: TradeSource, stream: Stream, start: int, end: int) -> tuple[list[Row], int]:
    """Return all trades of a window, and in how many pieces they came."""
    found: list[Row] = []
    pieces = 0
    while start < end:
        columns = source.fetch_trades(stream, start, end)
        found += rows_of(columns)
        assert start < columns.covered_until <= end
        start = columns.covered_until
        pieces += 1
    return found, pieces


@pytest.mark.parametrize("venue", VENUES)
def test_every_trade_of_a_window_is_told_once_with_the_id_of_the_live_feed(venue: str):
    tape = make_tape(("BTC/USD", "ETH/USD"), 5_000)
    start, end = NOON + 3 * MINUTE + 123_000, NOON + 8 * MINUTE + 456_000
    with LoopbackExchange(venue, tape) as exchange:
        happened(exchange, len(tape))
        found, _ = fetch_all(source_of(exchange), BTC, start, end)

    assert found == expected(tape, venue, start, end)
    assert len(found) > 1_000


@pytest.mark.parametrize("venue", ["kraken", "binance"])
def test_a_window_of_many_trades_comes_in_pieces_without_a_seam(venue: str):
    tape = make_tape(("BTC/USD",), 25_000)
    with LoopbackExchange(venue, tape) as exchange:
        happened(exchange, len(tape))
        found, pieces = fetch_all(source_of(exchange), BTC, NOON, NOON + 60 * MINUTE)

    assert found == expected(tape, venue, NOON, NOON + 60 * MINUTE)
    assert pieces == 2


@pytest.mark.parametrize("venue", VENUES)
def test_trades_of_one_instant_are_all_told_wherever_a_page_ends(venue: str):
    tape = make_tape(("BTC/USD",), 4_000)
    # In sevens: a page of a thousand ends between trades of one time.
    tape = replace(tape, ts=tape.ts[np.arange(len(tape)) // 7 * 7])
    with LoopbackExchange(venue, tape) as exchange:
        happened(exchange, len(tape))
        found, _ = fetch_all(source_of(exchange), BTC, NOON, NOON + 60 * MINUTE)

    assert found == expected(tape, venue, NOON, NOON + 60 * MINUTE)


class RoundedKraken(Kraken):
    """Each trade happened 60 ns before the time that it is told with, as a float rounds it."""

    def history(self, path: str, query: Query) -> tuple[str, dict[str, int]] | None:
        since = {"since": str(int(query["since"]) + 60)} if "since" in query else {}
        return super().history(path, query | since)

    def history_answer(self, tape: TradeTape, rows: Rows, asked: dict[str, int]) -> Any:
        answer = super().history_answer(tape, rows, asked)
        answer["result"]["last"] = str(int(answer["result"]["last"]) - 60)
        return answer


def test_a_time_of_kraken_that_is_rounded_up_to_where_a_window_begins_is_in_that_window():
    tape = make_tape(("BTC/USD",), 100)
    border = int(tape.ts[50])
    with LoopbackExchange("kraken", tape, dialect=RoundedKraken()) as exchange:
        happened(exchange, len(tape))
        windows = [(NOON, border), (border, NOON + 60 * MINUTE)]
        found = [row for each in windows for row in fetch_all(source_of(exchange), BTC, *each)[0]]

    assert found == expected(tape, "kraken", NOON, NOON + 60 * MINUTE)


class MeanCoinbase(Coinbase):
    """Tells 250 trades at once, and of whole seconds before the end."""

    def history(self, path: str, query: Query) -> tuple[str, dict[str, int]] | None:
        found = super().history(path, query)
        if found is not None and "until" in found[1]:
            found[1]["until"] -= MICROSECONDS
            found[1]["limit"] = 250
        return found


def test_a_coinbase_that_tells_little_at_once_is_asked_until_every_trade_is_told():
    tape = make_tape(("BTC/USD",), 2_000, minutes=1, quiet_share=0)
    with LoopbackExchange("coinbase", tape, dialect=MeanCoinbase()) as exchange:
        happened(exchange, len(tape))
        found, _ = fetch_all(source_of(exchange), BTC, NOON, NOON + MINUTE)

    assert found == expected(tape, "coinbase", NOON, NOON + MINUTE)


def test_a_second_with_more_trades_than_coinbase_tells_is_an_error_and_not_a_hole():
    tape = make_tape(("BTC/USD",), 20_000, minutes=1, quiet_share=0)
    with LoopbackExchange("coinbase", tape, dialect=MeanCoinbase()) as exchange:
        happened(exchange, len(tape))
        with pytest.raises(SchemaDrift, match="in one second"):
            source_of(exchange).fetch_trades(BTC, NOON, NOON + MINUTE)


@pytest.mark.parametrize("venue", VENUES)
def test_a_window_in_which_nothing_traded_is_known_to_be_empty(venue: str):
    with LoopbackExchange(venue, make_tape(("BTC/USD",), 100)) as exchange:
        happened(exchange, 100)
        columns = source_of(exchange).fetch_trades(BTC, NOON + 50 * MINUTE, NOON + 55 * MINUTE)

    assert (len(columns), columns.covered_until) == (0, NOON + 55 * MINUTE)


@pytest.mark.parametrize("venue", VENUES)
def test_a_symbol_that_the_exchange_does_not_have_cannot_be_had_later_either(venue: str):
    with LoopbackExchange(venue, make_tape(("BTC/USD",), 1)) as exchange:
        source = source_of(exchange)
        with pytest.raises(BadRequest, match="has no market BTC/EUR"):
            source.fetch_trades(Stream("crypto", "BTC/EUR", 3), NOON, NOON + MINUTE)


class GrowingKraken(Kraken):
    """Lists ETH/USD from the second time on."""

    def __init__(self) -> None:
        self.listings = 0

    def markets(self, path: str, query: Query, symbols: Sequence[str]) -> Any:
        known = symbols if self.listings else [each for each in symbols if each != "ETH/USD"]
        found = super().markets(path, query, known)
        self.listings += found is not None
        return found


def test_a_symbol_that_the_exchange_lists_later_is_found_without_a_restart():
    ether = Stream("crypto", "ETH/USD", 4)
    tape = make_tape(("BTC/USD", "ETH/USD"), 100)
    kraken = GrowingKraken()
    with LoopbackExchange("kraken", tape, dialect=kraken) as exchange:
        happened(exchange, len(tape))
        source = source_of(exchange)
        found = [
            len(source.fetch_trades(each, NOON, NOON + 60 * MINUTE)) for each in (BTC, ether, BTC)
        ]

    assert sum(found[:2]) == len(tape)
    assert kraken.listings == 2


@pytest.mark.parametrize(
    ("seconds", "micros"),
    [
        (1688671834.5875, 1688671834_587500),
        ("1688671834.123456789", 1688671834_123456),
        (1772452800, 1772452800_000000),
        ("yesterday", None),
        (float("nan"), None),
        (True, None),
    ],
    ids=["a float", "nine digits", "whole", "a word", "not a number", "a flag"],
)
def test_seconds_with_a_fraction_lose_nothing_but_what_is_finer_than_a_microsecond(
    seconds: object, micros: int | None
):
    assert micros_of_seconds(seconds) == (-(2**63) if micros is None else micros)


# ---- Alpaca


def alpaca_row(number: int) -> dict[str, Any]:
    """Return a trade every half second, two in a microsecond now and then, some odd lots."""
    second, rest = divmod(number // 2, 60)
    return {
        "t": f"2026-03-02T15:{second:02d}:{rest:02d}.00000{number % 2}{number % 7}3Z",
        "x": "V",
        "p": 100 + number / 100,
        "s": 1 + number % 5,
        "c": ["@", "I"] if number % 5 == 0 else ["@"],
        "i": 1_000 + number,
        "z": "C",
    }


class AlpacaTradesLab(HttpLab):
    """Serves trades in pages of ten."""

    def __init__(self, answer: Callable[[Seen], Reply] | None = None) -> None:
        super().__init__()
        self.trades = [alpaca_row(number) for number in range(45)]
        self._answer = answer

    def respond(self, seen: Seen) -> Reply:
        if self._answer is not None:
            return self._answer(seen)
        if seen.headers.get("apca-api-key-id") != KEY_ID or seen.query["feed"] != "iex":
            return Reply({"message": "forbidden."}, 403)
        start, end = (nanos_of_text(seen.query[name]) or 0 for name in ("start", "end"))
        inside = [row for row in self.trades if start <= (nanos_of_text(row["t"]) or 0) <= end]
        first = int(seen.query.get("page_token", "page-0").removeprefix("page-"))
        token = f"page-{first + 10}" if first + 10 < len(inside) else None
        return Reply({"trades": {"AAPL": inside[first : first + 10]}, "next_page_token": token})


def alpaca_source(lab: HttpLab, *, has_key: bool = True) -> AlpacaTrades:
    key, secret = (SecretStr(KEY_ID), SecretStr(SECRET)) if has_key else (None, None)
    gate = Gate("alpaca", attempts=1)
    return AlpacaTrades(gate, base_url=lab.url, key=key, secret=secret)


def test_alpaca_tells_all_pages_with_the_identities_and_conditions_of_its_stream():
    with AlpacaTradesLab() as lab:
        source = alpaca_source(lab)
        columns = source.fetch_trades(AAPL, NOON + 180 * MINUTE, NOON + 181 * MINUTE)
        source.close()
        live = [trade_of(row, nanos_of_text(row["t"])) for row in lab.trades]

    assert rows_of(columns) == [
        (each.ts, each.price, each.size, str(each.trade_id)) for each in live
    ]
    assert columns.condition == [int(each.condition) for each in live]
    assert columns.condition.count(int(Condition.NOT_IN_PRICE)) == 9


def test_trades_that_alpaca_has_cancelled_are_left_out():
    with AlpacaTradesLab() as lab:
        lab.trades[3]["u"] = "canceled"
        source = alpaca_source(lab)
        columns = source.fetch_trades(AAPL, NOON, NOON + 300 * MINUTE)
        source.close()

    assert len(columns) == 44


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply({"message": "too late"}, 500), TransientError),
        (Reply({"trades": [1]}), SchemaDrift),
        (Reply({"trades": {"AAPL": [{"p": 1}]}, "next_page_token": None}), SchemaDrift),
        (Reply([]), SchemaDrift),
    ],
    ids=["500", "a list", "no time", "no object"],
)
def test_an_answer_that_is_none_is_an_error_and_never_an_empty_window(
    reply: Reply, kind: type[Exception]
):
    with AlpacaTradesLab(lambda _: reply) as lab:
        source = alpaca_source(lab)
        with pytest.raises(kind):
            source.fetch_trades(AAPL, NOON, NOON + MINUTE)
        source.close()


def test_equities_without_a_key_are_refused_without_a_call():
    with AlpacaTradesLab() as lab:
        with pytest.raises(AuthError, match="without a key"):
            alpaca_source(lab, has_key=False).fetch_trades(AAPL, NOON, NOON + MINUTE)
        assert lab.requests == []


# ---- IBKR


def test_ibkr_tells_half_an_hour_at_a_time_and_leaves_odd_lots_out_of_bars():
    opens = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
    start = int(opens.timestamp()) * MICROSECONDS
    with IbkrLab() as lab:
        lab.trades["AAPL"] = [
            IbkrTrade(opens + timedelta(seconds=number), 100.0 + number, 5, 2 * (number == 3))
            for number in range(2_400)
        ]
        source = IbkrSource(Gate("ibkr"), base_url=lab.url, now=lambda: opens + timedelta(days=1))
        columns = IbkrTrades(source).fetch_trades(AAPL, start, start + 60 * MINUTE)
        source.close()

    assert columns.covered_until == start + 30 * MINUTE
    assert columns.ts == [start + number * MICROSECONDS for number in range(1_800)]
    assert columns.price == [100.0 + number for number in range(1_800)]
    assert set(columns.trade_id) == {None}
    left_out = [number for number, each in enumerate(columns.condition) if each]
    assert left_out == [3]
