"""Articles of CoinSpot's help centre, read from its JSON or from its pages: pure functions.

The help centre is Zendesk's; its JSON has the time at which an article was created, its pages show
the time of the last change once there has been one.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
from bs4 import BeautifulSoup

from scizor_core.errors import ContractError
from scizor_core.privacy import mask_people
from scizor_core.stories import CLOCK_TOLERANCE, FIRST_PUBLICATION, LONGEST_TITLE, clean
from scizor_resources.providers.base import REJECTED_COLUMNS, empty_rejected

SOURCE_NAME = "coinspot_announcements"
#: Of a text the beginning is kept.
LONGEST_TEXT = 1_000
#: More of a body is not read: the beginning of its text is in here.
_LONGEST_BODY = 200_000
_REFUSED_TEXT = 200
_NEEDED = ("id", "title", "created_at", "body")
_ARTICLE_PATH = re.compile(r"/hc/[\w-]+/articles/(\d{1,20})[\w%.-]*")
_SECTION_PATH = re.compile(r"/hc/[\w-]+/sections/\d{1,20}[\w%.-]*")
_ADDRESS = re.compile(r"https?://\S+")


@dataclass(frozen=True)
class Article:
    """An announcement.

    Attributes:
        id: the help centre's number of it.
        title: headline, without names of people.
        text: the beginning of its text, without HTML and names of people.
        url: its address.
        published_at: UTC.
        time_text: the same as the help centre writes it.
        is_edit_time: the time is that of the last change, since the page shows no other.
    """

    id: str
    title: str
    text: str
    url: str
    published_at: datetime
    time_text: str
    is_edit_time: bool = False


@dataclass(frozen=True)
class Refusal:
    """An article that cannot be used.

    Attributes:
        id: its number, as far as it can be read.
        title: its headline, as far as it can be read.
        reason: a short clause.
        at: its time, if it has one.
        is_changed: it lacks a part that every article has.
    """

    id: str
    title: str
    reason: str
    at: datetime | None = None
    is_changed: bool = False


@dataclass(frozen=True)
class ArticlePage:
    """One page of the JSON list.

    Attributes:
        items: articles and refusals, in the order of the list; drafts are left out.
        ids: numbers of all articles of the page.
        drafts: how many drafts there were.
        next_number: number of the next page, None on the last one.
        count: how many articles there are on all pages, None where the answer does not say.
    """

    items: tuple[Article | Refusal, ...]
    ids: tuple[str, ...]
    drafts: int
    next_number: int | None
    count: int | None


@dataclass(frozen=True)
class Link:
    """An article in a list of a page: its number, path and headline."""

    id: str
    path: str
    title: str


@dataclass(frozen=True)
class Listing:
    """A page that lists articles.

    Attributes:
        links: its articles, in order.
        sections: paths of the sections that it leads to.
        has_next: there is a further page.
        is_empty: it says that there are no articles.
        is_help_center: it is a page of a help centre and not one that stands before it.
    """

    links: tuple[Link, ...] = ()
    sections: tuple[str, ...] = ()
    has_next: bool = False
    is_empty: bool = False
    is_help_center: bool = False


@dataclass
class Refused:
    """Collects refusals as rows of `REJECTED_COLUMNS`."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, refusal: Refusal, origin: str) -> None:
        """Keep a refusal of an article that came from that call."""
        self.rows.append(
            {
                "symbol": "",
                "ts": refusal.at,
                "reason": refusal.reason,
                "source": SOURCE_NAME,
                "origin": origin,
                # The newest article comes first: a number would change with every new one.
                "row_number": None,
                "payload": {
                    "id": refusal.id[:_REFUSED_TEXT],
                    "title": refusal.title[:_REFUSED_TEXT],
                },
            }
        )

    def frame(self) -> pd.DataFrame:
        """Return the rows, each article once."""
        if not self.rows:
            return empty_rejected()
        once = {repr((row["payload"], row["reason"])): row for row in self.rows}
        return pd.DataFrame(list(once.values()), columns=list(REJECTED_COLUMNS))


def parse_articles(answer: Any, *, base_url: str, now: datetime) -> ArticlePage:
    """Return a page of the JSON list.

    Args:
        answer: `{"articles": [...], "next_page": ..., "count": ...}`.
        base_url: address of the help centre, without a slash at the end.
        now: the present, UTC.

    Raises:
        ContractError: there is no list, or a field is in none of its articles.
    """
    rows = answer.get("articles") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list):
        raise ContractError("there is no list 'articles'")
    found = [row for row in rows if isinstance(row, Mapping)]
    absent = [name for name in _NEEDED if not any(name in row for row in found)]
    if rows and absent:
        raise ContractError(f"no article has {', '.join(absent)}")
    public = [row for row in rows if not (isinstance(row, Mapping) and row.get("draft") is True)]
    count = answer.get("count")
    return ArticlePage(
        items=tuple(_from_json(row, base_url, now) for row in public),
        ids=tuple(str(row.get("id")) for row in found),
        drafts=len(rows) - len(public),
        next_number=_page_number(answer.get("next_page")),
        count=count if isinstance(count, int) else None,
    )


def parse_listing(html: str) -> Listing:
    """Return what a page of the category or of a section lists."""
    soup = _soup(html)
    links: dict[str, Link] = {}
    for anchor in soup.select("li.article-list-item a.article-list-link[href]"):
        path = urlsplit(str(anchor["href"])).path
        if (match := _ARTICLE_PATH.fullmatch(path)) is not None:
            links.setdefault(match[1], Link(match[1], path, _words(anchor.get_text(" "))))
    main = soup.select_one("main, [role=main]") or soup
    paths = (urlsplit(str(each["href"])).path for each in main.select("a[href*='/sections/']"))
    return Listing(
        links=tuple(links.values()),
        sections=tuple(dict.fromkeys(path for path in paths if _SECTION_PATH.fullmatch(path))),
        has_next=bool(soup.select("a[rel=next], .pagination-next a, a.pagination-next-link")),
        is_empty=bool(soup.select(".section-empty")),
        is_help_center=bool(soup.select("a[href*='/hc/']")),
    )


def parse_article(html: str, link: Link, *, base_url: str, now: datetime) -> Article | Refusal:
    """Return the article of a page, or why it cannot be used.

    Args:
        html: the page.
        link: how the list leads there.
        base_url: address of the help centre, without a slash at the end.
        now: the present, UTC.
    """
    soup = _soup(html)
    body = soup.select_one(".article-body")
    text = body.get_text(" ") if body is not None else ""
    if body is not None:
        body.extract()  # times of events in the text are not the article's
    heading = soup.select_one("h1.article-title")
    stamps = [str(each["datetime"]) for each in soup.select("time[datetime]")]
    absent = [
        name
        for name, is_there in (
            ("h1.article-title", heading is not None),
            ("time[datetime]", bool(stamps)),
            (".article-body", body is not None),
        )
        if not is_there
    ]
    title = _words(heading.get_text(" ")) if heading is not None else link.title
    if absent:
        reason = f"its page has no {', '.join(absent)}"
        return Refusal(link.id, mask_people(title), reason, is_changed=True)
    times = {at: stamp for stamp in stamps if (at := _instant(stamp)) is not None}
    # Comments have times too; they come after the article.
    stamp = times[min(times)] if times else stamps[0]
    notes = (_words(each.get_text(" ")).lower() for each in soup.select(".meta-data, .meta-group"))
    return _judged(
        Article(
            id=link.id,
            title=title,
            text=text,
            url=f"{base_url}{link.path}",
            published_at=min(times, default=FIRST_PUBLICATION),
            time_text=stamp,
            is_edit_time=any(note.startswith(("updated", "edited")) for note in notes),
        ),
        now,
    )


def _from_json(row: Any, base_url: str, now: datetime) -> Article | Refusal:
    if not isinstance(row, Mapping):
        return Refusal("", "", "it is no object")
    number, title, body = row.get("id"), row.get("title"), row.get("body")
    shown = mask_people(clean(title, LONGEST_TITLE)) if isinstance(title, str) else ""
    if isinstance(number, bool) or not re.fullmatch(r"\d{1,20}", str(number)):
        return Refusal("", shown, "its id is no number")
    if not isinstance(title, str) or not isinstance(row.get("created_at"), str):
        return Refusal(str(number), shown, "it has no title or no time")
    address = row.get("html_url")
    known = isinstance(address, str) and _ADDRESS.fullmatch(address) is not None
    return _judged(
        Article(
            id=str(number),
            title=title,
            text=_soup(body[:_LONGEST_BODY]).get_text(" ") if isinstance(body, str) else "",
            url=str(address) if known else f"{base_url}/hc/en-us/articles/{number}",
            published_at=_instant(row["created_at"]) or FIRST_PUBLICATION,
            time_text=row["created_at"],
        ),
        now,
    )


def _judged(article: Article, now: datetime) -> Article | Refusal:
    """Return an article with clean texts, or why it cannot be used."""
    title = mask_people(clean(_words(article.title[: LONGEST_TITLE * 2]), LONGEST_TITLE))
    at = _instant(article.time_text)
    if at is None:
        reason = f"its time '{clean(article.time_text, 40)}' is no time with a zone"
    elif at < FIRST_PUBLICATION:
        reason = f"its time {at:%Y-%m-%d} lies before {FIRST_PUBLICATION.year}"
    elif at > now + CLOCK_TOLERANCE:
        reason = f"its time {at:%Y-%m-%d} lies in the future"
    elif not title:
        reason = "it has no title"
    else:
        text = mask_people(clean(_words(article.text[:_LONGEST_BODY]), LONGEST_TEXT))
        return Article(
            id=article.id,
            title=title[:LONGEST_TITLE],
            text=text[:LONGEST_TEXT],
            url=article.url,
            published_at=at,
            time_text=clean(article.time_text, 40),
            is_edit_time=article.is_edit_time,
        )
    return Refusal(article.id, title, reason, at)


def _instant(text: str) -> datetime | None:
    """Return an aware time in UTC, None where the text is none or has no zone."""
    try:
        found = datetime.fromisoformat(text.strip())
        return found.astimezone(UTC) if found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _page_number(address: Any) -> int | None:
    """Return the number of the page that an address is of; the address itself is not followed."""
    if not isinstance(address, str):
        return None
    values = parse_qs(urlsplit(address).query).get("page", [])
    return int(values[0]) if values and re.fullmatch(r"\d{1,6}", values[0]) else None


def _soup(html: str) -> BeautifulSoup:
    # lxml cannot encode halves of surrogate pairs, which JSON can hold.
    sound = html.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
    # Within an element nothing looks like a file name or like XML, of which the library warns.
    # On broken tags ("<a <a <a") the parser of the standard library takes minutes, and "<![" is
    # an error to it.
    return BeautifulSoup(f"<div>{sound}</div>", "lxml")


def _words(text: str | Iterable[str]) -> str:
    return " ".join((text if isinstance(text, str) else " ".join(text)).split())
