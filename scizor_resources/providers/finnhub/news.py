"""`FinnhubNews`: news about the watched US companies from Finnhub, one call for each.

Finnhub has company news for North America only, and of about a year in the free plan. An answer
has the newest articles of the days asked for and, as users report without a word of it in the
documentation, 150 to 250 of them at most: what may be cut short is asked for in shorter windows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from pydantic import SecretStr

from scizor_core.errors import ContractError, InvalidInputError
from scizor_core.mentions import Hint
from scizor_core.stories import FIRST_PUBLICATION, Story, clean
from scizor_resources.authors import HashAuthor
from scizor_resources.errors import AuthError
from scizor_resources.providers.finnhub.api import finnhub_api
from scizor_resources.providers.finnhub.refusals import NO_NEWS
from scizor_resources.providers.finnhub.symbols import to_finnhub_symbol
from scizor_resources.providers.finnhub.wire import SOURCE_NAME
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.news import (
    Asking,
    ReadItems,
    address_of,
    domain_of,
    headline,
    plain_text,
    read_items,
    text_of,
)
from scizor_resources.providers.stories import StoryBatch, StoryRequest, StorySieve

NEWS_PATH = "/company-news"
#: How far back the free plan reaches.
HISTORY = timedelta(days=365)
#: An answer with so many articles may have been cut short.
LONG_ANSWER = 150
#: A day of Finnhub's begins so long after that of UTC, whichever its zone in America is.
_DAY_BEGINS_BEFORE = timedelta(hours=6)
_NEEDED = ("id", "headline", "datetime")
_ONE_DAY = timedelta(days=1)
_OWN_DOMAIN = "finnhub.io"
_LONGEST_NAME = 200


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


def parse_news(answer: Any, *, symbol: str, observed_at: datetime) -> ReadItems:
    """Read the news of a company.

    Args:
        answer: as decoded: a list.
        symbol: the platform's symbol that was asked for, in market us.
        observed_at: when it came, UTC.

    Raises:
        ContractError: it has not the agreed shape.
    """
    return read_items(answer, lambda item: _read_item(item, symbol, observed_at), _NEEDED)


def _read_item(item: Mapping[str, Any], symbol: str, observed_at: datetime) -> Story:
    url = address_of(item.get("url"))
    domain = domain_of(url)
    # Many addresses lead to the article by way of Finnhub.
    publisher = text_of(item.get("source")) if domain in ("", _OWN_DOMAIN) else domain
    return Story(
        source=SOURCE_NAME,
        source_id=text_of(item["id"]),
        kind="news",
        published_at=_instant(item["datetime"]),
        observed_at=observed_at,
        title=headline(item["headline"]),
        body=plain_text(item.get("summary")),
        url=url,
        publisher=clean(publisher, _LONGEST_NAME),
        hints=(Hint(symbol, "us"),),
    )


def _instant(value: Any) -> datetime:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value, tz=UTC)
        except (ValueError, OverflowError, OSError):
            pass
    raise InvalidInputError("'datetime' is no number of seconds since 1970")


class FinnhubNews:
    """A `StorySource` that asks Finnhub for news of US companies.

    Args:
        gate: what every call passes; the one of `FinnhubSource`, as both share a key's limits.
        base_url: address with its path; None is the real one.
        key: API key; goes in a header, never in an address.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC.
        hash_author: not used: Finnhub names no authors.

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
        hash_author: HashAuthor,  # noqa: ARG002  # every source of stories is made in the same way
    ) -> None:
        self.gate = gate
        self._now = now
        self._has_key = key is not None
        self._api = finnhub_api(gate, base_url, key, timeout_seconds, NO_NEWS)

    @property
    def name(self) -> str:
        """The name of this provider, as in the `source` column."""
        return SOURCE_NAME

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._api.close()

    def fetch(self, request: StoryRequest) -> StoryBatch:
        """Fetch the news of a window about the watched US companies.

        News that Finnhub gives for several of them is one story with all of them as hints.

        Raises:
            AuthError: no key is set, it is wrong, or the plan does not have company news.
            RateLimited, BadRequest, TransientError, SchemaDrift: no symbol had an answer.
        """
        sieve = StorySieve(request)
        symbols = sorted({topic.symbol for topic in request.of_market("us")})
        if not symbols:
            return sieve.done(
                complete=False,
                asked=(),
                empty_reason="no US company is watched, so Finnhub was not asked for news",
            )
        self._check_key()
        asking = _NewsAsking(SOURCE_NAME, sieve)
        # In which zone Finnhub's days are is not said: a day more on both sides holds any.
        first = (request.since.astimezone(UTC) - _ONE_DAY).date()
        last = (request.until.astimezone(UTC) + _ONE_DAY - timedelta.resolution).date()
        is_complete = asking.each(symbols, lambda symbol: self._ask(asking, symbol, first, last))
        is_within = request.since >= self._now() - HISTORY
        if not is_within:
            sieve.batch.notes.append(
                "Finnhub's free plan has the news of one year, and the window begins before that."
            )
        return sieve.done(
            complete=is_complete and is_within,
            asked=symbols,
            empty_reason="Finnhub has no news of the window about the watched US companies",
        )

    def _ask(self, asking: "_NewsAsking", symbol: str, first: date, last: date) -> bool:
        """Read a company's news of some days; halve them where the answer may be cut short."""
        answer = self._api.get(
            NEWS_PATH,
            {
                "symbol": to_finnhub_symbol("us", symbol),
                "from": first.isoformat(),
                "to": last.isoformat(),
            },
        )
        try:
            items = parse_news(answer, symbol=symbol, observed_at=self._now())
        except ContractError as error:
            raise self._api.drift(NEWS_PATH, str(error)) from error
        request = asking.sieve.request
        may_be_cut = _may_be_cut(items, first, last, request.since)
        if may_be_cut and first < last:
            asking.answers += 1
            middle = first + (last - first) // 2
            halves = ((first, middle), (middle + _ONE_DAY, last))
            # What lies outside of the window need not be whole.
            read = [self._ask(asking, symbol, *half) for half in halves if _touches(half, request)]
            return all(read)
        asking.take_of(items)
        if not may_be_cut:
            return True
        asking.sieve.batch.notes.append(
            f"Finnhub gave {len(items.stories)} articles about {symbol} on {first}, as many as it "
            "gives at most: earlier ones of that day may be absent."
        )
        return False

    def _check_key(self) -> None:
        if not self._has_key:
            raise AuthError(
                "Finnhub has no news without a key, and none is set. Set SCIZOR_FINNHUB_API_KEY, "
                "or do not collect news from finnhub.",
                provider=SOURCE_NAME,
                endpoint=NEWS_PATH,
            )


@dataclass
class _NewsAsking(Asking):
    """Asking where one article can be in the answers about several companies.

    Attributes:
        hints: id -> the companies in whose answers it was.
    """

    hints: dict[str, tuple[Hint, ...]] = field(default_factory=dict)

    def take_of(self, items: ReadItems) -> None:
        """Sort the articles of an answer, each with all the hints it has so far."""
        for place, (number, story) in enumerate(items.stories):
            known = self.hints.get(story.source_id, ())
            hints = tuple(dict.fromkeys((*known, *story.hints)))
            self.hints[story.source_id] = hints
            # Of two with the same id the sieve keeps the later one.
            items.stories[place] = (number, replace(story, hints=hints))
        self.take(items, NEWS_PATH)


def _touches(days: tuple[date, date], request: StoryRequest) -> bool:
    """Say whether some days, in UTC or a zone of America, have a part of the window."""
    start = datetime.combine(days[0], time(), UTC)
    end = datetime.combine(days[1], time(), UTC) + _ONE_DAY + _DAY_BEGINS_BEFORE
    return start < request.until and request.since < end


def _may_be_cut(items: ReadItems, first: date, last: date, since: datetime) -> bool:
    """Say whether an answer may lack older articles of the window."""
    if len(items.stories) < LONG_ANSWER:
        return False
    times = [story.published_at for _, story in items.stories]
    oldest = min((at for at in times if at >= FIRST_PUBLICATION), default=None)
    begins = datetime.combine(first, time(), UTC)
    slack = timedelta(0) if first < last else _DAY_BEGINS_BEFORE
    return oldest is None or oldest > max(since, begins + slack)
