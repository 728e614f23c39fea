"""Which trades have been seen: each counts once, however often a feed sends it."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from scizor_core.stream.trades import NO_ID, NO_TIME, Flags, Integers, TradeBatch

_Keys = npt.NDArray[np.uint64]
_NEVER = int(np.iinfo(np.int64).max)

_FIRST_SIZE = 1 << 12
#: Odd numbers without structure, so that ids that count up are spread over the table.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_BY_SYMBOL = np.uint64(0xC2B2AE3D27D4EB4F)
_BY_PRICE = np.uint64(0x165667B19E3779F9)
_BY_SIZE = np.uint64(0x27D4EB2F165667C5)
_EMPTY = np.uint64(0)


class SeenTrades:
    """Remembers the trades of the last while, to tell those that come again.

    A trade is known by symbol and trade id; where a feed gives no id, by symbol, time, price, size
    and how many equal ones came before it in the same pass over the feed, so that two equal trades
    stay two, and a second pass over them (a replay after a reconnect) finds both known.

    Args:
        at_least: so many trades are remembered, and at most twice as many.
        needed_from: since when trades may come again, microseconds UTC; those are remembered
            however many they are.
    """

    def __init__(
        self, at_least: int = 1_000_000, *, needed_from: Callable[[], int] | None = None
    ) -> None:
        self._at_least, self._needed_from = at_least, needed_from
        self._current = _Table()
        #: Full ones, the oldest first.
        self._before: list[_Table] = []
        self._live: dict[int, int] = {}
        self._replayed: dict[int, int] = {}

    def begin_pass(self, *, healing: bool = False) -> None:
        """Say that the feed may begin to repeat itself.

        Args:
            healing: the replay does and not the live feed; both are passes of their own.
        """
        (self._replayed if healing else self._live).clear()

    def fresh(self, batch: TradeBatch, *, healing: bool = False) -> Flags:
        """Return for each trade whether it is new, and remember it.

        Of several equal ones in the batch one is new.
        """
        keys = self._keys(batch, self._replayed if healing else self._live)
        new = np.ones(len(keys), dtype=np.bool_)
        for table in self._before:
            new &= ~table.holds(keys)
        new[new] = self._current.add(keys[new])
        if len(batch):
            self._current.newest = max(self._current.newest, int(batch.ts.max()))
        if self._current.count >= self._at_least:
            self._begin_table()
        return new

    def _begin_table(self) -> None:
        full, before, gone = self._current, list[_Table](), None
        needed = _NEVER if self._needed_from is None else self._needed_from()
        for table in self._before:
            if table.newest >= needed:
                before.append(table)
            else:
                gone = table
        self._before = [*before, full]
        self._current = full.next_one(gone)

    def _keys(self, batch: TradeBatch, seen_so_often: dict[int, int]) -> _Keys:
        keys: _Keys = batch.trade_id.view(np.uint64) * _SPREAD
        keys += batch.symbol.view(np.uint64) * _BY_SYMBOL
        unnamed = np.flatnonzero(batch.trade_id == NO_ID)
        if len(unnamed):
            keys[unnamed] = self._by_content(batch.take(unnamed), seen_so_often)
        keys ^= keys >> np.uint64(29)
        # Zero marks an empty place in the table.
        keys[keys == _EMPTY] = 1
        return keys

    def _by_content(self, batch: TradeBatch, seen_so_often: dict[int, int]) -> _Keys:
        content: _Keys = (
            batch.ts.view(np.uint64) * _SPREAD
            + batch.symbol.view(np.uint64) * _BY_SYMBOL
            + batch.price.view(np.uint64) * _BY_PRICE
            + batch.size.view(np.uint64) * _BY_SIZE
        )
        numbers = np.empty(len(content), dtype=np.uint64)
        for row, key in enumerate(content.tolist()):
            numbers[row] = seen_so_often[key] = seen_so_often.get(key, -1) + 1
        if len(seen_so_often) > self._at_least:
            seen_so_often.clear()
        content += (numbers + np.uint64(1)) * _SPREAD
        return content


class _Table:
    """A set of 64-bit keys in an array: eight to sixteen bytes a key, a batch at a time."""

    def __init__(self, size: int = _FIRST_SIZE) -> None:
        self._slots = np.zeros(size, dtype=np.uint64)
        self._owner = np.empty(size, dtype=np.int64)
        self.count = 0
        #: Time of the newest trade in it.
        self.newest = NO_TIME

    def next_one(self, unused: "_Table | None") -> "_Table":
        """Return an empty set of the same size for what follows when this one is full.

        Args:
            unused: one that is no longer needed. Its memory is used again: given back and taken
                anew, tens of megabytes at a time, it came to lie in pieces and grew.
        """
        if unused is None or unused.size != self.size:
            unused = _Table(self.size)
        unused._slots.fill(_EMPTY)  # noqa: SLF001  # of the same class
        unused.count, unused.newest = 0, NO_TIME
        # Only adding needs it.
        unused._owner, self._owner = self._owner, np.empty(0, dtype=np.int64)  # noqa: SLF001
        return unused

    @property
    def size(self) -> int:
        """Number of places."""
        return len(self._slots)

    def holds(self, keys: _Keys) -> Flags:
        """Return for each key whether it is in the set."""
        found = np.zeros(len(keys), dtype=np.bool_)
        if not self.count:
            return found
        open_rows = np.arange(len(keys))
        place = self._place(keys)
        while len(open_rows):
            there = self._slots[place]
            hit = there == keys[open_rows]
            found[open_rows[hit]] = True
            going_on = ~hit & (there != _EMPTY)
            open_rows, place = open_rows[going_on], self._next(place[going_on])
        return found

    def add(self, keys: _Keys) -> Flags:
        """Put keys into the set; return for each whether it was new, once for equal ones."""
        while (self.count + len(keys)) * 2 > self.size:
            self._grow()
        return self._insert(keys)

    def _insert(self, keys: _Keys) -> Flags:
        new = np.zeros(len(keys), dtype=np.bool_)
        open_rows = np.arange(len(keys))
        place = self._place(keys)
        while len(open_rows):
            wanted = keys[open_rows]
            there = self._slots[place]
            free = there == _EMPTY
            # Of several that want one free place the last one written gets it.
            self._slots[place[free]] = wanted[free]
            won = free & (self._slots[place] == wanted)
            # Equal keys have all won the one place: written last, the first of them owns it.
            rows, places = open_rows[won][::-1], place[won][::-1]
            self._owner[places] = rows
            owns = self._owner[places] == rows
            new[rows[owns]] = True
            self.count += int(owns.sum())
            going_on = ~won & (there != wanted)
            open_rows, place = open_rows[going_on], self._next(place[going_on])
        return new

    def _place(self, keys: _Keys) -> Integers:
        return (keys & np.uint64(self.size - 1)).astype(np.int64)

    def _next(self, place: Integers) -> Integers:
        return (place + 1) & (self.size - 1)

    def _grow(self) -> None:
        old = self._slots[self._slots != _EMPTY]
        self._slots = np.zeros(self.size * 2, dtype=np.uint64)
        self._owner = np.empty(self.size, dtype=np.int64)
        self.count = 0
        self._insert(old)
