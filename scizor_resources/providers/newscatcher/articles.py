"""NewsCatcher's searches, and its articles on the wire -> stories.

Pure functions, no I/O and no clock.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from scizor_core.ambiguous_words import AMBIGUOUS_WORDS
from scizor_core.errors import ContractError, InvalidInputError
from scizor_core.mentions import Nameable
from scizor_core.stories import Story
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

# --- what is asked ------------------------------------------------------------------------

SOURCE_NAME = "newscatcher"
SEARCH_PATH = "/api/search"
#: The most results one search gives out; `total_hits` never says more.
MOST_HITS = 10_000
#: Longest `q`. The service's own limit is not documented.
LONGEST_QUERY = 2_000
_LONGEST_PHRASE = 100
_SHORTEST_PHRASE = 3

# Signs of the query language, and those that it forbids.
_FORBIDDEN = re.compile(r"[\[\]/\\:^\"*+()<>{}\x00-\x1f]+")
_LEGAL_FORM = re.compile(
    r"(?:[\s,.-]+(?:inc|incorporated|corp|corporation|co|company|ltd|limited|plc|llc|lp|nv|n\.v|sa"
    r"|s\.a|ag|se|spa|asa|pty|nl|adr|ads|cdi|the|class [a-c]|series [a-c]|common (?:stock|shares?)"
    r"|ordinary shares?|american depositary (?:shares?|receipts?))|\.com)[\s.,&-]*$",
    re.IGNORECASE,
)


def build_queries(topics: Sequence[Nameable]) -> tuple[list[str], list[str]]:
    """Return the searches for some instruments, and the symbols of those not searched for.

    Names and aliases are searched as quoted phrases with OR between them, without the legal form
    ("Apple Inc." -> "Apple"); where what remains is a word of everyday use or the code itself, the
    form stays ("Block, Inc.", "CSL Limited"). Symbols are never searched: BHP would do, ONE and
    GAS would not. An instrument whose names are all of that kind is not searched for. Queries are
    as many as `LONGEST_QUERY` makes necessary; the same instruments give the same queries.
    """
    phrases: dict[str, str] = {}
    unsearched = []
    for topic in topics:
        code = topic.symbol.split("/")[0]
        found = [phrase for name in (topic.name, *topic.aliases) if (phrase := _phrase(name, code))]
        for phrase in found:
            phrases.setdefault(phrase.casefold(), phrase)
        if not found:
            unsearched.append(topic.symbol)
    queries: list[str] = []
    for _, phrase in sorted(phrases.items()):
        longer = f'{queries[-1]} OR "{phrase}"' if queries else ""
        if queries and len(longer) < LONGEST_QUERY:
            queries[-1] = longer
        else:
            queries.append(f'"{phrase}"')
    return queries, sorted(unsearched)


def _phrase(name: str, code: str) -> str:
    """Return what a name is searched as, empty where it is no telling name."""
    # A coin's name may come with its quote: "Bitcoin / US Dollar".
    full = " ".join(_FORBIDDEN.sub(" ", name.partition(" / ")[0]).split()).strip(" ,-&")
    short = full.removeprefix("The ")
    while (shorter := _LEGAL_FORM.sub("", short).strip(" ,-&")) != short:
        short = shorter
    for phrase in (short, full):
        is_telling = (
            len(phrase) >= _SHORTEST_PHRASE
            and phrase.casefold() != code.casefold()
            and phrase.upper() not in AMBIGUOUS_WORDS
        )
        if is_telling:
            return phrase[:_LONGEST_PHRASE].strip()
    return ""


# --- what is answered ---------------------------------------------------------------------

_NEEDED = ("id", "title", "published_date")
_LAST_SECOND = time(23, 59, 59, tzinfo=UTC)
_LANGUAGE = re.compile(r"[a-z]{2}")


@dataclass(frozen=True)
class ArticlePage:
    """One page of a search.

    Attributes:
        items: its articles.
        total_hits: articles that match, `MOST_HITS` at most.
        total_pages: pages there are.
        is_empty: the page has no article.
        pending: articles that count as published only at the end of the running day.
    """

    items: ReadItems
    total_hits: int
    total_pages: int
    is_empty: bool
    pending: int = 0


def parse_page(answer: Any, *, observed_at: datetime, hash_author: HashAuthor) -> ArticlePage:
    """Read a page of a search.

    Args:
        answer: as decoded.
        observed_at: when it came, UTC.
        hash_author: hashes bylines.

    Raises:
        ContractError: it has not the agreed shape.
    """
    if not isinstance(answer, Mapping):
        raise ContractError("it is no object")
    counts = [answer.get(name) for name in ("total_hits", "total_pages")]
    hits, pages = (each if type(each) is int else -1 for each in counts)
    if hits < 0 or pages < 0:
        raise ContractError("'total_hits' or 'total_pages' is no number")
    articles = answer.get("articles", [] if hits == 0 else None)
    items = read_items(
        articles, lambda article: _read_article(article, observed_at, hash_author), _NEEDED
    )
    known = [each for each in items.stories if not _is_pending(articles[each[0] - 1], each[1])]
    pending = len(items.stories) - len(known)
    items.stories = known
    return ArticlePage(items, hits, pages, not articles, pending)


def _read_article(
    article: Mapping[str, Any], observed_at: datetime, hash_author: HashAuthor
) -> Story:
    byline = _byline(article)
    title = headline(article["title"])
    texts = [plain_text(article.get(name)) for name in ("description", "content")]
    description, content = (_without_byline(text, byline) for text in texts)
    url = address_of(article.get("link"))
    language = text_of(article.get("language")).lower()
    return Story(
        source=SOURCE_NAME,
        source_id=text_of(article["id"]),
        kind="news",
        published_at=_published_at(article),
        observed_at=observed_at,
        title=title,
        # Most contents begin with their description.
        body=content if description in content else f"{description}\n{content}".strip(),
        url=url,
        publisher=text_of(article.get("domain_url")) or domain_of(url),
        author_hash=hash_author(byline or None),
        language=language if _LANGUAGE.fullmatch(language) else "",
        edited_at=_instant(article.get("updated_date")),
        votes=_sentiment(article.get("nlp")),
    )


def _published_at(article: Mapping[str, Any]) -> datetime:
    """Return the first instant at which an article was public for certain.

    Of "date" only the day is known, and of "timezone unknown" the hours are those of some zone.
    So the time of day is taken from `parse_date`, when the crawler has seen it, where that is the
    same day (UTC); elsewhere the day's last second stands for it.
    """
    at = _instant(article["published_date"])
    if at is None:
        raise InvalidInputError("'published_date' is no date and time")
    if _is_exact(article):
        return at
    seen = _instant(article.get("parse_date"))
    if seen is not None and seen.date() == at.date():
        return seen
    return datetime.combine(at.date(), _LAST_SECOND)


def _is_exact(article: Mapping[str, Any]) -> bool:
    return article.get("published_date_precision") in (None, "full")


def _is_pending(article: Mapping[str, Any], story: Story) -> bool:
    """Say whether only the day is known, and that day has not ended yet."""
    ahead = story.published_at - story.observed_at
    return not _is_exact(article) and timedelta(0) < ahead < timedelta(days=1)


def _instant(value: Any) -> datetime | None:
    """Return "2026-11-18 10:30:00" as UTC, None where it is no date and time."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _byline(article: Mapping[str, Any]) -> str:
    for name in ("author", "authors", "journalists"):
        value = article.get(name)
        each = value[0] if isinstance(value, list) and value else value
        if isinstance(each, str) and each.strip():
            return each.strip()
    return ""


def _without_byline(text: str, byline: str) -> str:
    """Return a text without the "By Jane Doe" that many contents begin with."""
    if not byline or byline not in text:
        return text
    return re.sub(rf"\b(?:written )?by:?\s+{re.escape(byline)}\b", "", text, flags=re.IGNORECASE)


def _sentiment(nlp: Any) -> dict[str, float]:
    """Return the provider's own scores, -1 to 1, under names that are not ours."""
    scores = nlp.get("sentiment") if isinstance(nlp, Mapping) else None
    if not isinstance(scores, Mapping):
        return {}
    found = {name: number_of(scores.get(name)) for name in ("title", "content")}
    return {
        f"provider_{name}_sentiment": score for name, score in found.items() if score is not None
    }
