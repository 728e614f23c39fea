"""Schedules and sensors as they stand on the page of automation."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from scizor_assets.build import build_defs
from scizor_assets.schedules import closing_crons
from scizor_core.markets import MARKETS

DEFS = build_defs(marts=False)
SCHEDULES = {each.name: each for each in DEFS.schedules or ()}
SENSORS = {each.name: each for each in DEFS.sensors or ()}
#: Finds runs that were lost; it has nothing to do with what is collected.
ALWAYS = {"lost_runs"}


def evaluate(name: str, moment: str) -> dg.RunRequest | dg.SkipReason:
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    schedule = DEFS.resolve_schedule_def(name)
    found = schedule(dg.build_schedule_context(scheduled_execution_time=at))
    assert isinstance(found, dg.RunRequest | dg.SkipReason)
    return found


@pytest.mark.parametrize("name", sorted({*SCHEDULES, *SENSORS}))
def test_what_runs_by_itself_says_what_it_does(name: str) -> None:
    assert ({**SCHEDULES, **SENSORS}[name].description or "").endswith(".")


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_no_schedule_runs_by_itself_unless_the_profile_is_live(name: str) -> None:
    assert SCHEDULES[name].default_status is dg.DefaultScheduleStatus.STOPPED


@pytest.mark.parametrize("name", sorted(SENSORS.keys() - ALWAYS))
def test_no_sensor_does_either(name: str) -> None:
    assert SENSORS[name].default_status is dg.DefaultSensorStatus.STOPPED


@pytest.mark.parametrize(
    ("market", "crons"),
    [
        # 45 minutes after 14:10 and 16:00 in Sydney, 13:00 and 16:00 in New York, midnight UTC.
        ("asx", ["55 14 * * *", "45 16 * * *"]),
        ("us", ["45 13 * * *", "45 16 * * *"]),
        ("crypto", ["45 0 * * *"]),
    ],
)
def test_a_schedule_after_the_close_looks_after_usual_and_early_closes(
    market: str, crons: list[str]
) -> None:
    assert closing_crons(MARKETS[market], timedelta(minutes=45)) == crons


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("us_after_close", "2024-11-29 21:45"),  # closed at 13:00 already
        ("us_daily_bars", "2024-11-28 21:50"),  # Thanksgiving
        ("us_corporate_actions", "2024-11-30 21:55"),  # a Saturday
        ("asx_after_close", "2024-12-25 05:45"),
    ],
)
def test_nothing_runs_after_a_close_that_was_none(name: str, moment: str) -> None:
    found = evaluate(name, moment)
    assert isinstance(found, dg.SkipReason)
    assert f"No session of {name.partition('_')[0]} closed at" in found.skip_message


def test_a_session_before_the_first_partition_is_none() -> None:
    found = evaluate("us_after_close", "2020-03-10 20:45")
    assert isinstance(found, dg.SkipReason)
    assert "SCIZOR_INTRADAY_START" in found.skip_message


@pytest.mark.parametrize("market", list(MARKETS))
@pytest.mark.parametrize("job", ["after_close", "daily_bars"])
def test_the_run_config_after_a_close_is_one_that_the_job_takes(market: str, job: str) -> None:
    minutes = {"after_close": 45, "daily_bars": 50}[job]
    hour = {"asx": 6, "us": 20, "crypto": 0}[market]
    request = evaluate(f"{market}_{job}", f"2025-04-09 {hour:02}:{minutes}")
    assert isinstance(request, dg.RunRequest)
    name = {"after_close": f"{market}_session", "daily_bars": f"{market}_daily"}[job]
    assert dg.validate_run_config(DEFS.resolve_job_def(name), request.run_config)
    assert request.partition_key in {"2025-04-09", "2025-04-08", "2025-04-01"}


@pytest.mark.parametrize("market", list(MARKETS))
def test_the_run_config_of_a_comparison_is_one_that_its_asset_takes(market: str) -> None:
    request = evaluate(f"{market}_reconciliation_weekly", "2025-04-05 05:00")
    assert isinstance(request, dg.RunRequest)
    job = DEFS.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=frozenset({dg.AssetKey([market, "reconciliation"])})
    )
    assert dg.validate_run_config(job, request.run_config)
