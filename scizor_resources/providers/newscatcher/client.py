"""`NewscatcherNews`: articles about the watched instruments from NewsCatcher's news API, version 3.

Instruments are searched for by name (`build_queries`). Whole UTC days are asked for, as articles
of which only the day is known stand at its midnight; the sieve cuts the window out.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from scizor_core.errors import ContractError
from scizor_resources.authors import HashAuthor
from scizor_resources.errors import AuthError, ProviderError
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi, error_words
from scizor_resources.providers.news import Asking, without_key
from scizor_resources.providers.newscatcher.articles import (
    MOST_HITS,
    SEARCH_PATH,
    SOURCE_NAME,
    ArticlePage,
    build_queries,
    parse_page,
)
from scizor_resources.providers.stories import StoryBatch, StoryRequest, StorySieve

BASE_URL = "https://v3-api.newscatcherapi.com"
TITLE = "NewsCatcher"
PAGE_SIZE = 100
#: A window is not halved further when its halves would be shorter than half of this.
SHORTEST_WINDOW = timedelta(hours=1)
_LONGEST_WORDS = 300
_ONE_DAY = timedelta(days=1)


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


class NewscatcherNews:
    """A `StorySource` that asks NewsCatcher.

    Args:
        gate: what every call passes.
        base_url: address; None is the real one.
        key: API token; goes in a header, never in an address.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC.
        hash_author: hashes bylines.

    Attributes:
        gate: as given.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        base_url: str | None = None,
        key: SecretStr | None = None,
        timeout_seconds: float = 20.0,
        now: Callable[[], datetime] = utc_now,
        hash_author: HashAuthor,
    ) -> None:
        self.gate = gate
        self._now = now
        self._hash_author = hash_author
        self._has_key = key is not None
        self._api = JsonApi(
            SOURCE_NAME,
            TITLE,
            (base_url or BASE_URL).rstrip("/"),
            gate,
            timeout_seconds,
            secret_headers={} if key is None else {"x-api-token": key},
            error_text=without_key(key, _refusal_words),
            kind_of=_kind_of_refusal,
        )

    @property
    def name(self) -> str:
        """The name of this provider, as in the `source` column."""
        return SOURCE_NAME

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._api.close()

    def fetch(self, request: StoryRequest) -> StoryBatch:
        """Fetch the articles of a window that name a watched instrument.

        Raises:
            AuthError: no key is set, it is wrong, the window reaches further back than the plan,
                or the plan's calls are used up.
            RateLimited: more calls at once than the plan allows.
            BadRequest, TransientError, SchemaDrift: no answer could be had.
        """
        sieve = StorySieve(request)
        queries, unsearched = build_queries(request.topics)
        if unsearched:
            sieve.batch.notes.append(
                f"{len(unsearched)} watched instruments have no name to search for: "
                f"{', '.join(unsearched)}."
            )
        if not queries:
            return sieve.done(
                complete=False,
                asked=(),
                empty_reason="no watched instrument has a name, so NewsCatcher was not asked",
            )
        self._check_key()
        asking = Asking(SOURCE_NAME, sieve)
        start, end = _days(request.since, request.until)
        is_complete = asking.each(queries, lambda query: self._search(asking, query, start, end))
        return sieve.done(complete=is_complete, asked=queries, empty_reason=_NO_MATCH)

    def _search(self, asking: Asking, query: str, start: datetime, end: datetime) -> bool:
        """Read all articles of a window; halve it while it holds more than are given out."""
        page = self._page(query, start, end, 1)
        is_capped = page.total_hits >= MOST_HITS
        if is_capped and end - start > SHORTEST_WINDOW:
            asking.answers += 1
            middle = start + (end - start) // 2
            # Both are read, whatever the first one says.
            halves = [
                self._search(asking, query, *half) for half in ((start, middle), (middle, end))
            ]
            return all(halves)
        notes = asking.sieve.batch.notes
        if is_capped:
            notes.append(
                f"NewsCatcher gives out {MOST_HITS:,} articles at most, and has more from "
                f"{start:%Y-%m-%d %H:%M} to {end:%H:%M} UTC: the rest of them is absent."
            )
        self._take(asking, page)
        for number in range(2, page.total_pages + 1):
            page = self._page(query, start, end, number)
            self._take(asking, page)
            if page.is_empty:
                if not is_capped:
                    notes.append(
                        f"NewsCatcher announced {page.total_pages} pages, but page {number} was "
                        "empty."
                    )
                return False
        return not is_capped

    def _page(self, query: str, start: datetime, end: datetime, number: int) -> ArticlePage:
        answer = self._api.post(
            SEARCH_PATH,
            {
                "q": query,
                "from_": f"{start:%Y-%m-%dT%H:%M:%S}",
                "to_": f"{end:%Y-%m-%dT%H:%M:%S}",
                "sort_by": "date",
                "lang": "en",
                "page_size": PAGE_SIZE,
                "page": number,
                "include_nlp_data": True,
                "clustering_enabled": False,
            },
        )
        try:
            return parse_page(answer, observed_at=self._now(), hash_author=self._hash_author)
        except ContractError as error:
            raise self._api.drift(SEARCH_PATH, str(error)) from error

    def _take(self, asking: Asking, page: ArticlePage) -> None:
        asking.take(page.items, SEARCH_PATH)
        asking.sieve.batch.outside += page.pending

    def _check_key(self) -> None:
        if not self._has_key:
            raise AuthError(
                "NewsCatcher answers nobody without a token, and none is set. Set "
                "SCIZOR_NEWSCATCHER_API_KEY, or do not collect from newscatcher.",
                provider=SOURCE_NAME,
                endpoint=SEARCH_PATH,
            )


_NO_MATCH = "no article of the window matches the names of the watched instruments"
_PLAN_RANGE = "date range"
_PLAN_RANGE_ADVICE = (
    "The window reaches further back than the history of this plan: ask for later days, or take a "
    "plan that has them"
)
_USED_UP_ADVICE = (
    "The calls of this plan are used up: wait until they are renewed, collect less often, or take "
    "a bigger plan"
)


def _days(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """Return the whole UTC days that a window touches."""
    start = since.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    last = (until - timedelta(microseconds=1)).astimezone(UTC)
    end = last.replace(hour=0, minute=0, second=0, microsecond=0) + _ONE_DAY
    return start, max(end, start + _ONE_DAY)


def _is_used_up(words: str) -> bool:
    lowered = words.lower()
    if "concurrency" in lowered or _PLAN_RANGE in lowered:
        return False
    return any(word in lowered for word in ("quota", "calls limit", "calls left", "remaining call"))


def _kind_of_refusal(status: int, words: str) -> type[ProviderError] | None:
    """Return the kind of error that NewsCatcher's words mean, None to go by the status."""
    return AuthError if status in (402, 403, 429) and _is_used_up(words) else None


def _refusal_words(answer: Any) -> str:
    """Return NewsCatcher's words of a refusal, with what to do about a plan."""
    if isinstance(answer, Mapping) and "articles" in answer:
        return ""
    words = error_words(answer)[:_LONGEST_WORDS]
    if _PLAN_RANGE in words.lower():
        return f"{words.rstrip('.')}. {_PLAN_RANGE_ADVICE}"
    if _is_used_up(words):
        return f"{words.rstrip('.')}. {_USED_UP_ADVICE}"
    return words
