"""Which feed streams which instrument: the watchlist, what clients look at, what feeds allow.

The watchlist is read again every few seconds and what is new is subscribed without a restart. An
instrument goes to the first feed of its market that has a free line and does not refuse it; where
lines are scarce the better tier gets them, and the rest is told why it is not streamed.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from scizor_core.errors import InvalidInputError
from scizor_core.instruments import TIERS
from scizor_core.markets import MARKETS
from scizor_resources.errors import WarehouseError
from scizor_resources.platform import Platform
from scizor_sidecar.feeds.base import Feed, FeedLimits, Stream, Wanted
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.pipeline import FeedPipeline

Name = tuple[str, str]

#: The watchlist is read again after so long, and at once when clients' needs change.
POLL_SECONDS = 5.0
_LOOK_SECONDS = 0.25
_UNSUBSCRIBED_SECONDS = 1.0
#: What a provider refused is asked of it again after so long.
REFUSED_SECONDS = 3600.0
#: Tier of what only clients look at: after the watchlist's own.
_CLIENTS_TIER = max(TIERS) + 1


@dataclass(frozen=True)
class Candidate:
    """An instrument that somebody wants live.

    Attributes:
        tier: 1 to 3 as on the watchlist, 4 where only a client looks at it.
        depth: whether its order book is wanted too.
    """

    market: str
    symbol: str
    instrument_id: int
    tier: int
    depth: bool = False


@dataclass(frozen=True)
class Line:
    """What became of a candidate.

    Attributes:
        feed: who streams it, None where nobody does.
        why: why nobody does.
        no_book: why no order book is asked for although it is wanted, "" where it is.
    """

    candidate: Candidate
    feed: str | None
    why: str = ""
    no_book: str = ""


@dataclass(frozen=True)
class FeedOffer:
    """What a feed can take.

    Attributes:
        problem: why it cannot take anything now, "" where it can.
        tried: market and symbol of what the problem is known to be one for; None: of all.
        refused: market and symbol -> why the provider does not serve it.
    """

    name: str
    limits: FeedLimits
    problem: str = ""
    refused: Mapping[Name, str] = field(default_factory=dict)
    tried: Collection[Name] | None = None


def assign(
    candidates: Iterable[Candidate], offers: Mapping[str, Sequence[FeedOffer]]
) -> list[Line]:
    """Return a line for each candidate, the better tiers first.

    Args:
        candidates: each market and symbol once.
        offers: market -> its feeds in the order they are asked; a feed of two markets shares its
            lines between them.
    """
    streams: dict[str, int] = {}
    depths: dict[str, int] = {}
    lines = []
    for each in sorted(candidates, key=lambda one: (one.tier, one.market, one.symbol)):
        reasons = []
        for offer in offers.get(each.market, ()):
            why = _obstacle(each, offer, streams.get(offer.name, 0))
            if why:
                reasons.append(f"{offer.name}: {why}")
                continue
            streams[offer.name] = streams.get(offer.name, 0) + 1
            most = offer.limits.depths
            deep = each.depth and depths.get(offer.name, 0) < most
            depths[offer.name] = depths.get(offer.name, 0) + deep
            no_book = ""
            if each.depth and not deep:
                taken = f"all of its {most} order books are taken" if most else "has no order books"
                no_book = f"{offer.name}: {taken}"
            lines.append(Line(replace(each, depth=deep), offer.name, no_book=no_book))
            break
        else:
            nobody = f"no feed of market {each.market} is configured"
            why = "; ".join(reasons) or nobody
            no_book = why if each.depth else ""
            lines.append(Line(replace(each, depth=False), None, why, no_book))
    return lines


def _obstacle(candidate: Candidate, offer: FeedOffer, taken: int) -> str:
    key = (candidate.market, candidate.symbol)
    refused = offer.refused.get(key)
    if refused is not None:
        return refused
    if offer.problem and (offer.tried is None or key in offer.tried):
        return offer.problem
    most = offer.limits.streams
    if most is not None and taken >= most:
        return f"all of its {most} lines are taken by better tiers"
    return ""


def feeds_of(platform: Platform, market: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the feeds of a market in the order they are asked.

    They are those that `SCIZOR_STREAM_<MARKET>` names; unset: the providers of the market's chain
    that have a live feed and all that they need.

    Args:
        platform: for its settings.
        market: name of the market.
        known: the feeds there are.
    """
    chosen = platform.settings.stream_feeds(market)
    if chosen is not None:
        return tuple(name for name in chosen if name in known)
    missing = platform.not_configured(market)
    return tuple(
        name
        for name in platform.settings.chain(market)
        # The tape replays what was: it is streamed where somebody asks for it.
        if name in known and name not in missing and name != "tape"
    )


class Subscriptions:
    """Keeps every feed's list of what it is to stream.

    Args:
        platform: for watchlist and instruments.
        feeds: the feeds by name.
        markets: market -> names of its feeds in the order they are asked.
        pipelines: feed -> its pipeline; tells of refusals.
        clients: market and symbol of what connected clients look at.
        only: symbols that are streamed, None for all.

    Attributes:
        on_added: told of streams that join a feed whose connection stands.
    """

    def __init__(
        self,
        platform: Platform,
        feeds: Mapping[str, Feed],
        markets: Mapping[str, Sequence[str]],
        pipelines: Mapping[str, FeedPipeline],
        *,
        clients: Callable[[], frozenset[Name]] = frozenset,
        only: frozenset[str] | None = None,
    ) -> None:
        self._platform, self._feeds, self._markets = platform, feeds, markets
        self._pipelines, self._clients, self._only = pipelines, clients, only
        self.on_added: Callable[[str, Stream], None] = lambda *_: None
        self._again: set[tuple[str, Stream]] = set()
        self._depth = frozenset(_names(platform.settings.stream_depth))
        self._refused_at: dict[tuple[str, Name], float] = {}
        #: Feed -> when it was last seen to be refused as a whole.
        self._feed_refused_at: dict[str, float] = {}
        #: Feed that is refused as a whole -> what was wanted of it.
        self._tried: dict[str, set[Name]] = {}
        self.wanted: dict[str, Wanted] = {name: Wanted() for name in feeds}
        self.lines: list[Line] = []
        #: Why the watchlist could not be read, "" where it could.
        self.problem = ""

    async def run(self) -> None:
        """Follow the watchlist and the clients until cancelled."""
        loop = asyncio.get_running_loop()
        due, looked_at = loop.time(), self._clients()
        while True:
            if loop.time() >= due or looked_at != self._clients():
                looked_at, due = self._clients(), loop.time() + POLL_SECONDS
                await self.refresh()
            await asyncio.sleep(_LOOK_SECONDS)
            if self._again:
                await self._subscribe_again()

    async def refresh(self) -> None:
        """Read the watchlist and give every feed what it is to stream now."""
        try:
            candidates = await asyncio.to_thread(self._candidates, self._clients())
        except WarehouseError as error:
            # What is streamed goes on: the list is looked at again when PostgreSQL answers.
            self.problem = str(error)
            return
        self.problem = ""
        self.lines = assign(candidates, self._offers())
        for name, wanted in self.wanted.items():
            streams = frozenset(self._stream(each) for each in self.lines if each.feed == name)
            before = {(each.market, each.symbol) for each in wanted.streams}
            await wanted.set(streams)
            if not self._pipelines[name].is_connected:
                continue
            for stream in sorted(streams):
                if (stream.market, stream.symbol) not in before:
                    self.on_added(name, stream)

    def again(self, feed: str, stream: Stream) -> None:
        """Let a feed subscribe to a stream once more: it is oddly silent."""
        self._again.add((feed, stream))

    async def _subscribe_again(self) -> None:
        asked, self._again = self._again, set()
        for name in {feed for feed, _ in asked}:
            wanted = self.wanted[name]
            keys = {(each.market, each.symbol) for feed, each in asked if feed == name}
            rest = {each for each in wanted.streams if (each.market, each.symbol) not in keys}
            before = wanted.streams
            await wanted.set(frozenset(rest))
            # Feeds look at what is wanted now: taken back at once, nothing would have changed.
            await asyncio.sleep(_UNSUBSCRIBED_SECONDS)
            await wanted.set(before)

    @property
    def streamed(self) -> dict[Name, str]:
        """Market and symbol -> feed, of what is streamed."""
        return {
            (each.candidate.market, each.candidate.symbol): each.feed
            for each in self.lines
            if each.feed is not None
        }

    @property
    def not_streamed(self) -> dict[Name, str]:
        """Market and symbol -> why nobody streams it."""
        return {
            (each.candidate.market, each.candidate.symbol): each.why
            for each in self.lines
            if each.feed is None
        }

    @property
    def without_book(self) -> dict[Name, str]:
        """Market and symbol -> why no order book comes, of what is to have one."""
        found: dict[Name, str] = {}
        for line in self.lines:
            key = (line.candidate.market, line.candidate.symbol)
            told = {} if line.feed is None else self._pipelines[line.feed].without_book
            if line.no_book:
                found[key] = line.no_book
            elif line.candidate.depth and key in told:
                found[key] = f"{line.feed}: {told[key]}"
        return found

    @staticmethod
    def _stream(line: Line) -> Stream:
        each = line.candidate
        return Stream(each.market, each.symbol, each.instrument_id, each.depth)

    def _offers(self) -> dict[str, list[FeedOffer]]:
        now = asyncio.get_running_loop().time()
        offers: dict[str, FeedOffer] = {}
        for name, feed in self._feeds.items():
            pipeline = self._pipelines[name]
            refused = {}
            for each, why in list(pipeline.rejections.items()):
                since = self._refused_at.setdefault((name, each), now)
                if now - since < REFUSED_SECONDS:
                    refused[each] = why
                else:
                    del pipeline.rejections[each], self._refused_at[name, each]
            problem = pipeline.why if pipeline.state is FeedState.REFUSED else ""
            tried: set[Name] = set()
            if problem:
                self._feed_refused_at[name] = now
                tried = self._tried.get(name, set())
                tried |= {(each.market, each.symbol) for each in self.wanted[name].streams}
            elif pipeline.is_connected:
                self._feed_refused_at.pop(name, None)
            self._tried[name] = tried
            offers[name] = FeedOffer(name, feed.limits, problem, refused, frozenset(tried))
        # One that was refused lately stands behind the others: to try it again must not take
        # streams from a feed that works.
        late = {name for name, at in self._feed_refused_at.items() if now - at < REFUSED_SECONDS}
        return {
            market: sorted(
                (offers[name] for name in names if name in offers),
                key=lambda offer: offer.name in late,
            )
            for market, names in self._markets.items()
        }

    def _candidates(self, looked_at: frozenset[Name]) -> list[Candidate]:
        """Return what is wanted now; asks PostgreSQL, so it runs in a thread."""
        tiers: dict[Name, int] = {}
        for entry in self._platform.reference.watchlist(active_only=True):
            key = (entry.market, entry.symbol)
            tiers[key] = min(entry.priority, tiers.get(key, entry.priority))
        for key in looked_at:
            tiers.setdefault(key, _CLIENTS_TIER)
        tiers = {
            (market, symbol): tier
            for (market, symbol), tier in tiers.items()
            if self._markets.get(market) and (self._only is None or symbol in self._only)
        }
        ids = self._instrument_ids(tiers)
        return [
            Candidate(market, symbol, number, tier, (market, symbol) in self._depth)
            for (market, symbol), tier in tiers.items()
            if (number := ids.get((market, symbol))) is not None
        ]

    def _instrument_ids(self, tiers: Mapping[Name, int]) -> dict[Name, int]:
        """Return ids of what is listed; watchlist rows added by SQL become instruments."""
        reference = self._platform.reference
        found: dict[Name, int] = {}
        for market in {market for market, _ in tiers}:
            symbols = [symbol for each, symbol in tiers if each == market]
            known = reference.instruments(market, symbols)
            found |= {(market, i.symbol): i.instrument_id for i in known if i.delisted_on is None}
            for symbol in set(symbols) - {each.symbol for each in known}:
                if tiers[market, symbol] >= _CLIENTS_TIER:
                    # A client may ask for anything; only what the platform knows is streamed.
                    continue
                try:
                    instrument, _ = reference.ensure(market, symbol)
                except InvalidInputError:
                    continue
                found[market, instrument.symbol] = instrument.instrument_id
        return found


def _names(texts: Iterable[str]) -> list[Name]:
    """Return market and symbol of `asx:CBA`."""
    parts = (text.partition(":") for text in texts)
    return [(market.lower(), symbol.upper()) for market, _, symbol in parts if market in MARKETS]
