"""News and posts through the assets into PostgreSQL: stories, checks, accounts, no names."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from scizor_assets.human import HUMAN_ASSETS, HUMAN_CHECKS
from scizor_cli.collectors import statuses
from scizor_core.instruments import WatchlistEntry
from scizor_resources.platform import Platform
from tests.contract.lab import cryptopanic_ledger, finnhub_news_ledger, reddit_ledger, x_ledger
from tests.contract.lab.ledgers import Item, LedgerLab

from .helpers import execute, query

DAY = "2026-11-18"
MORNING = datetime(2026, 11, 18, 9, tzinfo=UTC)
NOW = datetime(2026, 11, 19, 6, tzinfo=UTC)
HANDLE, BYLINE = "JaneTrader_77", "Hannah Bylineson"
HEADLINE = "Bitcoin surges as ETF inflows beat estimates for a third week"


@dataclass
class Labs:
    """The sources on loopback."""

    cryptopanic: cryptopanic_ledger.CryptopanicLab
    finnhub: finnhub_news_ledger.FinnhubNewsLab
    reddit: reddit_ledger.RedditLab
    x: x_ledger.XLab


@pytest.fixture
def labs() -> Iterator[Labs]:
    with ExitStack() as stack:
        yield Labs(
            stack.enter_context(cryptopanic_ledger.CryptopanicLab()),  # type: ignore[arg-type]
            stack.enter_context(finnhub_news_ledger.FinnhubNewsLab()),  # type: ignore[arg-type]
            stack.enter_context(reddit_ledger.RedditLab()),  # type: ignore[arg-type]
            stack.enter_context(x_ledger.XLab()),  # type: ignore[arg-type]
        )


@pytest.fixture
def human(platform: Platform, labs: Labs) -> Platform:
    platform.settings = platform.settings.model_copy(
        update={
            "cryptopanic_base_url": labs.cryptopanic.url,
            "cryptopanic_api_key": SecretStr(cryptopanic_ledger.KEY),
            "finnhub_base_url": f"{labs.finnhub.url}/api/v1",
            "finnhub_api_key": SecretStr(finnhub_news_ledger.KEY),
            "reddit_base_url": labs.reddit.url,
            "reddit_www_base_url": labs.reddit.url,
            "reddit_client_id": SecretStr(reddit_ledger.CLIENT_ID),
            "reddit_client_secret": SecretStr(reddit_ledger.CLIENT_PASS),
            "reddit_subreddits": ("CryptoCurrency:crypto",),
            "x_base_url": labs.x.url,
            "x_bearer_token": SecretStr(x_ledger.BEARER),
        }
    )
    entries = [WatchlistEntry("crypto", "BTC/USD"), WatchlistEntry("us", "AAPL")]
    platform.reference.add(entries)
    execute(platform, "UPDATE symbols SET name = 'Apple Inc' WHERE symbol = 'AAPL'")
    platform.now = lambda: NOW
    return platform


def materialize(platform: Platform, kind: str, day: str = DAY) -> dg.ExecuteInProcessResult:
    number = ["news", "social"].index(kind)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [HUMAN_ASSETS[number], HUMAN_CHECKS[number]],
            partition_key=day,
            resources={"platform": platform},
            instance=instance,
            raise_on_error=False,
        )
        result.logged = repr(instance.all_logs(result.run_id))  # type: ignore[attr-defined]
        return result


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()
    return {name: each.value for name, each in event.materialization.metadata.items()}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}


def put(lab: LedgerLab, *items: Item) -> None:
    lab.items = list(items)


def everything(platform: Platform) -> str:
    """Return all rows of all tables of the platform as text."""
    tables = query(
        platform,
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) AS name FROM pg_tables "
        "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    )
    return "\n".join(
        repr(query(platform, f"SELECT to_jsonb(t)::text AS line FROM {table['name']} AS t"))
        for table in tables
    )


def test_a_story_of_two_sources_is_one_with_its_sources_and_instruments(
    human: Platform, labs: Labs
) -> None:
    put(labs.cryptopanic, Item("101", MORNING, HEADLINE))
    put(labs.finnhub, Item("201", MORNING + timedelta(minutes=9), "Apple cuts its guidance"))

    result = materialize(human, "news")

    assert checks(result) == {"sources": True, "schema": True, "personal_data": True}
    rows = query(
        human,
        "SELECT title, sources, symbols, label FROM news_sentiment ORDER BY published_at",
    )
    assert rows == [
        {
            "title": HEADLINE,
            "sources": ["cryptopanic"],
            "symbols": ["BTC/USD"],
            "label": "positive",
        },
        {
            "title": "Apple cuts its guidance",
            "sources": ["finnhub"],
            "symbols": ["AAPL"],
            "label": "negative",
        },
    ]
    facts = metadata(result)
    assert (facts["rows"], facts["items_about_instruments"]) == (2, 2)
    assert facts["sources_answered"] == ["cryptopanic", "finnhub_news"]
    assert facts["sources_not_set_up"] == {"newscatcher": "set SCIZOR_NEWSCATCHER_API_KEY"}


def test_a_day_collected_again_changes_nothing(human: Platform, labs: Labs) -> None:
    put(labs.cryptopanic, Item("101", MORNING, HEADLINE))
    materialize(human, "news")
    stored = "SELECT xmin::text, * FROM human.story_items"
    before = query(human, stored)
    human.now = lambda: NOW + timedelta(hours=1)
    materialize(human, "news")
    assert query(human, stored) == before


def test_a_source_that_fails_costs_itself_alone_and_the_ui_says_what_the_command_says(
    human: Platform, labs: Labs
) -> None:
    put(labs.cryptopanic, Item("101", MORNING, HEADLINE))
    labs.finnhub.inject("invalid_credentials")

    result = materialize(human, "news")

    assert result.success
    assert checks(result)["sources"] is False
    assert [row["source"] for row in query(human, "SELECT source FROM human.story_items")] == [
        "cryptopanic"
    ]
    said = {each.name: (each.last_status, each.last_error) for each in statuses(human)}
    assert said["cryptopanic"] == ("success", None)
    assert said["finnhub_news"][0] == "failed"
    assert metadata(result)["sources_failed"] == {"finnhub_news": said["finnhub_news"][1]}
    runs = {each.dagster_run_id for each in statuses(human) if each.last_run_at is not None}
    assert runs == {result.run_id}


def test_where_no_source_answers_the_run_fails(human: Platform, labs: Labs) -> None:
    labs.cryptopanic.inject("invalid_credentials")
    labs.finnhub.inject("invalid_credentials")
    assert not materialize(human, "news").success


def test_a_recovered_source_passes_the_check_again(human: Platform, labs: Labs) -> None:
    put(labs.cryptopanic, Item("101", MORNING, HEADLINE))
    labs.finnhub.inject("invalid_credentials", times=1)
    assert checks(materialize(human, "news"))["sources"] is False
    human.now = lambda: NOW + timedelta(minutes=15)
    assert checks(materialize(human, "news"))["sources"] is True
    (status,) = [each for each in statuses(human) if each.name == "finnhub_news"]
    assert (status.runs, status.errors, status.success_rate) == (2, 1, 0.5)


def test_posts_are_kept_with_votes_and_hashed_authors(human: Platform, labs: Labs) -> None:
    put(labs.reddit, Item("101", MORNING, "$BTC to the moon 🚀", author=HANDLE))
    put(labs.x, Item("102", MORNING, "$BTC rug pull, avoid", author=HANDLE))

    result = materialize(human, "social")

    assert checks(result) == {"sources": True, "schema": True, "personal_data": True}
    rows = query(
        human, "SELECT source, label, author_hash, votes FROM human.story_sources ORDER BY source"
    )
    assert [(row["source"], row["label"]) for row in rows] == [
        ("reddit", "positive"),
        ("x", "negative"),
    ]
    assert len(rows[0]["author_hash"]) == 32
    # The same name elsewhere is another person.
    assert rows[0]["author_hash"] != rows[1]["author_hash"]
    assert rows[0]["votes"]


def test_a_post_taken_away_is_followed(human: Platform, labs: Labs) -> None:
    put(labs.reddit, Item("101", MORNING, "$BTC to the moon"), Item("102", MORNING, "$BTC dumps"))
    materialize(human, "social")
    put(labs.reddit, Item("101", MORNING, "$BTC to the moon"))
    human.now = lambda: NOW + timedelta(hours=1)
    materialize(human, "social")
    assert [row["title"] for row in query(human, "SELECT * FROM social_sentiment")] == [
        "$BTC to the moon"
    ]
    (gone,) = query(human, "SELECT * FROM human.story_items WHERE deleted_at IS NOT NULL")
    assert (gone["title"], gone["body"]) == ("", "")


def test_no_name_of_a_person_is_in_the_database_the_log_or_the_metadata(
    human: Platform, labs: Labs
) -> None:
    for lab in (labs.reddit, labs.x, labs.cryptopanic, labs.finnhub):
        put(
            lab,
            Item("101", MORNING, f"As @{HANDLE} and u/{HANDLE} say: $BTC Apple up", author=HANDLE),
            Item("102", MORNING, "Bitcoin and Apple shares rise again today", author=BYLINE),
            Item("103", datetime(1970, 1, 1, tzinfo=UTC), f"$BTC says @{HANDLE}", author=HANDLE),
        )
    results = [materialize(human, kind) for kind in ("news", "social")]

    assert query(human, "SELECT count(*) AS n FROM human.story_items")[0]["n"] >= 6
    told = everything(human) + "".join(
        repr(result.get_asset_materialization_events())
        + repr(result.get_asset_check_evaluations())
        + result.logged  # type: ignore[attr-defined]
        for result in results
    )
    assert not [name for name in (HANDLE, BYLINE) if name.lower() in told.lower()]
