"""From trades to bars: guards, each trade once, minutes, the bars above them, and their closing.

The engine has no clock and does no I/O. `process` takes trades in, `close_until` ends bars when
the feed's own time has passed them, `changed` gives out what is new since the last call.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe
from scizor_core.stream.guards import Limits, SessionClock, TradeGuard, Verdict
from scizor_core.stream.minutes import MINUTE_US, Minute, MinuteKey, minutes_of
from scizor_core.stream.seen import SeenTrades
from scizor_core.stream.trades import MICROSECONDS, NO_TIME, TradeBatch

STREAM_TIMEFRAMES: tuple[Timeframe, ...] = ("1m", "5m", "15m")
_STEP_US = {timeframe: TIMEFRAME_MINUTES[timeframe] * MINUTE_US for timeframe in STREAM_TIMEFRAMES}
_LONGEST_US = _STEP_US["15m"]
_NEVER = int(np.iinfo(np.int64).max)


class BarState(StrEnum):
    """How far a bar is."""

    #: Its interval runs.
    FORMING = "forming"
    #: Its interval is over, and the feed was there all the time.
    CLOSED = "closed"
    #: A trade has come after it was closed.
    REVISED = "revised"
    #: The feed was away during its interval: trades may be missing until it is healed.
    PROVISIONAL = "provisional"
    #: All of its trades were taken back: there is no such bar.
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class LiveBar:
    """A bar as it stands.

    Attributes:
        symbol: number of the symbol.
        timeframe: 1m, 5m or 15m.
        start: start of its interval, microseconds UTC.
        state: how far it is.
        revision: how often it has changed since it was first closed.
    """

    symbol: int
    timeframe: Timeframe
    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None
    trade_count: int
    state: BarState
    revision: int = 0

    @property
    def end(self) -> int:
        """End of its interval, microseconds UTC, exclusive."""
        return self.start + _STEP_US[self.timeframe]

    @classmethod
    def withdrawn(cls, symbol: int, timeframe: Timeframe, start: int) -> "LiveBar":
        """Return what says that there is no such bar; its numbers are all zero."""
        return cls(symbol, timeframe, start, 0, 0, 0, 0, 0, None, 0, BarState.WITHDRAWN)


@dataclass(frozen=True)
class Intake:
    """What became of the trades of a batch.

    Attributes:
        received: rows.
        repeated: of those, seen before.
        by_rule: rule -> rows that it flagged or quarantined.
        quarantined: the rows refused, and the rule that refused each.
        late: trades that changed a bar already closed.
        kept: number of trades that count.
        trades: those, in the order of their arrival.
        odd: (symbol, rule) -> rows of it that the rule flagged or quarantined.
        forgotten: trades of minutes that the engine no longer has. Alone they would make bars of
            too few trades; whoever heals such minutes has to make them of all their trades.
    """

    received: int
    repeated: int
    by_rule: dict[str, int]
    quarantined: TradeBatch
    refused_by: list[str]
    late: int
    kept: int
    trades: TradeBatch
    odd: dict[tuple[int, str], int]
    forgotten: TradeBatch


@dataclass(slots=True)
class _Kept:
    """A minute and what was last said of it."""

    minute: Minute
    state: BarState = BarState.FORMING
    revision: int = 0


@dataclass
class _Symbol:
    """What the engine keeps of a symbol; minutes by their start."""

    minutes: dict[int, _Kept] = field(default_factory=dict)
    closed_until: int = NO_TIME
    outages: list[tuple[int, int | None]] = field(default_factory=list)
    #: Parts of outages that nobody heals here.
    abandoned: list[tuple[int, int]] = field(default_factory=list)

    def lacks(self, start: int, end: int) -> bool:
        """Say whether trades of an interval may be missing."""
        return any(a < end and (b is None or start < b) for a, b in self.outages) or any(
            a < end and start < b for a, b in self.abandoned
        )


class BarEngine:
    """Builds the bars of the symbols of one feed.

    Args:
        limits: where odd begins.
        remember: so many trades are remembered, to tell those that come again.
        keep_minutes: closed minutes stay so long that a late trade can still revise them.
    """

    def __init__(
        self, limits: Limits | None = None, *, remember: int = 1_000_000, keep_minutes: int = 30
    ) -> None:
        self.guard = TradeGuard(limits)
        self._seen = SeenTrades(remember, needed_from=self._first_outage)
        self._symbols: list[_Symbol] = []
        self._changed: dict[MinuteKey, None] = {}
        #: (symbol, timeframe, start) of bars above whose state may be another although none of
        #: their minutes is.
        self._changed_above: dict[tuple[int, Timeframe, int], None] = {}
        #: (symbol, timeframe, start) of bars of which a minute was taken out.
        self._taken_out: set[tuple[int, Timeframe, int]] = set()
        self._to_tidy: set[int] = set()
        self._forgotten_until = np.zeros(0, dtype=np.int64)
        self._keep_us = keep_minutes * MINUTE_US
        self.newest = NO_TIME

    def add_symbol(self, clock: SessionClock) -> int:
        """Take in one more symbol and return its number.

        Args:
            clock: sessions of its market.
        """
        self._symbols.append(_Symbol())
        self._forgotten_until = np.append(self._forgotten_until, NO_TIME)
        return self.guard.add(clock)

    def begin_at(self, number: int, start: int) -> None:
        """Say that a symbol's trades before an instant are none of this engine's.

        Those that come nevertheless are told as forgotten: alone they would make bars of too few.
        """
        self._forgotten_until[number] = max(self._forgotten_until[number], start)

    # ---- trades in

    def begin_pass(self, *, healing: bool = False) -> None:
        """Say that trades may come again: after a reconnect, and before a replay.

        Args:
            healing: those that are replayed; what comes live meanwhile is a pass of its own.
        """
        self._seen.begin_pass(healing=healing)

    def process(self, batch: TradeBatch, now_us: int, *, healing: bool = False) -> Intake:
        """Judge trades, drop those seen before, add the others to their minutes.

        Args:
            batch: trades in the order of their arrival.
            now_us: the present, microseconds UTC.
            healing: they come by a request for an old interval.
        """
        judged = self.guard.judge(batch, now_us, self.newest, healing=healing)
        refused = judged.verdict == Verdict.QUARANTINE
        good, bad = batch.split(refused)
        good, forgotten = good.split(good.ts < self._forgotten_until[good.symbol])
        fresh = self._seen.fresh(good, healing=healing)
        repeated = int(len(fresh) - fresh.sum())
        kept = good.take(fresh) if repeated else good
        if len(kept):
            self.newest = max(self.newest, int(kept.ts.max()))
        late = sum(self._add(key, minute) for key, minute in minutes_of(kept).items())
        return Intake(
            received=len(batch),
            repeated=repeated,
            by_rule=judged.counts(),
            quarantined=bad,
            refused_by=[judged.rule_name(row) for row in np.flatnonzero(refused).tolist()],
            late=late,
            kept=len(kept),
            trades=kept,
            odd=judged.counts_by_symbol(batch.symbol),
            forgotten=forgotten,
        )

    def _add(self, key: MinuteKey, minute: Minute) -> int:
        """Add trades to a minute; returns how many came after it was closed."""
        number, start = key
        symbol = self._symbols[number]
        kept = symbol.minutes.get(start)
        self._changed[key] = None
        if kept is None:
            kept = symbol.minutes[start] = _Kept(minute)
            late = start < symbol.closed_until
            if late:
                # Nothing had traded in it when it was over, as far as was known.
                kept.state = BarState.REVISED
        else:
            kept.minute.add(minute)
            late = kept.state in (BarState.CLOSED, BarState.REVISED)
            if late:
                kept.state = BarState.REVISED
                kept.revision += 1
        if (symbol.outages or symbol.abandoned) and self._is_in_outage(symbol, start):
            kept.state = BarState.PROVISIONAL
        return minute.trades if late else 0

    # ---- time

    def close_until(self, until: int) -> None:
        """End all minutes that lie before an instant of the feed's own time.

        Args:
            until: microseconds UTC; trades before it are all in, as far as the feed can tell.
        """
        for number, symbol in enumerate(self._symbols):
            edge = until - until % MINUTE_US
            if edge <= symbol.closed_until:
                continue
            before, symbol.closed_until = symbol.closed_until, edge
            self._mark_above(number, before, edge)
            for start, kept in symbol.minutes.items():
                if start + MINUTE_US <= edge and kept.state == BarState.FORMING:
                    kept.state = BarState.CLOSED
                    self._changed[number, start] = None
            self._to_tidy.add(number)

    def _mark_above(self, number: int, after: int, until: int) -> None:
        """Note the bars above that end in `(after, until]`: their last minutes may be empty."""
        for timeframe in STREAM_TIMEFRAMES[1:]:
            step = _STEP_US[timeframe]
            for start in {begin - begin % step for begin in self._symbols[number].minutes}:
                if after < start + step <= until:
                    self._changed_above[number, timeframe, start] = None

    def _forget(self, number: int) -> None:
        symbol = self._symbols[number]
        # Whole quarters of an hour: the bars above are made of all of their minutes.
        horizon = (symbol.closed_until - self._keep_us) // _LONGEST_US * _LONGEST_US
        waiting = [start // _LONGEST_US * _LONGEST_US for start, _ in symbol.outages]
        horizon = min([horizon, *waiting])
        symbol.abandoned = [each for each in symbol.abandoned if each[1] > horizon]
        self._forgotten_until[number] = max(self._forgotten_until[number], horizon)
        for start in [each for each in symbol.minutes if each < horizon]:
            del symbol.minutes[start]

    # ---- outages

    def begin_outage(self, numbers: Iterable[int], start: int, end: int | None = None) -> None:
        """Say that the feed has been away from symbols since an instant.

        Their minutes from there on are provisional until `end_outage`.

        Args:
            numbers: the symbols.
            start: microseconds UTC.
            end: until when, None where it is away still.
        """
        for number in numbers:
            symbol = self._symbols[number]
            if end is not None or not any(until is None for _, until in symbol.outages):
                symbol.outages.append((start, end))
            self._mark(number, start, end)

    def _first_outage(self) -> int:
        """Return since when trades may come by healing that have come live already."""
        starts = [start for symbol in self._symbols for start, _ in symbol.outages]
        return min(starts, default=_NEVER)

    def resume(self, numbers: Iterable[int], end: int) -> None:
        """Say that the feed is back: the outage is over, not yet healed."""
        for number in numbers:
            symbol = self._symbols[number]
            symbol.outages = [(a, end if b is None else b) for a, b in symbol.outages]
            self._settle(number, end, None)

    def end_outage(self, numbers: Iterable[int], start: int, end: int) -> None:
        """Say that all trades of an interval are in: its minutes count as others do."""
        for number in numbers:
            symbol = self._symbols[number]
            symbol.outages = [
                rest for each in symbol.outages for rest in _without(each, (start, end))
            ]
            symbol.abandoned = [
                (begin, until)
                for each in symbol.abandoned
                for begin, until in _without(each, (start, end))
                if until is not None
            ]
            self._settle(number, start, end)
            self._mark_above(number, start, end + _LONGEST_US)

    def _settle(self, number: int, start: int, end: int | None) -> None:
        """Let minutes of an interval that lie in no outage any more count as others do."""
        symbol = self._symbols[number]
        for begin, kept in symbol.minutes.items():
            is_concerned = begin + MINUTE_US > start and (end is None or begin < end)
            if (
                is_concerned
                and kept.state == BarState.PROVISIONAL
                and not self._is_in_outage(symbol, begin)
            ):
                over = begin + MINUTE_US <= symbol.closed_until
                kept.state = BarState.CLOSED if over else BarState.FORMING
                self._changed[number, begin] = None

    def abandon(self, numbers: Iterable[int], start: int, end: int) -> None:
        """Say that an interval will not be healed here: its bars stay provisional for good."""
        for number in numbers:
            symbol = self._symbols[number]
            parts = [
                (max(begin, start), end if until is None else min(until, end))
                for begin, until in symbol.outages
            ]
            symbol.abandoned += [(begin, until) for begin, until in parts if begin < until]
            symbol.outages = [
                rest for each in symbol.outages for rest in _without(each, (start, end))
            ]

    def _mark(self, number: int, start: int, end: int | None) -> None:
        for begin, kept in self._symbols[number].minutes.items():
            if begin + MINUTE_US > start and (end is None or begin < end):
                kept.state = BarState.PROVISIONAL
                self._changed[number, begin] = None

    @staticmethod
    def _is_in_outage(symbol: _Symbol, start: int) -> bool:
        return symbol.lacks(start, start + MINUTE_US)

    # ---- bars out

    def restore(self, number: int, start: int, minute: Minute) -> None:
        """Put back a closed minute that was stored before, so that the bars above are whole."""
        symbol = self._symbols[number]
        symbol.minutes.setdefault(start, _Kept(minute, BarState.CLOSED))
        symbol.closed_until = max(symbol.closed_until, start + MINUTE_US)

    def replace(self, number: int, start: int, minute: Minute) -> None:
        """Put a minute that was made elsewhere, of all its trades, in the place of the own one."""
        symbol = self._symbols[number]
        kept = symbol.minutes.get(start)
        if kept is not None and kept.minute.has_price and not minute.has_price:
            self._take_out(number, start)
        if kept is None:
            over = start < symbol.closed_until
            kept = _Kept(minute, BarState.REVISED if over else BarState.FORMING)
            symbol.minutes[start] = kept
        elif kept.state in (BarState.CLOSED, BarState.REVISED):
            kept.state = BarState.REVISED
            kept.revision += 1
        kept.minute = minute
        if self._is_in_outage(symbol, start):
            kept.state = BarState.PROVISIONAL
        self._changed[number, start] = None

    def withdraw(self, number: int, start: int) -> None:
        """Take out a minute that is kept: all of its trades were taken back."""
        kept = self._symbols[number].minutes.pop(start)
        if kept.minute.has_price:
            self._take_out(number, start)

    def _take_out(self, number: int, start: int) -> None:
        for timeframe, step in _STEP_US.items():
            self._taken_out.add((number, timeframe, start - start % step))
        self._changed[number, start] = None

    def closed_until(self, number: int) -> int:
        """Return until when a symbol's minutes are over, microseconds UTC."""
        return self._symbols[number].closed_until

    def keeps(self, number: int, start: int) -> bool:
        """Say whether a symbol's trades at an instant still make bars here."""
        return start >= int(self._forgotten_until[number])

    def minutes(self, number: int) -> dict[int, Minute]:
        """Return the minutes of a symbol that are kept, by their start."""
        return {start: kept.minute for start, kept in self._symbols[number].minutes.items()}

    def changed(
        self, *, resting: Container[int] = (), resting_above: Container[int] = ()
    ) -> list[LiveBar]:
        """Return each bar that is new or different since the last call, finest first.

        Args:
            resting: symbols whose minutes that still form come with the next call in which they
                do not rest.
            resting_above: the same for bars of 5m and 15m that still form.
        """
        keys, self._changed = self._changed, {}
        if resting:
            keys, self._changed = self._without_resting(keys, resting)
        marked, self._changed_above = self._changed_above, {}
        out = [bar for key in keys if (bar := self._minute_or_withdrawn(*key)) is not None]
        for timeframe in STREAM_TIMEFRAMES[1:]:
            step = _STEP_US[timeframe]
            above = dict.fromkeys((number, start - start % step) for number, start in keys)
            above.update(dict.fromkeys(key[::2] for key in marked if key[1] == timeframe))
            for number, start in above:
                is_forming = start + step > self._symbols[number].closed_until
                if is_forming and number in resting_above:
                    self._changed_above[number, timeframe, start] = None
                elif (bar := self._bar_above(number, timeframe, start)) is not None:
                    out.append(bar)
                elif (number, timeframe, start) in self._taken_out:
                    out.append(LiveBar.withdrawn(number, timeframe, start))
        if self._taken_out:
            self._taken_out &= self._changed_above.keys()
        # Only now: what has just been given out may be old.
        for number in self._to_tidy:
            self._forget(number)
        self._to_tidy.clear()
        return out

    def _without_resting(
        self, keys: dict[MinuteKey, None], resting: Container[int]
    ) -> tuple[dict[MinuteKey, None], dict[MinuteKey, None]]:
        """Split minutes into those to be given out now, and those that can wait."""
        now: dict[MinuteKey, None] = {}
        later: dict[MinuteKey, None] = {}
        for number, start in keys:
            kept = self._symbols[number].minutes.get(start) if number in resting else None
            waits = kept is not None and kept.state is BarState.FORMING
            (later if waits else now)[number, start] = None
        return now, later

    @property
    def has_waiting(self) -> bool:
        """Whether there are bars that the last call of `changed` has not given out."""
        return bool(self._changed or self._changed_above)

    def _minute_or_withdrawn(self, number: int, start: int) -> LiveBar | None:
        bar = self.minute_bar(number, start)
        if bar is None and self._taken_out and (number, "1m", start) in self._taken_out:
            return LiveBar.withdrawn(number, "1m", start)
        return bar

    def minute_bar(self, number: int, start: int) -> LiveBar | None:
        """Return the bar of a minute, None where no trade has set a price in it."""
        kept = self._symbols[number].minutes.get(start)
        if kept is None or not kept.minute.has_price:
            return None
        minute = kept.minute
        return LiveBar(
            number, "1m", start, minute.open, minute.high, minute.low, minute.close,
            minute.volume, minute.vwap, minute.trades, kept.state, kept.revision,
        )  # fmt: skip

    def _bar_above(self, number: int, timeframe: Timeframe, start: int) -> LiveBar | None:
        symbol, end = self._symbols[number], start + _STEP_US[timeframe]
        parts = [
            kept
            for begin in range(start, end, MINUTE_US)
            if (kept := symbol.minutes.get(begin)) is not None and kept.minute.has_price
        ]
        if not parts:
            return None
        # One loop instead of a sum for each column: this is done for each bar that still forms.
        first = parts[0].minute
        high, low, close = first.high, first.low, first.close
        volume = priced = turnover = 0.0
        trades = revision = 0
        states = set()
        for part in parts:
            minute = part.minute
            if minute.high > high:
                high = minute.high
            if minute.low < low:
                low = minute.low
            close = minute.close
            volume += minute.volume
            priced += minute.priced
            turnover += minute.turnover
            trades += minute.trades
            revision += part.revision
            states.add(part.state)
        vwap = min(max(turnover / priced, low), high) if priced > 0 else None
        state = self._state_above(symbol, states, start, end)
        return LiveBar(
            number, timeframe, start, first.open, high, low, close,
            volume, vwap, trades, state, revision,
        )  # fmt: skip

    @staticmethod
    def _state_above(symbol: _Symbol, states: set[BarState], start: int, end: int) -> BarState:
        # Also where no trade at all is known of the time in which the feed was away.
        if BarState.PROVISIONAL in states or symbol.lacks(start, end):
            return BarState.PROVISIONAL
        if end > symbol.closed_until:
            return BarState.FORMING
        return BarState.REVISED if BarState.REVISED in states else BarState.CLOSED


def _without(
    outage: tuple[int, int | None], healed: tuple[int, int]
) -> list[tuple[int, int | None]]:
    """Return what is left of an outage when an interval of it is healed."""
    start, end = outage
    rest: list[tuple[int, int | None]] = []
    if start < healed[0]:
        rest.append((start, healed[0] if end is None else min(end, healed[0])))
    if end is None or end > healed[1]:
        rest.append((max(start, healed[1]), end))
    return [each for each in rest if each[1] is None or each[0] < each[1]]


#: How long trades may be out of order before a minute counts as over.
LATENESS_US = 2 * MICROSECONDS
