"""CryptoPanic's API, version 2, on loopback. Answers are written by hand from its documentation."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import SecretStr

from scizor_core.mentions import Nameable
from scizor_resources.authors import author_hasher
from scizor_resources.providers.cryptopanic.client import CryptopanicNews
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.stories import StoryBatch, StoryRequest
from tests.contract.lab.ledgers import NOW, SINCE, UNTIL, Item, LedgerLab, LedgerSource, Outcome
from tests.contract.lab.server import Reply, Seen

KEY = "lab0token0cryptopanic00"
PAGE_SIZE = 20
COINS = (
    Nameable(1, "crypto", "BTC/USD", "Bitcoin"),
    Nameable(2, "crypto", "ETH/USD", "Ethereum"),
)
HASH = author_hasher(b"lab", "cryptopanic")


def iso(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def post(item: Item) -> dict[str, Any]:
    """Return a post as version 2 writes it."""
    return {
        "id": int(item.id),
        "slug": "a-slug",
        "title": item.text[:300],
        "description": item.text,
        "published_at": iso(item.at),
        "created_at": iso(item.at),
        "kind": "news",
        "source": {"title": "Coin Wire", "region": "en", "domain": "coinwire.com", "type": "feed"},
        "original_url": f"https://www.coinwire.com/{item.id}",
        "url": f"https://cryptopanic.com/news/{item.id}/a-slug",
        "author": item.author,
        "instruments": [{"code": "BTC", "title": "Bitcoin", "slug": "bitcoin"}],
        "votes": {"negative": 1, "positive": 7, "important": 2, "lol": 0, "comments": 3},
        "panic_score": 41,
    }


class CryptopanicLab(LedgerLab):
    """Posts, newest first.

    Attributes:
        posts: posts as on the wire, in place of those made of `items`.
        replies: answers given instead of the lab's own, in this order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.posts: list[dict[str, Any]] | None = None
        self.replies: list[Reply] = []

    def respond(self, seen: Seen) -> Reply:
        if self.replies:
            return self.replies.pop(0)
        if self.quota_exhausted:
            return self.quota()
        if seen.query.get("auth_token") != KEY:
            return self.error("invalid_credentials")
        number, size = int(seen.query["page"]), self.page_size or PAGE_SIZE
        posts = self._posts()
        pages = max(1, -(-len(posts) // size))
        shown = (number - 1) % pages if self.capped else number - 1
        more = number < pages or self.capped
        address = "https://cryptopanic.com/api/growth/v2/posts/?auth_token=" + KEY
        return Reply(
            {
                "next": f"{address}&page={number + 1}" if more else None,
                "previous": f"{address}&page={number - 1}" if number > 1 else None,
                "results": posts[shown * size : (shown + 1) * size],
            }
        )

    def _posts(self) -> list[dict[str, Any]]:
        if self.posts is not None:
            return self.posts
        there = sorted((each for each in self.items if not each.deleted), key=lambda each: each.at)
        posts = [post(item) for item in reversed(there)]
        if self.changed_field:
            return [{"publishedAt": each.pop("published_at"), **each} for each in posts]
        return posts

    def quota(self) -> Reply:
        return Reply({"status": "api_error", "info": "API monthly quota exceeded"}, 429)

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        return {
            "rate_limited": Reply({"status": "api_error", "info": "Too many requests"}, 429),
            "server_error": Reply({"status": "api_error", "info": "Internal error"}, 500),
            "invalid_credentials": Reply({"status": "Incomplete", "info": "Token not found"}, 401),
        }[kind]


def make_source(lab: CryptopanicLab, gate: Gate, plan: str = "growth") -> CryptopanicNews:
    return CryptopanicNews(
        gate,
        base_url=lab.url,
        key=SecretStr(KEY),
        plan=plan,
        timeout_seconds=0.5,
        now=lambda: NOW,
        hash_author=HASH,
    )


def outcome_of(batch: StoryBatch) -> Outcome:
    """Return what a source of stories made of its answers in the suite's terms."""
    return Outcome(
        found={story.source_id: story.text for story in batch.stories if not story.is_deleted},
        rejected=batch.rejected,
        deleted={story.source_id for story in batch.stories if story.is_deleted},
        notes=batch.notes,
        complete=batch.complete,
        empty_reason=batch.empty_reason,
        failure=batch.failure,
        everything=repr(batch) + repr(batch.rejected.to_dict("records")),
    )


def ask(lab: LedgerLab, gate: Gate) -> Outcome:
    assert isinstance(lab, CryptopanicLab)
    source = make_source(lab, gate)
    try:
        return outcome_of(source.fetch(StoryRequest(SINCE, UNTIL, COINS)))
    finally:
        source.close()


LEDGER_SOURCES = (LedgerSource(name="cryptopanic", lab=CryptopanicLab, ask=ask, secret=KEY),)
