"""CoinSpot's help centre on loopback: announcements as Zendesk shows them, in JSON and in pages.

Answers are written by hand: the list and its classes after a public reader of these pages, the
JSON and the page of an article after Zendesk's standard theme from experience.
"""

from collections.abc import Callable
from datetime import datetime
from html import escape
from typing import Any, Literal

from scizor_core.catalysts import RuleTable
from scizor_core.mentions import Nameable
from scizor_resources.providers.coinspot_announcements.client import (
    ARTICLES_ENDPOINT,
    CATEGORY_ENDPOINT,
    CoinspotAnnouncements,
)
from scizor_resources.providers.events import EventFindings, EventRequest
from scizor_resources.providers.gate import Gate
from scizor_resources.stores.catalysts import default_rules
from tests.contract.lab.ledgers import NOW, SINCE, UNTIL, Item, LedgerLab, LedgerSource, Outcome
from tests.contract.lab.server import Reply, Seen

NAME = "coinspot_announcements"
SECTION = "/hc/en-us/sections/360000257396-News"
#: Zendesk's own page sizes.
_JSON_PAGE, _HTML_PAGE = 100, 30
_HTML = {"Content-Type": "text/html; charset=utf-8"}


def rules() -> RuleTable:
    return RuleTable(rule for rule in default_rules() if rule.source == NAME)


def wire_time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


class CoinspotAnnouncementsLab(LedgerLab):
    """Items as articles, newest first; one that is deleted is a draft again.

    Attributes:
        pages_only: JSON is refused, as a front door does that lets browsers in only.
        bodies: id -> HTML of the body, by default the item's text.
        edited: id -> time of the last change.
        pinned: ids that stand before all others in the lists of pages.
        refusals: path -> answer instead.
    """

    pages_only = False

    def __init__(self) -> None:
        super().__init__()
        self.bodies: dict[str, str] = {}
        self.edited: dict[str, datetime] = {}
        self.pinned: tuple[str, ...] = ()
        self.refusals: dict[str, Reply] = {}

    def respond(self, seen: Seen) -> Reply:
        if seen.path in self.refusals:
            return self.refusals[seen.path]
        if seen.path == ARTICLES_ENDPOINT:
            return self.error("invalid_credentials") if self.pages_only else self._json(seen)
        number = int(seen.query.get("page", "1"))
        if seen.path == CATEGORY_ENDPOINT:
            return self._category()
        if seen.path == SECTION:
            return self._section(number)
        for item in self._newest_first():
            if seen.path == self._path(item) and not item.deleted:
                return self._article(item)
        return Reply(b"<html><body><h1>oops</h1><p>not found</p></body></html>", 404, _HTML)

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        return {
            "rate_limited": Reply(b"Number of allowed API requests per minute exceeded", 429),
            "server_error": Reply({"error": "InternalServerError"}, 500),
            "invalid_credentials": Reply(
                b"<!DOCTYPE html><html><title>Just a moment...</title></html>", 403, _HTML
            ),
        }[kind]

    # ---- JSON

    def _json(self, seen: Seen) -> Reply:
        items = self._newest_first()
        size = self.page_size or min(_JSON_PAGE, int(seen.query["per_page"]))
        number = int(seen.query["page"])
        shown = items[(number - 1) * size : number * size]
        is_last = number * size >= len(items)
        more = f"https://coinspot.zendesk.com{ARTICLES_ENDPOINT}?page={number + 1}&per_page={size}"
        return Reply(
            {
                "count": len(items) + (10_000 if self.capped else 0),
                "page": number,
                "per_page": size,
                "page_count": -(-len(items) // size),
                "next_page": None if is_last else more,
                "articles": [self._wire(item) for item in shown],
                # Nobody asks for it; what the client does not read cannot leave it.
                "users": [{"id": 9, "name": item.author} for item in shown if item.author],
            }
        )

    def _wire(self, item: Item) -> dict[str, Any]:
        created = "published_on" if self.changed_field else "created_at"
        return {
            "id": int(item.id),
            "url": f"https://coinspot.zendesk.com/api/v2/help_center/articles/{item.id}.json",
            "html_url": f"https://coinspot.zendesk.com{self._path(item)}",
            "author_id": 9,
            "title": item.text,
            "body": self._body(item),
            created: wire_time(item.at),
            "updated_at": wire_time(self.edited.get(item.id, item.at)),
            "edited_at": wire_time(self.edited.get(item.id, item.at)),
            "draft": item.deleted,
            "section_id": 360000257396,
            "label_names": [],
            "locale": "en-us",
        }

    # ---- pages

    def _category(self) -> Reply:
        return self.page(
            f'<section class="section"><h2><a href="{SECTION}">News</a></h2>'
            f"{self._list(self._in_lists()[:6])}</section>"
        )

    def _section(self, number: int) -> Reply:
        size = self.page_size or _HTML_PAGE
        items = self._in_lists()
        following = ""
        if number * size < len(items):
            following = (
                f'<li class="pagination-next"><a href="{SECTION}?page={number + 1}">Next</a></li>'
            )
        return self.page(self._list(items[(number - 1) * size : number * size]) + following)

    def _list(self, items: list[Item]) -> str:
        if not items:
            return f'<i class="section-empty"><a href="{SECTION}">Empty</a></i>'
        css = "blocks-item" if self.changed_field else "article-list-item"
        lines = (
            f'<li class="{css}"><a href="{self._path(item)}" class="article-list-link">'
            f"{escape(item.text[:300])}</a></li>"
            for item in items
        )
        return f'<ul class="article-list">{"".join(lines)}</ul>'

    def _article(self, item: Item) -> Reply:
        at = self.edited.get(item.id, item.at)
        updated = '<li class="meta-data">Updated</li>' if item.id in self.edited else ""
        return self.page(
            f'<article><h1 title="x" class="article-title">{escape(item.text)}</h1>'
            f'<div class="article-author"><a href="/hc/en-us/profiles/9">{item.author or ""}</a>'
            f'<ul class="meta-group"><li class="meta-data"><time datetime="{wire_time(at)}" '
            f'title="x">3 days ago</time></li>{updated}</ul></div>'
            f'<div class="article-body">{self._body(item)}</div></article>'
        )

    def page(self, content: str) -> Reply:
        """Return a page of the help centre with that in its middle."""
        html = (
            "<!DOCTYPE html><html><head><title>CoinSpot</title></head><body><ol>"
            f'<li><a href="/hc/en-us">CoinSpot</a></li></ol><main role="main">{content}</main>'
            "</body></html>"
        )
        return Reply(html.encode(), headers=_HTML)

    # ---- items

    def _newest_first(self) -> list[Item]:
        return sorted(self.items, key=lambda item: item.at, reverse=True)

    def _in_lists(self) -> list[Item]:
        shown = [item for item in self._newest_first() if not item.deleted]
        return sorted(shown, key=lambda item: item.id not in self.pinned)

    def _path(self, item: Item) -> str:
        return f"/hc/en-us/articles/{item.id}-An-announcement"

    def _body(self, item: Item) -> str:
        return self.bodies.get(item.id, f"<p>{escape(item.text)}</p>")


class CoinspotPagesLab(CoinspotAnnouncementsLab):
    """The same help centre, which refuses JSON."""

    pages_only = True


def fetch(
    lab: LedgerLab,
    gate: Gate,
    *,
    since: datetime = SINCE,
    until: datetime = UNTIL,
    coins: dict[str, tuple[Nameable, ...]] | None = None,
    table: RuleTable | None = None,
    browser: bool = False,
    now: Callable[[], datetime] = lambda: NOW,
) -> EventFindings:
    """Ask the lab for the announcements of a window through the real client."""
    source = CoinspotAnnouncements(
        gate, base_url=lab.url, browser=browser, timeout_seconds=0.5, now=now
    )
    try:
        return source.fetch(EventRequest(since, until, (), table or rules(), coins or {}))
    finally:
        source.close()


def ask(lab: LedgerLab, gate: Gate) -> Outcome:
    """Ask for the window of the suite."""
    found = fetch(lab, gate)
    rows = found.events.to_dict("records")
    return Outcome(
        found={row["source_id"]: f"{row['title']}\n{row['description']}" for row in rows},
        rejected=found.rejected,
        notes=found.notes,
        complete=bool(found.metadata["complete"]),
        empty_reason=None if rows else "; ".join(found.notes),
        failure=found.failure,
        everything=repr((rows, found.rejected.to_dict("records"), found)),
    )


_NO_PLAN = "it asks for no key and has no plan; too many calls are a 429"

LEDGER_SOURCES: tuple[LedgerSource, ...] = (
    LedgerSource(NAME, CoinspotAnnouncementsLab, ask, skips={"quota_exhausted": _NO_PLAN}),
    LedgerSource(
        f"{NAME}_pages",
        CoinspotPagesLab,
        ask,
        skips={
            "quota_exhausted": _NO_PLAN,
            "capped": "pages do not say how many articles there are",
        },
    ),
)
