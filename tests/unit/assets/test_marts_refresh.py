"""The sensor `marts_refresh`: when the marts are built anew, and when not."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from scizor_assets.backfills import WATCHLIST_CHANGES
from scizor_assets.marts_refresh import NAME, build_marts_refresh


@dg.asset(key=["asx", "bars_1d"])
def bars() -> None:
    """Stand for what the marts are made of."""


@dg.multi_asset(
    specs=[
        dg.AssetSpec(["staging", "stg"], deps=[dg.AssetKey(["asx", "bars_1d"])]),
        dg.AssetSpec(["marts", "daily"], deps=[dg.AssetKey(["staging", "stg"])]),
    ],
    name="marts",
)
def marts() -> Iterator[object]:
    """Stand for all dbt models."""
    yield from ()


@dataclass(frozen=True)
class Settings:
    marts_every_seconds: int = 300


@dataclass
class Platform:
    """What the sensor asks of the platform."""

    at: datetime
    settings: Settings = Settings()

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def materialize(instance: dg.DagsterInstance, *path: str) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(path)))


def build(
    instance: dg.DagsterInstance,
    launched_by: str,
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.SUCCESS,
) -> None:
    """Record a run that somebody has launched, now."""
    job = dg.Definitions(assets=[bars, marts]).resolve_implicit_global_asset_job_def()
    instance.create_run_for_job(job, tags={"scizor/launched_by": launched_by}, status=status)


def look(instance: dg.DagsterInstance, after_seconds: float) -> str | None:
    """Evaluate the sensor so many seconds from now; returns why it asks for nothing, else None."""
    sensor = build_marts_refresh(marts)
    platform = Platform(datetime.now(UTC) + timedelta(seconds=after_seconds))
    found = sensor(dg.build_sensor_context(instance=instance), platform=platform)
    assert isinstance(found, dg.RunRequest | dg.SkipReason)
    return str(found.skip_message) if isinstance(found, dg.SkipReason) else None


def test_without_anything_materialized_nothing_is_built(instance: dg.DagsterInstance) -> None:
    assert look(instance, 0) == "Nothing has changed since the last build."


def test_the_first_bars_are_built_into_the_marts_at_once(instance: dg.DagsterInstance) -> None:
    materialize(instance, "asx", "bars_1d")

    assert look(instance, 0) is None


def test_nothing_is_built_twice_from_the_same(instance: dg.DagsterInstance) -> None:
    materialize(instance, "asx", "bars_1d")
    build(instance, NAME)

    assert look(instance, 3600) == "Nothing has changed since the last build."


def test_what_comes_in_all_the_time_is_built_every_five_minutes(
    instance: dg.DagsterInstance,
) -> None:
    build(instance, NAME)
    materialize(instance, "asx", "bars_1d")

    assert "The next build is due at" in str(look(instance, 295))
    assert look(instance, 301) is None


def test_bars_of_a_new_symbol_are_built_after_a_minute(instance: dg.DagsterInstance) -> None:
    build(instance, NAME)
    materialize(instance, "asx", "bars_1d")
    build(instance, WATCHLIST_CHANGES)

    assert "The next build is due at" in str(look(instance, 55))
    assert look(instance, 61) is None


def test_a_failed_backfill_of_a_new_symbol_hurries_nobody(instance: dg.DagsterInstance) -> None:
    build(instance, NAME)
    materialize(instance, "asx", "bars_1d")
    build(instance, WATCHLIST_CHANGES, dg.DagsterRunStatus.FAILURE)

    assert "The next build is due at" in str(look(instance, 61))


def test_one_build_at_a_time(instance: dg.DagsterInstance) -> None:
    build(instance, NAME, dg.DagsterRunStatus.STARTED)
    materialize(instance, "asx", "bars_1d")

    assert look(instance, 3600) == "The marts are being built."


def test_a_build_that_failed_is_not_tried_again_before_its_time(
    instance: dg.DagsterInstance,
) -> None:
    build(instance, NAME, dg.DagsterRunStatus.FAILURE)
    materialize(instance, "asx", "bars_1d")

    assert "The next build is due at" in str(look(instance, 100))


def test_its_own_models_are_no_change(instance: dg.DagsterInstance) -> None:
    materialize(instance, "staging", "stg")

    assert look(instance, 0) == "Nothing has changed since the last build."
