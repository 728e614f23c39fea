"""What can be subscribed to: the newest state, what has changed since a number, encoded once.

A topic keeps no message for anybody. A client knows the number of what it has seen last, and gets
in one message all that has changed since; clients that keep step share its encoding.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple, Protocol

from scizor_sidecar.face.wire import Format, Item, encode, key_of

#: Trades that one message holds at most.
MOST_IN_MESSAGE = 1000


class TopicName(NamedTuple):
    """A channel of an instrument; `timeframe` is None where the channel has none."""

    channel: str
    market: str
    symbol: str
    timeframe: str | None = None

    @property
    def key(self) -> str:
        """As clients write it."""
        return key_of(self.channel, self.market, self.symbol, self.timeframe)


class Follower(Protocol):
    """Who is told that a topic has changed."""

    def changed(self) -> None:
        """Note it; what has changed is asked for when there is time."""


class Newest:
    """Items by key, of which the newest state counts: bars by their start, a book.

    Args:
        most: so many are kept, those with the highest keys.
        floor: number from which on every change is known.
    """

    def __init__(self, most: int, floor: int) -> None:
        self._most = most
        self.floor = floor
        #: In the order of their last change.
        self._items: dict[Any, tuple[int, Item]] = {}

    def put(self, seq: int, pairs: Iterable[tuple[Hashable, Item]]) -> None:
        """Take new states under a number."""
        for key, item in pairs:
            self._items.pop(key, None)
            self._items[key] = (seq, item)
        while len(self._items) > self._most:
            gone, _ = self._items.pop(min(self._items))
            self.floor = max(self.floor, gone)

    def put_older(self, pairs: Iterable[tuple[Hashable, Item]]) -> None:
        """Take states from before the first number; what is there already is newer."""
        before = {key: (0, item) for key, item in pairs if key not in self._items}
        self._items = {**before, **self._items}
        while len(self._items) > self._most:
            del self._items[min(self._items)]

    def without_known(self, pairs: Iterable[tuple[Hashable, Item]]) -> list[tuple[Hashable, Item]]:
        """Return those whose keys are not there."""
        return [(key, item) for key, item in pairs if key not in self._items]

    def since(self, seq: int) -> list[Item]:
        """Return what has changed after a number, by key."""
        found = []
        for key in reversed(self._items):
            changed, item = self._items[key]
            if changed <= seq:
                break
            found.append((key, item))
        return [item for _, item in sorted(found, key=lambda pair: pair[0])]

    def all(self) -> list[Item]:
        """Return everything, by key."""
        return [self._items[key][1] for key in sorted(self._items)]


class Log:
    """Items that come one after the other: trades, verdicts. The last of them are kept.

    Args:
        most: so many are kept.
        shown: so many of them a client gets at first.
        floor: number from which on every item is known.
    """

    def __init__(self, most: int, shown: int, floor: int) -> None:
        self._items: deque[tuple[int, Item]] = deque()
        self._most, self._shown = most, shown
        self.floor = floor
        self.total = 0
        self._last: tuple[int, Item] | None = None

    def put(
        self, seq: int, items: Iterable[Item], last: Item | None = None, skipped: int = 0
    ) -> None:
        """Take items under a number.

        Args:
            seq: the number.
            items: in order.
            last: a state that follows them, a quote.
            skipped: so many that came before them are not kept.
        """
        if skipped:
            self.total += skipped
            self.floor = seq
        for item in items:
            self._items.append((seq, item))
            self.total += 1
        if last is not None:
            self._last = (seq, last)
        while len(self._items) > self._most:
            self.floor = max(self.floor, self._items.popleft()[0])

    def put_older(self, pairs: Iterable[tuple[Hashable, Item]]) -> None:
        """Take the state that followed items of before the first number."""
        for _, item in pairs:
            self._last = self._last or (0, item)

    def since(self, seq: int) -> list[Item]:
        """Return what has come after a number, the last ones where that is much."""
        found: list[Item] = []
        for changed, item in reversed(self._items):
            if changed <= seq or len(found) == MOST_IN_MESSAGE:
                break
            found.append(item)
        found.reverse()
        return self._with_last(found, seq)

    def count_since(self, seq: int) -> int:
        """Return how many items have come after a number, of those that are kept."""
        return sum(changed > seq for changed, _ in self._items)

    def all(self) -> list[Item]:
        """Return the last ones."""
        rows = list(self._items)[-self._shown :]
        return self._with_last([item for _, item in rows], -1)

    def _with_last(self, items: list[Item], seq: int) -> list[Item]:
        if self._last is not None and self._last[0] > seq:
            items.append(self._last[1])
        return items


class Topic:
    """One thing to subscribe to.

    Args:
        name: what it is.
        first: number to begin after; later processes have to begin with higher ones.
    """

    def __init__(self, name: TopicName, first: int) -> None:
        self.name, self.seq = name, first
        self.content: Newest | Log = _CONTENT[name.channel](first)
        self.received_at = 0
        #: Items that have come so far, of a log.
        self.total = 0
        #: Clients get nothing before what was before is known.
        self.is_ready = False
        self.followers: dict[Follower, None] = {}
        self._encoded: dict[tuple[int | None, str, Format], bytes] = {}

    def put_states(self, pairs: Iterable[tuple[Hashable, Item]], received_at: int = 0) -> None:
        """Take new states of items."""
        if isinstance(self.content, Newest):
            self.content.put(self._next(received_at), pairs)

    def put_items(
        self,
        items: Iterable[Item],
        last: Item | None = None,
        received_at: int = 0,
        skipped: int = 0,
    ) -> None:
        """Take further items; see `Log.put`."""
        if isinstance(self.content, Log):
            self.content.put(self._next(received_at), items, last, skipped)
            self.total = self.content.total

    def put_history(self, pairs: Iterable[tuple[Hashable, Item]]) -> None:
        """Take what was before the first number; of a log the state that follows its items."""
        self.content.put_older(pairs)
        self._encoded.clear()

    def put_missing(self, pairs: Iterable[tuple[Hashable, Item]]) -> None:
        """Take older states that clients have to be told of; what is there already stays."""
        if isinstance(self.content, Newest):
            missing = self.content.without_known(pairs)
            if missing:
                self.content.put(self._next(0), missing)

    def _next(self, received_at: int) -> int:
        self.seq += 1
        self.received_at = received_at
        self._encoded.clear()
        for follower in self.followers:
            follower.changed()
        return self.seq

    def can_resume(self, seq: int) -> bool:
        """Say whether everything after a number is known."""
        return self.content.floor <= seq <= self.seq

    def total_at(self, seq: int) -> int:
        """Return how many items there had been at a number that can be resumed."""
        return self.total - self.content.count_since(seq) if isinstance(self.content, Log) else 0

    def delta(self, after: int, form: Format) -> bytes:
        """Return what has changed after a number as one message."""
        return self._message(after, "", form)

    def snapshot(self, reason: str, form: Format) -> bytes:
        """Return everything as one message."""
        return self._message(None, reason, form)

    def left_out(self, total: int) -> int:
        """Return how many items a delta leaves out for a client that has seen so many of all."""
        return max(self.total - total - MOST_IN_MESSAGE, 0)

    def _message(self, after: int | None, reason: str, form: Format) -> bytes:
        key = (after, reason, form)
        known = self._encoded.get(key)
        if known is None:
            known = self._encoded[key] = encode(self._content(after, reason), form)
        return known

    def _content(self, after: int | None, reason: str) -> dict[str, Any]:
        name = self.name
        head: dict[str, Any] = {
            "type": "snapshot" if after is None else "delta",
            "key": name.key,
            "channel": name.channel,
            "market": name.market,
            "symbol": name.symbol,
            "timeframe": name.timeframe,
            "seq": self.seq,
        }
        if after is None:
            return {**head, "reason": reason, "data": self.content.all()}
        return {**head, "after": after, "data": self.content.since(after)}


_CONTENT: dict[str, Callable[[int], Newest | Log]] = {
    "bars": lambda first: Newest(500, first),
    "indicators": lambda first: Newest(500, first),
    "book": lambda first: Newest(1, first),
    "ticks": lambda first: Log(5000, 200, first),
    "quality": lambda first: Log(200, 50, first),
}
