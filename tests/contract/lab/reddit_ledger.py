"""Reddit on loopback, both hosts in one: tokens, listings of subreddits, refusals.

Answers are written by hand after Reddit's interface documentation.
"""

from base64 import b64encode
from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qs

from pydantic import SecretStr

from scizor_resources.authors import author_hasher
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.reddit.client import RedditPosts
from scizor_resources.providers.stories import StoryBatch, StoryRequest

from .ledgers import NOW, SINCE, UNTIL, Item, LedgerLab, LedgerSource, Outcome
from .server import Reply, Seen

CLIENT_ID = "lab-reddit-app"
CLIENT_PASS = "lab-reddit-0000000000000000000000000001"
LONGEST_TITLE = 300
LISTED = 1000
_HTML = {"Content-Type": "text/html; charset=UTF-8"}


def refusal(status: int, reason: str) -> Reply:
    """Return the answer of a subreddit that cannot be read."""
    return Reply({"reason": reason, "message": "Forbidden", "error": status}, status)


def listing(children: Any, after: Any = None) -> Reply:
    """Return a page of a listing."""
    return Reply({"kind": "Listing", "data": {"after": after, "children": children}})


class RedditLab(LedgerLab):
    """Subreddits, of which each shows the items of the lab.

    Attributes:
        fields: id -> fields of the post that are otherwise.
        places: subreddit -> what it answers instead of posts.
        pages: whole pages instead, in turn, before any other.
        life_seconds: life of a token.
        ended: tokens that are no longer accepted.
        tokens: how many were given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, dict[str, Any]] = {}
        self.places: dict[str, Reply] = {}
        self.pages: list[Reply] = []
        self.life_seconds: Any = 86_400
        self.ended: set[str] = set()
        self.tokens = 0

    def concerns_data(self, seen: Seen) -> bool:
        return seen.path.startswith("/r/")

    def respond(self, seen: Seen) -> Reply:
        if seen.path == "/api/v1/access_token" and seen.method == "POST":
            return self._token(seen)
        bearer = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if bearer in self.ended or bearer not in {f"T{n}" for n in range(1, self.tokens + 1)}:
            return self.error("invalid_credentials")
        if self.pages:
            return self.pages.pop(0)
        _, _, name, _ = seen.path.split("/")
        return self.places[name] if name in self.places else self._listing(name, seen)

    def _token(self, seen: Seen) -> Reply:
        pair = b64encode(f"{CLIENT_ID}:{CLIENT_PASS}".encode()).decode()
        if seen.headers.get("authorization") != f"Basic {pair}":
            return Reply({"message": "Unauthorized", "error": 401}, 401)
        if parse_qs(seen.body.decode()).get("grant_type") != ["client_credentials"]:
            return Reply({"error": "unsupported_grant_type"})
        self.tokens += 1
        return Reply(
            {
                "access_token": f"T{self.tokens}",
                "token_type": "bearer",
                "expires_in": self.life_seconds,
                "scope": "*",
            }
        )

    def _listing(self, place: str, seen: Seen) -> Reply:
        shown = sorted(self.items, key=lambda item: item.at, reverse=True)
        shown.sort(key=lambda item: not self.fields.get(item.id, {}).get("stickied", False))
        if self.capped:
            # Posts made after the window push those of the window to the end of the listing.
            step = (NOW - UNTIL) / (LISTED + 1)
            newer = [Item(f"90{n:04d}", NOW - step * n) for n in range(1, LISTED + 1)]
            shown = (newer[: LISTED - len(shown)] + shown)[:LISTED]
        names = [f"t3_{item.id}" for item in shown]
        after = seen.query.get("after")
        begin = names.index(after) + 1 if after in names else 0
        end = begin + (self.page_size or int(seen.query["limit"]))
        children = [{"kind": "t3", "data": self._post(item, place)} for item in shown[begin:end]]
        return listing(children, names[end - 1] if end < len(names) else None)

    def _post(self, item: Item, place: str) -> dict[str, Any]:
        is_long = len(item.text) > LONGEST_TITLE
        post = {
            "id": item.id,
            "name": f"t3_{item.id}",
            "subreddit": place,
            "title": item.text[:LONGEST_TITLE],
            "selftext": item.text if is_long else "",
            "author": item.author or "quiet_reader",
            "author_fullname": "t2_4x7",
            "created_utc": item.at.timestamp(),
            "edited": False,
            "score": 12,
            "upvote_ratio": 0.85,
            "num_comments": 3,
            "permalink": f"/r/{place}/comments/{item.id}/a_title/",
            "url": f"https://www.reddit.com/r/{place}/comments/{item.id}/a_title/",
            "link_flair_text": None,
            "over_18": False,
            "stickied": False,
            "removed_by_category": None,
        }
        if item.deleted:
            post |= {"author": None, "title": "[deleted by user]", "selftext": "[removed]"}
        post |= self.fields.get(item.id, {})
        if self.changed_field:
            post["created"] = post.pop("created_utc")
        return post

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        if kind == "rate_limited":
            limits = {
                "x-ratelimit-remaining": "0.0",
                "x-ratelimit-used": "600",
                "x-ratelimit-reset": "246",
            }
            return Reply({"message": "Too Many Requests", "error": 429}, 429, limits)
        if kind == "server_error":
            return Reply(b"<html><body>Our CDN was unable to reach us</body></html>", 503, _HTML)
        challenge = {"WWW-Authenticate": 'Bearer realm="reddit", error="invalid_token"'}
        return Reply(b"<html><body>Unauthorized</body></html>", 401, {**_HTML, **challenge})


def make_client(
    lab: RedditLab,
    gate: Gate,
    *,
    subreddits: tuple[str, ...] = ("stocks:us",),
    now: datetime = NOW,
    secret: str | None = CLIENT_PASS,
    timeout_seconds: float = 0.5,
) -> RedditPosts:
    """Return the real client for a started lab."""
    return RedditPosts(
        gate,
        base_url=lab.url,
        www_base_url=lab.url,
        client_id=SecretStr(CLIENT_ID),
        client_secret=None if secret is None else SecretStr(secret),
        user_agent="python:lab:1 (by the lab)",
        subreddits=subreddits,
        timeout_seconds=timeout_seconds,
        now=lambda: now,
        hash_author=author_hasher(b"key of the lab", "reddit"),
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
    assert isinstance(lab, RedditLab)
    client = make_client(lab, gate)
    try:
        return outcome_of(client.fetch(StoryRequest(SINCE, UNTIL, ())))
    finally:
        client.close()


LEDGER_SOURCES = (
    LedgerSource(
        "reddit",
        RedditLab,
        _ask,
        secret=CLIENT_PASS,
        skips={"quota_exhausted": "Reddit counts calls of ten minutes; there is no plan or month"},
    ),
)
