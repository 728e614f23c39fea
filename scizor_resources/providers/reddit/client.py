"""`RedditPosts`: new posts of some subreddits, by Reddit's OAuth interface for apps.

Listings have no dates to ask for: each is read from the newest post back to the window's start.
About a thousand posts back it ends, whatever there was before.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from scizor_core.errors import ContractError
from scizor_resources.authors import HashAuthor
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    TransientError,
)
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi
from scizor_resources.providers.reddit.posts import (
    SOURCE_NAME,
    Listing,
    Subreddit,
    parse_listing,
    parse_subreddit,
)
from scizor_resources.providers.stories import StoryBatch, StoryRequest, StorySieve

BASE_URL = "https://oauth.reddit.com"
WWW_BASE_URL = "https://www.reddit.com"
TITLE = "Reddit"
LOGIN_ENDPOINT = "/api/v1/access_token"
LISTING_ENDPOINT = "/r/{subreddit}/new"
PAGE_SIZE = 100
#: A listing that ends after so many posts has ended by Reddit's cap of about a thousand; removed
#: posts are taken out of those thousand.
CAPPED_FROM = 900
_MOST_PAGES = 100
#: Tokens are renewed so long before they end, and at least once a day.
_TOKEN_MARGIN = timedelta(seconds=60)
_LONGEST_TOKEN_SECONDS = 86_400.0
#: Answers about subreddits that are unknown (302, 404), banned (404) or private (403).
_CLOSED = (302, 403, 404)


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


class RedditApi(JsonApi):
    """Reddit's data host: refusals that concern one subreddit are told from those for all."""

    def _check(self, status: int, headers: Mapping[str, str], body: bytes, endpoint: str) -> Any:
        is_page = body.lstrip().startswith(b"<")
        if status in _CLOSED and not (status == 403 and is_page):
            kind: type[ProviderError] = BadRequest
            said = "it cannot be read by this app, or is there no more"
            advice = "Take it out of SCIZOR_REDDIT_SUBREDDITS, or check its spelling."
        elif status == 401:
            kind, said = AuthError, "it does not accept the token"
            advice = "Check the app of SCIZOR_REDDIT_CLIENT_ID."
        elif status == 403:
            kind, said = AuthError, "it has refused this address or how we introduce ourselves"
            advice = "Set SCIZOR_REDDIT_USER_AGENT to a text of your own."
        else:
            return super()._check(status, headers, body, endpoint)
        raise kind(
            f"{self.title} answered {status} for {endpoint}: {said}. {advice}",
            provider=self.provider,
            endpoint=endpoint,
            status=status,
        )


@dataclass
class _Walk:
    """One fetch while it goes on: what has been sorted, and how many pages have come."""

    sieve: StorySieve
    pages: int = 0


class RedditPosts:
    """A `StorySource` of posts.

    Args:
        gate: what every call passes; one for both hosts.
        base_url: stands in for oauth.reddit.com.
        www_base_url: stands in for www.reddit.com, which gives the token.
        client_id: of the app.
        client_secret: of the app.
        user_agent: how we introduce ourselves; Reddit wants one of its own for each installation.
        subreddits: "ASX_Bets:asx" or "stocks"; behind the colon the market the place is about.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC.
        hash_author: name -> keyed hash.

    Attributes:
        gate: as given.

    Raises:
        ConfigError: a subreddit is a profile page.
        UnknownMarketError: a subreddit is about a market that there is not.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        base_url: str | None = None,
        www_base_url: str | None = None,
        client_id: SecretStr | None = None,
        client_secret: SecretStr | None = None,
        user_agent: str,
        subreddits: Sequence[str],
        timeout_seconds: float = 20.0,
        now: Callable[[], datetime] = utc_now,
        hash_author: HashAuthor,
    ) -> None:
        self.gate = gate
        self._now = now
        self._hash_author = hash_author
        self._client_id, self._client_secret = client_id, client_secret
        self._places = tuple(dict.fromkeys(parse_subreddit(each) for each in subreddits))
        self._authorization: SecretStr | None = None
        self._renew_at = datetime.min.replace(tzinfo=UTC)
        # It may hold somebody's address: kept out of errors like a key.
        headers = {"User-Agent": SecretStr(user_agent)}
        self._api = RedditApi(
            SOURCE_NAME,
            TITLE,
            (base_url or BASE_URL).rstrip("/"),
            gate,
            timeout_seconds,
            secret_headers=headers,
        )
        self._www = JsonApi(
            SOURCE_NAME,
            TITLE,
            (www_base_url or WWW_BASE_URL).rstrip("/"),
            gate,
            timeout_seconds,
            secret_headers=headers,
            # Some refusals come with status 200: {"error": "invalid_grant"}.
            kind_of=lambda status, words: AuthError if status == 200 and words else None,
        )

    @property
    def name(self) -> str:
        """The name of this provider, as in the `source` column."""
        return SOURCE_NAME

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._api.close()
        self._www.close()

    def fetch(self, request: StoryRequest) -> StoryBatch:
        """Fetch the posts of a window from all subreddits, whatever they are about.

        Returns:
            `complete` where each listing that can be read was read back to the window's start. A
            subreddit that is private, banned or unknown stands in `notes` and is not part of
            `query_key`, so that it does not keep the others from being compared.

        Raises:
            AuthError: client id or secret are missing or wrong.
            RateLimited, TransientError, SchemaDrift, BadRequest: no subreddit answered.
        """
        walk = _Walk(StorySieve(request))
        sieve, complete = walk.sieve, True
        readable = list(self._places)
        first: ProviderError | None = None
        refusal: ProviderError | None = None
        for place in self._places:
            pages = walk.pages
            try:
                if refusal is not None:
                    raise refusal
                complete = self._read(place, walk) and complete
            except ProviderError as error:
                first = first or error
                if _is_closed(error) and walk.pages == pages:
                    sieve.batch.notes.append(str(error))
                    readable.remove(place)
                elif isinstance(error, BadRequest):
                    sieve.batch.errors[place.label] = str(error)
                else:
                    sieve.failed(place.label, error)
                refusal = error if _meets_all(error) else None
        if first is not None and walk.pages == 0:
            raise sieve.batch.failure or first
        reason = None if self._places else "no subreddit is named in SCIZOR_REDDIT_SUBREDDITS"
        return sieve.done(
            complete=complete and bool(self._places),
            asked=[place.label for place in readable],
            empty_reason=reason,
        )

    def _read(self, place: Subreddit, walk: _Walk) -> bool:
        """Read a listing back to the window's start; say whether it reached there."""
        seen, after, begun = 0, "", set[str]()
        for _ in range(_MOST_PAGES):
            page = self._page(place, after)
            walk.pages += 1
            seen += page.size
            self._sort(page, place, walk.sieve)
            if page.oldest is not None and page.oldest < walk.sieve.request.since:
                return True
            if page.after is None:
                break
            if page.after in begun:
                raise self._api.drift(LISTING_ENDPOINT, "a page names itself as the next one")
            begun.add(page.after)
            after = page.after
        else:
            return _falls_short(walk, place, f"it has more than {_MOST_PAGES} pages")
        if seen >= CAPPED_FROM:
            return _falls_short(walk, place, "Reddit lists about a thousand posts and no more")
        if page.size == 0 and after:
            # So it is where the post that the page was to follow has been taken away meanwhile.
            return _falls_short(walk, place, "the listing broke off")
        return True

    def _sort(self, page: Listing, place: Subreddit, sieve: StorySieve) -> None:
        origin = f"/{place.label}/new"
        for number, story in page.stories.items():
            sieve.add(story, origin=origin, number=number)
        for each in page.refused:
            sieve.refuse(
                each.reason,
                origin=origin,
                source=SOURCE_NAME,
                payload=each.payload,
                number=each.number,
            )

    def _page(self, place: Subreddit, after: str) -> Listing:
        try:
            answer = self._get(place, after)
        except AuthError as error:
            if error.status != 401 or error.endpoint != LISTING_ENDPOINT:
                raise
            # A token may end before its time.
            self._authorization = None
            answer = self._get(place, after)
        try:
            return parse_listing(answer, place, self._now(), self._hash_author)
        except ContractError as error:
            raise self._api.drift(LISTING_ENDPOINT, str(error)) from error

    def _get(self, place: Subreddit, after: str) -> Any:
        params: dict[str, str | int] = {"limit": PAGE_SIZE, "raw_json": 1}
        if after:
            params["after"] = after
        token = self._token()
        try:
            return self._api.get(
                f"/r/{place.name}/new",
                params,
                endpoint=LISTING_ENDPOINT,
                secrets={"Authorization": token},
            )
        except BadRequest as error:
            if error.status is None:
                raise  # not Reddit's words: the gate's
            raise BadRequest(
                f"{place.label}: {error}",
                provider=SOURCE_NAME,
                endpoint=LISTING_ENDPOINT,
                status=error.status,
            ) from None

    def _token(self) -> SecretStr:
        """Return the value of the header, with a token that is still good for a while."""
        if self._authorization is None or self._now() >= self._renew_at:
            asked_at = self._now()
            answer = self._ask_token()
            token = answer.get("access_token") if isinstance(answer, Mapping) else None
            seconds = answer.get("expires_in") if isinstance(answer, Mapping) else None
            if not isinstance(token, str) or not isinstance(seconds, int | float):
                raise self._www.drift(LOGIN_ENDPOINT, "'access_token' or 'expires_in' is missing")
            life = timedelta(seconds=min(max(0.0, float(seconds)), _LONGEST_TOKEN_SECONDS))
            self._authorization = SecretStr(f"Bearer {token}")
            self._renew_at = asked_at + life - _TOKEN_MARGIN
        return self._authorization

    def _ask_token(self) -> Any:
        if self._client_id is None or self._client_secret is None:
            raise AuthError(
                "Reddit gives no posts without an app: set SCIZOR_REDDIT_CLIENT_ID and "
                "SCIZOR_REDDIT_CLIENT_SECRET to those of yours (reddit.com/prefs/apps; new apps "
                "need Reddit's approval).",
                provider=SOURCE_NAME,
                endpoint=LOGIN_ENDPOINT,
            )
        try:
            return self._www.post(
                LOGIN_ENDPOINT,
                {"grant_type": "client_credentials"},
                as_form=True,
                endpoint=LOGIN_ENDPOINT,
                secrets={"Authorization": _basic(self._client_id, self._client_secret)},
            )
        except (AuthError, BadRequest) as error:
            if error.status is None:
                raise  # not Reddit's words: the gate's
            raise AuthError(
                f"Reddit answered {error.status} for {LOGIN_ENDPOINT}: it gives this app no token. "
                "Check SCIZOR_REDDIT_CLIENT_ID and SCIZOR_REDDIT_CLIENT_SECRET, and whether the "
                "app is approved.",
                provider=SOURCE_NAME,
                endpoint=LOGIN_ENDPOINT,
                status=error.status,
            ) from None


def _basic(client_id: SecretStr, client_secret: SecretStr) -> SecretStr:
    """Return the value of a header of HTTP Basic."""
    pair = f"{client_id.get_secret_value()}:{client_secret.get_secret_value()}"
    return SecretStr(f"Basic {b64encode(pair.encode()).decode()}")


def _falls_short(walk: _Walk, place: Subreddit, why: str) -> bool:
    """Note that a listing does not reach back to the window's start."""
    walk.sieve.batch.notes.append(
        f"{place.label} was not read back to {walk.sieve.request.since:%Y-%m-%dT%H:%M:%SZ}: {why}. "
        "Ask more often to miss nothing."
    )
    return False


def _is_closed(error: ProviderError) -> bool:
    """Say whether a subreddit is private, banned or unknown, which does not pass by itself."""
    return isinstance(error, BadRequest) and error.status in _CLOSED


def _meets_all(error: ProviderError) -> bool:
    """Say whether the same would happen to every other subreddit."""
    unreachable = isinstance(error, TransientError) and error.status is None
    return unreachable or isinstance(error, RateLimited | AuthError)
