"""`XPosts`: posts with the cashtags of watched instruments, by X's recent search.

X finds posts of the last seven days. Posts are paid for one by one, so that retweets and posts in
languages that no scorer reads are not asked for, and a query has an end (`MOST_PAGES`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from scizor_core.errors import ContractError
from scizor_resources.authors import HashAuthor
from scizor_resources.errors import AuthError, ProviderError, RateLimited, TransientError
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi
from scizor_resources.providers.stories import StoryBatch, StoryRequest, StorySieve
from scizor_resources.providers.x.posts import (
    POST_FIELDS,
    SOURCE_NAME,
    Page,
    build_queries,
    cashtags,
    parse_page,
    refusal_words,
)

BASE_URL = "https://api.x.com"
TITLE = "X"
SEARCH_ENDPOINT = "/2/tweets/search/recent"
PAGE_SIZE = 100
#: Pages of one query: 10,000 posts.
MOST_PAGES = 100
HISTORY = timedelta(days=7)
#: Seven days are counted when the request arrives.
_HISTORY_MARGIN = timedelta(minutes=1)
#: An end must lie ten seconds back; clocks differ.
END_DISTANCE = timedelta(seconds=15)
_MARKETS = ("us", "asx")
_USED_UP = ("usagecapexceeded", "usage-capped", "usage cap exceeded", "creditsdepleted")
_QUOTA_STATUSES = frozenset({403, 429})
_PAYMENT_REQUIRED = 402


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


class XApi(JsonApi):
    """X, which says with several statuses that what was paid for is used up."""

    def _check(self, status: int, headers: Mapping[str, str], body: bytes, endpoint: str) -> Any:
        words = body.decode("utf-8", "replace").lower() if status in _QUOTA_STATUSES else ""
        if status == _PAYMENT_REQUIRED or any(word in words for word in _USED_UP):
            # Not RateLimited: another try helps as little as a pause, until somebody has paid.
            raise AuthError(
                f"{self.title} answered {status} for {endpoint}: the month's cap of posts, or the "
                "credits that were bought, are used up. Wait for the next month, or raise the cap "
                "in X's developer console.",
                provider=self.provider,
                endpoint=endpoint,
                status=status,
            )
        return super()._check(status, headers, body, endpoint)


@dataclass
class _Search:
    """One fetch while it goes on.

    Attributes:
        sieve: what has been sorted.
        start: of the window that X can be asked for.
        end: its end, exclusive.
        pages: how many have come.
        versions: story -> the newest version seen of it.
        withdrawn: ids of what is deleted or protected.
    """

    sieve: StorySieve
    start: datetime
    end: datetime
    pages: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)


class XPosts:
    """A `StorySource` of posts.

    Args:
        gate: what every call passes.
        base_url: stands in for api.x.com.
        token: bearer token of an app.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC.
        hash_author: id of an account -> keyed hash.

    Attributes:
        gate: as given.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        base_url: str | None = None,
        token: SecretStr | None = None,
        timeout_seconds: float = 20.0,
        now: Callable[[], datetime] = utc_now,
        hash_author: HashAuthor,
    ) -> None:
        self.gate = gate
        self._now = now
        self._hash_author = hash_author
        self._has_token = token is not None
        bearer = None if token is None else SecretStr(f"Bearer {token.get_secret_value()}")
        self._api = XApi(
            SOURCE_NAME,
            TITLE,
            (base_url or BASE_URL).rstrip("/"),
            gate,
            timeout_seconds,
            secret_headers={} if bearer is None else {"Authorization": bearer},
            error_text=refusal_words,
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
        """Fetch the posts of a window that have a cashtag of a watched instrument.

        Returns:
            `complete` where every query was read to its end over the whole window. A post that is
            deleted or protected is not there.

        Raises:
            AuthError: the token is missing, wrong or not allowed this, or what was paid is used up.
            RateLimited, TransientError, BadRequest, SchemaDrift: no query was answered.
        """
        stocks = [topic.symbol for topic in request.of_market(*_MARKETS)]
        tags, unknown = cashtags([*request.coins, *stocks])
        queries = build_queries(tags)
        search = self._window(request)
        sieve = search.sieve
        if unknown:
            sieve.batch.notes.append(f"X has no cashtags for {', '.join(unknown)}.")
        reason = _why_not_asked(search, queries, request)
        if reason is not None:
            return sieve.done(complete=False, asked=queries, empty_reason=reason)
        complete = search.start <= request.since
        if not complete:
            sieve.batch.notes.append(
                "X finds posts of the last seven days: those before "
                f"{search.start:%Y-%m-%dT%H:%M:%SZ} are not here."
            )
        complete = self._ask(queries, search) and complete
        if search.withdrawn:
            sieve.batch.notes.append(
                f"X left out {len(search.withdrawn)} posts that are deleted or protected."
            )
        return sieve.done(complete=complete, asked=queries)

    def _window(self, request: StoryRequest) -> _Search:
        """Return a search over what X can be asked for: whole seconds of the last seven days."""
        now = self._now().astimezone(UTC)
        oldest = _next_second(now - HISTORY + _HISTORY_MARGIN)
        newest = (now - END_DISTANCE).replace(microsecond=0)
        since = request.since.astimezone(UTC).replace(microsecond=0)
        until = _next_second(request.until.astimezone(UTC))
        return _Search(StorySieve(request), max(since, oldest), min(until, newest))

    def _ask(self, queries: list[str], search: _Search) -> bool:
        """Ask all queries; say whether each was read to its end."""
        complete = True
        refusal: ProviderError | None = None
        for query in queries:
            try:
                if refusal is not None:
                    raise refusal
                complete = self._read(query, search) and complete
            except ProviderError as error:
                search.sieve.failed(query, error)
                refusal = error if _meets_all(error) else None
        failure = search.sieve.batch.failure
        if failure is not None and search.pages == 0:
            raise failure
        return complete

    def _read(self, query: str, search: _Search) -> bool:
        """Read a query to its end; say whether it came there."""
        token, begun, complete = "", set[str](), True
        for _ in range(MOST_PAGES):
            page = self._page(query, token, search)
            search.pages += 1
            self._sort(page, search)
            if page.faults:
                titles = ", ".join(sorted(page.faults))
                search.sieve.batch.notes.append(f"X answered in part only: {titles}.")
                complete = False
            if page.next_token is None:
                return complete
            if page.next_token in begun:
                raise self._api.drift(SEARCH_ENDPOINT, "a page names itself as the next one")
            begun.add(page.next_token)
            token = page.next_token
        search.sieve.batch.notes.append(
            f"X has more than {MOST_PAGES * PAGE_SIZE:,} posts for {query}: the older ones of the "
            "window are not here. Ask more often for shorter windows."
        )
        return False

    def _sort(self, page: Page, search: _Search) -> None:
        for post in page.posts:
            # Of an edited post several versions may come, in any order: the newest counts.
            if post.version >= search.versions.get(post.story.source_id, 0):
                search.versions[post.story.source_id] = post.version
                search.sieve.add(post.story, origin=SEARCH_ENDPOINT, number=post.number)
        for each in page.refused:
            search.sieve.refuse(
                each.reason,
                origin=SEARCH_ENDPOINT,
                source=SOURCE_NAME,
                payload=each.payload,
                number=each.number,
            )
        search.withdrawn |= page.withdrawn

    def _page(self, query: str, token: str, search: _Search) -> Page:
        if not self._has_token:
            raise AuthError(
                "X gives no posts without a token: set SCIZOR_X_BEARER_TOKEN to the bearer token "
                "of your app.",
                provider=SOURCE_NAME,
                endpoint=SEARCH_ENDPOINT,
            )
        params: dict[str, str | int] = {
            "query": query,
            "max_results": PAGE_SIZE,
            "start_time": f"{search.start:%Y-%m-%dT%H:%M:%SZ}",
            "end_time": f"{search.end:%Y-%m-%dT%H:%M:%SZ}",
            "tweet.fields": ",".join(POST_FIELDS),
        }
        if token:
            params["next_token"] = token
        answer = self._api.get(SEARCH_ENDPOINT, params, endpoint=SEARCH_ENDPOINT)
        try:
            return parse_page(answer, self._now(), self._hash_author)
        except ContractError as error:
            raise self._api.drift(SEARCH_ENDPOINT, str(error)) from error


def _next_second(at: datetime) -> datetime:
    whole = at.replace(microsecond=0)
    return whole if whole == at else whole + timedelta(seconds=1)


def _why_not_asked(search: _Search, queries: list[str], request: StoryRequest) -> str | None:
    if not queries:
        return "no watched instrument has a cashtag"
    if search.start < search.end:
        return None
    if request.since < search.start:
        return "the window lies further back than the seven days that X finds posts of"
    return "the window has only just begun: X finds posts that are ten seconds old"


def _kind_of_refusal(_status: int, words: str) -> type[ProviderError] | None:
    """Return RateLimited where X says so with its own code, whatever the status."""
    return RateLimited if "(code 88)" in words else None


def _meets_all(error: ProviderError) -> bool:
    """Say whether the same would happen to every other query."""
    unreachable = isinstance(error, TransientError) and error.status is None
    return unreachable or isinstance(error, RateLimited | AuthError)
