"""What people write: news and posts with their sentiment, and their checks.

Belongs here: the assets of group `human` and the turning of findings into check results. Not here:
how sources are asked and read (`scizor_resources.providers`), what becomes of an item
(`scizor_resources.pipeline.stories`), the score itself (`scizor_core.sentiment`).
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from scizor_assets.check_results import (
    check_specs,
    contract_result,
    finding_result,
    wanted_checks,
)
from scizor_assets.common import OWNERS, failures, row_counts
from scizor_assets.ledgers import (
    SOURCES_CHECK,
    SOURCES_DESCRIPTION,
    LedgerConfig,
    ask_sources,
    run_of,
    sources_result,
)
from scizor_assets.partitions import bounds_of, day_partitions, window_of_check
from scizor_core.bar_checks import SHOWN_ROWS, Finding
from scizor_core.privacy import mask_people
from scizor_core.schemas.stories import validate_stories
from scizor_core.stories import StoryKind
from scizor_resources.collectors import Collector
from scizor_resources.pipeline.accounts import Account
from scizor_resources.pipeline.stories import StoryReport
from scizor_resources.platform import Platform
from scizor_resources.providers.stories import StoryBatch, StoryRequest

#: A check that runs on its own, without a partition, looks at this much of the newest data.
UNPARTITIONED_DAYS = 14

_DESCRIPTIONS: dict[StoryKind, str] = {
    "news": (
        "News about watched instruments from CryptoPanic, NewsCatcher and Finnhub, by the UTC day "
        "of publication: one row per story with its sources, the instruments it is about and its "
        "sentiment from -1 to 1. Edits and deletions are followed, authors are hashes, texts go "
        "after 30 days. SQL: human.news_sentiment, human.instrument_stories, news_sentiment."
    ),
    "social": (
        "Posts about watched instruments from Reddit and X, by the UTC day of publication, with "
        "the instruments they are about and their sentiment from -1 to 1. Edits and deletions are "
        "followed, authors are hashes, texts go after 30 days. "
        "SQL: human.social_sentiment, human.instrument_stories, social_sentiment."
    ),
}


def build_sentiment(kind: StoryKind) -> dg.AssetsDefinition:
    """Return the asset of news or of posts."""
    key = dg.AssetKey(["human", f"{kind}_sentiment"])

    @dg.asset(
        key=key,
        deps=[dg.AssetKey(["reference", "watchlist"])],
        partitions_def=day_partitions(),
        # A call asks for a window; sources page by time, not by day.
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="human",
        kinds={"python", "postgres"},
        owners=OWNERS,
        code_version="1",
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(days=1), warn_window=timedelta(hours=2)
        ),
        description=_DESCRIPTIONS[kind],
        metadata={"dagster/table_name": key.to_user_string().replace("/", ".")},
    )
    def sentiment(
        context: dg.AssetExecutionContext,
        config: LedgerConfig,
        platform: dg.ResourceParam[Platform],
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
        since, until = context.partition_time_window
        ledgers = platform.ledgers(until)
        items = 0

        def ask(collector: Collector, account: Account) -> dict[str, Any]:
            nonlocal items
            with closing(ledgers.stories(collector, config.lane)) as source:
                account.gate = source.gate
                request = StoryRequest(since, until, pipeline.nameables())
                batch = source.fetch(request)
            account.records = len(batch.stories)
            report = pipeline.process(batch, request, kind, source=source.name, label=ledgers.label)
            items += report.stored
            if batch.failure is not None:
                raise batch.failure  # what came is stored; the window is not complete without it
            return _facts(batch, report)

        with failures():
            pipeline = platform.story_pipeline(ledgers)
            asked = ask_sources(platform, run_of(context, platform), config.sources, ask)
            asked.raise_if_nobody_answered()
            stored = platform.stories.read(kind, since, until)
        metadata: dict[str, Any] = {
            **row_counts(len(stored), context),
            "items_about_instruments": items,
            "scorer": platform.scorer.name,
            **_distribution(stored),
            **asked.metadata(),
        }
        if stored.empty:
            metadata["empty_reason"] = (
                asked.nobody() or "nothing was published about a watched instrument"
            )
        return dg.MaterializeResult(metadata=metadata)

    return sentiment


def _facts(batch: StoryBatch, report: StoryReport) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "items": report.items,
        "items_stored": report.stored,
        **asdict(report.written),
        "without_watched_instrument": report.without_instrument,
        "outside_window": report.outside,
        "deleted_before_seen": report.already_gone,
        "rows_newly_quarantined": report.quarantined,
        "complete": batch.complete,
    }
    if report.ambiguous:
        facts["ambiguous_codes"] = dict(report.ambiguous.most_common(SHOWN_ROWS))
    if batch.notes:
        facts["notes"] = batch.notes
    if batch.empty_reason:
        facts["empty_reason"] = batch.empty_reason
    if batch.errors:
        facts["not_had"] = batch.errors
    return facts


def _distribution(stored: pd.DataFrame) -> dict[str, Any]:
    if stored.empty:
        return {}
    return {
        "labels": {str(name): int(n) for name, n in stored["label"].value_counts().items()},
        "mean_score": round(float(stored["score"].mean()), 4),
        "first_published_at": stored["published_at"].min().isoformat(),
        "last_published_at": stored["published_at"].max().isoformat(),
    }


_CHECKS: dict[str, str] = {
    SOURCES_CHECK: SOURCES_DESCRIPTION,
    "schema": "Stored items keep the contract of story_items.",
    "personal_data": "No user name, e-mail or profile address stands in a stored text or address.",
}


def build_sentiment_checks(kind: StoryKind) -> dg.AssetChecksDefinition:
    """Return the checks of news or of posts."""
    key = dg.AssetKey(["human", f"{kind}_sentiment"])

    @dg.multi_asset_check(
        name=f"human_{kind}_sentiment_checks",
        specs=check_specs(key, _CHECKS),
        can_subset=True,
    )
    def checks(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.AssetCheckResult]:
        today = platform.now().astimezone(UTC).date()
        start, end = bounds_of(window_of_check(context, today, UNPARTITIONED_DAYS))
        with failures():
            stored = platform.stories.read(kind, start, end)
        wanted = wanted_checks(context)
        if SOURCES_CHECK in wanted:
            yield sources_result(platform, key)
        if "schema" in wanted:
            yield contract_result(key, validate_stories, stored)
        if "personal_data" in wanted:
            error = dg.AssetCheckSeverity.ERROR
            yield finding_result(key, _names(stored), error, len(stored))

    return checks


def _names(stored: pd.DataFrame) -> Finding:
    """Return the items in which a name of a user stands; which name is not said."""
    named = [
        any(mask_people(text) != text for text in (row["title"], row["body"], row["url"]))
        for row in stored[["title", "body", "url"]].to_dict("records")
    ]
    rows = stored.loc[named, ["source", "source_id"]].head(SHOWN_ROWS).to_dict("records")
    return Finding(
        "personal_data", sum(named), [{str(k): v for k, v in row.items()} for row in rows]
    )


_KINDS: tuple[StoryKind, ...] = ("news", "social")
HUMAN_ASSETS: list[dg.AssetsDefinition] = [build_sentiment(kind) for kind in _KINDS]
HUMAN_CHECKS: list[dg.AssetChecksDefinition] = [build_sentiment_checks(kind) for kind in _KINDS]
