"""What is special to the exchanges behind ccxt, through the real ccxt against stand-ins."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scizor_core.errors import ConfigError, InvalidInputError
from scizor_core.markets import Timeframe
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    SchemaDrift,
    TransientError,
)
from scizor_resources.providers.base import BarBatch, BarRequest, SymbolRef
from scizor_resources.providers.ccxt_venues.answers import NO_TRADES, joined
from scizor_resources.providers.ccxt_venues.markets import forget_markets
from scizor_resources.providers.ccxt_venues.source import CcxtSource
from scizor_resources.providers.ccxt_venues.symbols import from_ccxt_symbol, to_ccxt_symbol
from scizor_resources.providers.gate import Gate, NoLimits
from tests.contract.lab import binance, kraken
from tests.contract.lab.binance import BinanceLab
from tests.contract.lab.coinbase import CoinbaseLab
from tests.contract.lab.kraken import KrakenLab
from tests.contract.lab.server import HttpLab, Reply, Row, Seen

#: 15:01 is the minute that still runs, so 03:01 begins the oldest of the 720 candles before it.
NOW = datetime(2026, 11, 20, 15, 1, 30, tzinfo=UTC)
OLDEST_CANDLE = datetime(2026, 11, 20, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def no_markets_kept() -> Iterator[None]:
    forget_markets()
    yield
    forget_markets()


@pytest.fixture
def kraken_lab() -> Iterator[KrakenLab]:
    lab = KrakenLab()
    with lab:
        yield lab


@pytest.fixture
def binance_lab() -> Iterator[BinanceLab]:
    lab = BinanceLab()
    with lab:
        yield lab


class Playback(HttpLab):
    """Answers each path with what it is given."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__()
        self.answers = answers

    def respond(self, seen: Seen) -> Reply:
        return Reply(self.answers[seen.path])


def fetch(
    lab: HttpLab,
    exchange: str,
    start: datetime,
    end: datetime,
    symbol: str = "BTC/USD",
    timeframe: Timeframe = "1m",
    *,
    gate: Gate | None = None,
    now: datetime = NOW,
    trade_pages: int = 120,
) -> BarBatch:
    source = CcxtSource(
        exchange,
        gate or Gate(exchange, sleep=lambda _: None),
        base_url=lab.url,
        timeout_seconds=2,
        now=lambda: now,
        trade_pages=trade_pages,
    )
    try:
        return source.fetch_bars(
            BarRequest("crypto", timeframe, start, end, (SymbolRef(1, symbol),))
        )
    finally:
        source.close()


def minutes(first: datetime, count: int, volume: float = 8.0) -> list[Row]:
    return [
        Row(first + n * MINUTE, 100.0 + n, 101.0 + n, 99.0 + n, 100.5 + n, volume)
        for n in range(count)
    ]


def paths(lab: HttpLab) -> list[str]:
    return [seen.path for seen in lab.requests]


# --- symbols and markets ------------------------------------------------------------------


@pytest.mark.parametrize("symbol", ["BTC/USD", "ETH/USDT", "1INCH/EUR"])
def test_symbols_map_both_ways(symbol: str) -> None:
    assert to_ccxt_symbol("crypto", symbol) == symbol
    assert from_ccxt_symbol("crypto", symbol) == symbol


def test_a_contract_is_no_symbol() -> None:
    with pytest.raises(InvalidInputError, match="only spot markets"):
        from_ccxt_symbol("crypto", "BTC/USDT:USDT")


def test_kraken_is_asked_by_its_own_name_of_the_pair(kraken_lab: KrakenLab) -> None:
    kraken_lab.put("XXBTZUSD", "1m", minutes(NOW.replace(second=0) - 5 * MINUTE, 3))

    fetch(kraken_lab, "kraken", NOW - 10 * MINUTE, NOW)

    assert kraken_lab.data_requests[0].query["pair"] == "XXBTZUSD"


def test_kraken_markets_have_plain_symbols_and_their_steps(kraken_lab: KrakenLab) -> None:
    source = CcxtSource("kraken", Gate("kraken"), base_url=kraken_lab.url, now=lambda: NOW)

    markets = {market.symbol: market for market in source.fetch_markets()}

    source.close()
    assert list(markets) == ["BTC/USD", "ETH/USD", "SOL/USD"]
    assert markets["BTC/USD"].venue_symbol == "XXBTZUSD"
    assert markets["BTC/USD"].price_step == Decimal("0.1")
    assert markets["BTC/USD"].amount_step == Decimal("0.00000001")
    assert markets["BTC/USD"].min_amount == Decimal("0.00005")


def test_binance_markets_have_their_filters_as_steps(binance_lab: BinanceLab) -> None:
    source = CcxtSource("binance", Gate("binance"), base_url=binance_lab.url, now=lambda: NOW)

    market = next(each for each in source.fetch_markets() if each.symbol == "BTC/USDT")

    source.close()
    assert (market.price_step, market.amount_step) == (Decimal("0.01"), Decimal("0.00001"))
    assert (market.min_amount, market.min_cost) == (Decimal("0.00001"), Decimal(5))
    assert market.active


def test_a_symbol_that_the_venue_lacks_names_what_it_has(binance_lab: BinanceLab) -> None:
    batch = fetch(binance_lab, "binance", NOW - 10 * MINUTE, NOW, "BTC/USD")

    assert "trades BTC against EUR, USDT" in batch.errors["BTC/USD"]
    assert binance_lab.data_requests == []


def test_markets_are_asked_for_once_and_again_after_hours(kraken_lab: KrakenLab) -> None:
    kraken_lab.put("XXBTZUSD", "1m", minutes(NOW - 5 * MINUTE, 3))
    asked = []

    for later in (timedelta(0), timedelta(hours=5), timedelta(hours=7)):
        now = NOW + later
        fetch(kraken_lab, "kraken", now - 10 * MINUTE, now, now=now)
        asked.append(paths(kraken_lab).count("/0/public/AssetPairs"))

    assert asked == [1, 1, 2]


@pytest.mark.parametrize(
    ("exchange", "lab", "symbol", "expected"),
    [
        ("kraken", KrakenLab, "BTC/USD", ["/0/public/AssetPairs"]),
        ("binance", BinanceLab, "BTC/USDT", ["/api/v3/exchangeInfo"]),
        ("ccxt_coinbase", CoinbaseLab, "BTC/USD", ["/api/v3/brokerage/market/products"]),
    ],
)
def test_markets_cost_one_request(
    exchange: str, lab: type[HttpLab], symbol: str, expected: list[str]
) -> None:
    with lab() as running:
        fetch(running, exchange, NOW - 10 * MINUTE, NOW, symbol)

        assert [each.path for each in running.requests if each not in running.data_requests] == (
            expected
        )


def test_an_exchange_that_is_not_served_is_refused() -> None:
    with pytest.raises(ConfigError, match="kraken, binance, ccxt_coinbase"):
        CcxtSource("mtgox", Gate("mtgox"))


# --- the gate -----------------------------------------------------------------------------


class Listening(NoLimits):
    """A budget that remembers what it was told."""

    def __init__(self) -> None:
        self.weights: list[tuple[str, int]] = []
        self.headers: list[Mapping[str, str]] = []

    def acquire(
        self,
        endpoint: str,
        *,
        weight: int = 1,
        keys: tuple[str, ...] = (),  # noqa: ARG002  # the protocol's
    ) -> AbstractContextManager[object]:
        self.weights.append((endpoint, weight))
        return nullcontext()

    def learn(self, headers: Mapping[str, str]) -> None:
        self.headers.append(headers)


def test_every_http_request_passes_the_gate_with_its_weight(binance_lab: BinanceLab) -> None:
    budget = Listening()
    binance_lab.put("BTCUSDT", "1m", minutes(NOW - 40 * 60 * MINUTE, 2000))

    fetch(
        binance_lab,
        "binance",
        NOW - 40 * 60 * MINUTE,
        NOW,
        "BTC/USDT",
        gate=Gate("binance", budget),
    )

    assert budget.weights == [
        ("/api/v3/exchangeInfo", 20),
        ("/api/v3/klines", 2),
        ("/api/v3/klines", 2),
        ("/api/v3/klines", 2),
    ]
    assert len(binance_lab.requests) == 4


def test_the_budget_hears_the_headers_of_an_answer(binance_lab: BinanceLab) -> None:
    budget = Listening()
    binance_lab.put("BTCUSDT", "1m", minutes(NOW - 5 * MINUTE, 3))

    fetch(
        binance_lab,
        "binance",
        NOW - 10 * MINUTE,
        NOW,
        "BTC/USDT",
        gate=Gate("binance", budget),
    )

    assert budget.headers[-1]["X-MBX-USED-WEIGHT-1M"] == "2"


def test_the_endpoint_of_a_product_does_not_name_the_product() -> None:
    budget = Listening()
    with CoinbaseLab() as lab:
        lab.put("BTC-USD", "1m", minutes(NOW - 5 * MINUTE, 3))
        fetch(lab, "ccxt_coinbase", NOW - 10 * MINUTE, NOW, gate=Gate("ccxt_coinbase", budget))

    assert budget.weights[-1][0] == "/api/v3/brokerage/market/products/{id}/candles"


# --- what Kraken fills in -----------------------------------------------------------------


def test_kraken_tells_mean_price_and_number_of_trades(kraken_lab: KrakenLab) -> None:
    first = NOW.replace(second=0) - 5 * MINUTE
    kraken_lab.put("XXBTZUSD", "1m", minutes(first, 2))

    bars = fetch(kraken_lab, "kraken", first, NOW).bars

    assert list(bars["vwap"]) == [10.2, 10.2]
    assert list(bars["trade_count"]) == [7, 7]


def test_minutes_that_kraken_fills_in_are_no_bars_but_known(kraken_lab: KrakenLab) -> None:
    first = datetime(2026, 11, 20, 14, 0, tzinfo=UTC)
    rows = [
        *minutes(first, 2),
        *kraken.flat(first + 2 * MINUTE, 3),
        *minutes(first + 5 * MINUTE, 1),
    ]
    kraken_lab.put("XXBTZUSD", "1m", rows)

    batch = fetch(kraken_lab, "kraken", first, first + 30 * MINUTE)

    assert [ts.minute for ts in batch.bars["ts"]] == [0, 1, 5]
    assert batch.ignored == {NO_TRADES: 3}
    assert batch.covered == [("BTC/USD", first, first + 6 * MINUTE)]
    assert batch.rejected.empty


def test_a_minute_that_kraken_does_not_tell_of_is_not_known(kraken_lab: KrakenLab) -> None:
    first = datetime(2026, 11, 20, 14, 0, tzinfo=UTC)
    kraken_lab.put("XXBTZUSD", "1m", [*minutes(first, 2), *minutes(first + 5 * MINUTE, 1)])

    covered = fetch(kraken_lab, "kraken", first, first + 30 * MINUTE).covered

    assert covered == [
        ("BTC/USD", first, first + 2 * MINUTE),
        ("BTC/USD", first + 5 * MINUTE, first + 6 * MINUTE),
    ]


def test_the_minute_that_still_runs_is_not_known(kraken_lab: KrakenLab) -> None:
    running = NOW.replace(second=0)
    kraken_lab.put("XXBTZUSD", "1m", kraken.flat(running - MINUTE, 2))

    assert fetch(kraken_lab, "kraken", running - MINUTE, NOW).covered == [
        ("BTC/USD", running - MINUTE, running)
    ]


def test_a_window_without_any_trade_says_so(kraken_lab: KrakenLab) -> None:
    first = datetime(2026, 11, 20, 14, 0, tzinfo=UTC)
    kraken_lab.put("XXBTZUSD", "1m", kraken.flat(first, 30))

    batch = fetch(kraken_lab, "kraken", first, first + 30 * MINUTE)

    assert batch.bars.empty
    assert batch.empty_reasons == {
        "BTC/USD": "Kraken sent 30 1m rows of BTC/USD, all of them filled in: nothing traded."
    }


# --- older than Kraken's candles ----------------------------------------------------------


def older_and_newer(lab: KrakenLab, before: int = 61) -> datetime:
    """Give the lab minutes from before the oldest candle until now; return the first."""
    first = OLDEST_CANDLE - before * MINUTE
    lab.put("XXBTZUSD", "1m", minutes(first, before + 721))
    return first


def test_older_bars_are_built_from_trades_and_meet_the_candles(kraken_lab: KrakenLab) -> None:
    first = older_and_newer(kraken_lab)

    batch = fetch(kraken_lab, "kraken", first, OLDEST_CANDLE + 10 * MINUTE)

    assert list(batch.bars["ts"]) == [pd.Timestamp(first + n * MINUTE) for n in range(71)]
    assert list(batch.bars["close"]) == [100.5 + n for n in range(71)]
    # Four equal trades at 100, 101, 99 and 100.5; the lab's candles say 10.2 and 7.
    assert batch.bars["vwap"].iloc[0] == pytest.approx(100.125)
    assert list(batch.bars["trade_count"]) == [4] * 61 + [7] * 10
    assert batch.covered == [("BTC/USD", first, OLDEST_CANDLE + 10 * MINUTE)]
    assert batch.bars["is_final"].all()


def test_trades_are_read_page_by_page(kraken_lab: KrakenLab) -> None:
    first = older_and_newer(kraken_lab)
    kraken_lab.trades_per_page = 30

    bars = fetch(kraken_lab, "kraken", first, OLDEST_CANDLE).bars

    assert list(bars["volume"]) == [8.0] * 61
    # 61 minutes of 4 trades, and the page that goes beyond them.
    assert paths(kraken_lab).count("/0/public/Trades") == 9
    assert "/0/public/OHLC" not in paths(kraken_lab)


def test_trades_of_one_instant_are_all_told_wherever_a_page_ends(kraken_lab: KrakenLab) -> None:
    first = older_and_newer(kraken_lab)
    # A page of 30 ends between the four trades that a minute begins with.
    kraken_lab.trades_per_page, kraken_lab.trades_at_once = 30, 4

    batch = fetch(kraken_lab, "kraken", first, OLDEST_CANDLE)

    assert list(batch.bars["trade_count"]) == [4] * 61
    assert list(batch.bars["volume"]) == [8.0] * 61
    assert batch.ignored == {}


def test_more_trades_of_one_instant_than_a_page_holds_are_an_error(kraken_lab: KrakenLab) -> None:
    first = older_and_newer(kraken_lab, before=300)
    kraken_lab.trades_at_once = 1200

    with pytest.raises(SchemaDrift, match="1000 trades or more at one time"):
        fetch(kraken_lab, "kraken", first - 60 * MINUTE, OLDEST_CANDLE)


def test_a_quiet_minute_among_trades_is_known_to_be_quiet(kraken_lab: KrakenLab) -> None:
    first = OLDEST_CANDLE - 60 * MINUTE
    kraken_lab.put("XXBTZUSD", "1m", [*minutes(first, 1), *minutes(first + 3 * MINUTE, 1)])

    batch = fetch(kraken_lab, "kraken", first, first + 10 * MINUTE)

    assert [ts.minute for ts in batch.bars["ts"]] == [1, 4]
    assert batch.covered == [("BTC/USD", first, first + 10 * MINUTE)]


def test_a_window_of_too_many_trades_is_left_after_one_page(kraken_lab: KrakenLab) -> None:
    first = older_and_newer(kraken_lab)
    kraken_lab.trades_per_page = 4

    batch = fetch(kraken_lab, "kraken", first, OLDEST_CANDLE + 10 * MINUTE, trade_pages=20)

    assert paths(kraken_lab).count("/0/public/Trades") == 1
    assert batch.bars["ts"].iloc[0] == pd.Timestamp(OLDEST_CANDLE)
    assert len(batch.bars) == 10
    assert "(20 are allowed)" in batch.empty_reasons["BTC/USD"]
    assert batch.covered == [("BTC/USD", OLDEST_CANDLE, OLDEST_CANDLE + 10 * MINUTE)]


def test_pages_that_run_out_keep_the_bars_before(kraken_lab: KrakenLab) -> None:
    first = OLDEST_CANDLE - 60 * MINUTE
    # An hour that begins quietly, so that the first page promises few.
    kraken_lab.put("XXBTZUSD", "1m", [*minutes(first, 1), *minutes(first + 30 * MINUTE, 30)])
    kraken_lab.trades_per_page = 5

    batch = fetch(kraken_lab, "kraken", first, OLDEST_CANDLE, trade_pages=4)

    # 17 trades, as each page begins with the last one of the page before: the first minute, three
    # more, and the beginning of the next.
    assert [ts.minute for ts in batch.bars["ts"]] == [1, 31, 32, 33]
    assert batch.covered == [("BTC/USD", first, first + 33 * MINUTE)]
    assert "4 pages" in batch.empty_reasons["BTC/USD"]


def test_without_pages_for_trades_the_reach_is_that_of_the_candles(kraken_lab: KrakenLab) -> None:
    first = older_and_newer(kraken_lab)

    batch = fetch(kraken_lab, "kraken", first, OLDEST_CANDLE + 10 * MINUTE, trade_pages=0)

    source = CcxtSource("kraken", Gate("kraken"), trade_pages=0)
    assert source.capabilities.max_age == {
        "1m": timedelta(hours=12),
        "5m": timedelta(hours=60),
        "15m": timedelta(hours=180),
        "1d": timedelta(days=720),
    }
    assert "/0/public/Trades" not in paths(kraken_lab)
    assert "Kraken keeps 1m bars for 12 hours" in batch.empty_reasons["BTC/USD"]
    assert batch.bars["ts"].iloc[-1] == pd.Timestamp(OLDEST_CANDLE + 9 * MINUTE)


def test_a_day_before_the_oldest_daily_candle_is_built_from_trades(kraken_lab: KrakenLab) -> None:
    day = datetime(2024, 3, 1, tzinfo=UTC)
    kraken_lab.put(
        "XXBTZUSD", "1m", [*minutes(day + timedelta(hours=3), 5), *minutes(day + timedelta(1), 2)]
    )

    bars = fetch(kraken_lab, "kraken", day, day + timedelta(days=1), timeframe="1d").bars

    (bar,) = bars.to_dict("records")
    assert bar["ts"] == pd.Timestamp(day)
    assert (bar["open"], bar["high"], bar["low"], bar["close"]) == (100.0, 105.0, 99.0, 104.5)
    assert bar["volume"] == pytest.approx(40.0)


def test_a_trade_without_a_price_is_refused(kraken_lab: KrakenLab) -> None:
    first = OLDEST_CANDLE - 60 * MINUTE
    rows = minutes(first, 2)
    kraken_lab.put("XXBTZUSD", "1m", [replace(rows[0], high="NaN"), rows[1]])

    batch = fetch(kraken_lab, "kraken", first, first + 10 * MINUTE)

    (refused,) = batch.rejected.to_dict("records")
    assert refused["reason"] == "not a trade: price is missing or not a number"
    assert refused["ts"] == pd.Timestamp(first) + pd.Timedelta(seconds=13.5)
    assert list(batch.bars["trade_count"]) == [3, 4]


def test_a_daily_candle_carries_its_session_date(kraken_lab: KrakenLab) -> None:
    days = [datetime(2026, 11, day, tzinfo=UTC) for day in (18, 19, 20)]
    kraken_lab.put("XXBTZUSD", "1d", [Row(day) for day in days])

    bars = fetch(kraken_lab, "kraken", days[0], days[2] + timedelta(1), timeframe="1d").bars

    assert list(bars["ts"]) == [pd.Timestamp(day) for day in days]
    assert list(bars["is_final"]) == [True, True, False]


# --- Binance ------------------------------------------------------------------------------


def test_binance_tells_mean_price_and_number_of_trades(binance_lab: BinanceLab) -> None:
    first = NOW.replace(second=0) - 5 * MINUTE
    binance_lab.put("BTCUSDT", "1m", [Row(first)])

    (bar,) = fetch(binance_lab, "binance", first, NOW, "BTC/USDT").bars.to_dict("records")

    assert bar["vwap"] == pytest.approx(10.25)
    assert bar["trade_count"] == 7


def test_a_mean_price_never_leaves_its_bar(binance_lab: BinanceLab) -> None:
    first = NOW.replace(second=0) - 5 * MINUTE
    binance_lab.put("BTCUSDT", "1m", [Row(first, 10.2, 10.2, 10.2, 10.2, 3)])

    assert list(fetch(binance_lab, "binance", first, NOW, "BTC/USDT").bars["vwap"]) == [10.2]


def test_minutes_in_which_binance_was_closed_are_not_known(binance_lab: BinanceLab) -> None:
    first = datetime(2026, 11, 20, 14, 0, tzinfo=UTC)
    quiet = Row(first + MINUTE, 10, 10, 10, 10, 0)
    binance_lab.put("BTCUSDT", "1m", [Row(first), quiet, Row(first + 9 * MINUTE)])

    batch = fetch(binance_lab, "binance", first, first + 30 * MINUTE, "BTC/USDT")

    assert len(batch.bars) == 2
    assert batch.ignored == {NO_TRADES: 1}
    assert batch.covered == [
        ("BTC/USDT", first, first + 2 * MINUTE),
        ("BTC/USDT", first + 9 * MINUTE, first + 10 * MINUTE),
    ]


# --- Coinbase -----------------------------------------------------------------------------


def test_pages_that_lie_in_the_future_are_not_asked_for() -> None:
    with CoinbaseLab() as lab:
        lab.put("BTC-USD", "1m", minutes(NOW - 5 * MINUTE, 3))

        fetch(lab, "ccxt_coinbase", NOW - 10 * MINUTE, NOW + timedelta(days=1))

        assert len(lab.data_requests) == 1


# --- refusals -----------------------------------------------------------------------------


def refusal(lab: HttpLab, exchange: str, symbol: str) -> ProviderError | str:
    """Return what is raised, or the sentence about the symbol alone."""
    try:
        batch = fetch(lab, exchange, NOW - 10 * MINUTE, NOW, symbol)
    except ProviderError as error:
        return error
    return batch.errors[symbol]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("EAPI:Rate limit exceeded", RateLimited),
        ("EGeneral:Too many requests", RateLimited),
        ("EGeneral:Temporary lockout", RateLimited),
        ("EService:Unavailable", TransientError),
        ("EService:Busy", TransientError),
        ("EService:Deadline elapsed", TransientError),
        ("EGeneral:Internal error", TransientError),
        ("EService:Market in post_only mode", TransientError),
        ("EGeneral:Permission denied", AuthError),
        ("EGeneral:Something new", SchemaDrift),
    ],
)
def test_kraken_refuses_in_answers_of_status_200(
    kraken_lab: KrakenLab, text: str, kind: type[ProviderError]
) -> None:
    kraken_lab.put("XXBTZUSD", "1m", minutes(NOW - 5 * MINUTE, 3))
    kraken_lab.refusal = text

    error = refusal(kraken_lab, "kraken", "BTC/USD")

    assert type(error) is kind
    assert text in str(error)
    assert "/0/public/OHLC" in str(error)
    assert "?" not in str(error)


@pytest.mark.parametrize("text", ["EQuery:Unknown asset pair", "EGeneral:Invalid arguments"])
def test_what_concerns_one_pair_is_an_error_of_that_symbol(
    kraken_lab: KrakenLab, text: str
) -> None:
    kraken_lab.put("XXBTZUSD", "1m", minutes(NOW - 5 * MINUTE, 3))
    kraken_lab.refusal = text

    assert text in str(refusal(kraken_lab, "kraken", "BTC/USD"))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (binance.refused(418, -1003, "Way too many requests; IP banned."), RateLimited),
        (binance.refused(429, -1003, "Too many requests."), RateLimited),
        (binance.refused(400, -1003, "Too many requests."), RateLimited),
        (binance.refused(400, -1001, "Internal error; unable to process."), TransientError),
        (Reply(b"<html>Forbidden</html>", 403, {"Content-Type": "text/html"}), RateLimited),
        (binance.refused(451, 0, "Service unavailable from a restricted location"), AuthError),
        (Reply({"elsewhere": True}, 302, {"Location": "/api/v3/ping"}), SchemaDrift),
        (Reply({"unexpected": True}), SchemaDrift),
    ],
    ids=["418", "429", "400-1003", "400-1001", "firewall", "451", "redirect", "drift"],
)
def test_refusals_of_binance_by_name(
    binance_lab: BinanceLab, reply: Reply, kind: type[ProviderError]
) -> None:
    binance_lab.put("BTCUSDT", "1m", minutes(NOW - 5 * MINUTE, 3))
    binance_lab.refusal = reply

    assert type(refusal(binance_lab, "binance", "BTC/USDT")) is kind
    assert "/api/v3/ping" not in paths(binance_lab)


def test_a_ban_says_how_long(binance_lab: BinanceLab) -> None:
    binance_lab.put("BTCUSDT", "1m", minutes(NOW - 5 * MINUTE, 3))
    banned = binance.refused(418, -1003, "IP banned.")
    binance_lab.refusal = replace(banned, headers={"Retry-After": "7200"})

    error = refusal(binance_lab, "binance", "BTC/USDT")

    assert isinstance(error, RateLimited)
    assert error.retry_after == 7200
    assert len(binance_lab.data_requests) == 1


def test_markets_of_another_shape_are_drift() -> None:
    pair = {"XXBTZUSD": {"base": "XXBT", "quote": "ZUSD"}}

    with Playback({"/0/public/AssetPairs": {"error": [], "result": pair}}) as lab:
        error = refusal(lab, "kraken", "BTC/USD")

    assert isinstance(error, SchemaDrift)


def test_an_unknown_pair_is_a_bad_request_by_kind(kraken_lab: KrakenLab) -> None:
    gate = Gate("kraken", sleep=lambda _: None)

    batch = fetch(kraken_lab, "kraken", NOW - 10 * MINUTE, NOW, gate=gate)

    assert "Unknown asset pair" in batch.errors["BTC/USD"]
    assert gate.counts.outcomes == {"ok": 1, BadRequest.__name__: 1}


def test_windows_that_touch_are_joined() -> None:
    at = [NOW + n * MINUTE for n in range(5)]

    assert joined([(at[3], at[4]), (at[0], at[1]), (at[1], at[2])]) == (
        (at[0], at[2]),
        (at[3], at[4]),
    )


# --- recordings of the live services ------------------------------------------------------

RECORDINGS = os.environ.get("SCIZOR_RECORDINGS", "")
needs_recordings = pytest.mark.skipif(
    not RECORDINGS,
    reason="set SCIZOR_RECORDINGS to a directory of recorded payloads (kraken/, binance/)",
)


def recording(name: str) -> Any:
    return json.loads((Path(RECORDINGS) / name).read_text(encoding="utf-8"))


@needs_recordings
def test_recorded_klines_arrive_as_recorded() -> None:
    klines = recording("binance/http_spot_market_klines.json")
    first = datetime(2021, 10, 22, 23, 3, tzinfo=UTC)  # 1634943780
    answers = {
        "/api/v3/exchangeInfo": recording("binance/http_spot_market_exchange_info.json"),
        "/api/v3/klines": klines,
    }

    with Playback(answers) as lab:
        batch = fetch(lab, "binance", first, first + 10 * MINUTE, "BTC/USDT")

    for name, place in (("open", 1), ("high", 2), ("low", 3), ("close", 4), ("volume", 5)):
        assert list(batch.bars[name]) == [float(row[place]) for row in klines]
    assert list(batch.bars["trade_count"]) == [row[8] for row in klines]
    assert (batch.bars["vwap"] >= batch.bars["low"]).all()
    assert (batch.bars["vwap"] <= batch.bars["high"]).all()
    assert batch.covered == [("BTC/USDT", first, first + 10 * MINUTE)]


@needs_recordings
def test_recorded_pairs_have_their_steps() -> None:
    answers = {"/0/public/AssetPairs": recording("kraken/http_asset_pairs.json")}

    with Playback(answers) as lab:
        source = CcxtSource("kraken", Gate("kraken"), base_url=lab.url, now=lambda: NOW)
        (market,) = source.fetch_markets()
        source.close()

    assert (market.symbol, market.venue_symbol) == ("BTC/USDT", "XBTUSDT")
    assert (market.price_step, market.min_amount) == (Decimal("0.1"), Decimal("0.00005"))
    assert market.active


@needs_recordings
def test_recorded_products_are_the_same_through_ccxt() -> None:
    answers = {
        "/api/v3/brokerage/market/products": recording("coinbase_advanced/http_products.json")
    }

    with Playback(answers) as lab:
        source = CcxtSource("ccxt_coinbase", Gate("ccxt_coinbase"), base_url=lab.url)
        markets = source.fetch_markets()
        source.close()

    assert [(each.symbol, each.venue_symbol) for each in markets] == [
        ("BTC/USD", "BTC-USD"),
        ("BTC/USDC", "BTC-USDC"),
    ]
    assert {each.price_step for each in markets} == {Decimal("0.01")}
