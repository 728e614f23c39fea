"""What is special to Finnhub's company news: a call for each company, days, answers cut short."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scizor_core.mentions import Hint, Nameable
from scizor_resources.errors import AuthError, BadRequest, SchemaDrift, TransientError
from scizor_resources.providers.finnhub.news import FinnhubNews
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.stories import StoryBatch, StoryRequest
from tests.contract.lab.finnhub_news_ledger import (
    HASH,
    FinnhubNewsLab,
    article,
    evening,
    make_source,
)
from tests.contract.lab.ledgers import NOW, SINCE, UNTIL, Item
from tests.contract.lab.server import Reply

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def lab() -> Iterator[FinnhubNewsLab]:
    with FinnhubNewsLab() as running:
        yield running


@pytest.fixture
def source(lab: FinnhubNewsLab) -> Iterator[FinnhubNews]:
    made = make_source(lab, Gate("finnhub", sleep=lambda _seconds: None))
    yield made
    made.close()


def watched(*symbols: str) -> tuple[Nameable, ...]:
    return tuple(Nameable(n, "us", symbol) for n, symbol in enumerate(symbols, start=1))


def fetch(source: FinnhubNews, *symbols: str) -> StoryBatch:
    return source.fetch(StoryRequest(SINCE, UNTIL, watched(*symbols or ("AAPL",))))


# --- what is asked ------------------------------------------------------------------------


def test_each_us_company_is_asked_for_with_a_day_more_on_both_sides(
    lab: FinnhubNewsLab, source: FinnhubNews
) -> None:
    others = (Nameable(8, "asx", "BHP"), Nameable(9, "crypto", "BTC/USD"))

    source.fetch(StoryRequest(SINCE, UNTIL, (*watched("MSFT", "BRK-B"), *others)))

    assert [seen.query for seen in lab.requests] == [
        {"symbol": "BRK.B", "from": "2026-11-17", "to": "2026-11-19"},
        {"symbol": "MSFT", "from": "2026-11-17", "to": "2026-11-19"},
    ]


def test_only_the_window_is_kept(lab: FinnhubNewsLab, source: FinnhubNews) -> None:
    times = (SINCE - timedelta(seconds=1), SINCE, UNTIL - timedelta(seconds=1), UNTIL)
    lab.items = [Item(str(n), at) for n, at in enumerate(times, start=1)]

    batch = fetch(source)

    assert [story.source_id for story in batch.stories] == ["2", "3"]
    assert batch.outside == 2


def test_without_a_us_company_nothing_is_asked(lab: FinnhubNewsLab, source: FinnhubNews) -> None:
    batch = source.fetch(StoryRequest(SINCE, UNTIL, (Nameable(8, "asx", "BHP"),)))

    assert lab.requests == []
    assert "no US company is watched" in (batch.empty_reason or "")
    assert not batch.complete


def test_without_a_key_nothing_is_asked(lab: FinnhubNewsLab) -> None:
    source = FinnhubNews(Gate("finnhub"), base_url=lab.url, hash_author=HASH)

    with pytest.raises(AuthError, match="SCIZOR_FINNHUB_API_KEY"):
        fetch(source)

    assert lab.requests == []


def test_a_window_older_than_the_free_plans_year_is_said(
    lab: FinnhubNewsLab, source: FinnhubNews
) -> None:
    old = NOW - timedelta(days=400)

    batch = source.fetch(StoryRequest(old, old + DAY, watched("AAPL")))

    assert "the news of one year" in batch.notes[0]
    assert not batch.complete


# --- articles -----------------------------------------------------------------------------


def test_an_article_becomes_a_story(lab: FinnhubNewsLab, source: FinnhubNews) -> None:
    wire = {**article(Item("7", NOON, "Apple &amp; others rise")), "summary": "<p>Up <b>5</b>%</p>"}
    lab.by_symbol = {"AAPL": [wire]}

    [story] = fetch(source).stories

    assert (story.source, story.source_id, story.kind) == ("finnhub", "7", "news")
    assert (story.published_at, story.observed_at) == (NOON, NOW)
    assert (story.title, story.body) == ("Apple & others rise", "Up 5%")
    assert story.url == "https://www.example-news.com/7"
    assert story.publisher == "example-news.com"
    assert story.hints == (Hint("AAPL", "us"),)
    assert story.author_hash == ""


def test_an_address_by_way_of_finnhub_is_no_publisher(
    lab: FinnhubNewsLab, source: FinnhubNews
) -> None:
    wire = {**article(Item("7", NOON)), "url": "https://finnhub.io/api/news?id=abc"}
    lab.by_symbol = {"AAPL": [wire]}

    assert fetch(source).stories[0].publisher == "Example News"


def test_an_article_about_several_companies_is_one_story_with_all_of_them(
    lab: FinnhubNewsLab, source: FinnhubNews
) -> None:
    lab.items = [Item("7", NOON)]

    [story] = fetch(source, "MSFT", "AAPL").stories

    assert story.hints == (Hint("AAPL", "us"), Hint("MSFT", "us"))


@pytest.mark.parametrize("written", ["2026-11-18", None, True, 1_763_467_200_000_000, float("nan")])
def test_an_article_without_a_time_costs_only_itself(
    lab: FinnhubNewsLab, source: FinnhubNews, written: Any
) -> None:
    broken = {**article(Item("8", NOON)), "datetime": written}
    lab.replies = {"AAPL": Reply([article(Item("7", NOON)), broken])}

    batch = fetch(source)

    assert [story.source_id for story in batch.stories] == ["7"]
    assert list(batch.rejected["payload"]) == [{"id": "8"}]


# --- failures of one company --------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply({"error": "You don't have access to this resource."}, 403), AuthError),
        (Reply({"error": "Symbol not supported"}, 422), BadRequest),
        (Reply({"error": "Internal server error"}, 500), TransientError),
        (Reply({"news": []}), SchemaDrift),
        (Reply([{"id": 1, "headline": "x", "time": 1}]), SchemaDrift),
    ],
    ids=["plan", "symbol", "server", "object", "renamed field"],
)
def test_a_company_that_fails_does_not_lose_the_others(
    lab: FinnhubNewsLab, source: FinnhubNews, reply: Reply, kind: type[Exception]
) -> None:
    lab.items, lab.replies = [Item("7", NOON)], {"AAPL": reply}

    batch = fetch(source, "AAPL", "MSFT")

    assert [story.hints for story in batch.stories] == [(Hint("MSFT", "us"),)]
    assert list(batch.errors) == ["AAPL"]
    assert isinstance(batch.failure, kind)
    assert not batch.complete


def test_a_plan_without_the_news_of_a_company_is_said(
    lab: FinnhubNewsLab, source: FinnhubNews
) -> None:
    lab.replies = {"AAPL": Reply({"error": "You don't have access to this resource."}, 403)}

    with pytest.raises(AuthError, match="plan of this key does not have the news") as caught:
        fetch(source, "AAPL")

    assert "candles" not in str(caught.value)


@pytest.mark.parametrize("fault", ["invalid_credentials", "rate_limited"])
def test_what_would_meet_every_company_is_asked_once(
    lab: FinnhubNewsLab, source: FinnhubNews, fault: Any
) -> None:
    lab.inject(fault)

    with pytest.raises(Exception, match="Finnhub answered"):
        fetch(source, "AAPL", "MSFT", "NVDA")

    assert len(lab.requests) == 1


# --- answers cut short --------------------------------------------------------------------


def test_an_answer_that_may_be_cut_short_is_asked_for_in_shorter_windows(
    lab: FinnhubNewsLab, source: FinnhubNews
) -> None:
    after = [Item(str(9001 + n), UNTIL + timedelta(minutes=n)) for n in range(160)]
    lab.items = [*evening(SINCE, 100), *after]

    batch = fetch(source)

    days = [(seen.query["from"][8:], seen.query["to"][8:]) for seen in lab.requests]
    assert days == [("17", "19"), ("17", "18")]
    assert len(batch.stories) == 100
    assert batch.complete


def test_a_day_that_may_be_cut_short_is_said(lab: FinnhubNewsLab, source: FinnhubNews) -> None:
    lab.items = [Item(str(n), SINCE + timedelta(minutes=n)) for n in range(1, 400)]
    lab.capped = True

    batch = fetch(source)

    assert "as many as it gives at most" in batch.notes[0]
    assert not batch.complete


def test_a_long_answer_that_reaches_back_to_the_window_is_whole(
    lab: FinnhubNewsLab, source: FinnhubNews
) -> None:
    lab.items = [Item(str(n + 1), SINCE + timedelta(minutes=5 * n)) for n in range(170)]

    batch = fetch(source)

    assert len(batch.stories) == 170
    assert batch.complete
    assert len(lab.requests) == 1


# --- the vendor's specification -----------------------------------------------------------

RECORDINGS = os.environ.get("SCIZOR_RECORDINGS", "")


@pytest.mark.skipif(
    not RECORDINGS,
    reason="set SCIZOR_RECORDINGS to a directory of recorded payloads (finnhub/openapi.yaml)",
)
def test_the_fields_read_and_sent_are_those_of_the_specification() -> None:
    import yaml

    text = (Path(RECORDINGS) / "finnhub" / "openapi.yaml").read_text(encoding="utf-8")
    document = yaml.load(text, Loader=yaml.CSafeLoader)
    read = {"id", "datetime", "headline", "summary", "url", "source"}
    asked = document["paths"]["/company-news"]["get"]["parameters"]

    assert read <= set(document["components"]["schemas"]["CompanyNews"]["properties"])
    assert {each["name"] for each in asked} == {"symbol", "from", "to"}
