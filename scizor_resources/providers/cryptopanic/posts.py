"""CryptoPanic's posts on the wire -> stories: pure functions, no I/O and no clock.

Versions 2 and 1 of the interface are read: 2 has `instruments`, `original_url` and `description`
where 1 has `currencies` and a `domain` beside the post.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from scizor_core.errors import ContractError, InvalidInputError
from scizor_core.mentions import Hint
from scizor_core.stories import FIRST_PUBLICATION, Story
from scizor_resources.authors import HashAuthor
from scizor_resources.providers.news import (
    ReadItems,
    address_of,
    domain_of,
    headline,
    number_of,
    plain_text,
    read_items,
    text_of,
)

SOURCE_NAME = "cryptopanic"
POSTS_PATH = "/posts/"

_NEEDED = ("id", "title", "published_at")
_CODE = re.compile(r"[A-Z0-9]{1,15}")
_LANGUAGE = re.compile(r"[a-z]{2}")


@dataclass(frozen=True)
class PostsPage:
    """One page of posts.

    Attributes:
        items: its posts.
        next_page: number of the page after it, None where it is the last.
        oldest: time of the last post on it whose time can be, None where there is none.
    """

    items: ReadItems
    next_page: int | None
    oldest: datetime | None


def parse_page(
    answer: Any, *, number: int, observed_at: datetime, hash_author: HashAuthor
) -> PostsPage:
    """Read a page of posts, newest first.

    Args:
        answer: as decoded.
        number: which page it is, from 1.
        observed_at: when it came, UTC.
        hash_author: hashes the names of authors.

    Raises:
        ContractError: it has not the agreed shape.
    """
    # Without `next` a first page would pass for all there is.
    if not isinstance(answer, Mapping) or not {"results", "next"} <= set(answer):
        raise ContractError("there is no 'results' or no 'next'")
    items = read_items(
        answer["results"], lambda post: _read_post(post, observed_at, hash_author), _NEEDED
    )
    times = [
        story.published_at
        for _, story in items.stories
        if FIRST_PUBLICATION <= story.published_at <= observed_at
    ]
    return PostsPage(items, _next_page(answer["next"], number), times[-1] if times else None)


def _next_page(address: Any, number: int) -> int | None:
    """Return the number in the address of the next page; the address itself holds the token."""
    if not isinstance(address, str) or not address:
        return None
    try:
        named = parse_qs(urlsplit(address).query).get("page", [""])[0]
    except ValueError:
        named = ""
    following = int(named) if named.isascii() and named.isdigit() else 0
    return following if following > number else number + 1


def _read_post(post: Mapping[str, Any], observed_at: datetime, hash_author: HashAuthor) -> Story:
    source = post.get("source")
    origin = source if isinstance(source, Mapping) else {}
    original = address_of(post.get("original_url"))
    author = post.get("author")
    region = text_of(origin.get("region")).lower()
    return Story(
        source=SOURCE_NAME,
        source_id=text_of(post["id"]),
        kind="news",
        published_at=_published_at(post["published_at"]),
        observed_at=observed_at,
        title=headline(post["title"]),
        body=_body(post),
        url=original or address_of(post.get("url")),
        publisher=_publisher(post, origin, original),
        author_hash=hash_author(author if isinstance(author, str) else None),
        language=region if _LANGUAGE.fullmatch(region) else "",
        hints=_hints(post),
        votes=_votes(post),
    )


def _published_at(value: Any) -> datetime:
    try:
        at = datetime.fromisoformat(value)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InvalidInputError("'published_at' is no time with a zone")


def _body(post: Mapping[str, Any]) -> str:
    """Return the whole text where the plan has it, else the description."""
    content = post.get("content")
    if isinstance(content, Mapping):
        for name in ("clean", "original"):
            text = plain_text(content.get(name))
            if text:
                return text
    return plain_text(post.get("description"))


def _publisher(post: Mapping[str, Any], origin: Mapping[str, Any], original: str) -> str:
    named = text_of(origin.get("domain")) or text_of(post.get("domain"))
    return named.removeprefix("www.") or domain_of(original)


def _hints(post: Mapping[str, Any]) -> tuple[Hint, ...]:
    found = post.get("instruments")
    coins = found if isinstance(found, list) else post.get("currencies")
    codes = [
        text_of(coin.get("code")).upper()
        for coin in (coins if isinstance(coins, list) else [])
        if isinstance(coin, Mapping)
    ]
    return tuple(Hint(code, "crypto") for code in dict.fromkeys(codes) if _CODE.fullmatch(code))


def _votes(post: Mapping[str, Any]) -> dict[str, float]:
    """Return what readers have voted, and CryptoPanic's own measures of attention."""
    votes = post.get("votes")
    counted = {
        **(votes if isinstance(votes, Mapping) else {}),
        **{name: post[name] for name in post if str(name).startswith("panic_score")},
    }
    found = {text_of(name): number_of(value) for name, value in counted.items()}
    return {name: value for name, value in found.items() if name and value is not None}
