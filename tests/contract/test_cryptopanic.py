"""What is special to CryptoPanic: one query, the token, pages, votes, both versions, quotas."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scizor_core.mentions import Hint, Nameable
from scizor_resources.errors import AuthError, BadRequest, ProviderError, SchemaDrift
from scizor_resources.providers.cryptopanic.client import CryptopanicNews
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.stories import StoryBatch, StoryRequest
from tests.contract.lab.cryptopanic_ledger import (
    COINS,
    HASH,
    KEY,
    CryptopanicLab,
    make_source,
    post,
)
from tests.contract.lab.ledgers import NOW, SINCE, UNTIL, Item
from tests.contract.lab.server import Reply

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)


@pytest.fixture
def lab() -> Iterator[CryptopanicLab]:
    with CryptopanicLab() as running:
        yield running


@pytest.fixture
def source(lab: CryptopanicLab) -> Iterator[CryptopanicNews]:
    made = make_source(lab, Gate("cryptopanic", sleep=lambda _seconds: None))
    yield made
    made.close()


def fetch(source: CryptopanicNews, topics: tuple[Nameable, ...] = COINS) -> StoryBatch:
    return source.fetch(StoryRequest(SINCE, UNTIL, topics))


def hourly(count: int, newest: datetime = UNTIL) -> list[Item]:
    return [Item(str(101 + n), newest - timedelta(hours=n + 1)) for n in range(count)]


# --- what is asked ------------------------------------------------------------------------


def test_all_coins_are_asked_for_in_one_query(lab: CryptopanicLab, source: CryptopanicNews) -> None:
    fetch(source, (*COINS, Nameable(3, "crypto", "BTC/AUD"), Nameable(4, "us", "AAPL")))

    [seen] = lab.requests
    assert (seen.method, seen.path) == ("GET", "/posts/")
    assert seen.query == {
        "public": "true",
        "currencies": "BTC,ETH",
        "kind": "news",
        "page": "1",
        "auth_token": KEY,
    }


def test_more_coins_than_a_query_holds_are_several_queries(
    lab: CryptopanicLab, source: CryptopanicNews
) -> None:
    fetch(source, tuple(Nameable(n, "crypto", f"C{n:03}/USD") for n in range(51)))

    asked = [seen.query["currencies"].split(",") for seen in lab.requests]
    assert [len(each) for each in asked] == [50, 1]


def test_without_a_watched_coin_nothing_is_asked(lab: CryptopanicLab) -> None:
    source = CryptopanicNews(Gate("cryptopanic"), base_url=lab.url, hash_author=HASH)

    batch = fetch(source, (Nameable(4, "us", "AAPL"),))

    assert batch.empty_reason == "no coin is watched, so CryptoPanic was not asked"
    assert not batch.complete
    assert lab.requests == []


def test_without_a_token_nothing_is_asked(lab: CryptopanicLab) -> None:
    source = CryptopanicNews(Gate("cryptopanic"), base_url=lab.url, hash_author=HASH)

    with pytest.raises(AuthError, match="SCIZOR_CRYPTOPANIC_API_KEY"):
        fetch(source)

    assert lab.requests == []


# --- the token ----------------------------------------------------------------------------


@pytest.mark.parametrize("refused", [False, True], ids=["answer", "refusal"])
def test_the_token_shows_nowhere(
    lab: CryptopanicLab, source: CryptopanicNews, refused: bool
) -> None:
    lab.items = hourly(30)
    if refused:
        lab.replies = [Reply({"status": "Incomplete", "info": f"Token {KEY} is invalid"}, 401)]

    try:
        shown = repr(fetch(source))
    except AuthError as error:
        shown = f"{error!r} {error.__cause__!r} {error.__context__!r}"

    assert lab.requests[0].query["auth_token"] == KEY
    assert KEY not in shown + repr(source) + repr(vars(source))


def test_the_address_of_the_next_page_is_not_followed(
    lab: CryptopanicLab, source: CryptopanicNews
) -> None:
    elsewhere = f"https://elsewhere.example/posts/?auth_token={KEY}&page=2&currencies=DOGE"
    lab.items = hourly(30)
    lab.replies = [Reply({"next": elsewhere, "previous": None, "results": []})]

    fetch(source)

    assert [(seen.query["page"], seen.query["currencies"]) for seen in lab.requests] == [
        ("1", "BTC,ETH"),
        ("2", "BTC,ETH"),
    ]


# --- pages --------------------------------------------------------------------------------


def test_pages_are_read_until_one_ends_before_the_window(
    lab: CryptopanicLab, source: CryptopanicNews
) -> None:
    lab.items, lab.page_size = hourly(60), 10

    batch = fetch(source)

    assert len(batch.stories) == 24
    assert batch.outside == 6
    assert batch.complete
    assert len(lab.requests) == 3


def test_a_broken_time_does_not_end_the_pages(lab: CryptopanicLab, source: CryptopanicNews) -> None:
    posts = [post(item) for item in hourly(20)]
    posts[9]["published_at"] = "1970-01-01T00:00:00Z"
    lab.posts, lab.page_size = posts, 10

    batch = fetch(source)

    assert len(batch.stories) == 19
    assert list(batch.rejected["reason"]) == ["published_at 1970-01-01 lies before 2000"]


def test_what_lies_behind_the_last_page_is_said_to_be_absent(
    lab: CryptopanicLab, source: CryptopanicNews
) -> None:
    lab.items, lab.page_size = hourly(20), 1
    lab.capped = True

    batch = fetch(source)

    assert len(lab.requests) == 50
    assert not batch.complete
    assert batch.notes == [
        "CryptoPanic ends at page 50, before the start of the window: what is older is absent. "
        "Ask for shorter windows more often, or for fewer coins."
    ]


def test_a_page_that_fails_leaves_those_before_it(
    lab: CryptopanicLab, source: CryptopanicNews
) -> None:
    first = {"next": "https://x.example/?page=2", "results": [post(item) for item in hourly(3)]}
    lab.replies = [Reply(first), Reply({"results": []})]

    batch = fetch(source)

    assert len(batch.stories) == 3
    assert isinstance(batch.failure, SchemaDrift)
    assert list(batch.errors) == ["BTC,ETH"]
    assert not batch.complete


def test_the_developer_plan_has_news_a_day_late(lab: CryptopanicLab) -> None:
    lab.items = hourly(3)
    source = make_source(lab, Gate("cryptopanic"), plan="developer")

    late = fetch(source)
    settled = source.fetch(
        StoryRequest(SINCE - timedelta(days=2), NOW - timedelta(hours=24), COINS)
    )
    source.close()

    assert not late.complete
    assert "24 hours late" in late.notes[0]
    assert settled.complete


# --- posts --------------------------------------------------------------------------------


def test_a_post_becomes_a_story(lab: CryptopanicLab, source: CryptopanicNews) -> None:
    lab.items = [Item("7", NOON, "Fees of Bitcoin fall", author="JaneTrader_77")]

    [story] = fetch(source).stories

    assert (story.source, story.source_id, story.kind) == ("cryptopanic", "7", "news")
    assert (story.published_at, story.observed_at) == (NOON, NOW)
    assert (story.title, story.body) == ("Fees of Bitcoin fall", "Fees of Bitcoin fall")
    assert (story.url, story.publisher) == ("https://www.coinwire.com/7", "coinwire.com")
    assert story.language == "en"
    assert story.hints == (Hint("BTC", "crypto"),)
    assert story.votes == {
        "negative": 1,
        "positive": 7,
        "important": 2,
        "lol": 0,
        "comments": 3,
        "panic_score": 41,
    }
    assert story.author_hash == HASH("JaneTrader_77")


def test_a_post_of_version_1_is_read(lab: CryptopanicLab, source: CryptopanicNews) -> None:
    lab.posts = [
        {
            "kind": "news",
            "domain": "tokenwire.com",
            "source": {"title": "Token Wire", "region": "en", "domain": "tokenwire.com"},
            "title": "Stakers &amp; lenders leave",
            "published_at": "2026-11-18T12:00:00Z",
            "currencies": [{"code": "ETH", "title": "Ethereum"}, {"code": "eth"}, {"code": "?"}],
            "id": 8,
            "url": "https://cryptopanic.com/news/8/stakers",
            "votes": {"positive": True, "negative": "2", "liked": 3},
        }
    ]

    [story] = fetch(source).stories

    assert story.title == "Stakers & lenders leave"
    assert story.url == "https://cryptopanic.com/news/8/stakers"
    assert story.publisher == "tokenwire.com"
    assert story.hints == (Hint("ETH", "crypto"),)
    assert story.votes == {"liked": 3}


def test_a_post_about_no_coin_in_particular_has_no_hints(
    lab: CryptopanicLab, source: CryptopanicNews
) -> None:
    lab.posts = [{**post(Item("7", NOON)), "instruments": None, "votes": None}]

    [story] = fetch(source).stories

    assert (story.hints, story.votes) == ((), {"panic_score": 41})


@pytest.mark.parametrize(
    ("content", "body"),
    [
        ({"clean": "The whole text.", "original": "<p>No</p>"}, "The whole text."),
        ({"clean": None, "original": "<p>Up <b>5</b>%</p><p>More</p>"}, "Up 5% More"),
        (None, "Short"),
    ],
    ids=["clean", "original", "description"],
)
def test_the_whole_text_comes_before_the_description(
    lab: CryptopanicLab, source: CryptopanicNews, content: Any, body: str
) -> None:
    lab.posts = [{**post(Item("7", NOON)), "content": content, "description": "<i>Short</i>"}]

    assert fetch(source).stories[0].body == body


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"published_at": "2026-11-18T12:00:00"}, "'published_at' is no time with a zone"),
        ({"published_at": 1_763_000_000}, "'published_at' is no time with a zone"),
        ({"published_at": None}, "it has no 'published_at'"),
        ({"id": None}, "it has no 'id'"),
        ({"id": {}}, "it has no id"),
    ],
)
def test_a_post_that_cannot_be_read_costs_only_itself(
    lab: CryptopanicLab, source: CryptopanicNews, change: dict[str, Any], reason: str
) -> None:
    lab.posts = [post(Item("8", NOON)), {**post(Item("7", NOON)), **change}]

    batch = fetch(source)

    assert [story.source_id for story in batch.stories] == ["8"]
    assert list(batch.rejected["reason"]) == [reason]
    assert list(batch.rejected["row_number"]) == [2]


# --- refusals -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 429])
def test_a_months_quota_that_is_used_up_is_not_waited_for(
    lab: CryptopanicLab, source: CryptopanicNews, status: int
) -> None:
    words = {"status": "api_error", "info": "API monthly quota exceeded"}
    lab.replies = [Reply(words, status, {"Retry-After": "2"})]

    with pytest.raises(AuthError, match="used up for the month"):
        fetch(source)

    assert len(lab.requests) == 1


@pytest.mark.parametrize(
    ("info", "kind"), [("Invalid token", AuthError), ("Unknown filter", BadRequest)]
)
def test_an_error_that_comes_as_200_is_an_error(
    lab: CryptopanicLab, source: CryptopanicNews, info: str, kind: type[ProviderError]
) -> None:
    lab.replies = [Reply({"status": "api_error", "info": info})]

    with pytest.raises(kind, match=info):
        fetch(source)


@pytest.mark.parametrize(
    "answer",
    [
        {"results": []},
        {"next": None, "posts": []},
        {"next": None, "results": None},
        {"next": None, "results": [{"id": 1, "headline": "x", "published_at": "2026-11-18"}]},
        {"next": None, "results": [1]},
        [],
    ],
    ids=["no next", "no results", "null", "renamed field", "numbers", "list"],
)
def test_a_changed_shape_is_schema_drift(
    lab: CryptopanicLab, source: CryptopanicNews, answer: Any
) -> None:
    lab.replies = [Reply(answer)]

    with pytest.raises(SchemaDrift):
        fetch(source)
