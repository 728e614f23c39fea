"""`CryptopanicNews`: news about the watched coins, with readers' votes, from CryptoPanic.

The smallest plan has 100 calls a month, so that all coins are asked for in one query. The token
is part of the query by CryptoPanic's contract.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from scizor_core.errors import ContractError
from scizor_resources.authors import HashAuthor
from scizor_resources.errors import AuthError, BadRequest, ProviderError
from scizor_resources.providers.cryptopanic.posts import (
    POSTS_PATH,
    SOURCE_NAME,
    PostsPage,
    parse_page,
)
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi, error_words
from scizor_resources.providers.news import Asking, without_key
from scizor_resources.providers.stories import StoryBatch, StoryRequest, StorySieve

BASE_URL = "https://cryptopanic.com/api/{plan}/v2"
TITLE = "CryptoPanic"
#: There are no pages after this one.
LAST_PAGE = 50
#: Coins of one query.
MOST_COINS = 50
#: News of the developer plan comes this much later.
DEVELOPER_DELAY = timedelta(hours=24)
_LONGEST_WORDS = 300


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


class CryptopanicNews:
    """A `StorySource` that asks CryptoPanic.

    Args:
        gate: what every call passes.
        base_url: address with its path; None is the real one of the plan.
        key: auth token; never in an address that is shown.
        plan: developer, growth or enterprise.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC.
        hash_author: hashes the names of authors.

    Attributes:
        gate: as given.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        base_url: str | None = None,
        key: SecretStr | None = None,
        plan: str = "developer",
        timeout_seconds: float = 20.0,
        now: Callable[[], datetime] = utc_now,
        hash_author: HashAuthor,
    ) -> None:
        self.gate = gate
        self._now = now
        self._plan = plan
        self._hash_author = hash_author
        self._has_key = key is not None
        self._api = JsonApi(
            SOURCE_NAME,
            TITLE,
            (base_url or BASE_URL.format(plan=plan)).rstrip("/"),
            gate,
            timeout_seconds,
            secret_params={} if key is None else {"auth_token": key},
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
        """Fetch the posts of a window about the watched coins.

        Pages come newest first and are read until one ends before the window; page 50 is the last
        that there is.

        Raises:
            AuthError: no token is set, it is wrong, or the calls of the plan are used up.
            RateLimited: more calls a second than the plan allows.
            BadRequest, TransientError, SchemaDrift: no answer could be had.
        """
        sieve = StorySieve(request)
        coins = request.coins
        if not coins:
            return sieve.done(
                complete=False,
                asked=(),
                empty_reason="no coin is watched, so CryptoPanic was not asked",
            )
        self._check_key()
        queries = [
            ",".join(coins[first : first + MOST_COINS])
            for first in range(0, len(coins), MOST_COINS)
        ]
        asking = Asking(SOURCE_NAME, sieve)
        is_complete = asking.each(
            queries, lambda currencies: self._read(asking, currencies, request.since)
        )
        if self._plan == "developer" and request.until > self._now() - DEVELOPER_DELAY:
            is_complete = False
            sieve.batch.notes.append(
                "CryptoPanic's developer plan has news 24 hours late: the end of the window is "
                "still to come."
            )
        return sieve.done(
            complete=is_complete,
            asked=queries,
            empty_reason="CryptoPanic has no post of the window about the watched coins",
        )

    def _read(self, asking: Asking, currencies: str, since: datetime) -> bool:
        number: int | None = 1
        while number is not None and number <= LAST_PAGE:
            page = self._page(currencies, number)
            asking.take(page.items, POSTS_PATH)
            if page.oldest is not None and page.oldest < since:
                return True
            number = page.next_page
        if number is None:
            return True
        asking.sieve.batch.notes.append(
            f"CryptoPanic ends at page {LAST_PAGE}, before the start of the window: what is older "
            "is absent. Ask for shorter windows more often, or for fewer coins."
        )
        return False

    def _page(self, currencies: str, number: int) -> PostsPage:
        answer = self._api.get(
            POSTS_PATH,
            {"public": "true", "currencies": currencies, "kind": "news", "page": number},
        )
        try:
            return parse_page(
                answer, number=number, observed_at=self._now(), hash_author=self._hash_author
            )
        except ContractError as error:
            raise self._api.drift(POSTS_PATH, str(error)) from error

    def _check_key(self) -> None:
        if not self._has_key:
            raise AuthError(
                "CryptoPanic answers nobody without a token, and none is set. Set "
                "SCIZOR_CRYPTOPANIC_API_KEY, or do not collect from cryptopanic.",
                provider=SOURCE_NAME,
                endpoint=POSTS_PATH,
            )


_USED_UP_ADVICE = (
    "The calls of this plan are used up for the month: wait for the next one, collect less often, "
    "or take a bigger plan"
)


def _is_used_up(words: str) -> bool:
    lowered = words.lower()
    return "quota" in lowered or "monthly" in lowered


def _kind_of_refusal(status: int, words: str) -> type[ProviderError] | None:
    """Return the kind of error that CryptoPanic's words mean, None to go by the status.

    A month's quota is refused with 429, but nothing that a pause would mend.
    """
    if _is_used_up(words):
        return AuthError
    if status < 300 and words:  # noqa: PLR2004
        return AuthError if "token" in words.lower() else BadRequest
    return None


def _refusal_words(answer: Any) -> str:
    """Return CryptoPanic's words of a refusal, with what to do about a quota."""
    if not isinstance(answer, Mapping) or "results" in answer:
        return ""
    found = [answer[name] for name in ("info", "detail") if isinstance(answer.get(name), str)]
    words = (found[0] if found else error_words(answer))[:_LONGEST_WORDS]
    return f"{words.rstrip('.')}. {_USED_UP_ADVICE}" if _is_used_up(words) else words
