"""Finnhub's company news on loopback. Answers are written by hand from its specification."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import SecretStr

from scizor_core.mentions import Nameable
from scizor_core.stories import FIRST_PUBLICATION
from scizor_resources.authors import author_hasher
from scizor_resources.providers.finnhub.news import FinnhubNews
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.stories import StoryRequest
from tests.contract.lab.cryptopanic_ledger import outcome_of
from tests.contract.lab.ledgers import NOW, SINCE, UNTIL, Item, LedgerLab, LedgerSource, Outcome
from tests.contract.lab.server import Reply, Seen

KEY = "lab0key0finnhub0news000"
#: What it gives of a longer list, newest first.
MOST_ARTICLES = 200
HASH = author_hasher(b"lab", "finnhub")


def article(item: Item) -> dict[str, Any]:
    """Return an article as the API writes it."""
    return {
        "category": "company",
        "datetime": int(item.at.timestamp()),
        "headline": item.text[:300],
        "id": int(item.id),
        "image": "",
        "related": "AAPL",
        "source": "Example News",
        "summary": item.text,
        "url": f"https://www.example-news.com/{item.id}",
    }


class FinnhubNewsLab(LedgerLab):
    """Company news, newest first; articles with impossible dates are in every window.

    Attributes:
        by_symbol: symbol -> articles as on the wire, in place of those made of `items`.
        replies: symbol -> answer given instead of the lab's own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_symbol: dict[str, list[dict[str, Any]]] | None = None
        self.replies: dict[str, Reply] = {}

    def respond(self, seen: Seen) -> Reply:
        if self.quota_exhausted:
            return self.quota()
        if seen.headers.get("x-finnhub-token") != KEY:
            return self.error("invalid_credentials")
        if seen.path != "/api/v1/company-news":
            return Reply({"error": "Resource not found."}, 404)
        if seen.query["symbol"] in self.replies:
            return self.replies[seen.query["symbol"]]
        found = [each for each in self._articles(seen.query) if _matches(each, seen.query)]
        newest = sorted(found, key=lambda each: -each.get("datetime", 0))
        return Reply(newest[:MOST_ARTICLES])

    def _articles(self, query: dict[str, str]) -> list[dict[str, Any]]:
        if self.by_symbol is not None:
            return self.by_symbol.get(query["symbol"], [])
        articles = [article(each) for each in self.items if not each.deleted]
        if self.changed_field:
            return [{"time": each.pop("datetime"), **each} for each in articles]
        if self.capped:
            articles += [article(each) for each in evening(SINCE, MOST_ARTICLES)]
        return articles

    def quota(self) -> Reply:
        return self.error("rate_limited")

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        limit = "API limit reached. Please try again later. Remaining Limit: 0"
        return {
            "rate_limited": Reply({"error": limit}, 429),
            "server_error": Reply({"error": "Internal server error"}, 500),
            "invalid_credentials": Reply({"error": "Invalid API key"}, 401),
        }[kind]


def evening(day: datetime, count: int, first_id: int = 5001) -> list[Item]:
    """Return items of the last hour of a day."""
    at = day.replace(hour=23, minute=30)
    return [Item(str(first_id + n), at, f"Late report {n}") for n in range(count)]


def _matches(each: dict[str, Any], query: dict[str, str]) -> bool:
    at = datetime.fromtimestamp(each.get("datetime", each.get("time", 0)), tz=UTC)
    in_days = query["from"] <= f"{at:%Y-%m-%d}" <= query["to"]
    return in_days or not FIRST_PUBLICATION <= at <= NOW


def make_source(lab: FinnhubNewsLab, gate: Gate) -> FinnhubNews:
    return FinnhubNews(
        gate,
        base_url=f"{lab.url}/api/v1",
        key=SecretStr(KEY),
        timeout_seconds=0.5,
        now=lambda: NOW,
        hash_author=HASH,
    )


def ask(lab: LedgerLab, gate: Gate) -> Outcome:
    assert isinstance(lab, FinnhubNewsLab)
    source = make_source(lab, gate)
    try:
        watched = (Nameable(1, "us", "AAPL", "Apple Inc."),)
        return outcome_of(source.fetch(StoryRequest(SINCE, UNTIL, watched)))
    finally:
        source.close()


LEDGER_SOURCES = (
    LedgerSource(
        name="finnhub",
        lab=FinnhubNewsLab,
        ask=ask,
        secret=KEY,
        skips={"pages": "an answer is one list without pages"},
    ),
)
