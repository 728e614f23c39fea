"""What other processes make of the streaming sidecar: whether one should run, and how it is."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scizor_core.errors import ConfigError
from scizor_resources.health.judging import judge
from scizor_resources.health.report import Facts, StreamFacts
from scizor_resources.settings import Settings, load_settings
from scizor_resources.streaming import is_wanted, read_state

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CONNECTED = {"state": "connected", "why": "subscribed", "streams": 2, "trades_per_second": 1.5}
REFUSED = {"state": "refused", "why": "the key is wrong", "streams": 0, "trades_per_second": 0}


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SCIZOR_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def judged(state: dict[str, Any] | None, *, is_wanted: bool = True) -> dict[str, tuple[str, str]]:
    facts = Facts(NOW, streaming=StreamFacts(is_wanted, state))
    return {each.name: (each.state, each.said) for each in judge(facts, ("streaming",))}


def running(**changes: Any) -> dict[str, Any]:
    return {
        "pid": 1,
        "host": "here",
        "url": "http://127.0.0.1:8790",
        "batches_on_disk": 0,
        "feeds": {"kraken": CONNECTED},
        **changes,
    }


def test_a_sidecar_that_runs_is_well_and_so_are_its_feeds() -> None:
    assert judged(running()) == {
        "sidecar": ("ok", "It runs on here, page and API at http://127.0.0.1:8790."),
        "kraken": ("ok", "Connected. 2 symbols, 1.5 trades/s."),
    }


def test_a_sidecar_that_should_run_and_does_not_is_a_failure() -> None:
    (state, said) = judged(None)["sidecar"]
    assert state == "fail"
    assert "scizor sidecar" in said


def test_without_a_live_feed_none_has_to_run() -> None:
    assert judged(None, is_wanted=False)["sidecar"] == ("ok", "No live feed is set up.")


def test_bars_that_wait_on_disk_are_worth_a_look() -> None:
    state, said = judged(running(batches_on_disk=3))["sidecar"]
    assert state == "warn"
    assert "3 batches" in said


@pytest.mark.parametrize(
    ("feed", "state"),
    [(REFUSED, "fail"), ({**REFUSED, "state": "waiting"}, "warn")],
    ids=["refused", "tries again"],
)
def test_a_feed_that_is_not_connected_says_why(feed: dict[str, Any], state: str) -> None:
    found, said = judged(running(feeds={"alpaca": feed}))["alpaca"]
    assert found == state
    assert "The key is wrong." in said


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"PROFILE": "live"}, True),
        ({"PROFILE": "live", "STREAM_CRYPTO": "none"}, False),
        ({"STREAM_CRYPTO": "kraken"}, True),
        ({"STREAM_CRYPTO": "none"}, False),
        ({"CHAIN_CRYPTO": "tape,kraken"}, False),
    ],
    ids=["nothing", "live", "live, not streamed", "a feed", "none", "a chain alone"],
)
def test_a_sidecar_is_wanted_with_a_feed_or_in_the_live_profile(
    variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"SCIZOR_{name}", value)
    assert is_wanted(load_settings()) is expected


def test_a_feed_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIZOR_STREAM_CRYPTO", "kraken,yahoo")
    with pytest.raises(ConfigError, match=r"SCIZOR_STREAM_CRYPTO: 'yahoo' is not a live feed"):
        load_settings()


def test_what_is_streamed_with_its_book_is_written_with_its_market(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCIZOR_STREAM_DEPTH", "CBA")
    with pytest.raises(ConfigError, match="market:SYMBOL"):
        load_settings()


@pytest.mark.parametrize("told", [None, b"no json", b"[1]"], ids=["nothing", "broken", "a list"])
def test_without_a_readable_state_no_sidecar_runs(told: bytes | None) -> None:
    assert read_state(lambda _: [told]) is None


def told(feed: str, latency: float | None, uptime: float, **feeds: object) -> dict[str, Any]:
    """Return what a sidecar says that streams one feed."""
    about = {"subject": feed, "market": "crypto", "note": ""}
    state = {"state": "connected", "why": "", "streams": 2, "trades_per_second": 1.5, **feeds}
    return {
        "pid": 7,
        "host": "here",
        "url": f"http://{feed}",
        "open_outages": 1,
        "feeds": {feed: state},
        "kpis": {
            "data_latency_ms": [{**about, "value": latency}],
            "connection_uptime_percent": [{**about, "value": uptime}],
        },
    }


def merged(*states: dict[str, Any]) -> dict[str, Any]:
    state = read_state(lambda _: [None, *(json.dumps(each) for each in states)])
    assert state is not None
    return state


def test_several_that_share_the_feeds_are_told_together():
    state = merged(told("kraken", 900, 99), told("coinbase", 20, 100))

    assert list(state["feeds"]) == ["kraken", "coinbase"]
    assert [each["value"] for each in state["kpis"]["data_latency_ms"]] == [900, 20]
    assert (state["url"], state["open_outages"]) == ("http://kraken, http://coinbase", 2)
    assert (state["pid"], state["host"]) == ("7", "here")


def test_of_several_that_share_the_symbols_of_a_feed_the_worse_is_told():
    state = merged(
        told("kraken", 900, 99),
        told("kraken", 20, 50, state="waiting", why="cut"),
        told("kraken", None, 100),
    )

    feed = state["feeds"]["kraken"]
    assert (feed["state"], feed["why"], feed["streams"]) == ("waiting", "cut", 6)
    assert [each["value"] for each in state["kpis"]["data_latency_ms"]] == [900]
    assert [each["value"] for each in state["kpis"]["connection_uptime_percent"]] == [50]
