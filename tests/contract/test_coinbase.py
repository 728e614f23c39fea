"""What is special to Coinbase Advanced Trade, asked directly, against its stand-in."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scizor_core.errors import InvalidInputError
from scizor_core.markets import Timeframe
from scizor_resources.errors import BadRequest, RateLimited, SchemaDrift, TransientError
from scizor_resources.providers.base import BarBatch, BarRequest, SymbolRef
from scizor_resources.providers.coinbase.candles import parse_candles
from scizor_resources.providers.coinbase.markets import parse_products
from scizor_resources.providers.coinbase.quotes import BookLevel, parse_book, parse_ticker
from scizor_resources.providers.coinbase.source import CoinbaseSource
from scizor_resources.providers.coinbase.symbols import from_coinbase_symbol, to_coinbase_symbol
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.rows import AskWindow
from tests.contract.lab.coinbase import CoinbaseLab, candle, refused
from tests.contract.lab.server import Reply, Row

NOW = datetime(2026, 11, 20, 15, 1, 30, tzinfo=UTC)
FIRST = datetime(2026, 11, 20, 14, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HALF_HOUR = 30 * MINUTE


@pytest.fixture
def lab() -> Iterator[CoinbaseLab]:
    running = CoinbaseLab()
    with running:
        yield running


@pytest.fixture
def source(lab: CoinbaseLab) -> Iterator[CoinbaseSource]:
    made = CoinbaseSource(
        Gate("coinbase", sleep=lambda _: None), base_url=lab.url, timeout_seconds=2, now=lambda: NOW
    )
    yield made
    made.close()


def fetch(
    source: CoinbaseSource,
    start: datetime = FIRST,
    end: datetime = FIRST + HALF_HOUR,
    timeframe: Timeframe = "1m",
) -> BarBatch:
    return source.fetch_bars(
        BarRequest("crypto", timeframe, start, end, (SymbolRef(1, "BTC/USD"),))
    )


# --- symbols ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "product"), [("BTC/USD", "BTC-USD"), ("ETH/USDC", "ETH-USDC"), ("00/EUR", "00-EUR")]
)
def test_symbols_map_both_ways(symbol: str, product: str) -> None:
    assert to_coinbase_symbol("crypto", symbol) == product
    assert from_coinbase_symbol("crypto", product) == symbol


@pytest.mark.parametrize("product", ["BIT-28JUL23-CDE", "BTCUSD", ""])
def test_what_is_no_spot_product_is_no_symbol(product: str) -> None:
    with pytest.raises(InvalidInputError, match="BTC-USD"):
        from_coinbase_symbol("crypto", product)


# --- candles ------------------------------------------------------------------------------


def test_a_window_is_asked_for_in_epoch_seconds_and_names_of_intervals(
    lab: CoinbaseLab, source: CoinbaseSource
) -> None:
    lab.put("BTC-USD", "5m", [Row(FIRST)])

    fetch(source, timeframe="5m")

    # 2026-11-20 14:00 UTC is 1795183200.
    (seen,) = lab.data_requests
    assert seen.path == "/api/v3/brokerage/market/products/BTC-USD/candles"
    assert seen.query == {
        "granularity": "FIVE_MINUTE",
        "start": "1795183200",
        "end": "1795184999",
    }


def test_no_call_asks_for_more_than_300_candles(lab: CoinbaseLab, source: CoinbaseSource) -> None:
    first = NOW.replace(second=0) - timedelta(hours=12)
    lab.put("BTC-USD", "1m", [Row(first + n * MINUTE) for n in range(720)])

    batch = fetch(source, first, NOW.replace(second=0))

    spans = [int(seen.query["end"]) - int(seen.query["start"]) + 1 for seen in lab.data_requests]
    assert spans == [300 * 60, 300 * 60, 120 * 60]
    assert len(batch.bars) == 720


def test_coinbase_tells_no_mean_price_and_no_number_of_trades(
    lab: CoinbaseLab, source: CoinbaseSource
) -> None:
    lab.put("BTC-USD", "1m", [Row(FIRST)])

    bars = fetch(source).bars

    assert bars[["vwap", "trade_count", "adj_close"]].isna().all(axis=None)


def test_a_minute_without_a_candle_is_known_to_be_quiet(
    lab: CoinbaseLab, source: CoinbaseSource
) -> None:
    lab.put("BTC-USD", "1m", [Row(FIRST), Row(FIRST + 7 * MINUTE)])

    batch = fetch(source)

    assert len(batch.bars) == 2
    assert batch.covered == [("BTC/USD", FIRST, FIRST + HALF_HOUR)]


def test_an_answer_without_any_candle_proves_nothing(
    lab: CoinbaseLab, source: CoinbaseSource
) -> None:
    lab.put("BTC-USD", "1m", [])

    batch = fetch(source)

    assert batch.covered == []
    assert "has no 1m bars of BTC/USD" in batch.empty_reasons["BTC/USD"]


def test_the_newest_minutes_are_known_only_up_to_the_last_candle(
    lab: CoinbaseLab, source: CoinbaseSource
) -> None:
    last = NOW.replace(second=0) - 3 * MINUTE
    lab.put("BTC-USD", "1m", [Row(last - 20 * MINUTE), Row(last)])

    batch = fetch(source, last - 20 * MINUTE, NOW + HALF_HOUR)

    assert batch.covered == [("BTC/USD", last - 20 * MINUTE, last + MINUTE)]


def test_a_daily_candle_carries_its_session_date(lab: CoinbaseLab, source: CoinbaseSource) -> None:
    days = [datetime(2026, 11, day, tzinfo=UTC) for day in (19, 20)]
    lab.put("BTC-USD", "1d", [Row(day) for day in days])

    bars = fetch(source, days[0], days[1] + timedelta(days=1), "1d").bars

    assert list(bars["ts"]) == [pd.Timestamp(day) for day in days]
    assert list(bars["is_final"]) == [True, False]


def test_an_unknown_product_is_an_error_of_that_symbol(source: CoinbaseSource) -> None:
    assert "NOT_FOUND: valid product_id is required" in fetch(source).errors["BTC/USD"]


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (refused(429, "rate_limit_exceeded", "Too many"), RateLimited, "rate_limit_exceeded"),
        (
            Reply({"errors": [{"id": "rate_limit_exceeded", "message": "Slow down"}]}, 429),
            RateLimited,
            "Slow down",
        ),
        (refused(503, "UNAVAILABLE", "maintenance"), TransientError, "maintenance"),
        (Reply({"rows": []}), SchemaDrift, "there is no 'candles'"),
        (Reply({"candles": {}}), SchemaDrift, "'candles' is not a list"),
        (Reply({"candles": [{"open": "1"}]}), SchemaDrift, "there is no 'start'"),
    ],
    ids=["429", "429 of the gateway", "503", "no candles", "not a list", "no start"],
)
def test_answers_without_candles_by_name(
    lab: CoinbaseLab, source: CoinbaseSource, reply: Reply, kind: type[Exception], words: str
) -> None:
    lab.put("BTC-USD", "1m", [Row(FIRST)])
    lab.refusal = reply

    with pytest.raises(kind, match=words):
        fetch(source)


# --- products, ticker, book ---------------------------------------------------------------


def test_products_have_their_steps(source: CoinbaseSource) -> None:
    products = source.fetch_products()

    assert [each.symbol for each in products] == ["BTC/USD", "BTC/USDC", "ETH/USD"]
    assert products[0].venue_symbol == "BTC-USD"
    assert products[0].price_step == Decimal("0.01")
    assert products[0].amount_step == Decimal("0.00000001")
    assert products[0].active


def test_futures_are_no_products() -> None:
    future = {"product_id": "BIT-28JUL23-CDE", "product_type": "FUTURE", "status": "online"}

    assert parse_products({"products": [future]}, "crypto") == []


def test_a_product_that_is_not_traded_is_not_active() -> None:
    product = {"product_id": "BTC-USD", "status": "online", "trading_disabled": True}

    (market,) = parse_products({"products": [product]}, "crypto")

    assert not market.active
    assert market.price_step is None


def test_a_ticker_has_the_best_prices_and_the_last_trades(
    lab: CoinbaseLab, source: CoinbaseSource
) -> None:
    trade = {
        "trade_id": "17",
        "product_id": "BTC-USD",
        "price": "100.5",
        "size": "0.25",
        "time": "2026-11-20T15:01:28.544778Z",
        "side": "SELL",
    }
    lab.ticker = {"trades": [trade], "best_bid": "100.4", "best_ask": ""}

    ticker = source.fetch_ticker("BTC/USD", trades=5)

    assert (ticker.symbol, ticker.best_bid, ticker.best_ask) == ("BTC/USD", 100.4, None)
    (last,) = ticker.trades
    assert last.ts == datetime(2026, 11, 20, 15, 1, 28, 544778, tzinfo=UTC)
    assert (last.trade_id, last.price, last.size, last.side) == ("17", 100.5, 0.25, "sell")
    assert lab.requests[0].query == {"limit": "5"}


def test_a_book_begins_with_the_best_prices(lab: CoinbaseLab, source: CoinbaseSource) -> None:
    lab.book = {
        "pricebook": {
            "product_id": "BTC-USD",
            "bids": [{"price": "9.9", "size": "1"}, {"price": "10", "size": "2"}],
            "asks": [{"price": "10.2", "size": "3"}, {"price": "10.1", "size": "4"}],
            "time": "2026-11-20T15:01:29Z",
        }
    }

    book = source.fetch_book("BTC/USD", levels=2)

    assert book.bids == (BookLevel(10.0, 2.0), BookLevel(9.9, 1.0))
    assert book.asks == (BookLevel(10.1, 4.0), BookLevel(10.2, 3.0))
    assert book.ts == datetime(2026, 11, 20, 15, 1, 29, tzinfo=UTC)
    assert lab.requests[0].query == {"product_id": "BTC-USD", "limit": "2"}


@pytest.mark.parametrize(
    ("book", "found"),
    [
        ({"pricebook": {}}, "there is no 'time'"),
        ({}, "there is no 'pricebook'"),
        (
            {"pricebook": {"time": "2026-11-20T15:01:29Z", "bids": [{"price": "x", "size": "1"}]}},
            "could not convert",
        ),
        ({"pricebook": {"time": "2026-11-20T15:01:29", "bids": [], "asks": []}}, "has no zone"),
    ],
    ids=["no time", "no book", "no number", "no zone"],
)
def test_a_book_of_another_shape_is_drift(
    lab: CoinbaseLab, source: CoinbaseSource, book: Any, found: str
) -> None:
    lab.book = book

    with pytest.raises(SchemaDrift, match=found):
        source.fetch_book("BTC/USD")


def test_a_ticker_of_a_symbol_that_is_none_is_refused(source: CoinbaseSource) -> None:
    with pytest.raises(InvalidInputError):
        source.fetch_ticker("BTCUSD")


def test_a_call_that_coinbase_does_not_know_is_a_bad_request(
    lab: CoinbaseLab, source: CoinbaseSource
) -> None:
    lab.put("BTC-USD", "1m", [Row(FIRST)])
    lab.refusal = refused(400, "INVALID_ARGUMENT", "granularity is unsupported")

    errors = fetch(source).errors

    assert "INVALID_ARGUMENT: granularity is unsupported" in errors["BTC/USD"]
    assert source.gate.counts.outcomes == {BadRequest.__name__: 1}


# --- recordings of the live service -------------------------------------------------------

RECORDINGS = os.environ.get("SCIZOR_RECORDINGS", "")
needs_recordings = pytest.mark.skipif(
    not RECORDINGS,
    reason="set SCIZOR_RECORDINGS to a directory of recorded payloads (coinbase_advanced/)",
)


def recording(name: str) -> Any:
    path = Path(RECORDINGS) / "coinbase_advanced" / name
    return json.loads(path.read_text(encoding="utf-8"))


@needs_recordings
def test_recorded_candles_arrive_as_recorded_in_ascending_order() -> None:
    answer = recording("http_candles.json")
    # 2024-04-04 00:00 and 01:00 UTC.
    window = AskWindow(
        "crypto",
        "BTC/USD",
        "15m",
        datetime(2024, 4, 4, tzinfo=UTC),
        datetime(2024, 4, 4, 2, tzinfo=UTC),
    )

    bars = parse_candles(answer, window, source="coinbase", origin="candles", now=NOW).bars

    assert [ts.hour for ts in bars["ts"]] == [0, 1]
    recorded = list(reversed(answer["candles"]))
    for name in ("open", "high", "low", "close", "volume"):
        assert list(bars[name]) == [float(each[name]) for each in recorded]


@needs_recordings
def test_the_recorded_ticker_and_book_are_read() -> None:
    ticker = parse_ticker(recording("http_ticker.json"), "BTC/USD")
    book = parse_book(recording("http_product_book.json"), "BTC/USD")

    assert (ticker.best_bid, ticker.best_ask, len(ticker.trades)) == (68923.66, 68923.67, 3)
    assert [trade.side for trade in ticker.trades] == ["sell", "sell", "buy"]
    assert book.bids[0] == BookLevel(68923.66, 0.17189468)
    assert book.asks[0] == BookLevel(68923.67, 0.16987193)


@needs_recordings
def test_the_recorded_products_are_read() -> None:
    products = parse_products(recording("http_products.json"), "crypto")

    assert [each.venue_symbol for each in products] == ["BTC-USD", "BTC-USDC"]
    assert {each.min_cost for each in products} == {Decimal(1)}
    assert parse_products(recording("http_products_future.json"), "crypto") == []


def test_a_candle_of_the_lab_looks_like_a_recorded_one() -> None:
    assert sorted(candle(Row(FIRST))) == ["close", "high", "low", "open", "start", "volume"]
