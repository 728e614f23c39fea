"""`scizor sidecar`: what it says before it begins."""

from pathlib import Path

import pytest

from scizor_core.errors import ConfigError
from scizor_resources.endpoints import Endpoints
from scizor_resources.platform import Platform
from scizor_resources.settings import Settings, load_settings
from scizor_sidecar.building import chosen_feeds


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SCIZOR_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def feeds(**variables: str) -> dict[str, tuple[str, ...]]:
    endpoints = Endpoints("postgresql://nobody@127.0.0.1/none", "redis://127.0.0.1")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(f"SCIZOR_{name.upper()}", value)
        return chosen_feeds(Platform(load_settings(), endpoints))


def test_without_a_choice_the_chain_names_the_feeds_and_the_tape_is_none() -> None:
    assert feeds(chain_asx="yahoo", chain_us="yahoo") == {
        "asx": (),
        "us": (),
        "crypto": ("kraken", "coinbase", "binance"),
    }


def test_a_provider_without_its_key_is_no_feed() -> None:
    assert feeds(chain_us="alpaca,finnhub", finnhub_api_key="k")["us"] == ("finnhub",)


def test_a_choice_goes_before_the_chain() -> None:
    assert feeds(stream_crypto="binance,kraken")["crypto"] == ("binance", "kraken")


def test_the_tape_is_streamed_where_it_is_chosen() -> None:
    assert feeds(stream_asx="tape")["asx"] == ("tape",)


def test_a_market_may_be_left_out() -> None:
    assert feeds(stream_crypto="none", stream_asx="tape")["crypto"] == ()


def test_without_any_feed_it_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match="SCIZOR_STREAM_ASX"):
        feeds(chain_crypto="simulated", chain_asx="simulated", chain_us="simulated")


def test_a_feed_that_is_not_set_up_is_named() -> None:
    endpoints = Endpoints("postgresql://nobody@127.0.0.1/none", "redis://127.0.0.1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIZOR_STREAM_CRYPTO", "kraken")
        platform = Platform(load_settings(), endpoints)

    with pytest.raises(ConfigError, match="krakn"):
        chosen_feeds(platform, frozenset({"kraken", "krakn"}))
