"""What is older than its policy allows goes, nothing else does."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from scizor_assets.maintenance import RetentionConfig, retention
from scizor_core.retention import policies
from scizor_resources.platform import Platform
from scizor_resources.stores import retention as store

from .helpers import execute, query

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def put_price(platform: Platform, at: datetime) -> None:
    execute(
        platform,
        'INSERT INTO price_data_5min (symbol, "timestamp", source, last, sampled_at) '
        "VALUES ('BTC/AUD', %s, 'coinspot', 1, %s)",
        at,
        at,
    )


def put_story(platform: Platform, source_id: str, kind: str, at: datetime) -> None:
    execute(
        platform,
        "WITH story AS (INSERT INTO human.stories (kind) VALUES (%s) RETURNING story_id) "
        "INSERT INTO human.story_items (source, source_id, story_id, kind, title, body, "
        "published_at, observed_at, votes_at, score, label, confidence, scorer) "
        "SELECT 'lab', %s, story_id, %s, 'A title', 'A body', %s, %s, %s, 0.5, 'positive', 1, 's' "
        "FROM story",
        kind,
        source_id,
        kind,
        at,
        at,
        at,
    )


def apply(platform: Platform, *, dry_run: bool = False) -> dict[str, store.RetentionReport]:
    reports = platform.retention.apply(policies(), NOW, dry_run=dry_run)
    return {report.name: report for report in reports}


def count(platform: Platform, table: str) -> int:
    (row,) = query(platform, f"SELECT count(*) AS n FROM {table}")
    return int(row["n"])


@pytest.fixture
def kept(platform: Platform) -> Platform:
    """A platform with rows a day younger and a day older than some policies."""
    for days in (364, 366):
        put_price(platform, ago(days))
    for kind, days in (("news", 89), ("news", 91), ("social", 29), ("social", 31)):
        put_story(platform, f"{kind}{days}", kind, ago(days))
    return platform


def test_rows_older_than_the_policy_go_and_younger_ones_stay(kept: Platform) -> None:
    apply(kept)
    assert [row["timestamp"] for row in query(kept, "SELECT * FROM price_data_5min")] == [ago(364)]
    left = query(kept, "SELECT source_id FROM human.story_items ORDER BY 1")
    assert [row["source_id"] for row in left] == ["news89", "social29"]


def test_a_dry_run_counts_the_same_and_takes_nothing(kept: Platform) -> None:
    dry = apply(kept, dry_run=True)
    assert (count(kept, "price_data_5min"), count(kept, "human.story_items")) == (2, 4)
    assert {name: report.removed for name, report in dry.items() if report.removed} == {}
    wet = apply(kept)
    assert dry["price_data_5min"].due == wet["price_data_5min"].removed == 1
    assert dry["news_sentiment"].due == wet["news_sentiment"].removed == 1


def test_texts_go_after_thirty_days_and_scores_stay(kept: Platform) -> None:
    apply(kept)
    rows = query(kept, "SELECT source_id, title, body, score FROM human.story_items ORDER BY 1")
    assert rows == [
        {"source_id": "news89", "title": "", "body": "", "score": 0.5},
        {"source_id": "social29", "title": "A title", "body": "A body", "score": 0.5},
    ]


def test_a_story_without_items_goes_with_them(kept: Platform) -> None:
    apply(kept)
    assert count(kept, "human.stories") == count(kept, "human.story_items") == 2


def test_applying_again_takes_nothing_more(kept: Platform) -> None:
    apply(kept)
    assert {report.removed for report in apply(kept).values()} == {0}


def test_what_a_batch_has_taken_stays_taken_when_the_next_one_fails(
    kept: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_price(kept, ago(400))
    put_price(kept, ago(500))
    monkeypatch.setattr(store, "BATCH_ROWS", 1)
    taken: list[int] = []
    connect = kept.warehouse.connect

    def breaks_off(*arguments: Any, **options: Any) -> Any:
        # Two looks (count, first batch), then the connection is lost.
        if len(taken) == 2:
            raise ConnectionResetError
        taken.append(1)
        return connect(*arguments, **options)

    monkeypatch.setattr(kept.warehouse, "connect", breaks_off)
    with pytest.raises(ConnectionResetError):
        apply(kept)
    monkeypatch.undo()
    assert count(kept, "price_data_5min") == 3
    apply(kept)
    assert count(kept, "price_data_5min") == 1


def test_the_asset_says_what_went(kept: Platform) -> None:
    kept.now = lambda: NOW
    context = dg.build_asset_context()
    dry = retention(context, RetentionConfig(dry_run=True), kept)
    wet = retention(context, RetentionConfig(tables=["price_data_5min"]), kept)
    assert (dry.metadata["rows_due"], dry.metadata["rows_removed"]) == (6, 0)
    assert (wet.metadata["rows_due"], wet.metadata["rows_removed"]) == (1, 1)


def test_a_setting_keeps_a_table_for_ever(kept: Platform) -> None:
    reports = kept.retention.apply(policies(["price_data_5min=0"]), NOW, dry_run=False)
    assert reports[0].cutoff is None
    assert count(kept, "price_data_5min") == 2
