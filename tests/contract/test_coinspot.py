"""CoinspotPrices against its lab, and bars of samples. Payloads are written by hand."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from scizor_core.errors import InvalidInputError
from scizor_core.markets import Timeframe
from scizor_core.schemas.bars import bar_faults
from scizor_core.sessions import get_calendar
from scizor_resources.errors import AuthError, RateLimited, SchemaDrift, TransientError
from scizor_resources.providers.base import REJECTED_COLUMNS, SOURCE_BAR_COLUMNS
from scizor_resources.providers.coinspot.prices import CoinspotPrices
from scizor_resources.providers.coinspot.samples import (
    SAMPLE_COLUMNS,
    bars_from_samples,
    samples_frame,
)
from scizor_resources.providers.coinspot.symbols import from_coinspot_symbol, to_coinspot_symbol
from scizor_resources.providers.gate import Gate
from tests.contract.lab.coinspot_server import PREFIX, CoinspotLab, quote
from tests.contract.lab.server import RETRY_AFTER_SECONDS, TransportFault

NOW = datetime(2026, 11, 21, 12, 0, 7, tzinfo=UTC)
#: The longest wait for an answer, so short that a silent server does not hold the suite up.
TIMEOUT_SECONDS = 1.5
BITCOIN = quote("86689.91", bid="86487.75", ask="86792.95")


class Waits:
    """Stands in for `time.sleep`; remembers what it was asked to wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def lab() -> Iterator[CoinspotLab]:
    with CoinspotLab() as running:
        running.listed = {"btc": BITCOIN}
        yield running


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def prices(lab: CoinspotLab, waits: Waits) -> Iterator[CoinspotPrices]:
    made = CoinspotPrices(
        Gate("coinspot", sleep=waits),
        base_url=lab.url + PREFIX,
        timeout_seconds=TIMEOUT_SECONDS,
        now=lambda: NOW,
    )
    yield made
    made.close()


# --- samples ------------------------------------------------------------------------------


def test_listed_prices_are_samples_at_the_time_of_arrival(
    lab: CoinspotLab, prices: CoinspotPrices
) -> None:
    samples = prices.sample().samples

    assert tuple(samples.columns) == SAMPLE_COLUMNS
    assert str(samples["sampled_at"].dtype) == "datetime64[us, UTC]"
    assert samples.to_dict("records") == [
        {
            "symbol": "BTC/AUD",
            "bid": 86487.75,
            "ask": 86792.95,
            "last": 86689.91,
            "sampled_at": pd.Timestamp(NOW),
            "source": "coinspot",
        }
    ]


def test_a_pair_keeps_its_quote_currency_apart_from_australian_dollars(
    lab: CoinspotLab, prices: CoinspotPrices
) -> None:
    lab.listed["btc_usdt"] = quote("56000.5")

    samples = prices.sample().samples

    assert dict(zip(samples["symbol"], samples["last"], strict=True)) == {
        "BTC/AUD": 86689.91,
        "BTC/USDT": 56000.5,
    }


def test_a_last_price_is_enough_where_nobody_bids_or_asks(
    lab: CoinspotLab, prices: CoinspotPrices
) -> None:
    lab.listed = {"rfox": quote("0.0053")}

    batch = prices.sample()

    [sample] = batch.samples.to_dict("records")
    assert sample["last"] == 0.0053
    assert pd.isna(sample["bid"])
    assert pd.isna(sample["ask"])
    assert batch.rejected.empty


@pytest.mark.parametrize("last", ["NaN", "", "-1.0", "0", "Infinity", None, True])
def test_a_price_without_a_last_is_refused_with_its_reason_and_the_rest_kept(
    lab: CoinspotLab, prices: CoinspotPrices, last: Any
) -> None:
    lab.listed = {"rfox": {"bid": "0.005", "ask": "0.006", "last": last}, "btc": BITCOIN}

    batch = prices.sample()

    assert list(batch.samples["symbol"]) == ["BTC/AUD"]
    [row] = batch.rejected.to_dict("records")
    assert tuple(batch.rejected.columns) == REJECTED_COLUMNS
    assert (row["symbol"], row["row_number"], row["origin"]) == ("RFOX/AUD", 1, "/latest")
    assert "no last price" in row["reason"]
    assert row["payload"] == {"key": "rfox", "bid": "0.005", "ask": "0.006", "last": str(last)}


@pytest.mark.parametrize(
    ("key", "quoted", "reason"),
    [
        ("not a coin", BITCOIN, "is not a symbol of market"),
        ("eth", "3000.0", "no prices in it"),
        ("btc_aud", BITCOIN, "repeated"),
    ],
    ids=["key", "text for prices", "twice"],
)
def test_an_entry_that_is_no_price_is_refused_with_its_reason(
    lab: CoinspotLab, prices: CoinspotPrices, key: str, quoted: Any, reason: str
) -> None:
    lab.listed[key] = quoted

    batch = prices.sample()

    assert list(batch.samples["symbol"]) == ["BTC/AUD"]
    assert reason in batch.rejected["reason"].item()


def test_all_listed_coins_wanted_are_one_call(lab: CoinspotLab, prices: CoinspotPrices) -> None:
    lab.listed |= {"eth": quote("3000.0"), "ltc": quote("120.0")}

    samples = prices.sample(["ETH/AUD", "BTC/AUD"]).samples

    assert list(samples["symbol"]) == ["BTC/AUD", "ETH/AUD"]
    assert [seen.path for seen in lab.requests] == [f"{PREFIX}/latest"]


def test_a_coin_that_is_not_listed_is_asked_for_by_itself(
    lab: CoinspotLab, prices: CoinspotPrices
) -> None:
    lab.unlisted = {"rfox": quote("0.0053"), "eth_usdt": quote("1950.0")}

    samples = prices.sample(["BTC/AUD", "RFOX/AUD", "ETH/USDT", "rfox/aud"]).samples

    assert list(samples["symbol"]) == ["BTC/AUD", "ETH/USDT", "RFOX/AUD"]
    assert [seen.path for seen in lab.requests] == [
        f"{PREFIX}/latest",
        f"{PREFIX}/latest/eth/usdt",
        f"{PREFIX}/latest/rfox",
    ]
    assert prices.gate.counts.requests == 3


def test_no_coin_wanted_is_no_call(lab: CoinspotLab, prices: CoinspotPrices) -> None:
    assert prices.sample([]).samples.empty
    assert lab.requests == []


def test_a_code_that_is_none_is_refused_before_a_call(
    lab: CoinspotLab, prices: CoinspotPrices
) -> None:
    with pytest.raises(InvalidInputError, match="BTC"):
        prices.sample(["BTC"])

    assert lab.requests == []


@pytest.mark.parametrize("status", [400, 200])
def test_an_unknown_coin_is_an_error_of_its_own_with_coinspots_words(
    lab: CoinspotLab, prices: CoinspotPrices, status: int
) -> None:
    lab.refusal_status = status

    batch = prices.sample(["NOSUCH/AUD", "BTC/AUD"])

    assert list(batch.samples["symbol"]) == ["BTC/AUD"]
    assert list(batch.errors) == ["NOSUCH/AUD"]
    assert "Invalid coin type or market specified" in batch.errors["NOSUCH/AUD"]


def test_no_prices_are_no_samples(lab: CoinspotLab, prices: CoinspotPrices) -> None:
    lab.listed = {}

    samples = prices.sample().samples

    assert samples.empty
    assert tuple(samples.columns) == SAMPLE_COLUMNS


@pytest.mark.parametrize(
    "answer", [{"status": "ok"}, {"status": "ok", "prices": []}, [1]], ids=["none", "list", "array"]
)
def test_an_answer_without_prices_is_schema_drift(
    lab: CoinspotLab, prices: CoinspotPrices, answer: Any
) -> None:
    lab.latest = answer

    with pytest.raises(SchemaDrift, match="prices"):
        prices.sample()


# --- faults of the transport, with the expectations of `test_every_provider` ---------------


def test_a_refusal_for_too_many_requests_has_that_name(
    lab: CoinspotLab, prices: CoinspotPrices
) -> None:
    lab.inject("rate_limited")

    with pytest.raises(RateLimited) as caught:
        prices.sample()

    assert caught.value.provider == "coinspot"
    assert len(lab.requests) == 1


def test_a_rest_that_the_provider_asks_for_is_taken(
    lab: CoinspotLab, prices: CoinspotPrices, waits: Waits
) -> None:
    lab.inject("rate_limited_retry_after", times=1)

    assert len(prices.sample().samples) == 1
    assert RETRY_AFTER_SECONDS in waits.seconds


def test_one_server_error_is_got_over(lab: CoinspotLab, prices: CoinspotPrices) -> None:
    lab.inject("server_error", times=1)

    assert len(prices.sample().samples) == 1
    assert prices.gate.counts.retries == 1


@pytest.mark.parametrize("fault", ["server_error", "cut_body", "slow_drip", "html", "silence"])
def test_a_broken_answer_is_an_error_and_never_no_data(
    lab: CoinspotLab, prices: CoinspotPrices, fault: TransportFault
) -> None:
    lab.inject(fault)

    with pytest.raises(TransientError) as caught:
        prices.sample()

    assert caught.value.provider == "coinspot"


def test_a_refused_address_is_an_error_of_that_name(
    lab: CoinspotLab, prices: CoinspotPrices
) -> None:
    lab.inject("invalid_credentials")

    with pytest.raises(AuthError, match="asks for no key"):
        prices.sample()


def test_a_refused_connection_is_an_error_and_never_no_data(
    lab: CoinspotLab, prices: CoinspotPrices
) -> None:
    lab.stop()

    with pytest.raises(TransientError):
        prices.sample()


# --- bars of samples ----------------------------------------------------------------------

FIVE_PAST = datetime(2026, 11, 21, 12, 5, tzinfo=UTC)


def sampled(*lasts: tuple[int, float], symbol: str = "BTC/AUD") -> list[dict[str, Any]]:
    """Return samples given as seconds after 12:05 and price."""
    return [
        {
            "symbol": symbol,
            "bid": None,
            "ask": None,
            "last": last,
            "sampled_at": FIVE_PAST + timedelta(seconds=seconds),
            "source": "coinspot",
        }
        for seconds, last in lasts
    ]


def test_a_bar_has_first_highest_lowest_and_last_sample_of_its_interval() -> None:
    samples = samples_frame(sampled((0, 10.0), (60, 12.0), (120, 9.0), (299, 11.0), (300, 50.0)))

    bars = bars_from_samples(samples, "5m", now=FIVE_PAST + timedelta(minutes=7))

    assert tuple(bars.columns) == SOURCE_BAR_COLUMNS
    assert list(bars["ts"]) == [
        pd.Timestamp(FIVE_PAST),
        pd.Timestamp(FIVE_PAST + timedelta(minutes=5)),
    ]
    assert bars[["open", "high", "low", "close"]].to_numpy().tolist() == [
        [10.0, 12.0, 9.0, 11.0],
        [50.0, 50.0, 50.0, 50.0],
    ]
    assert list(bars["is_final"]) == [True, False]


def test_samples_in_any_order_make_the_same_bar() -> None:
    samples = samples_frame(sampled((0, 10.0), (60, 12.0), (120, 9.0)))

    bars = bars_from_samples(samples.iloc[::-1], "5m", now=NOW)

    assert (bars["open"].item(), bars["close"].item()) == (10.0, 9.0)


def test_bars_of_samples_are_marked_and_know_no_volume() -> None:
    bars = bars_from_samples(samples_frame(sampled((0, 10.0))), "1m", now=NOW)

    assert bars["source"].item() == "coinspot:sampled"
    assert bars["volume"].item() == 0.0
    assert bars[["vwap", "trade_count", "adj_close"]].isna().all(axis=None)


def test_symbols_have_bars_of_their_own() -> None:
    samples = samples_frame(sampled((0, 10.0)) + sampled((0, 3.0), symbol="ETH/AUD"))

    bars = bars_from_samples(samples, "5m", now=NOW)

    assert list(zip(bars["symbol"], bars["close"], strict=True)) == [
        ("BTC/AUD", 10.0),
        ("ETH/AUD", 3.0),
    ]


def test_an_interval_without_a_sample_has_no_bar() -> None:
    samples = samples_frame(sampled((0, 10.0), (900, 11.0)))

    bars = bars_from_samples(samples, "5m", now=NOW)

    assert list(bars["ts"].dt.minute) == [5, 20]


def test_no_samples_are_no_bars() -> None:
    assert bars_from_samples(samples_frame([]), "5m", now=NOW).empty


@pytest.mark.parametrize("timeframe", ["1m", "5m", "15m", "1d"])
def test_bars_of_samples_keep_the_contract_of_bars(timeframe: Timeframe) -> None:
    samples = samples_frame(sampled((0, 10.0), (30, 12.0), (4000, 9.0)))

    bars = bars_from_samples(samples, timeframe, now=NOW)

    assert set(bar_faults(bars, get_calendar("crypto"), timeframe)) == {""}


# --- symbols ------------------------------------------------------------------------------


@pytest.mark.parametrize(("symbol", "key"), [("BTC/AUD", "btc"), ("BTC/USDT", "btc_usdt")])
def test_symbols_map_both_ways(symbol: str, key: str) -> None:
    assert to_coinspot_symbol("crypto", symbol) == key
    assert from_coinspot_symbol("crypto", key) == symbol


def test_shares_are_not_coins() -> None:
    with pytest.raises(InvalidInputError, match="serves market 'crypto' only"):
        to_coinspot_symbol("asx", "CBA")
