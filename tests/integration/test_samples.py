"""Samples through the real clients: every ledger has rows, none refused, no name of a person."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from scizor_core.catalysts import RuleTable
from scizor_core.mentions import Nameable
from scizor_resources.collectors import get_collector
from scizor_resources.ledgers import Ledgers
from scizor_resources.providers.events import EventFindings, EventRequest
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.stories import StoryBatch, StoryRequest
from scizor_resources.samples.days import METRIC_DAYS, SAMPLE_DAYS
from scizor_resources.samples.server import SampleServer
from scizor_resources.settings import Settings
from scizor_resources.stores.actions import ActionStore
from scizor_resources.stores.catalysts import default_rules
from scizor_resources.stores.warehouse import Warehouse

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ASX_DAY, RESULTS_DAY, AMENDMENT_DAY, BTC_DAY = SAMPLE_DAYS
STORY_SOURCES = ("cryptopanic", "newscatcher", "finnhub_news", "reddit", "x")
EVENT_SOURCES = ("edgar", "coinspot_announcements", "finnhub_earnings")
WATCHED = (
    Nameable(1, "us", "MSFT", "Microsoft"),
    Nameable(2, "us", "GOOG", "Alphabet", ("Google",)),
    Nameable(3, "us", "AAPL", "Apple"),
    Nameable(4, "asx", "CBA", "Commonwealth Bank of Australia", ("Commonwealth Bank",)),
    Nameable(5, "asx", "BHP", "BHP Group", ("BHP Billiton",)),
    Nameable(6, "asx", "ZIP", "Zip Co"),
    Nameable(7, "crypto", "BTC/USD", "Bitcoin"),
    Nameable(8, "crypto", "ETH/USD", "Ethereum"),
)
#: (collector, day) -> items of the window, counted in the data by hand.
STORIES = {
    ("newscatcher", ASX_DAY): 5,
    ("reddit", ASX_DAY): 5,
    ("x", ASX_DAY): 2,
    ("finnhub_news", RESULTS_DAY): 6,
    ("newscatcher", RESULTS_DAY): 2,
    ("reddit", RESULTS_DAY): 3,
    ("x", RESULTS_DAY): 3,
    ("finnhub_news", AMENDMENT_DAY): 3,
    ("newscatcher", AMENDMENT_DAY): 1,
    ("reddit", AMENDMENT_DAY): 1,
    ("x", AMENDMENT_DAY): 2,
    ("cryptopanic", BTC_DAY): 7,
    ("newscatcher", BTC_DAY): 3,
    ("reddit", BTC_DAY): 5,
    ("x", BTC_DAY): 5,
}
#: (collector, day) -> forms of its events.
EVENTS = {
    ("edgar", RESULTS_DAY): {"8-K", "4"},
    ("edgar", AMENDMENT_DAY): {"8-K/A", "10-Q", "4"},
    ("finnhub_earnings", RESULTS_DAY): {"reported"},
    ("coinspot_announcements", BTC_DAY): {
        "maintenance",
        "trading_suspended",
        "listing",
        "trading_resumed",
    },
}


@dataclass(frozen=True)
class Sampled:
    """Makes the ledgers of a window that ends at an instant."""

    settings: Settings
    server: SampleServer

    def ledgers(self, until: datetime) -> Ledgers:
        return Ledgers(
            self.settings,
            lambda provider, _lane: Gate(provider),
            lambda: NOW,
            samples=self.server,
            until=until,
        )

    def stories(self, name: str, day: date) -> StoryBatch:
        since, until = window(day)
        with closing(self.ledgers(until).stories(get_collector(name))) as source:
            return source.fetch(StoryRequest(since, until, WATCHED))

    def events(self, name: str, day: date) -> EventFindings:
        since, until = window(day)
        rules = RuleTable(rule for rule in default_rules() if rule.source == name)
        coins = {"BTC": WATCHED[6:7], "ETH": WATCHED[7:8]}
        # Of these sources none reads what is stored.
        actions = ActionStore(Warehouse(sa.URL.create("postgresql").render_as_string()))
        with closing(self.ledgers(until).events(get_collector(name), actions)) as source:
            return source.fetch(EventRequest(since, until, WATCHED, rules, coins))


def window(day: date) -> tuple[datetime, datetime]:
    since = datetime.combine(day, time(), UTC)
    return since, since + timedelta(days=1)


@pytest.fixture(name="sampled", scope="module")
def _sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sampled]:
    home: Path = tmp_path_factory.mktemp("samples")
    server = SampleServer()
    server.start()
    yield Sampled(Settings(home=home, samples=True), server)
    server.close()


def everything(found: Any, *frames: pd.DataFrame) -> str:
    return repr(found) + "".join(repr(frame.to_dict("records")) for frame in frames)


@pytest.mark.parametrize("day", SAMPLE_DAYS, ids=str)
@pytest.mark.parametrize("name", STORY_SOURCES)
def test_stories_of_a_day_arrive_and_none_is_refused(
    sampled: Sampled, name: str, day: date
) -> None:
    batch = sampled.stories(name, day)
    assert batch.rejected.to_dict("records") == []
    assert (batch.errors, batch.failure) == ({}, None)
    assert len(batch.stories) == STORIES.get((name, day), 0)
    assert "sample_user" not in everything(batch, batch.rejected)


@pytest.mark.parametrize("day", SAMPLE_DAYS, ids=str)
@pytest.mark.parametrize("name", EVENT_SOURCES)
def test_events_of_a_day_arrive_and_none_is_refused(sampled: Sampled, name: str, day: date) -> None:
    found = sampled.events(name, day)
    assert found.rejected.to_dict("records") == []
    assert (found.errors, found.failure) == ({}, None)
    assert set(found.events["form"]) == EVENTS.get((name, day), set())
    assert "sample_user" not in everything(found, found.events, found.rejected)


def test_authors_come_as_hashes(sampled: Sampled) -> None:
    stories = [
        *sampled.stories("cryptopanic", BTC_DAY).stories,
        *sampled.stories("newscatcher", RESULTS_DAY).stories,
        *sampled.stories("reddit", RESULTS_DAY).stories,
        *sampled.stories("x", RESULTS_DAY).stories,
    ]
    hashed = {story.source for story in stories if story.author_hash}
    assert hashed == {"cryptopanic", "newscatcher", "reddit", "x"}


def test_a_deleted_post_is_said_to_be_deleted(sampled: Sampled) -> None:
    stories = sampled.stories("reddit", BTC_DAY).stories
    assert [story.source_id for story in stories if story.is_deleted] == ["s00013"]


def test_results_after_the_close_are_tradable_the_next_morning(sampled: Sampled) -> None:
    events = sampled.events("edgar", RESULTS_DAY).events.set_index("form")
    # 09:30 in New York, in summer time.
    assert events.loc["8-K", "first_tradable_at"] == pd.Timestamp("2022-05-25T13:30Z")


def test_an_amendment_names_what_it_amends(sampled: Sampled) -> None:
    events = sampled.events("edgar", AMENDMENT_DAY).events.set_index("form")
    assert events.loc["8-K/A", "amends"] == "0000000000-22-000003"


def test_a_purchase_of_an_insider_is_worth_what_its_shares_cost(sampled: Sampled) -> None:
    events = sampled.events("edgar", RESULTS_DAY).events.set_index("form")
    # 4,000 at 259.50 and 1,000 at 260.25.
    assert events.loc["4", "type"] == "insider_buy"
    assert "1,298,250" in events.loc["4", "description"]


def test_a_letter_to_the_sec_is_left_out_by_the_rules(sampled: Sampled) -> None:
    assert sampled.events("edgar", RESULTS_DAY).skipped == {"left out by the rules": 1}


def test_the_coin_that_is_announced_is_new(sampled: Sampled) -> None:
    assert sampled.events("coinspot_announcements", BTC_DAY).new_coins == ("HRBR",)


@pytest.mark.parametrize("day", SAMPLE_DAYS, ids=str)
def test_on_chain_metrics_arrive_on_the_day_of_coins(sampled: Sampled, day: date) -> None:
    settings, ledgers = sampled.settings, sampled.ledgers(window(day)[1])
    with closing(ledgers.glassnode()) as glassnode, closing(ledgers.nansen()) as nansen:
        metrics = glassnode.fetch(
            settings.glassnode_metrics, settings.glassnode_assets, day, day + timedelta(days=1)
        )
        tokens = nansen.fetch(settings.nansen_chains, day)
    for batch in (metrics, tokens):
        assert (batch.rejected.to_dict("records"), batch.errors) == ([], {})
    is_there = day == BTC_DAY
    # Four metrics of two coins; five figures of six tokens but one, and two of five.
    assert (len(metrics.values), len(tokens.values)) == ((8, 39) if is_there else (0, 0))
    assert metrics.values["is_final"].all()


@pytest.mark.parametrize("day", SAMPLE_DAYS, ids=str)
def test_fundamentals_arrive_on_the_day_of_coins(sampled: Sampled, day: date) -> None:
    batch = fundamentals(sampled, day, day + timedelta(days=1))
    assert (batch.rejected.to_dict("records"), batch.errors) == ([], {})
    # Five protocols with three series, two of them with a fourth; five chains with two, and all.
    assert len(batch.values) == (28 if day == BTC_DAY else 0)


def test_what_was_lent_out_is_no_value_locked(sampled: Sampled) -> None:
    values = fundamentals(sampled, BTC_DAY, BTC_DAY + timedelta(days=1)).values
    tvl = values[(values["protocol"] == "aave") & (values["metric"] == "tvl")]
    assert tvl["value_usd"].tolist() == [26_350_000_000.0]


def test_fundamentals_reach_back_for_changes_over_thirty_days(sampled: Sampled) -> None:
    first, last = METRIC_DAYS
    values = fundamentals(sampled, first, last + timedelta(days=1)).values
    assert len(values) == 28 * 40
    assert first <= BTC_DAY - timedelta(days=30)


def fundamentals(sampled: Sampled, start: date, end: date) -> Any:
    settings = sampled.settings
    until = datetime.combine(end, time(), UTC)
    with closing(sampled.ledgers(until).defillama()) as client:
        return client.fetch(
            settings.defillama_protocols, start, end, chains=settings.defillama_chains
        )


def test_a_search_for_a_phrase_finds_its_filings(sampled: Sampled) -> None:
    settings = sampled.settings.model_copy(update={"edgar_full_text": ("share repurchase",)})
    found = Sampled(settings, sampled.server).events("edgar", AMENDMENT_DAY)
    described = found.events.set_index("form")["description"]
    assert "share repurchase" in described["10-Q"]
    assert found.rejected.to_dict("records") == []
