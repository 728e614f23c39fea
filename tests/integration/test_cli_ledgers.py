"""`scizor collectors` and `scizor retention` against a real database, in this process."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scizor_resources.collectors import COLLECTORS
from scizor_resources.platform import Platform
from scizor_resources.stores.providers import CollectorRun, RunStatus

from .helpers import execute, query
from .test_cli import LIBRARIES_OF_DAGSTER, run

NOW = datetime.now(UTC)


def put_run(
    platform: Platform, status: RunStatus, hours_ago: float, error: str | None = None
) -> None:
    at = NOW - timedelta(hours=hours_ago)
    platform.providers.record(
        [
            CollectorRun(
                provider="finnhub",
                asset="human/news_sentiment",
                partition="2026-11-18",
                dagster_run_id="0123456789abcdef",
                status=status,
                started_at=at,
                completed_at=at,
                records=7,
                error=error,
            )
        ]
    )


def status_of(name: str) -> dict[str, Any]:
    rows = json.loads(run("collectors", "status", "--json").stdout)
    (row,) = [each for each in rows if each["name"] == name]
    return dict(row)


def test_the_list_says_what_has_to_be_set(platform: Platform) -> None:
    rows = json.loads(run("collectors", "list", "--json").stdout)
    assert [row["collector"] for row in rows] == [each.name for each in COLLECTORS]
    states = {row["collector"]: row["state"] for row in rows}
    assert states["defillama"] == "ready"
    assert states["reddit"] == "set SCIZOR_REDDIT_CLIENT_ID and SCIZOR_REDDIT_CLIENT_SECRET"


def test_the_list_needs_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIZOR_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert "coinspot_announcements" in run("collectors", "list").stdout


def test_the_status_is_of_the_last_run_and_the_rate_of_thirty_days(platform: Platform) -> None:
    put_run(platform, "success", hours_ago=31 * 24)
    put_run(platform, "failed", hours_ago=3, error="Finnhub answered 401.")
    put_run(platform, "success", hours_ago=2)
    put_run(platform, "success", hours_ago=1)

    row = status_of("finnhub_news")

    assert (row["last_status"], row["last_error"], row["last_records"]) == ("success", None, 7)
    assert (row["runs"], row["errors"]) == (3, 1)
    assert row["success_rate"] == pytest.approx(2 / 3)
    assert row["dagster_run_id"] == "0123456789abcdef"


def test_runs_of_the_same_provider_for_another_asset_are_another_collector(
    platform: Platform,
) -> None:
    put_run(platform, "success", hours_ago=1)
    assert status_of("finnhub_earnings")["last_run_at"] is None


def test_the_last_error_is_shown_to_people(platform: Platform) -> None:
    put_run(platform, "failed", hours_ago=1, error="Finnhub answered 401. Check the key.")
    assert (
        "finnhub_news: Finnhub answered 401. Check the key." in run("collectors", "status").stdout
    )


def test_a_collector_that_is_not_set_up_is_not_run(platform: Platform) -> None:
    result = run("collectors", "run", "x", code=1)
    assert "set SCIZOR_X_BEARER_TOKEN" in result.output


def test_an_unknown_collector_names_the_known_ones(platform: Platform) -> None:
    assert "Known: coinspot, " in run("collectors", "run", "twitter", code=1).output


@LIBRARIES_OF_DAGSTER
def test_a_collector_runs_at_once_and_is_recorded(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIZOR_SAMPLES", "true")
    execute(
        platform,
        "INSERT INTO watchlist (market, symbol, collect_5min) VALUES ('us', 'MSFT', false)",
    )
    platform.reference.ensure("us", "MSFT", "Microsoft Corporation")

    shown = run("collectors", "run", "finnhub_news", "--partition", "2022-05-24").stdout

    assert "sources_answered: ['finnhub_news']" in shown
    row = status_of("finnhub_news")
    assert (row["last_status"], row["last_records"]) == ("success", 6)
    stored = query(platform, "SELECT DISTINCT source FROM human.story_items")
    assert stored == [{"source": "sample:finnhub"}]


@LIBRARIES_OF_DAGSTER
def test_retention_counts_first_and_takes_away_only_when_told(platform: Platform) -> None:
    put_run(platform, "success", hours_ago=31 * 24)
    put_run(platform, "success", hours_ago=1)

    counted = run("retention")
    assert "scizor retention --apply" in counted.output
    assert len(query(platform, "SELECT * FROM collector_runs")) == 2

    applied = run("retention", "--apply")
    assert "1 rows were taken away" in applied.output
    assert len(query(platform, "SELECT * FROM collector_runs")) == 1
