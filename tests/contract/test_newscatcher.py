"""What is special to NewsCatcher: queries by name, dates, capped searches, refusals."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scizor_core.mentions import Nameable
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    SchemaDrift,
    TransientError,
)
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.news import plain_text
from scizor_resources.providers.newscatcher.articles import build_queries
from scizor_resources.providers.newscatcher.client import NewscatcherNews
from scizor_resources.providers.stories import StoryBatch, StoryRequest
from tests.contract.lab.ledgers import NOW, SINCE, UNTIL, Item
from tests.contract.lab.newscatcher_ledger import (
    HASH,
    WATCHED,
    NewscatcherLab,
    article,
    make_source,
)
from tests.contract.lab.server import Reply

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)


@pytest.fixture
def lab() -> Iterator[NewscatcherLab]:
    with NewscatcherLab() as running:
        yield running


@pytest.fixture
def source(lab: NewscatcherLab) -> Iterator[NewscatcherNews]:
    made = make_source(lab, Gate("newscatcher", sleep=lambda _seconds: None))
    yield made
    made.close()


def fetch(source: NewscatcherNews, topics: tuple[Nameable, ...] = WATCHED) -> StoryBatch:
    return source.fetch(StoryRequest(SINCE, UNTIL, topics))


def named(name: str, *aliases: str, symbol: str = "XYZ", market: str = "us") -> Nameable:
    return Nameable(1, market, symbol, name, aliases)


# --- queries ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "query"),
    [
        (named("Apple Inc."), '"Apple"'),
        (named("Apple Inc. - Common Stock"), '"Apple"'),
        (named("Amazon.com, Inc."), '"Amazon"'),
        (named("The Coca-Cola Company"), '"Coca-Cola"'),
        (named("JPMorgan Chase & Co."), '"JPMorgan Chase"'),
        (named("Berkshire Hathaway Inc. Class B"), '"Berkshire Hathaway"'),
        (named("Walt Disney Company (The)"), '"Walt Disney"'),
        (named("BHP Group Limited", symbol="BHP", market="asx"), '"BHP Group"'),
        (named("CSL Limited", symbol="CSL", market="asx"), '"CSL Limited"'),
        (named("Block, Inc."), '"Block, Inc."'),
        (named("Alphabet Inc.", "Google"), '"Alphabet" OR "Google"'),
        (named("Bitcoin / US Dollar", "BTC", symbol="BTC/USD", market="crypto"), '"Bitcoin"'),
        (named('A "great": [name]/^ here* OR'), '"A great name here OR"'),
    ],
    ids=lambda each: each.name if isinstance(each, Nameable) else "",
)
def test_an_instrument_is_searched_for_by_its_telling_names(topic: Nameable, query: str) -> None:
    assert build_queries([topic]) == ([query], [])


@pytest.mark.parametrize(
    "topic",
    [
        named(""),
        named("NEAR", symbol="NEAR/USD", market="crypto"),
        named("Gas", symbol="GAS/USD", market="crypto"),
        named("X"),
    ],
    ids=["none", "the code", "a word", "a letter"],
)
def test_an_instrument_without_a_telling_name_is_not_searched_for(topic: Nameable) -> None:
    assert build_queries([topic]) == ([], [topic.symbol])


def test_a_query_stays_below_its_longest_and_each_name_is_in_one() -> None:
    names = [f"Company Number {n} of Many" for n in range(200)]

    queries, _ = build_queries([named(name) for name in names])

    assert max(map(len, queries)) < 2_000
    assert sorted(" OR ".join(queries).split(" OR ")) == sorted(f'"{name}"' for name in names)


def test_the_same_instruments_are_the_same_query(
    lab: NewscatcherLab, source: NewscatcherNews
) -> None:
    keys = {fetch(source, topics).query_key for topics in (WATCHED, WATCHED[::-1])}

    assert len(keys) == 1
    assert fetch(source, WATCHED[:1]).query_key not in keys


def test_a_search_is_one_post_for_whole_days_in_utc(
    lab: NewscatcherLab, source: NewscatcherNews
) -> None:
    source.fetch(StoryRequest(NOON, NOON + timedelta(hours=1), WATCHED))

    [seen] = lab.requests
    assert (seen.method, seen.path, seen.query) == ("POST", "/api/search", {})
    assert lab.bodies == [
        {
            "q": '"Apple" OR "Bitcoin"',
            "from_": "2026-11-18T00:00:00",
            "to_": "2026-11-19T00:00:00",
            "sort_by": "date",
            "lang": "en",
            "page_size": 100,
            "page": 1,
            "include_nlp_data": True,
            "clustering_enabled": False,
        }
    ]


def test_without_a_name_to_search_for_nothing_is_asked(
    lab: NewscatcherLab, source: NewscatcherNews
) -> None:
    batch = fetch(source, (named("", symbol="AAPL"),))

    assert lab.requests == []
    assert batch.notes == ["1 watched instruments have no name to search for: AAPL."]
    assert "was not asked" in (batch.empty_reason or "")


def test_without_a_token_nothing_is_asked(lab: NewscatcherLab) -> None:
    source = NewscatcherNews(Gate("newscatcher"), base_url=lab.url, hash_author=HASH)

    with pytest.raises(AuthError, match="SCIZOR_NEWSCATCHER_API_KEY"):
        fetch(source)

    assert lab.requests == []


def test_a_query_that_fails_does_not_lose_the_others(
    lab: NewscatcherLab, source: NewscatcherNews
) -> None:
    lab.items = [Item("7", NOON)]
    lab.replies = [Reply({"message": "Syntax error in q", "status_code": 422}, 422)]
    many = tuple(named(f"Company Number {n} of Many") for n in range(100))

    batch = fetch(source, many)

    assert [story.source_id for story in batch.stories] == ["7"]
    assert len(batch.errors) == 1
    assert isinstance(batch.failure, BadRequest)
    assert not batch.complete


# --- capped searches and pages ------------------------------------------------------------


def test_a_capped_window_is_halved_until_it_is_not(
    lab: NewscatcherLab, source: NewscatcherNews
) -> None:
    lab.items = [Item(str(100 + n), SINCE + timedelta(hours=n)) for n in range(24)]
    lab.hits_an_hour = 1_500  # six hours have 9,000, twelve are capped

    batch = fetch(source)

    windows = [(body["from_"][8:16], body["to_"][8:16]) for body in lab.bodies]
    assert windows == [
        ("18T00:00", "19T00:00"),
        ("18T00:00", "18T12:00"),
        ("18T00:00", "18T06:00"),
        ("18T06:00", "18T12:00"),
        ("18T12:00", "19T00:00"),
        ("18T12:00", "18T18:00"),
        ("18T18:00", "19T00:00"),
    ]
    assert len(batch.stories) == 24
    assert batch.complete
    assert batch.notes == []


def test_an_hour_that_is_capped_is_read_and_its_rest_said_to_be_absent(
    lab: NewscatcherLab, source: NewscatcherNews
) -> None:
    lab.items = [Item("7", NOON)]
    lab.capped = True

    batch = fetch(source)

    assert [story.source_id for story in batch.stories] == ["7"]
    assert not batch.complete
    assert batch.notes[0] == (
        "NewsCatcher gives out 10,000 articles at most, and has more from 2026-11-18 00:00 to "
        "00:45 UTC: the rest of them is absent."
    )


def test_a_page_that_was_announced_and_is_empty_is_said(
    lab: NewscatcherLab, source: NewscatcherNews
) -> None:
    page = {"status": "ok", "total_hits": 3, "total_pages": 2, "page_size": 2}
    lab.replies = [
        Reply({**page, "page": 1, "articles": [article(Item("7", NOON))]}),
        Reply({**page, "page": 2, "articles": []}),
    ]

    batch = fetch(source)

    assert batch.notes == ["NewsCatcher announced 2 pages, but page 2 was empty."]
    assert not batch.complete


def test_no_match_is_a_stated_result(lab: NewscatcherLab, source: NewscatcherNews) -> None:
    words = "No matches for your search."
    lab.replies = [Reply({"status": words, "total_hits": 0, "page": 0, "total_pages": 0})]

    batch = fetch(source)

    assert batch.complete
    assert batch.empty_reason == "no article of the window matches the names of the watched " + (
        "instruments"
    )


@pytest.mark.parametrize(
    "answer",
    [
        {"status": "ok", "articles": []},
        {"total_hits": "3", "total_pages": 1, "articles": []},
        {"total_hits": 3, "total_pages": 1},
        {"total_hits": 3, "total_pages": 1, "clusters": []},
        [],
    ],
    ids=["no totals", "text", "no articles", "clusters", "list"],
)
def test_a_changed_shape_is_schema_drift(
    lab: NewscatcherLab, source: NewscatcherNews, answer: Any
) -> None:
    lab.replies = [Reply(answer)]

    with pytest.raises(SchemaDrift):
        fetch(source)


# --- articles -----------------------------------------------------------------------------


def one(lab: NewscatcherLab, **change: Any) -> None:
    lab.articles = [{**article(Item("7", NOON, author="Hannah Bylineson")), **change}]


def test_an_article_becomes_a_story(lab: NewscatcherLab, source: NewscatcherNews) -> None:
    one(lab, updated_date="2026-11-18 13:30:00", description="In short", content="At length")

    [story] = fetch(source).stories

    assert (story.source, story.source_id, story.kind) == ("newscatcher", "7", "news")
    assert (story.published_at, story.observed_at) == (NOON, NOW)
    assert story.edited_at == datetime(2026, 11, 18, 13, 30, tzinfo=UTC)
    assert story.title == "Quarterly production beats estimates"
    assert story.body == "In short\nAt length"
    assert story.url == "https://www.example-news.com/7"
    assert (story.publisher, story.language) == ("example-news.com", "en")
    assert story.votes == {"provider_title_sentiment": 0.5, "provider_content_sentiment": -0.25}
    assert story.hints == ()
    assert story.author_hash == HASH("Hannah Bylineson")


def test_a_description_that_the_content_begins_with_is_not_said_twice(
    lab: NewscatcherLab, source: NewscatcherNews
) -> None:
    one(lab, description="Profit rose.", content="Profit rose. So did debt.")

    assert fetch(source).stories[0].body == "Profit rose. So did debt."


@pytest.mark.parametrize("nlp", [None, {}, {"sentiment": None}, {"sentiment": {"title": "0.5"}}])
def test_an_article_without_scores_has_none(
    lab: NewscatcherLab, source: NewscatcherNews, nlp: Any
) -> None:
    one(lab, nlp=nlp)

    assert fetch(source).stories[0].votes == {}


def test_a_byline_in_the_text_is_taken_out(lab: NewscatcherLab, source: NewscatcherNews) -> None:
    one(lab, description="", content="By Hannah Bylineson, Sydney. Profit rose.")

    assert fetch(source).stories[0].body == ", Sydney. Profit rose."


@pytest.mark.parametrize(
    ("precision", "published", "seen", "expected"),
    [
        ("full", "2026-11-18 09:00:00", "2026-11-18 09:04:00", "2026-11-18 09:00:00"),
        (None, "2026-11-18 09:00:00", None, "2026-11-18 09:00:00"),
        ("date", "2026-11-18 00:00:00", "2026-11-18 09:04:00", "2026-11-18 09:04:00"),
        ("date", "2026-11-18 00:00:00", "2026-11-19 02:00:00", "2026-11-18 23:59:59"),
        ("date", "2026-11-18 00:00:00", None, "2026-11-18 23:59:59"),
        ("timezone unknown", "2026-11-18 09:00:00", None, "2026-11-18 23:59:59"),
        ("timezone unknown", "2026-11-18 09:00:00", "2026-11-18 14:02:00", "2026-11-18 14:02:00"),
        ("timezone unknown", "2026-11-18 20:00:00", "2026-11-18 09:02:00", "2026-11-18 09:02:00"),
    ],
)
def test_an_article_counts_as_published_when_it_was_public_for_certain(
    lab: NewscatcherLab,
    source: NewscatcherNews,
    precision: str | None,
    published: str,
    seen: str | None,
    expected: str,
) -> None:
    one(lab, published_date=published, published_date_precision=precision, parse_date=seen)

    [story] = fetch(source).stories

    assert f"{story.published_at:%Y-%m-%d %H:%M:%S}" == expected


def test_an_article_of_which_only_the_running_day_is_known_waits_for_its_end(
    lab: NewscatcherLab, source: NewscatcherNews
) -> None:
    one(
        lab,
        published_date="2026-11-19 00:00:00",
        published_date_precision="date",
        parse_date=None,
    )

    batch = source.fetch(StoryRequest(UNTIL, UNTIL + timedelta(days=1), WATCHED))

    assert batch.stories == []
    assert batch.outside == 1
    assert batch.rejected.empty


@pytest.mark.parametrize("written", ["yesterday", "", 1_763_000_000, None])
def test_an_article_without_a_time_costs_only_itself(
    lab: NewscatcherLab, source: NewscatcherNews, written: Any
) -> None:
    broken = {**article(Item("8", NOON)), "published_date": written}
    articles = [article(Item("7", NOON)), broken]
    lab.replies = [Reply({"total_hits": 2, "total_pages": 1, "articles": articles})]

    batch = fetch(source)

    assert [story.source_id for story in batch.stories] == ["7"]
    assert list(batch.rejected["payload"]) == [{"id": "8"}]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>Up <b>5</b>%</p><p>More</p>", "Up 5% More"),
        ("Tom &amp; Jerry&#39;s", "Tom & Jerry's"),
        ("&lt;p&gt;Escaped&lt;/p&gt;", "Escaped"),
        ("a<script>alert('<p>')</script>b<style>p{}</style>c", "a b c"),
        ("BTC < 50k & ETH > 2k", "BTC < 50k & ETH > 2k"),
        ("cut in the mid<a href='x", "cut in the mid<a href='x"),
        ("a<!-- <b>unseen</b> -->b<!-->c<!-- cut", "abc"),
        ("a <![ x>b<![CDATA[c]]>d <?php e ?>f", "a bd f"),
        ("  plain\ntext ", "plain\ntext"),
        ("عربي <b>🚀</b> עברית", "عربي 🚀 עברית"),
        (None, ""),
        (5, ""),
    ],
)
def test_markup_becomes_text(markup: Any, text: str) -> None:
    assert plain_text(markup) == text


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", ["<a ", "<a b='>", "<!--", "<!-- >", "<![", "</", "<p>", "&#"])
def test_broken_markup_does_not_hold_up_the_reading(part: str) -> None:
    markup = "Up " + part * (100_000 // len(part))

    assert plain_text(markup).startswith("Up")


# --- refusals -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "words", "kind", "said"),
    [
        (
            403,
            "Your plan request date range cannot be greater than 400 days",
            AuthError,
            "further back than the history of this plan",
        ),
        (429, "You have reached your plan's API calls limit", AuthError, "used up"),
        (429, "Max API requests concurrency reached", RateLimited, "concurrency"),
        (408, "Request timed out after 30 seconds", TransientError, "timed out"),
        (422, "Invalid date format", BadRequest, "Invalid date format"),
        (400, "Invalid JSON in request body", BadRequest, "Invalid JSON"),
    ],
    ids=["plan range", "plan calls", "concurrency", "408", "422", "400"],
)
def test_a_refusal_has_the_name_that_its_words_mean(
    lab: NewscatcherLab,
    source: NewscatcherNews,
    status: int,
    words: str,
    kind: type[ProviderError],
    said: str,
) -> None:
    answer = {"message": words, "status_code": status, "status": "refused"}
    lab.replies = [Reply(answer, status)] * 3

    with pytest.raises(kind, match=said):
        fetch(source)


# --- the vendor's specification -----------------------------------------------------------

RECORDINGS = os.environ.get("SCIZOR_RECORDINGS", "")


@pytest.mark.skipif(
    not RECORDINGS,
    reason="set SCIZOR_RECORDINGS to a directory of recorded payloads (newscatcher/)",
)
def test_the_fields_read_and_sent_are_those_of_the_specification() -> None:
    import yaml

    text = (Path(RECORDINGS) / "newscatcher" / "news-api-v3.yml").read_text(encoding="utf-8")
    components = yaml.load(text, Loader=yaml.CSafeLoader)["components"]
    schemas = components["schemas"]
    body = components["requestBodies"]["SearchRequestBody"]["content"]["application/json"]

    assert {
        "id", "title", "author", "authors", "journalists", "published_date",
        "published_date_precision", "updated_date", "parse_date", "link", "domain_url",
        "language", "description", "content", "nlp",
    } <= set(schemas["ArticleEntity"]["properties"])  # fmt: skip
    assert {"title", "content"} <= set(schemas["SentimentScores"]["properties"])
    assert {"status", "total_hits", "total_pages"} <= set(
        schemas["BaseSearchResponseDto"]["required"]
    )
    assert {
        "q", "from_", "to_", "sort_by", "lang", "page_size", "page", "include_nlp_data",
        "clustering_enabled",
    } <= set(body["schema"]["properties"])  # fmt: skip
    assert schemas["PageSize"]["maximum"] >= 100
