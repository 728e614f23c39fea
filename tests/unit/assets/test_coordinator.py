"""The tags that decide a run's way to a worker."""

import dagster as dg
import pytest

from scizor_assets.coordinator import lane_tags

QUEUE, PRIORITY, POOL = "dagster-celery/queue", "dagster-celery/run_priority", "scizor/pool"


def run(
    *assets: str, job: str = "__ASSET_JOB", tags: dict[str, str] | None = None
) -> dg.DagsterRun:
    keys = frozenset(dg.AssetKey.from_user_string(asset) for asset in assets)
    return dg.DagsterRun(job_name=job, asset_selection=keys or None, tags=tags or {})


@pytest.mark.parametrize("priority", ["10", "5", "1"])
def test_a_refresh_goes_to_the_live_queue(priority: str) -> None:
    tags = lane_tags(run("asx/bars_5m", tags={"dagster/priority": priority}))
    assert tags[QUEUE] == "live"


@pytest.mark.parametrize("tags", [{}, {"dagster/priority": "0"}, {"dagster/priority": "-3"}])
def test_other_runs_go_to_the_backfill_queue(tags: dict[str, str]) -> None:
    assert lane_tags(run("asx/bars_5m", tags=tags))[QUEUE] == "backfill"


def test_a_priority_that_is_no_number_is_none() -> None:
    assert lane_tags(run("asx/bars_5m", tags={"dagster/priority": "soon"}))[QUEUE] == "backfill"


def test_a_queue_that_somebody_has_chosen_stays() -> None:
    chosen = run("asx/bars_5m", tags={QUEUE: "live"})
    assert lane_tags(chosen)[QUEUE] == "live"
    assert POOL not in lane_tags(chosen)


def test_a_backfill_counts_towards_the_providers_of_its_market() -> None:
    selection = ("us/bars_1m", "us/bars_5m", "us/indicators_5m", "us/completeness")
    assert lane_tags(run(*selection))[POOL] == "us"


def test_a_job_of_a_market_counts_towards_it_too() -> None:
    assert lane_tags(run(job="crypto_session"))[POOL] == "crypto"


def test_a_refresh_is_not_held_back_by_backfills_of_its_market() -> None:
    assert POOL not in lane_tags(run("us/bars_1m", tags={"dagster/priority": "10"}))


def test_an_asset_that_others_feed_is_a_pool_of_its_own() -> None:
    assert lane_tags(run("human/news_sentiment"))[POOL] == "human/news_sentiment"


@pytest.mark.parametrize("asset", ["asx/indicators_1m", "marts/latest_prices", "asx/completeness"])
def test_a_run_that_asks_no_provider_counts_towards_nobody(asset: str) -> None:
    assert POOL not in lane_tags(run(asset))


def test_the_more_urgent_run_has_the_smaller_message_priority() -> None:
    def priority(of: str) -> int:
        return int(lane_tags(run("asx/bars_5m", tags={"dagster/priority": of}))[PRIORITY])

    assert priority("10") < priority("5") < priority("0")
