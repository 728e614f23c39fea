"""What healing knows of one feed, and what it shows of a hole."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from scizor_core.stream.liveness import Liveness
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.heal_work import HealWork
from scizor_sidecar.pipeline import FeedPipeline

Name = tuple[str, str]


@dataclass(frozen=True)
class OpenOutage:
    """A hole that is not healed yet, for people.

    Attributes:
        feed: name of the feed.
        market: name of the market.
        symbols: codes of those concerned, sorted.
        start: since when, UTC.
        end: when the feed was back, None while it is away.
        reason: why.
        failures: how often filling it has failed.
        problem: why it failed last, "" where it has not.
    """

    feed: str
    market: str
    symbols: tuple[str, ...]
    start: datetime
    end: datetime | None
    reason: str
    failures: int = 0
    problem: str = ""


@dataclass
class Care:
    """What is known of one feed.

    Attributes:
        known: streams that are looked after, by market and symbol.
        away: market -> number of the hole that lasts.
        fresh: number of a stream without a trade yet -> since when its minutes are whole.
        begun: number of a stream -> since when its minutes are whole.
        joining: number of a stream -> its hole, and until when a first trade is waited for.
        told: number of a stream -> time of the last trade that the journal has.
    """

    feed: str
    pipeline: FeedPipeline
    work: HealWork
    known: dict[Name, Stream] = field(default_factory=dict)
    away: dict[str, int] = field(default_factory=dict)
    fresh: dict[int, int] = field(default_factory=dict)
    begun: dict[int, int] = field(default_factory=dict)
    joining: dict[int, tuple[int, float]] = field(default_factory=dict)
    liveness: Liveness = field(default_factory=Liveness)
    told: dict[int, int] = field(default_factory=dict)
    looked_at: float = 0.0

    def number(self, stream: Stream) -> int:
        """Return the engine's number of a stream."""
        return self.pipeline.number(stream)


def name_of(stream: Stream) -> Name:
    """Return what a stream is known by, with its book or without."""
    return stream.market, stream.symbol


def by_market(streams: Iterable[Stream]) -> dict[str, list[Stream]]:
    """Return market -> its streams, in order."""
    found: dict[str, list[Stream]] = {}
    for each in sorted(streams):
        found.setdefault(each.market, []).append(each)
    return found
