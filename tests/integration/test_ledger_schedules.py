"""Days of the other ledgers that an outage has cost are asked for again, by the schedules."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from scizor_assets.definitions import defs
from scizor_resources.platform import Platform
from scizor_resources.stores.providers import CollectorRun, DayRuns, RunStatus

EVENTS = "catalyst/catalyst_events"
NEWS_DAY, DAY_BEFORE = date(2022, 1, 10), date(2022, 1, 9)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2022-01-{text}").replace(tzinfo=UTC)


def ran(
    platform: Platform,
    partition: str,
    started: str,
    status: RunStatus = "success",
    provider: str = "edgar",
    asset: str = EVENTS,
) -> None:
    begin = at(started)
    platform.providers.record(
        [CollectorRun(provider, asset, partition, "", status, begin, begin + timedelta(minutes=1))]
    )


@pytest.fixture
def events(platform: Platform) -> Platform:
    """A platform on which EDGAR and the sources without a key are set up."""
    platform.settings = platform.settings.model_copy(
        update={"edgar_user_agent": "Name name@example.com"}
    )
    return platform


def requests(platform: Platform, moment: str) -> dict[str, Any]:
    """Return partition key -> config of the run that is asked for at that instant."""
    schedule = defs.resolve_schedule_def("catalyst_catalyst_events_refresh")
    with dg.instance_for_test() as instance:
        context = dg.build_schedule_context(
            instance, scheduled_execution_time=at(moment), resources={"platform": platform}
        )
        found = schedule(context)
    assert isinstance(found, list)
    return {
        each.partition_key: each.run_config["ops"]["catalyst__catalyst_events"]["config"]
        for each in found
    }


def test_accounts_are_added_up_by_provider_and_day(platform: Platform) -> None:
    ran(platform, "2022-01-10", "10 09:00", "failed")
    ran(platform, "2022-01-10", "10 12:00")
    ran(platform, "2022-01-10", "11 00:00", "failed")
    ran(platform, "2022-01-10", "11 00:15", "partial")
    ran(platform, "2022-01-10", "10 13:00", provider="finnhub")
    ran(platform, "2022-01-10", "10 13:00", asset="human/news_sentiment")

    found = platform.providers.runs_by_day(EVENTS, at("05"))

    assert found == {
        "edgar": {NEWS_DAY: DayRuns(at("10 09:00"), at("11 00:15"), at("10 12:00"), 2)},
        "finnhub": {NEWS_DAY: DayRuns(at("10 13:00"), at("10 13:00"), at("10 13:00"), 0)},
    }


def test_failures_while_the_day_still_ran_do_not_count(platform: Platform) -> None:
    for hour in ("09", "10", "11"):
        ran(platform, "2022-01-10", f"10 {hour}:00", "failed")
    ran(platform, "2022-01-10", "11 00:00", "failed")
    (runs,) = platform.providers.runs_by_day(EVENTS, at("05"))["edgar"].values()
    assert (runs.failures, runs.last_success_at) == (1, None)


def test_a_backfill_of_a_range_counts_for_each_of_its_days(platform: Platform) -> None:
    ran(platform, "2022-01-10", "11 00:00", "failed")
    ran(platform, "2022-01-01...2022-01-10", "11 08:00")
    found = platform.providers.runs_by_day(EVENTS, at("09"))["edgar"]
    assert found == {
        NEWS_DAY: DayRuns(at("11 00:00"), at("11 08:00"), at("11 08:00"), 0),
        DAY_BEFORE: DayRuns(at("11 08:00"), at("11 08:00"), at("11 08:00"), 0),
    }


def test_a_day_whose_last_run_failed_is_asked_for_until_it_succeeds(events: Platform) -> None:
    ran(events, "2022-01-09", "09 12:00")
    ran(events, "2022-01-09", "10 00:00")
    ran(events, "2022-01-10", "10 12:00")
    ran(events, "2022-01-10", "11 00:45", "failed")

    due = requests(events, "11 05:15")

    assert due == {
        "2022-01-10": {"sources": ["edgar"], "lane": "live"},
        "2022-01-11": {"sources": ["edgar"], "lane": "live"},
    }
    ran(events, "2022-01-10", "11 05:15")
    assert list(requests(events, "11 05:30")) == ["2022-01-11"]


def test_days_on_which_the_platform_was_down_are_made_up_for_behind_new_ones(
    events: Platform,
) -> None:
    ran(events, "2022-01-07", "07 18:00")
    ran(events, "2022-01-09", "10 00:00")

    due = requests(events, "10 09:15")

    assert {day: config["lane"] for day, config in due.items()} == {
        "2022-01-07": "repair",
        "2022-01-08": "repair",
        "2022-01-10": "live",
    }


def test_a_source_that_has_never_been_asked_has_nothing_to_make_up_for(events: Platform) -> None:
    assert list(requests(events, "11 05:15")) == ["2022-01-11"]
