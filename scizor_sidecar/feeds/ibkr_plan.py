"""Which instruments get which of IBKR's scarce subscriptions. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scizor_sidecar.feeds.base import FeedLimits, Stream

#: (market, symbol): what a stream is known by while its depth may change.
Key = tuple[str, str]

_FEWEST_TICK_BY_TICK = 3
#: IBKR allows tick-by-tick for one instrument in twenty lines.
_LINES_PER_TICK_BY_TICK = 20


def key_of(stream: Stream) -> Key:
    """Return what a stream is known by."""
    return stream.market, stream.symbol


@dataclass(frozen=True)
class Quota:
    """What may be subscribed at a time.

    Attributes:
        lines: market data lines; tick-by-tick and order books are counted as such too, which is
            the strictest reading of IBKR's rules.
        depths: order books.
    """

    lines: int = 40
    depths: int = 3

    @property
    def tick_by_tick(self) -> int:
        """Instruments whose trades may come one by one."""
        return max(_FEWEST_TICK_BY_TICK, self.lines // _LINES_PER_TICK_BY_TICK)

    @property
    def limits(self) -> FeedLimits:
        """What may be wanted so that every instrument has a line, and the first ones all they can.

        Few lines are all given to instruments.
        """
        spare = self.tick_by_tick + self.depths
        return FeedLimits(self.lines - spare if self.lines > 2 * spare else self.lines, self.depths)


@dataclass(frozen=True)
class Plan:
    """What to subscribe.

    Attributes:
        lines: instruments with quotes, and with sampled trades where nothing better is there.
        tick_by_tick: those of them whose trades come one by one.
        books: those of them whose order book comes.
        left_out: instruments for which no line is left.
    """

    lines: Sequence[Key]
    tick_by_tick: frozenset[Key]
    books: frozenset[Key]
    left_out: Sequence[Key]


def make_plan(
    streams: Iterable[Stream],
    quota: Quota,
    *,
    lined: Collection[Key] = (),
    ticked: Collection[Key] = (),
    booked: Collection[Key] = (),
    no_book: Mapping[Key, str] | Collection[Key] = (),
) -> Plan:
    """Return what to subscribe for some streams.

    Order books are asked for the liquid instruments, so these come first; then what is there
    already keeps its place. An instrument that began with sampled trades stays with them: trades
    in between two ways would be lost.

    Args:
        streams: what is wanted.
        quota: what is allowed.
        lined: instruments that have a line.
        ticked: instruments that have tick-by-tick.
        booked: instruments that have an order book.
        no_book: instruments whose order book is not served.
    """
    wanted = sorted(streams, key=lambda each: (key_of(each) not in lined, not each.depth, each))
    lines = [key_of(each) for each in wanted[: quota.lines]]
    free = quota.lines - len(lines)
    deep = [key_of(each) for each in wanted if each.depth and key_of(each) not in no_book]
    first = sorted(lines, key=lambda key: (key not in ticked, key not in deep, lines.index(key)))
    able = [key for key in first if key in ticked or key not in lined]
    ticks = frozenset(able[: min(quota.tick_by_tick, free)])
    free -= len(ticks)
    shown = sorted((key for key in lines if key in deep), key=lambda key: key not in booked)
    books = frozenset(shown[: min(quota.depths, free)])
    return Plan(lines, ticks, books, [key_of(each) for each in wanted[quota.lines :]])
