"""`CoinspotAnnouncements`: what CoinSpot tells its customers, from its help centre.

The help centre is asked for JSON first; where it refuses that, its pages are read; where it refuses
those too, a real browser reads them, but only if that is asked for.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from scizor_core.errors import ContractError
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    TransientError,
)
from scizor_resources.providers.coinspot_announcements.articles import (
    SOURCE_NAME,
    Article,
    ArticlePage,
    Link,
    Listing,
    Refusal,
    Refused,
    parse_article,
    parse_articles,
    parse_listing,
)
from scizor_resources.providers.coinspot_announcements.events import findings_of
from scizor_resources.providers.events import EventFindings, EventRequest
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi

BASE_URL = "https://coinspot.zendesk.com"
TITLE = "CoinSpot's help centre"
CATEGORY = "115000579994"
ARTICLES_ENDPOINT = f"/api/v2/help_center/en-us/categories/{CATEGORY}/articles.json"
CATEGORY_ENDPOINT = f"/hc/en-us/categories/{CATEGORY}-Announcements"
SECTION_ENDPOINT = "/hc/en-us/sections/{section}"
ARTICLE_ENDPOINT = "/hc/en-us/articles/{article}"
ARTICLES_A_PAGE = 100
#: Lists of pages have no dates and are only roughly in order (articles can be pinned): so many
#: older articles in a row end a list.
OLDER_IN_A_ROW = 5
#: No further pages are asked for in one run.
MOST_PAGES = 100
MOST_ARTICLES_OPENED = 200
#: The first so many articles lack a part that each should have: the pages have changed.
_CHANGED_IN_A_ROW = 3
_BROWSER_SETTING = "SCIZOR_COINSPOT_ANNOUNCEMENTS_BROWSER=true"
_NOT_ANSWERING = 503
_GONE = (404, 410)


class HelpCenterApi(JsonApi):
    """Takes a page in place of JSON for a refusal of JSON, which another try does not mend."""

    def _check(self, status: int, headers: Mapping[str, str], body: bytes, endpoint: str) -> Any:
        is_page = body.lstrip()[:1] == b"<" and status in (200, _NOT_ANSWERING)
        if endpoint == ARTICLES_ENDPOINT and is_page:
            raise BadRequest(
                f"{self.title} answered {status} for {endpoint} with a page in place of JSON. "
                "Its pages can be read instead.",
                provider=self.provider,
                endpoint=endpoint,
                status=status,
            )
        return super()._check(status, headers, body, endpoint)


@dataclass
class _Reading:
    """What has been read so far."""

    request: EventRequest
    now: datetime
    articles: dict[str, Article] = field(default_factory=dict)
    refused: Refused = field(default_factory=Refused)
    received: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    failure: ProviderError | None = None
    notes: list[str] = field(default_factory=list)
    is_complete: bool = True

    def take(self, item: Article | Refusal, origin: str) -> None:
        self.received += 1
        if isinstance(item, Refusal):
            self.refused.add(item, origin)
        else:
            self.articles[item.id] = item

    def failed(self, what: str, error: ProviderError) -> None:
        self.errors[what] = str(error)
        self.is_complete = False
        if self.failure is None and not isinstance(error, BadRequest):
            self.failure = error

    def cut_short(self, note: str) -> None:
        self.notes.append(note)
        self.is_complete = False

    def skip(self, reason: str, count: int = 1) -> None:
        if count:
            self.skipped[reason] = self.skipped.get(reason, 0) + count

    def findings(self) -> EventFindings:
        found = findings_of(self.articles.values(), self.request, detected_at=self.now)
        found.rejected = self.refused.frame()
        found.received = self.received
        found.skipped |= self.skipped
        found.errors, found.failure = self.errors, self.failure
        found.notes = list(self.notes)
        edited = [each for each in self.articles.values() if each.is_edit_time]
        if edited:
            found.notes.append(
                f"{len(edited)} articles show the time of their last change only, which stands for "
                "the time of their publication"
            )
        if found.events.empty:
            found.notes.append("no announcement of the window is an event")
        found.metadata["complete"] = self.is_complete
        return found


class CoinspotAnnouncements:
    """A source of catalyst events: announcements of CoinSpot.

    Args:
        gate: what every call passes.
        base_url: stands in for the real help centre.
        browser: read pages with a real browser where the help centre refuses us.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC.

    Attributes:
        gate: as given.

    Note:
        The help centre does not say when an article became public, only when it was created; one
        that had been a draft carries too early a time. `detected_at` says when it was first seen.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        base_url: str | None = None,
        browser: bool = False,
        timeout_seconds: float = 20.0,
        now: Callable[[], datetime],
    ) -> None:
        self.gate = gate
        self._now = now
        self._base_url = (base_url or BASE_URL).rstrip("/")
        self._api = HelpCenterApi(SOURCE_NAME, TITLE, self._base_url, gate, timeout_seconds)
        self._browser = Browser(self._base_url, gate, timeout_seconds) if browser else None

    @property
    def name(self) -> str:
        """The source's name, as in the `source` column of events and rules."""
        return SOURCE_NAME

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._api.close()

    def fetch(self, request: EventRequest) -> EventFindings:
        """Fetch the announcements of a window.

        Raises:
            RateLimited: the help centre asks for fewer calls.
            AuthError: it refuses JSON and pages, or the browser that was asked for is not there.
            TransientError, SchemaDrift: the list of articles could not be had.
        """
        reading = _Reading(request, self._now())
        try:
            self._read_json(reading)
        except (AuthError, BadRequest) as refusal:
            reading = _Reading(request, reading.now)
            reading.notes.append(f"the pages were read, since there was no JSON: {refusal}")
            _PageReader(self._page, self._api, reading).read()
        return reading.findings()

    def _read_json(self, reading: _Reading) -> None:
        """Read the list page by page, newest first.

        Raises:
            ProviderError: the first page could not be had; what fails later is noted.
        """
        seen: set[str] = set()
        number = 1
        for _ in range(MOST_PAGES):
            try:
                page = self._json_page(number, reading.now)
            except ProviderError as error:
                if number == 1:
                    raise
                reading.failed(f"page {number}", error)
                return
            is_repeated = seen.issuperset(page.ids)
            seen.update(page.ids)
            if not is_repeated:
                reading.skip("drafts", page.drafts)
                for item in page.items:
                    reading.take(item, ARTICLES_ENDPOINT)
                if _reaches_back(page.items, reading.request.since):
                    return
            if is_repeated or page.next_number is None or page.next_number <= number:
                if page.count is not None and page.count > len(seen):
                    reading.cut_short(
                        f"the list says that it has {page.count} articles, but it ends after "
                        f"{len(seen)}"
                    )
                return
            number = page.next_number
        reading.cut_short(f"the list goes on after {MOST_PAGES} pages")

    def _json_page(self, number: int, now: datetime) -> ArticlePage:
        answer = self._api.get(
            ARTICLES_ENDPOINT,
            {
                "sort_by": "created_at",
                "sort_order": "desc",
                "per_page": ARTICLES_A_PAGE,
                "page": number,
            },
        )
        try:
            return parse_articles(answer, base_url=self._base_url, now=now)
        except ContractError as error:
            raise self._api.drift(ARTICLES_ENDPOINT, str(error)) from None

    def _page(self, path: str, endpoint: str, params: Mapping[str, int] | None = None) -> str:
        """Return a page of the help centre.

        Raises:
            AuthError: a page stands before it, or it refuses us; no browser is asked for or there.
            ProviderError: it could not be had.
        """
        try:
            html = self._api.get_text(
                path, dict(params or {}), endpoint=endpoint, accept="text/html"
            )
        except (AuthError, TransientError) as error:
            if isinstance(error, TransientError) and error.status != _NOT_ANSWERING:
                raise
            return self._browsed(path, endpoint, params, error)
        if parse_listing(html).is_help_center:
            return html
        return self._browsed(path, endpoint, params, None)

    def _browsed(
        self,
        path: str,
        endpoint: str,
        params: Mapping[str, int] | None,
        error: ProviderError | None,
    ) -> str:
        if self._browser is not None:
            html = self._browser.text(path, endpoint, params)
            if parse_listing(html).is_help_center:
                return html
        elif isinstance(error, TransientError):
            raise error
        tried = "even to a browser" if self._browser is not None else "and not its page"
        advice = (
            "Try again later."
            if self._browser is not None
            else f"If it stays so, set {_BROWSER_SETTING} and install the extra 'browser'."
        )
        status = error.status if error is not None and error.status is not None else 200
        raise AuthError(
            f"{TITLE} answered {status} for {endpoint} with a refusal or a test for browsers "
            f"{tried}; it gave no JSON before. {advice}",
            provider=SOURCE_NAME,
            endpoint=endpoint,
            status=status,
        )


class _PageReader:
    """Reads the pages of the category, its sections and the articles that may be of the window."""

    def __init__(self, page: Callable[..., str], api: JsonApi, reading: _Reading) -> None:
        self._page, self._api, self._reading = page, api, reading
        self._opened: dict[str, Article | Refusal] = {}
        self._gone: set[str] = set()

    def read(self) -> None:
        """Read every section until its articles are older than the window.

        Raises:
            ProviderError: the lists could not be had, or nothing at all.
        """
        category = parse_listing(self._page(CATEGORY_ENDPOINT, CATEGORY_ENDPOINT))
        lists: list[Iterator[Link]] = [self._links(each) for each in category.sections]
        if not lists:
            self._check(category, CATEGORY_ENDPOINT)
            lists = [iter(category.links)]
        for links in lists:
            try:
                self._read_list(links)
            except (RateLimited, AuthError, TransientError) as error:
                if not self._reading.articles:
                    raise
                # Meant for all pages; what came before is kept.
                self._reading.failed(error.endpoint or "pages", error)
                return
        self._check_articles(at_least=1)

    def _links(self, section: str) -> Iterator[Link]:
        """Yield the articles of a section, page by page as they are needed."""
        seen: set[str] = set()
        for number in range(1, MOST_PAGES + 1):
            params = {"page": number} if number > 1 else None
            listing = parse_listing(self._page(section, SECTION_ENDPOINT, params))
            if number == 1:
                self._check(listing, SECTION_ENDPOINT)
            fresh = [link for link in listing.links if link.id not in seen]
            yield from fresh
            seen.update(link.id for link in fresh)
            if not fresh or not listing.has_next:
                return

    def _check(self, listing: Listing, endpoint: str) -> None:
        if not listing.links and not listing.is_empty:
            raise self._api.drift(
                endpoint, "the page has no 'li.article-list-item a.article-list-link'"
            )

    def _read_list(self, links: Iterator[Link]) -> None:
        older = 0
        for link in links:
            if len(self._opened) >= MOST_ARTICLES_OPENED:
                self._reading.cut_short(
                    f"no more than {MOST_ARTICLES_OPENED} articles are opened in one run"
                )
                return
            item = self._opened.get(link.id) or self._open(link)
            if isinstance(item, Article):
                older = older + 1 if item.published_at < self._reading.request.since else 0
                if older == OLDER_IN_A_ROW:
                    return

    def _open(self, link: Link) -> Article | Refusal | None:
        """Return an article, None where it is gone or could not be had."""
        try:
            html = self._page(link.path, ARTICLE_ENDPOINT)
        except BadRequest as error:
            if error.status in _GONE:
                self._reading.skip("gone since the list was read")
            else:
                self._reading.failed(link.id, error)
            return None
        item = parse_article(html, link, base_url=self._api.base_url, now=self._reading.now)
        self._opened[link.id] = item
        self._reading.take(item, ARTICLE_ENDPOINT)
        self._check_articles(at_least=_CHANGED_IN_A_ROW)
        return item

    def _check_articles(self, *, at_least: int) -> None:
        """Raise SchemaDrift where every article that was opened lacks what each should have."""
        items = list(self._opened.values())
        changed = [each for each in items if isinstance(each, Refusal) and each.is_changed]
        if at_least <= len(items) == len(changed):
            raise self._api.drift(ARTICLE_ENDPOINT, changed[0].reason)


class Browser:
    """Pages as a real browser sees them, by Playwright.

    Args:
        base_url: address of the help centre.
        gate: what every call passes.
        timeout_seconds: longest wait for a page.
    """

    def __init__(self, base_url: str, gate: Gate, timeout_seconds: float) -> None:
        self._base_url, self._gate, self._timeout_seconds = base_url, gate, timeout_seconds

    def text(self, path: str, endpoint: str, params: Mapping[str, int] | None = None) -> str:
        """Return a page's HTML.

        Raises:
            AuthError: Playwright or its browser is not installed.
            TransientError: the page could not be had.
        """
        try:
            playwright = importlib.import_module("playwright.sync_api")
        except ImportError:
            raise AuthError(
                f"{TITLE} refuses us, and the browser that is to read it is not there: install the "
                "extra 'browser' and run 'playwright install chromium', or unset "
                "SCIZOR_COINSPOT_ANNOUNCEMENTS_BROWSER.",
                provider=SOURCE_NAME,
                endpoint=endpoint,
            ) from None
        query = "&".join(f"{name}={value}" for name, value in (params or {}).items())
        address = f"{self._base_url}{path}{'?' if query else ''}{query}"
        return self._gate.call(endpoint, lambda: self._read(playwright, address, endpoint))

    def _read(self, playwright: Any, address: str, endpoint: str) -> str:
        try:
            with playwright.sync_playwright() as running, running.chromium.launch() as browser:
                page = browser.new_page()
                page.goto(address, timeout=self._timeout_seconds * 1000)
                return str(page.content())
        except playwright.Error as error:
            raise TransientError(
                f"A browser could not read {endpoint} of {TITLE}: "
                f"{str(error).splitlines()[0] if str(error) else type(error).__name__}. Run "
                "'playwright install chromium' if there is none; else try again later.",
                provider=SOURCE_NAME,
                endpoint=endpoint,
            ) from None


def _reaches_back(items: tuple[Article | Refusal, ...], since: datetime) -> bool:
    """Say whether the list, newest first, has come to what is older than the window."""
    return any(isinstance(item, Article) and item.published_at < since for item in items)
