"""CoinSpot's prices through the asset into PostgreSQL, and bars of what was sampled."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from scizor_assets.exchange import coinspot_prices, coinspot_prices_checks
from scizor_resources.platform import Platform
from scizor_resources.providers.base import BarRequest, SymbolRef
from tests.contract.lab.coinspot_server import PREFIX, CoinspotLab, quote

from .helpers import collector, query

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
TODAY = "2026-11-20"


@pytest.fixture
def lab() -> Iterator[CoinspotLab]:
    with CoinspotLab() as running:
        yield running


@pytest.fixture
def spot(platform: Platform, lab: CoinspotLab) -> Platform:
    platform.settings = platform.settings.model_copy(update={"coinspot_base_url": lab.url + PREFIX})
    return platform


def sample(platform: Platform, at: datetime, partition: str = TODAY) -> dg.MaterializeResult:
    platform.now = lambda: at
    return coinspot_prices(dg.build_asset_context(partition_key=partition), platform)


def test_the_last_look_of_each_five_minutes_is_kept(spot: Platform, lab: CoinspotLab) -> None:
    for minute, price in ((1, "100.5"), (4, "101.5"), (6, "102.5")):
        lab.listed = {"btc": quote(price, "100", "103")}
        sample(spot, NOON + timedelta(minutes=minute))

    rows = query(spot, 'SELECT * FROM exchange.coinspot_prices ORDER BY "timestamp"')

    assert [(row["symbol"], row["timestamp"], row["last"]) for row in rows] == [
        ("BTC/AUD", NOON, 101.5),
        ("BTC/AUD", NOON + timedelta(minutes=5), 102.5),
    ]
    assert {row["source"] for row in rows} == {"coinspot"}


def test_a_price_that_is_no_number_goes_to_quarantine(spot: Platform, lab: CoinspotLab) -> None:
    lab.listed = {"btc": quote("100.5"), "rfox": quote("NaN", "0.1", "0.2")}

    result = sample(spot, NOON)

    assert (result.metadata["rows"], result.metadata["rows_newly_quarantined"]) == (1, 1)
    (row,) = query(spot, "SELECT * FROM quality.quarantine")
    assert (row["symbol"], row["source"]) == ("RFOX/AUD", "coinspot")
    assert "not a number above zero" in row["reason"]


def test_a_day_that_is_over_cannot_be_sampled(spot: Platform, lab: CoinspotLab) -> None:
    result = sample(spot, NOON, "2026-11-19")

    assert "the present only" in result.metadata["empty_reason"]
    assert lab.requests == []


def test_a_failure_is_recorded_and_fails_the_run(spot: Platform, lab: CoinspotLab) -> None:
    lab.inject("invalid_credentials")

    with pytest.raises(dg.Failure):
        sample(spot, NOON)

    (row,) = query(spot, "SELECT * FROM collector_runs")
    assert (row["provider"], row["status"], row["requests"]) == ("coinspot", "failed", 1)
    assert (row["asset"], row["partition"]) == ("exchange/coinspot_prices", TODAY)


def test_bars_of_samples_say_that_they_are_sampled(spot: Platform, lab: CoinspotLab) -> None:
    spot.reference.ensure("crypto", "BTC/AUD")
    for minute, price in ((1, "100.5"), (6, "102.5")):
        lab.listed = {"btc": quote(price)}
        sample(spot, NOON + timedelta(minutes=minute))
    source = spot.source("coinspot")

    report = collector(
        spot, "5m", source, market="crypto", now=lambda: NOON + timedelta(hours=1)
    ).collect(NOON.date(), NOON.date() + timedelta(days=1), ["BTC/AUD"])

    assert report.sources == {"coinspot:sampled": 2}
    rows = query(spot, "SELECT ts, open, close, source FROM crypto.bars_5m ORDER BY ts")
    assert [(row["ts"], row["close"]) for row in rows] == [
        (NOON, 100.5),
        (NOON + timedelta(minutes=5), 102.5),
    ]


def test_a_symbol_without_samples_has_a_reason(spot: Platform) -> None:
    request = BarRequest(
        "crypto", "5m", NOON, NOON + timedelta(hours=1), (SymbolRef(1, "ETH/AUD"),)
    )
    batch = spot.source("coinspot").fetch_bars(request)
    assert "ETH/AUD" in batch.empty_reasons["ETH/AUD"]


def judge(platform: Platform) -> dict[str, dg.AssetCheckEvaluation]:
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize(
            [coinspot_prices, coinspot_prices_checks],
            partition_key=TODAY,
            resources={"platform": platform},
            instance=instance,
        )
    return {each.check_name: each for each in done.get_asset_check_evaluations()}


def test_a_coin_that_was_not_looked_at_for_long_is_named(spot: Platform, lab: CoinspotLab) -> None:
    lab.listed = {"btc": quote("100", "99", "101"), "eth": quote("10", "9.9", "10.1")}
    sample(spot, NOON)
    for minutes in range(5, 60, 5):
        lab.listed = {"btc": quote("100", "99", "101")}
        sample(spot, NOON + timedelta(minutes=minutes))

    found = judge(spot)

    assert {name: each.passed for name, each in found.items()} == {
        "sources": True,
        "schema": True,
        "coverage": False,
        "spread": True,
    }
    (row,) = found["coverage"].metadata["first_rows"].value
    assert (row["symbol"], row["seen"], row["of"]) == ("ETH/AUD", 1, 11)


def test_bid_and_ask_far_apart_or_crossed_are_named_widest_first(
    spot: Platform, lab: CoinspotLab
) -> None:
    lab.listed = {
        "btc": quote("100", "99", "101"),
        "wide": quote("100", "80", "120"),
        "crossed": quote("100", "101", "99"),
    }
    sample(spot, NOON)

    (first, second) = judge(spot)["spread"].metadata["first_rows"].value

    assert (first["symbol"], first["spread_percent"]) == ("WIDE/AUD", 40.0)
    assert second["symbol"] == "CROSSED/AUD"
    (row,) = query(spot, "SELECT * FROM exchange.coinspot_prices WHERE symbol = 'BTC/AUD'")
    assert (row["spread"], row["spread_percent"]) == (2.0, 2.0)
