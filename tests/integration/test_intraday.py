"""The sensors of open markets: slow runs, a watchlist that changes, and what they request.

The tests of whole weeks are in `test_simulated_weeks`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from scizor_assets.automation import LAUNCHED_BY
from scizor_assets.build import build_defs
from scizor_resources.platform import Platform

from .helpers import execute, query
from .test_simulated_weeks import (
    DEFS,
    EVERYTHING,
    INTRADAY,
    MINUTE,
    REPOSITORY,
    WEEKS,
    FakePlatform,
    described,
    walk_sensor,
)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def evaluate(
    context: dg.SensorEvaluationContext, platform: Any, market: str, moment: str
) -> list[tuple[str, str]]:
    """Return time and content of what a sensor requests at a time of 11 March 2025, UTC."""
    platform.at = datetime.fromisoformat(f"2025-03-11T{moment}+00:00")
    found = DEFS.resolve_sensor_def(INTRADAY[market]).evaluate_tick(context).run_requests
    return [(moment, described(request)) for request in found]


def test_while_a_refresh_is_slow_none_is_added_and_the_next_one_covers_what_was_skipped(
    instance: dg.DagsterInstance,
) -> None:
    platform = FakePlatform(datetime(2025, 3, 11, tzinfo=UTC))
    slow = instance.create_run_for_job(
        DEFS.resolve_job_def("us_session"),
        tags={LAUNCHED_BY: "us_intraday"},
        status=dg.DagsterRunStatus.STARTED,
    )
    asked = []
    with dg.build_sensor_context(
        instance, repository_def=REPOSITORY, resources={"platform": platform}
    ) as context:
        for minute in range(3, 9):
            for second in (3, 18, 33, 48):
                moment = f"14:{minute:02}:{second:02}"
                if moment == "14:07:18":
                    instance.report_run_canceled(slow)
                asked += evaluate(context, platform, "us", moment)
    # Begun at 14:02 and over at 14:07: of what was due in between, one run remains.
    assert asked == [("14:07:18", EVERYTHING["us"]), ("14:08:03", MINUTE["us"])]


@pytest.mark.parametrize("status", ["QUEUED", "NOT_STARTED", "STARTING", "STARTED"])
def test_a_refresh_that_waits_for_a_worker_is_one_that_is_slow(
    instance: dg.DagsterInstance, status: str
) -> None:
    location = RegisteredCodeLocationOrigin("scizor")
    instance.create_run_for_job(
        DEFS.resolve_job_def("us_session"),
        tags={LAUNCHED_BY: "us_intraday"},
        status=dg.DagsterRunStatus[status],
        # Only what is loaded from somewhere can be queued.
        remote_job_origin=RemoteRepositoryOrigin(location, "scizor").get_job_origin("us_session"),
    )
    platform = FakePlatform(datetime(2025, 3, 11, tzinfo=UTC))
    with dg.build_sensor_context(
        instance, repository_def=REPOSITORY, resources={"platform": platform}
    ) as context:
        assert evaluate(context, platform, "us", "14:05:03") == []


def test_a_market_does_not_wait_for_the_slow_run_of_another(instance: dg.DagsterInstance) -> None:
    instance.create_run_for_job(
        DEFS.resolve_job_def("asx_session"),
        tags={LAUNCHED_BY: "asx_intraday"},
        status=dg.DagsterRunStatus.STARTED,
    )
    platform = FakePlatform(datetime(2025, 3, 11, tzinfo=UTC))
    with dg.build_sensor_context(
        instance, repository_def=REPOSITORY, resources={"platform": platform}
    ) as context:
        assert evaluate(context, platform, "us", "14:05:03") != []


@dataclass
class ClockedPlatform:
    """The real platform's tables with a clock that the test sets."""

    at: datetime
    platform: Platform

    @property
    def reference(self) -> Any:
        return self.platform.reference

    def now(self) -> datetime:
        return self.at


def test_a_change_of_the_watchlist_by_sql_acts_at_the_next_tick(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    clocked = ClockedPlatform(datetime(2025, 3, 11, tzinfo=UTC), platform)
    asked = []
    with dg.build_sensor_context(
        instance, repository_def=REPOSITORY, resources={"platform": clocked}
    ) as context:
        for moment, change in {
            "14:01:03": "SELECT 1",
            # Not known before, and beside it one that cannot be a symbol.
            "14:02:03": "INSERT INTO public.watchlist (market, symbol, priority, collect_1min) "
            "VALUES ('US', 'aapl', 1, true), ('us', '???', 1, true)",
            "14:05:03": "SELECT 1",
            "14:06:03": "UPDATE public.watchlist SET priority = 2 WHERE symbol = 'aapl'",
            "14:10:03": "SELECT 1",
            "14:11:03": "UPDATE public.watchlist SET priority = 1, collect_1min = false "
            "WHERE symbol = 'aapl'",
            "14:12:03": "DELETE FROM public.watchlist WHERE market IN ('US', 'us')",
            "14:15:03": "SELECT 1",
        }.items():
            execute(platform, change)
            asked += evaluate(context, clocked, "us", moment)
    assert asked == [
        ("14:02:03", EVERYTHING["us"]),
        ("14:05:03", EVERYTHING["us"]),
        ("14:10:03", EVERYTHING["us"]),
        ("14:11:03", "bars 5m AAPL; indicators 5m AAPL; no checks"),
    ]


def test_a_symbol_of_tier_1_added_by_sql_becomes_an_instrument_at_the_next_minute(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    clocked = ClockedPlatform(datetime(2025, 3, 11, tzinfo=UTC), platform)
    add = "INSERT INTO public.watchlist (market, symbol, priority) VALUES ('us', %s, 1)"
    execute(platform, add, "MSFT")
    with dg.build_sensor_context(
        instance, repository_def=REPOSITORY, resources={"platform": clocked}
    ) as context:
        evaluate(context, clocked, "us", "14:00:03")
        execute(platform, add, "NVDA")
        execute(platform, add, "not a symbol")
        asked = evaluate(context, clocked, "us", "14:01:03")
    assert asked == [("14:01:03", "bars 5m MSFT NVDA; indicators 5m MSFT NVDA; no checks")]
    assert [each.symbol for each in platform.reference.instruments("us", ["NVDA"])] == ["NVDA"]


# ---- what is requested can be run


@pytest.mark.parametrize("market", list(INTRADAY))
def test_the_run_config_of_each_request_is_one_that_its_job_takes(
    market: str, instance: dg.DagsterInstance
) -> None:
    start = datetime(2025, 3, 11, 14, tzinfo=UTC) if market != "asx" else WEEKS[2].bounds[0]
    found = walk_sensor(
        INTRADAY[market], FakePlatform(start), instance, start, start + timedelta(minutes=70)
    )
    job = REPOSITORY.get_job(f"{market}_session")
    for request in {described(request): request for _, request in found}.values():
        subset = job.get_subset(
            asset_selection=frozenset(request.asset_selection or ()),
            asset_check_selection=(
                None if request.asset_check_keys is None else frozenset(request.asset_check_keys)
            ),
        )
        assert dg.validate_run_config(subset, request.run_config)
        checks = {each.name for each in subset.asset_layer.asset_graph.asset_check_keys}
        assert bool(checks) == (request.asset_check_keys is None)


#: When Sydney trades on 11 March 2025, from 23:00 UTC of the day before; a refresh of 10:07 there.
OPEN = datetime(2025, 3, 10, 23, 7, 3, tzinfo=UTC)


@pytest.fixture
def simulated(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform with CBA in tier 1 and RIO in tier 2, whose bars are simulated."""
    execute(platform, "DELETE FROM public.watchlist WHERE symbol NOT IN ('CBA', 'RIO')")
    chosen = platform.settings.model_copy(update={"chain_asx": ("simulated",)})
    monkeypatch.setattr(platform, "settings", chosen)
    monkeypatch.setattr(platform, "now", lambda: OPEN)
    return platform


def run(
    platform: Platform, instance: dg.DagsterInstance, cursor: str | None
) -> tuple[str, dg.ExecuteInProcessResult]:
    """Evaluate the sensor of the ASX and do what it requests; returns its cursor and the run."""
    with dg.build_sensor_context(
        instance, cursor=cursor, repository_def=REPOSITORY, resources={"platform": platform}
    ) as context:
        found = DEFS.resolve_sensor_def("asx_intraday").evaluate_tick(context)
    (request,) = found.run_requests or ()
    defs = build_defs({"platform": dg.ResourceDefinition.hardcoded_resource(platform)}, marts=False)
    job = defs.resolve_job_def("asx_session").get_subset(
        asset_selection=frozenset(request.asset_selection or ()),
        asset_check_selection=(
            None if request.asset_check_keys is None else frozenset(request.asset_check_keys)
        ),
    )
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    result = job.execute_in_process(
        instance=instance,
        partition_key=request.partition_key,
        tags=dict(request.tags),
        run_config={**request.run_config, **quiet},
    )
    assert found.cursor is not None
    return found.cursor, result


def stored(platform: Platform, table: str) -> dict[str, int]:
    rows = query(
        platform,
        f"SELECT s.symbol || ' ' || t.timeframe AS what, count(*) AS n FROM {table} AS t "
        "JOIN public.symbols AS s USING (instrument_id) GROUP BY 1 ORDER BY 1",
    )
    return {row["what"]: row["n"] for row in rows}


def test_a_refresh_of_a_minute_asks_for_tier_1_alone_and_one_of_everything_for_all(
    simulated: Platform, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor, result = run(simulated, instance, None)
    assert result.success
    assert result.get_asset_check_evaluations() != []
    assert set(stored(simulated, "market.bars")) == {
        "CBA 1m", "CBA 5m", "CBA 15m", "RIO 5m", "RIO 15m"
    }  # fmt: skip
    execute(simulated, "TRUNCATE market.bars, market.indicators")
    monkeypatch.setattr(simulated, "now", lambda: OPEN + timedelta(minutes=1))
    _, result = run(simulated, instance, cursor)
    assert result.success
    assert result.get_asset_check_evaluations() == []
    assert set(stored(simulated, "market.bars")) == {"CBA 1m", "CBA 5m"}
    assert stored(simulated, "market.indicators") == stored(simulated, "market.bars")
