"""NewsCatcher's API, version 3, on loopback. Answers are written by hand from its specification."""

import json
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import SecretStr

from scizor_core.mentions import Nameable
from scizor_core.stories import FIRST_PUBLICATION
from scizor_resources.authors import author_hasher
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.newscatcher.client import NewscatcherNews
from scizor_resources.providers.stories import StoryRequest
from tests.contract.lab.cryptopanic_ledger import outcome_of
from tests.contract.lab.ledgers import NOW, SINCE, UNTIL, Item, LedgerLab, LedgerSource, Outcome
from tests.contract.lab.server import Reply, Seen

KEY = "lab0token0newscatcher00"
MOST_HITS = 10_000
WATCHED = (
    Nameable(1, "us", "AAPL", "Apple Inc."),
    Nameable(2, "crypto", "BTC/USD", "Bitcoin"),
)
HASH = author_hasher(b"lab", "newscatcher")


def wire_time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def article(item: Item) -> dict[str, Any]:
    """Return an article as the API writes it."""
    return {
        "id": item.id,
        "title": item.text[:300],
        "author": item.author,
        "authors": [item.author] if item.author else [],
        "journalists": item.author or "",
        "twitter_account": f"@{item.author}" if item.author else None,
        "published_date": wire_time(item.at),
        "published_date_precision": "full",
        "updated_date": None,
        "parse_date": wire_time(item.at),
        "link": f"https://www.example-news.com/{item.id}",
        "domain_url": "example-news.com",
        "full_domain_url": "www.example-news.com",
        "parent_url": "https://www.example-news.com",
        "name_source": "Example News",
        "language": "en",
        "description": item.text[:200],
        "content": f"By {item.author} {item.text}" if item.author else item.text,
        "rank": 900,
        "score": 12.5,
        "nlp": {"theme": "Business", "sentiment": {"title": 0.5, "content": -0.25}},
    }


class NewscatcherLab(LedgerLab):
    """Articles, newest first; those with impossible dates are in every window.

    Attributes:
        articles: articles as on the wire, in place of those made of `items`.
        hits_an_hour: articles that it claims to have of each hour, as a search that is capped.
        replies: answers given instead of the lab's own, in this order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.articles: list[dict[str, Any]] | None = None
        self.hits_an_hour = 0
        self.replies: list[Reply] = []

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What was asked so far."""
        return [json.loads(seen.body) for seen in self.requests]

    def respond(self, seen: Seen) -> Reply:
        if self.replies:
            return self.replies.pop(0)
        if self.quota_exhausted:
            return self.quota()
        if seen.headers.get("x-api-token") != KEY:
            return self.error("invalid_credentials")
        asked = json.loads(seen.body)
        start, end = (
            datetime.fromisoformat(asked[name]).replace(tzinfo=UTC) for name in ("from_", "to_")
        )
        found = [each for each in self._articles() if _matches(each, start, end)]
        size = self.page_size or asked["page_size"]
        number = asked["page"]
        hits = len(found) + int(self.hits_an_hour * (end - start).total_seconds() / 3600)
        pages = -(-len(found) // size)
        if self.capped:
            hits, pages = MOST_HITS, MOST_HITS // size
        return Reply(
            {
                "status": "ok" if found else "No matches for your search.",
                "total_hits": min(hits, MOST_HITS),
                "page": number,
                "total_pages": pages,
                "page_size": size,
                "articles": found[(number - 1) * size : number * size],
                "user_input": asked,
            }
        )

    def _articles(self) -> list[dict[str, Any]]:
        if self.articles is not None:
            return self.articles
        there = sorted((each for each in self.items if not each.deleted), key=lambda each: each.at)
        articles = [article(item) for item in reversed(there)]
        if self.changed_field:
            return [{"published": each.pop("published_date"), **each} for each in articles]
        return articles

    def quota(self) -> Reply:
        words = "You have reached your plan's API calls limit"
        return Reply({"message": words, "status_code": 429, "status": "Too many requests"}, 429)

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        if kind == "server_error":
            return Reply(b"Internal Server Error", 500, {"Content-Type": "text/plain"})
        status, words, short = {
            "rate_limited": (429, "Max API requests concurrency reached", "Too many requests"),
            "invalid_credentials": (
                401,
                "The 'x-api-token' parameter has an invalid value. Please provide a valid API key.",
                "Unauthorized",
            ),
        }[kind]
        return Reply({"message": words, "status_code": status, "status": short}, status)


def _matches(each: dict[str, Any], start: datetime, end: datetime) -> bool:
    written = each.get("published_date", each.get("published"))
    at = datetime.fromisoformat(written).replace(tzinfo=UTC)
    return start <= at <= end or not FIRST_PUBLICATION <= at <= NOW


def make_source(lab: NewscatcherLab, gate: Gate) -> NewscatcherNews:
    return NewscatcherNews(
        gate,
        base_url=lab.url,
        key=SecretStr(KEY),
        timeout_seconds=0.5,
        now=lambda: NOW,
        hash_author=HASH,
    )


def ask(lab: LedgerLab, gate: Gate) -> Outcome:
    assert isinstance(lab, NewscatcherLab)
    source = make_source(lab, gate)
    try:
        return outcome_of(source.fetch(StoryRequest(SINCE, UNTIL, WATCHED)))
    finally:
        source.close()


LEDGER_SOURCES = (LedgerSource(name="newscatcher", lab=NewscatcherLab, ask=ask, secret=KEY),)
