"""The intraday refresh: when it runs, for which session, ahead of whom."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from scizor_assets.definitions import defs
from scizor_assets.schedules import sessions_to_refresh
from scizor_core.markets import MARKETS


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def evaluate(market: str, moment: str) -> dg.RunRequest | dg.SkipReason:
    schedule = defs.resolve_schedule_def(f"{market}_intraday_refresh")
    with dg.instance_for_test() as instance:
        found = schedule(dg.build_schedule_context(instance, scheduled_execution_time=at(moment)))
    if isinstance(found, dg.SkipReason):
        return found
    (request,) = found
    return request


@pytest.mark.parametrize(
    ("market", "moment", "sessions"),
    [
        # New York, winter: 14:30 to 21:00 UTC.
        ("us", "2022-01-10 14:29", ""),
        ("us", "2022-01-10 14:30", "2022-01-10"),
        ("us", "2022-01-10 21:30", "2022-01-10"),
        ("us", "2022-01-10 21:45", ""),
        # Sydney, summer: the session of the 11th opens at 23:00 UTC of the 10th.
        ("asx", "2022-01-10 22:55", ""),
        ("asx", "2022-01-10 23:05", "2022-01-11"),
        ("asx", "2022-01-11 05:35", "2022-01-11"),
        ("asx", "2022-01-26 01:00", ""),  # Australia Day
        # What traded until midnight is fetched after it.
        ("crypto", "2022-01-09 00:00", "2022-01-08 2022-01-09"),
        ("crypto", "2022-01-09 00:40", "2022-01-09"),
    ],
)
def test_the_sessions_to_refresh_are_those_that_trade_or_have_just_closed(
    market: str, moment: str, sessions: str
) -> None:
    found = sessions_to_refresh(MARKETS[market], at(moment))
    assert [each.session_date.isoformat() for each in found] == sessions.split()


def test_an_open_market_is_refreshed_ahead_of_backfills() -> None:
    request = evaluate("asx", "2022-01-10 23:05")
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2022-01-11"
    assert request.run_config["ops"]["asx__bars_1m"] == {"config": {"lane": "live"}}
    assert int(request.tags["dagster/priority"]) > 0


def test_a_closed_market_is_not() -> None:
    reason = evaluate("us", "2022-01-09 15:00")  # a Sunday
    assert isinstance(reason, dg.SkipReason)
    assert reason.skip_message == "us is closed."


def test_a_refresh_waits_for_the_one_before() -> None:
    schedule = defs.resolve_schedule_def("us_intraday_refresh")
    with dg.instance_for_test() as instance:
        instance.create_run_for_job(
            defs.resolve_job_def("us_session"),
            tags={"dagster/partition": "2022-01-10"},
            status=dg.DagsterRunStatus.STARTED,
        )
        context = dg.build_schedule_context(
            instance, scheduled_execution_time=at("2022-01-10 15:00")
        )
        found = schedule(context)
    assert isinstance(found, dg.SkipReason)
    assert "still under way" in found.skip_message


def test_the_run_config_of_a_refresh_is_one_that_its_job_takes() -> None:
    for market, moment in (("us", "2022-01-10 15:00"), ("crypto", "2022-01-10 15:00")):
        request = evaluate(market, moment)
        job = defs.resolve_job_def(f"{market}_session")
        assert dg.validate_run_config(job, request.run_config)


@pytest.mark.parametrize("schedule", list(defs.schedules or []), ids=lambda each: each.name)
def test_nothing_runs_by_itself_unless_the_profile_is_live(
    schedule: dg.ScheduleDefinition,
) -> None:
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
