"""What follows when the sidecar reports bars: runs for exactly what was streamed."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from scizor_assets import streaming
from scizor_assets.automation import LAUNCHED_BY
from scizor_assets.streaming import LIVE_BARS, bars_landed
from scizor_resources.platform import Platform

NOON = datetime(2026, 11, 19, 12, 0, tzinfo=UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


class Ticks:
    """The sensor over time, with the cursor that it keeps."""

    def __init__(self, instance: dg.DagsterInstance, platform: Platform) -> None:
        self._instance, self._platform = instance, platform
        self._cursor: str | None = None
        self.at(NOON)

    def at(self, now: datetime) -> Sequence[dg.RunRequest]:
        self._platform.now = lambda: now
        context = dg.build_sensor_context(
            self._instance, cursor=self._cursor, resources={"platform": self._platform}
        )
        found: Any = bars_landed(context)
        self._cursor = context.cursor
        return found if isinstance(found, list) else []

    def report(self, **told: Any) -> None:
        metadata = {
            "market": "crypto",
            "symbols": ["BTC/USD"],
            "timeframes": ["1m"],
            "indicators_written": True,
            "first_ts": "2026-11-19T11:58:00Z",
            "last_ts": "2026-11-19T11:59:00Z",
            **told,
        }
        event = dg.AssetMaterialization(LIVE_BARS, metadata=metadata)
        self._instance.report_runless_asset_event(event)


@pytest.fixture
def ticks(instance: dg.DagsterInstance, platform: Platform) -> Ticks:
    return Ticks(instance, platform)


def test_completeness_is_measured_of_exactly_what_was_streamed(ticks: Ticks) -> None:
    ticks.report(symbols=["BTC/USD"])
    ticks.report(symbols=["ETH/USD"])

    (request,) = ticks.at(NOON)

    assert request.job_name == "crypto_session"
    assert request.partition_key == "2026-11-19"
    assert request.asset_selection == [dg.AssetKey(["crypto", "completeness"])]
    assert request.run_config["ops"] == {
        "crypto__completeness": {"config": {"symbols": ["BTC/USD", "ETH/USD"]}}
    }


def test_it_is_measured_every_five_minutes_of_all_since(ticks: Ticks) -> None:
    ticks.report()
    assert ticks.at(NOON)
    ticks.report(symbols=["ETH/USD"])
    assert not ticks.at(NOON + timedelta(minutes=2))
    ticks.report(symbols=["SOL/USD"])

    (request,) = ticks.at(NOON + timedelta(minutes=5))

    config = request.run_config["ops"]["crypto__completeness"]["config"]
    assert config == {"symbols": ["ETH/USD", "SOL/USD"]}


def test_indicators_that_the_sidecar_has_not_written_are_computed_at_once(ticks: Ticks) -> None:
    ticks.report()
    ticks.at(NOON)
    ticks.report(indicators_written=False, timeframes=["1m", "5m"])

    (request,) = ticks.at(NOON + timedelta(seconds=15))

    names = [key.to_user_string() for key in request.asset_selection or ()]
    assert names == ["crypto/indicators_1m", "crypto/indicators_5m"]


def test_bars_of_two_sessions_are_two_runs(ticks: Ticks) -> None:
    ticks.report(first_ts="2026-11-18T23:59:00Z", last_ts="2026-11-19T00:00:00Z")

    assert [each.partition_key for each in ticks.at(NOON)] == ["2026-11-18", "2026-11-19"]


def test_sessions_without_bars_between_those_that_had_some_are_left_out(ticks: Ticks) -> None:
    ticks.report(
        first_ts="2026-11-09T23:59:00Z",
        last_ts="2026-11-19T00:00:00Z",
        sessions=["2026-11-09", "2026-11-19"],
    )

    assert [each.partition_key for each in ticks.at(NOON)] == ["2026-11-09", "2026-11-19"]


def test_a_market_whose_run_is_under_way_waits(ticks: Ticks, instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(
        dg.GraphDefinition("crypto_session").to_job(), tags={LAUNCHED_BY: "bars_landed"}
    )
    ticks.report()

    assert not ticks.at(NOON)
    instance.report_run_canceled(run)
    assert ticks.at(NOON)


def test_nothing_is_asked_for_twice(ticks: Ticks) -> None:
    ticks.report()

    assert ticks.at(NOON)
    assert not ticks.at(NOON + timedelta(minutes=10))


def test_what_was_reported_before_the_sensor_began_is_left_alone(
    instance: dg.DagsterInstance, platform: Platform
) -> None:
    earlier = Ticks(instance, platform)
    earlier.report()

    assert not Ticks(instance, platform).at(NOON)


def test_each_market_has_a_place_of_its_own(ticks: Ticks) -> None:
    ticks.report()
    ticks.at(NOON)
    ticks.report(
        market="asx",
        symbols=["CBA"],
        first_ts="2026-11-19T00:00:00Z",
        last_ts="2026-11-19T00:01:00Z",
    )

    (request,) = ticks.at(NOON + timedelta(minutes=1))

    assert request.job_name == "asx_session"


def test_a_market_that_closed_long_ago_holds_up_no_other(
    ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_MOST_REPORTS", 3)
    ticks.report(
        market="asx",
        symbols=["CBA"],
        first_ts="2026-11-19T00:00:00Z",
        last_ts="2026-11-19T00:01:00Z",
    )
    now, asked = NOON, []
    for _ in range(4):
        asked.append(len(ticks.at(now)))
        now += timedelta(minutes=5)
        ticks.report()
        ticks.report()

    assert asked == [1, 1, 1, 1]


def test_bars_outside_any_session_hold_up_no_other(
    ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_MOST_REPORTS", 3)
    for _ in range(3):
        ticks.report(market="us", first_ts="2026-11-19T03:00:00Z", last_ts="2026-11-19T03:01:00Z")
    ticks.report()

    assert not ticks.at(NOON)
    assert ticks.at(NOON + timedelta(seconds=15))
