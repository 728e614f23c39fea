"""Queries and answers of X's recent search: pure functions.

Source: docs.x.com, "Search recent Posts"; that no match comes without `data` and that `&`, `<` and
`>` in texts come as entities is from experience.

Note:
    An edited post is a new post with an id of its own; `edit_history_tweet_ids` lists all ids of
    the story, first one first. The first id names the story here, so that an edit follows it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from scizor_core.errors import ContractError
from scizor_core.mentions import Hint
from scizor_core.stories import Story
from scizor_resources.authors import HashAuthor

SOURCE_NAME = "x"
PUBLISHER = "x.com"
POST_URL = "https://x.com/i/web/status/{id}"
LONGEST_QUERY = 512
#: What is asked of a post. No expansions: they would bring the names of people.
POST_FIELDS: tuple[str, ...] = (
    "created_at",
    "public_metrics",
    "lang",
    "author_id",
    "entities",
    "referenced_tweets",
    "withheld",
)
NEEDED_FIELDS: tuple[str, ...] = ("id", "text", "created_at", "author_id")
#: Retweets repeat another's words; the scorers read English.
_FILTERS = "-is:retweet lang:en"
#: What X knows as a cashtag; one it does not know would spoil the whole query.
_CASHTAG = re.compile(r"[A-Z]{1,6}(?:[._][A-Z]{1,2})?")
_LANGUAGE = re.compile(r"[a-z]{2}")
_ID = re.compile(r"[0-9]{1,30}")
#: Codes of `withheld` that mean everywhere.
_EVERYWHERE = frozenset({"XX", "XY"})
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))


@dataclass(frozen=True)
class Post:
    """A post as it stands in an answer.

    Attributes:
        number: its place in the answer, from 1.
        story: what it says.
        version: its own id as a number; of the versions of a story the highest is the newest.
    """

    number: int
    story: Story
    version: int


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
class Page:
    """One page of an answer.

    Attributes:
        posts: those that can be read.
        refused: those that cannot.
        withdrawn: ids of what is deleted or protected.
        faults: titles of what else went wrong in part.
        next_token: where the next page begins, None on the last one.
    """

    posts: tuple[Post, ...] = ()
    refused: tuple[Refused, ...] = ()
    withdrawn: frozenset[str] = frozenset()
    faults: frozenset[str] = field(default=frozenset())
    next_token: str | None = None


def cashtags(codes: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the codes as cashtags without the $, each once and sorted, and those that are none.

    Args:
        codes: codes such as "BTC", "CBA" or "BRK-B".
    """
    known, unknown = set[str](), set[str]()
    for code in codes:
        tag = code.strip().upper().replace("-", ".")
        (known if _CASHTAG.fullmatch(tag) else unknown).add(tag)
    return sorted(known), sorted(unknown)


def build_queries(tags: Iterable[str]) -> list[str]:
    """Return as few queries as hold all cashtags, none longer than `LONGEST_QUERY`."""
    queries: list[str] = []
    group: list[str] = []
    for tag in tags:
        if group and len(_query([*group, tag])) > LONGEST_QUERY:
            queries.append(_query(group))
            group = []
        group.append(tag)
    return [*queries, _query(group)] if group else queries


def _query(tags: list[str]) -> str:
    return f"({' OR '.join(f'${tag}' for tag in tags)}) {_FILTERS}"


def parse_page(answer: Any, observed_at: datetime, hash_author: HashAuthor) -> Page:
    """Return the posts of an answer of `/2/tweets/search/recent`; `includes` is left unread.

    Args:
        answer: as decoded.
        observed_at: when the answer came, UTC.
        hash_author: id of an account -> keyed hash.

    Raises:
        ContractError: the answer does not have the agreed shape; the message says where.
    """
    meta = answer.get("meta") if isinstance(answer, Mapping) else None
    if not isinstance(meta, Mapping):
        raise ContractError("there is no object 'meta'")
    token = meta.get("next_token")
    if token is not None and not isinstance(token, str):
        raise ContractError("'meta.next_token' is no text")
    posts: list[Post] = []
    refused: list[Refused] = []
    for number, item in enumerate(_items(answer, meta), start=1):
        try:
            posts.append(read_post(item, number, observed_at, hash_author))
        except ContractError as error:
            payload = {"id": item.get("id"), "created_at": item.get("created_at")}
            refused.append(Refused(number, str(error), payload))
    if len(refused) > 1 and not posts:
        raise ContractError(f"no post can be read: {refused[0].reason}")
    withdrawn, faults = _partial_errors(answer.get("errors"))
    return Page(tuple(posts), tuple(refused), withdrawn, faults, token or None)


def _items(answer: Mapping[str, Any], meta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    data = answer.get("data")
    if data is None and meta.get("result_count") == 0:
        return []
    if not isinstance(data, list):
        raise ContractError("there is no list 'data'")
    items = [item if isinstance(item, Mapping) else {} for item in data]
    for name in NEEDED_FIELDS if items else ():
        if not any(name in item for item in items):
            raise ContractError(f"no post has '{name}'")
    return items


def read_post(
    item: Mapping[str, Any], number: int, observed_at: datetime, hash_author: HashAuthor
) -> Post:
    """Return a post; one that is withheld everywhere has neither text nor author.

    Raises:
        ContractError: it cannot be read; the message is a short clause.
    """
    own_id, text, at = item.get("id"), item.get("text"), _instant(item.get("created_at"))
    if not _is_id(own_id):
        raise ContractError("it has no 'id' of digits as text")
    if at is None:
        raise ContractError("its time 'created_at' cannot be read")
    if not isinstance(text, str):
        raise ContractError("its 'text' is no text")
    history = item.get("edit_history_tweet_ids")
    ids = [each for each in history if _is_id(each)] if isinstance(history, list) else []
    story_id = min([*ids, own_id], key=int)
    is_withheld = _is_withheld(item.get("withheld"))
    author, language = item.get("author_id"), item.get("lang")
    story = Story(
        source=SOURCE_NAME,
        source_id=story_id,
        kind="social",
        published_at=at,
        observed_at=observed_at,
        body="" if is_withheld else _plain(text),
        url=POST_URL.format(id=own_id),
        publisher=PUBLISHER,
        author_hash=hash_author(author) if isinstance(author, str) and not is_withheld else "",
        language=language if isinstance(language, str) and _LANGUAGE.fullmatch(language) else "",
        edited_at=at if len(ids) > 1 and own_id != story_id else None,
        hints=_hints(item.get("entities")),
        votes=_votes(item.get("public_metrics")),
        is_deleted=is_withheld,
    )
    return Post(number, story, int(str(own_id)))


def refusal_words(answer: Any) -> str:
    """Return X's own words in an error answer, in either of its shapes, empty if there are none."""
    if not isinstance(answer, Mapping):
        return ""
    errors = answer.get("errors")
    parts = [answer.get("title"), answer.get("detail")]
    for each in errors if isinstance(errors, list) else []:
        if isinstance(each, Mapping):
            code = each.get("code")
            parts.append(each.get("message"))
            parts.append(f"(code {code})" if isinstance(code, int) else None)
    words = [part.strip().rstrip(".") for part in parts if isinstance(part, str) and part.strip()]
    return "; ".join(dict.fromkeys(words))


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and bool(_ID.fullmatch(value))


def _instant(value: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(value)
        return None if at.tzinfo is None else at.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _plain(text: str) -> str:
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    return text


def _is_withheld(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    codes = value.get("country_codes")
    everywhere = isinstance(codes, list) and any(code in _EVERYWHERE for code in map(str, codes))
    return everywhere or value.get("copyright") is True


def _hints(entities: Any) -> tuple[Hint, ...]:
    found = entities.get("cashtags") if isinstance(entities, Mapping) else None
    tags = [
        each["tag"].upper()
        for each in (found if isinstance(found, list) else [])
        if isinstance(each, Mapping) and isinstance(each.get("tag"), str) and each["tag"]
    ]
    return tuple(Hint(tag) for tag in dict.fromkeys(tags))


def _votes(metrics: Any) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        return {}
    return {
        str(name): float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    }


def _partial_errors(errors: Any) -> tuple[frozenset[str], frozenset[str]]:
    """Return the ids of what is withdrawn, and the titles of what else failed."""
    withdrawn, faults = set[str](), set[str]()
    for each in errors if isinstance(errors, list) else []:
        if not isinstance(each, Mapping):
            continue
        if each.get("resource_id"):
            withdrawn.add(str(each["resource_id"]))
        else:
            faults.add(str(each.get("title") or "no title"))
    return frozenset(withdrawn), frozenset(faults)
