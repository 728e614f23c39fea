"""Posts of a subreddit as Reddit lists them: pure functions.

Source: reddit.com/dev/api, "/r/subreddit/new"; the shape of a listing is written by hand after it.

Note:
    Reddit has several ways to say that a post is gone: `removed_by_category` is set, or its title
    or text is one of `GONE`. An author that is null or "[deleted]" alone only says that the
    account is gone; the post is then still what it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from scizor_core.errors import ConfigError, ContractError
from scizor_core.markets import get_market
from scizor_core.stories import CLOCK_TOLERANCE, Story, why_refused
from scizor_resources.authors import HashAuthor

SOURCE_NAME = "reddit"
POSTS_URL = "https://www.reddit.com"
#: What stands in the place of a title or text that was taken away.
GONE = frozenset({"[deleted]", "[removed]", "[deleted by user]"})
#: Every post has these, `author` may be null.
NEEDED_FIELDS: tuple[str, ...] = ("id", "created_utc", "title", "selftext", "author")
VOTES: tuple[str, ...] = ("score", "upvote_ratio", "num_comments")
_PROFILE_PREFIX = "u_"


@dataclass(frozen=True)
class Subreddit:
    """A place that is read.

    Attributes:
        name: as in its address, without "r/".
        market: market that it is about, None for any.
    """

    name: str
    market: str | None = None

    @property
    def label(self) -> str:
        """The name as people write it."""
        return f"r/{self.name}"


@dataclass(frozen=True)
class Refused:
    """A post that cannot be read.

    Attributes:
        number: its place in the answer, from 1.
        reason: a short clause.
        payload: what identifies it; no author.
    """

    number: int
    reason: str
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Listing:
    """One page of a listing.

    Attributes:
        size: how many posts the page has.
        stories: place in the answer, from 1 -> post.
        refused: posts that cannot be read.
        after: where the next page begins, None on the last one.
        oldest: time of the last post that stands in its order, None where there is none.
    """

    size: int
    stories: Mapping[int, Story] = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()
    after: str | None = None
    oldest: datetime | None = None


def parse_subreddit(text: str) -> Subreddit:
    """Return the place of a setting such as "ASX_Bets:asx" or "stocks".

    Raises:
        ConfigError: it is somebody's profile page.
        UnknownMarketError: there is no such market.
    """
    name, _, market = text.strip().partition(":")
    if name.lower().startswith(_PROFILE_PREFIX):
        raise ConfigError(
            "SCIZOR_REDDIT_SUBREDDITS names a profile page (u_...): only subreddits are read, "
            "because what is kept names no person. Take it out."
        )
    return Subreddit(name, get_market(market).name if market else None)


def parse_listing(
    answer: Any, place: Subreddit, observed_at: datetime, hash_author: HashAuthor
) -> Listing:
    """Return the posts of an answer of `/r/{subreddit}/new`.

    Args:
        answer: as decoded.
        place: the subreddit asked.
        observed_at: when the answer came, UTC.
        hash_author: name -> keyed hash.

    Raises:
        ContractError: the answer does not have the agreed shape; the message says where.
    """
    data = answer.get("data") if isinstance(answer, Mapping) else None
    children = data.get("children") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(children, list):
        raise ContractError("there is no list 'data.children'")
    after = data.get("after")
    if after is not None and not isinstance(after, str):
        raise ContractError("'data.after' is neither text nor null")
    posts = [_post_of(child) for child in children]
    for name in NEEDED_FIELDS if posts else ():
        if not any(name in post for post in posts):
            raise ContractError(f"no post has '{name}'")
    stories: dict[int, Story] = {}
    refused: list[Refused] = []
    oldest: datetime | None = None
    for number, post in enumerate(posts, start=1):
        try:
            story = read_post(post, place, observed_at, hash_author)
        except ContractError as error:
            payload = {"id": post.get("id"), "created_utc": post.get("created_utc")}
            refused.append(Refused(number, str(error), payload))
            continue
        stories[number] = story
        # A post that is kept on top of the listing, or has an impossible time, has no order.
        if post.get("stickied") is not True and why_refused(story) is None:
            oldest = story.published_at
    if len(refused) > 1 and not stories:
        raise ContractError(f"no post can be read: {refused[0].reason}")
    return Listing(len(posts), stories, tuple(refused), after or None, oldest)


def read_post(
    post: Mapping[str, Any], place: Subreddit, observed_at: datetime, hash_author: HashAuthor
) -> Story:
    """Return a post as a story; one that was taken away has neither texts, address nor author.

    Raises:
        ContractError: it cannot be read; the message is a short clause.
    """
    source_id, published_at = post.get("id"), _instant(post.get("created_utc"))
    if not isinstance(source_id, str) or not source_id:
        raise ContractError("it has no 'id'")
    if published_at is None:
        raise ContractError("its time 'created_utc' cannot be read")
    texts = [post.get(name) or "" for name in ("title", "selftext")]
    if not all(isinstance(text, str) for text in texts):
        raise ContractError("its 'title' or 'selftext' is no text")
    title, body = texts
    is_gone = bool(post.get("removed_by_category")) or not GONE.isdisjoint(
        text.strip().lower() for text in texts
    )
    if is_gone:
        return Story(
            source=SOURCE_NAME,
            source_id=source_id,
            kind="social",
            published_at=published_at,
            observed_at=observed_at,
            publisher=place.label,
            market=place.market,
            is_deleted=True,
        )
    author, permalink = post.get("author"), post.get("permalink")
    return Story(
        source=SOURCE_NAME,
        source_id=source_id,
        kind="social",
        published_at=published_at,
        observed_at=observed_at,
        title=title,
        body=body,
        url=POSTS_URL + permalink if isinstance(permalink, str) and permalink else "",
        publisher=place.label,
        author_hash=hash_author(author if isinstance(author, str) else None),
        edited_at=_edited(post.get("edited"), published_at, observed_at),
        market=place.market,
        votes={name: float(post[name]) for name in VOTES if _is_number(post.get(name))},
    )


def _post_of(child: Any) -> Mapping[str, Any]:
    data = child.get("data") if isinstance(child, Mapping) else None
    return data if isinstance(data, Mapping) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _instant(value: Any) -> datetime | None:
    """Return epoch seconds as an instant, None where they are none."""
    if not _is_number(value):
        return None
    try:
        return datetime.fromtimestamp(value, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _edited(value: Any, published_at: datetime, observed_at: datetime) -> datetime | None:
    """Return when a post was edited: Reddit says false, an epoch, or true for very old ones."""
    at = _instant(value)
    if at is None or not published_at <= at <= observed_at + CLOCK_TOLERANCE:
        return None
    return at
