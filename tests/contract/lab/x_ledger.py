"""X's recent search on loopback: posts by time, pages, both shapes of its errors.

Answers are written by hand after X's interface documentation. Users are included although nobody
asks for them: they must not come back.
"""

import time
from datetime import datetime
from typing import Any, Literal

from pydantic import SecretStr

from scizor_core.mentions import Nameable
from scizor_resources.authors import author_hasher
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.stories import StoryBatch, StoryRequest
from scizor_resources.providers.x.client import XPosts

from .ledgers import NOW, SINCE, UNTIL, Item, LedgerLab, LedgerSource, Outcome
from .server import Reply, Seen

BEARER = "lab-x-00000000000000000000000000000001"
TOPICS = (
    Nameable(1, "crypto", "BTC/USD", "Bitcoin"),
    Nameable(2, "us", "AAPL", "Apple"),
    Nameable(3, "asx", "CBA", "Commonwealth Bank"),
)
RESET_SECONDS = 600
USAGE_CAP: dict[str, Any] = {
    "account_id": "1581000000000000000",
    "product_name": "standard-basic",
    "title": "UsageCapExceeded",
    "period": "Monthly",
    "scope": "Product",
    "detail": "Usage cap exceeded: Monthly product cap",
    "type": "https://api.twitter.com/2/problems/usage-capped",
}
UNAUTHORIZED = {
    "title": "Unauthorized",
    "type": "about:blank",
    "status": 401,
    "detail": "Unauthorized",
}
#: Times that a search between two times would not find; the lab shows them all the same.
_IMPOSSIBLE = (1970, 2099)


def limit_headers(remaining: int = 449) -> dict[str, str]:
    return {
        "x-rate-limit-limit": "450",
        "x-rate-limit-remaining": str(remaining),
        "x-rate-limit-reset": str(int(time.time()) + RESET_SECONDS),
    }


class XLab(LedgerLab):
    """Posts, found by time whatever the query.

    Attributes:
        fields: id -> fields of the post that are otherwise.
        withdrawn: ids of posts that are named as deleted.
        answers: whole answers instead, in turn, before any other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, dict[str, Any]] = {}
        self.withdrawn: list[str] = []
        self.answers: list[Reply] = []

    def respond(self, seen: Seen) -> Reply:
        if self.answers:
            return self.answers.pop(0)
        if seen.headers.get("authorization") != f"Bearer {BEARER}":
            return Reply(UNAUTHORIZED, 401)
        if self.quota_exhausted:
            return self.quota()
        if len(seen.query.get("query", "")) > 512:
            return invalid_request("Rule length: the length of the rule is invalid.")
        start, end = (
            datetime.fromisoformat(seen.query[f"{side}_time"]) for side in ("start", "end")
        )
        found = [
            item
            for item in sorted(self.items, key=lambda item: item.at, reverse=True)
            if start <= item.at < end or item.at.year in _IMPOSSIBLE
        ]
        return Reply(self._page(found, seen), 200, limit_headers())

    def _page(self, found: list[Item], seen: Seen) -> dict[str, Any]:
        begin = int(seen.query.get("next_token", "b0")[1:])
        end = begin + (self.page_size or int(seen.query["max_results"]))
        kept = [item for item in found if not item.deleted]
        posts = [self._post(item) for item in kept[begin:end]]
        meta: dict[str, Any] = {"result_count": len(posts)}
        if posts:
            meta |= {"newest_id": posts[0]["id"], "oldest_id": posts[-1]["id"]}
        if end < len(kept) or self.capped:
            meta["next_token"] = f"b{end}"
        gone = [item.id for item in found if item.deleted] + self.withdrawn
        return {
            **({"data": posts, "includes": {"users": _users(kept)}} if posts else {}),
            "meta": meta,
            **({"errors": [_withdrawn(each) for each in gone]} if gone else {}),
        }

    def _post(self, item: Item) -> dict[str, Any]:
        text = item.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        post: dict[str, Any] = {
            "id": item.id,
            "text": text,
            "edit_history_tweet_ids": [item.id],
            "created_at": f"{item.at:%Y-%m-%dT%H:%M:%S}.000Z",
            "author_id": f"77{item.id}",
            "lang": "en",
            "public_metrics": {"retweet_count": 2, "like_count": 7, "impression_count": 900},
            "entities": {"cashtags": [{"start": 0, "end": 4, "tag": "btc"}]},
            **self.fields.get(item.id, {}),
        }
        if self.changed_field:
            post["createdAt"] = post.pop("created_at")
        return post

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        if kind == "rate_limited":
            body = {"errors": [{"code": 88, "message": "Rate limit exceeded"}]}
            return Reply(body, 429, limit_headers(0))
        if kind == "server_error":
            return Reply({"title": "Service Unavailable", "status": 503, "detail": "Over"}, 503)
        return Reply(UNAUTHORIZED, 401)

    def quota(self) -> Reply:
        return Reply(USAGE_CAP, 429, limit_headers())


def invalid_request(message: str) -> Reply:
    """Return X's answer to a query that it does not understand."""
    return Reply(
        {
            "errors": [{"parameters": {"query": ["..."]}, "message": message}],
            "title": "Invalid Request",
            "detail": "One or more parameters to your request was invalid.",
            "type": "https://api.twitter.com/2/problems/invalid-request",
        },
        400,
    )


def _users(items: list[Item]) -> list[dict[str, str]]:
    return [
        {"id": f"77{item.id}", "name": item.author, "username": item.author}
        for item in items
        if item.author
    ]


def _withdrawn(post_id: str) -> dict[str, str]:
    return {
        "resource_id": post_id,
        "resource_type": "tweet",
        "title": "Not Found Error",
        "detail": f"Could not find tweet with id: [{post_id}].",
        "type": "https://api.twitter.com/2/problems/resource-not-found",
    }


def make_client(
    lab: XLab,
    gate: Gate,
    *,
    now: datetime = NOW,
    bearer: str | None = BEARER,
    timeout_seconds: float = 0.5,
) -> XPosts:
    """Return the real client for a started lab."""
    return XPosts(
        gate,
        base_url=lab.url,
        token=None if bearer is None else SecretStr(bearer),
        timeout_seconds=timeout_seconds,
        now=lambda: now,
        hash_author=author_hasher(b"key of the lab", "x"),
    )


def outcome_of(batch: StoryBatch) -> Outcome:
    """Return a batch in the terms of the suite."""
    return Outcome(
        found={story.source_id: story.text for story in batch.stories if not story.is_deleted},
        rejected=batch.rejected,
        deleted={story.source_id for story in batch.stories if story.is_deleted},
        notes=batch.notes,
        complete=batch.complete,
        empty_reason=batch.empty_reason,
        failure=batch.failure,
        everything=f"{batch!r} {batch.rejected.to_dict('records')!r}",
    )


def _ask(lab: LedgerLab, gate: Gate) -> Outcome:
    assert isinstance(lab, XLab)
    client = make_client(lab, gate)
    try:
        return outcome_of(client.fetch(StoryRequest(SINCE, UNTIL, TOPICS)))
    finally:
        client.close()


LEDGER_SOURCES = (LedgerSource("x", XLab, _ask, secret=BEARER),)
