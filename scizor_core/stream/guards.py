"""What is wrong with a trade or a quote as it comes in: a rule's name and a verdict.

A row that cannot be true is quarantined: no price, no session, a time in the future. One that is
merely odd is flagged and counts: prices do jump. Sale conditions are no fault; they take a trade
out of the price, not out of the volume.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from scizor_core.markets import PriceSteps
from scizor_core.sessions import SessionCalendar
from scizor_core.stream.trades import (
    MICROSECONDS,
    NO_TIME,
    Flags,
    Floats,
    Integers,
    TradeBatch,
    run_ends,
    run_starts,
)


class Verdict(IntEnum):
    """What becomes of a row."""

    ACCEPT = 0
    FLAG = 1
    QUARANTINE = 2


#: Rules in the order in which they are asked; of several that hit, the first quarantining one
#: names the row, else the first flagging one.
RULES: dict[str, Verdict] = {
    "bad_time": Verdict.QUARANTINE,
    "bad_price": Verdict.QUARANTINE,
    "bad_size": Verdict.QUARANTINE,
    "future_time": Verdict.QUARANTINE,
    "stale_time": Verdict.QUARANTINE,
    "outside_session": Verdict.QUARANTINE,
    "price_jump": Verdict.FLAG,
    "size_spike": Verdict.FLAG,
    "off_tick": Verdict.FLAG,
    "crossed_quote": Verdict.QUARANTINE,
    "wide_spread": Verdict.FLAG,
}
RULE_NAMES = tuple(RULES)
NO_RULE = -1


@dataclass(frozen=True)
class Limits:
    """Where odd begins.

    Attributes:
        price_jump: change against the symbol's last accepted trade, 0.10 = 10 %.
        size_spike: size against the symbol's usual one, 5 = five times.
        spread: ask minus bid over their middle.
        future_us: a clock may be ahead of ours by so much, microseconds.
        stale_us: a live trade may be behind the newest one of its feed by so much; what is older
            comes by healing, which asks for whole intervals.
    """

    price_jump: float = 0.10
    size_spike: float = 5.0
    spread: float = 0.05
    future_us: int = 5 * MICROSECONDS
    stale_us: int = 300 * MICROSECONDS


#: The usual size of a trade: exponential mean over about so many trades of the symbol.
_USUAL_TRADES = 100
#: Before that many trades a symbol has no usual size.
_FEWEST_TRADES = 20
_TICK_ROUNDING = 1e-6
_FLOAT_ERROR = 1e-15
_AHEAD = timedelta(days=7)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_TIME = (datetime(1990, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LAST_TIME = (datetime(2100, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


class SessionClock:
    """Says of many instants at once whether they lie in a session of a market.

    Args:
        calendar: the market's sessions; the closing auction counts as inside.
    """

    def __init__(self, calendar: SessionCalendar) -> None:
        self._calendar = calendar
        self._open: Integers = np.array([], dtype=np.int64)
        self._end: Integers = np.array([], dtype=np.int64)
        self._dates: list[date] = []
        self._reach = (0, 0)

    def inside(self, ts: Integers) -> Flags:
        """Return for each instant (microseconds UTC) whether it lies in a session."""
        if not len(ts):
            return np.zeros(0, dtype=np.bool_)
        first, last = int(ts.min()), int(ts.max())
        if not (self._reach[0] <= first and last < self._reach[1]):
            self._load(first, last)
        if len(self._open):
            session = int(np.searchsorted(self._open, first, side="right")) - 1
            if session >= 0 and last < self._end[session]:
                # All of them lie in one session, as those that come live do.
                return np.ones(len(ts), dtype=np.bool_)
        place = np.searchsorted(self._open, ts, side="right") - 1
        safe = np.clip(place, 0, None)
        return (place >= 0) & (ts < self._end[safe]) if len(self._open) else place >= 0

    def session_date(self, ts: int) -> date | None:
        """Return the date of the session that an instant lies in, None outside of all."""
        if not self.inside(np.array([ts], dtype=np.int64))[0]:
            return None
        return self._dates[int(np.searchsorted(self._open, ts, side="right")) - 1]

    def _load(self, first: int, last: int) -> None:
        begin, end = (
            np.array([first, last], dtype="datetime64[us]").astype("datetime64[D]").astype(object)
        )
        begin, end = begin - _AHEAD, end + _AHEAD
        sessions = self._calendar.sessions(begin, end)
        auction = timedelta(minutes=self._calendar.market.closing_auction_minutes)
        self._open = np.array([_us(each.open) for each in sessions], dtype=np.int64)
        self._end = np.array([_us(each.close + auction) for each in sessions], dtype=np.int64)
        self._dates = [each.session_date for each in sessions]
        day = 86_400 * MICROSECONDS
        self._reach = (first - first % day, last - last % day + day)


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Judgement:
    """What the guards say of a batch, row by row.

    Attributes:
        verdict: values of `Verdict`, int8.
        rule: position in `RULE_NAMES` of the rule that decided, `NO_RULE` where none did.
    """

    verdict: npt.NDArray[np.int8]
    rule: npt.NDArray[np.int8]

    def rule_name(self, row: int) -> str:
        """Return the name of the rule that decided on a row, "" where none did."""
        return RULE_NAMES[self.rule[row]] if self.rule[row] >= 0 else ""

    def counts(self) -> dict[str, int]:
        """Return rule -> rows that it decided."""
        hit = self.rule >= 0
        if not hit.any():
            return {}
        found = np.bincount(self.rule[hit], minlength=len(RULE_NAMES))
        return {name: int(n) for name, n in zip(RULE_NAMES, found, strict=True) if n}

    def counts_by_symbol(self, symbols: Integers) -> dict[tuple[int, str], int]:
        """Return (symbol, rule) -> rows of it that the rule decided on.

        Args:
            symbols: of the rows.
        """
        rows = np.flatnonzero(self.rule >= 0)
        if not len(rows):
            return {}
        pairs = zip(symbols[rows].tolist(), self.rule[rows].tolist(), strict=True)
        return {(symbol, RULE_NAMES[rule]): n for (symbol, rule), n in Counter(pairs).items()}


class _Marks:
    """Verdicts of one batch in the making."""

    def __init__(self, rows: int) -> None:
        self.verdict = np.zeros(rows, dtype=np.int8)
        self.rule = np.full(rows, NO_RULE, dtype=np.int8)

    def mark(self, hit: Flags, rule: str) -> None:
        """Mark rows that no rule of the same weight has marked before."""
        if not hit.any():
            return
        weight = RULES[rule]
        rows = hit & (self.verdict < weight)
        self.verdict[rows] = weight
        self.rule[rows] = RULE_NAMES.index(rule)


class TradeGuard:
    """Judges the trades of a feed; knows each symbol's last price and usual size.

    Args:
        limits: where odd begins.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._clocks: list[SessionClock] = []
        self._clock_of = np.zeros(0, dtype=np.int64)
        #: By symbol: prices from which on a step holds, no price where there are no more, and the
        #: steps, NaN where they are not known.
        self._floors, self._steps = np.full((0, 1), np.inf), np.full((0, 1), np.nan)
        self._price = np.zeros(0)
        self._usual = np.zeros(0)
        self._trades = np.zeros(0, dtype=np.int64)

    def add(self, clock: SessionClock) -> int:
        """Take in one more symbol and return its number.

        Args:
            clock: sessions of its market.
        """
        if clock not in self._clocks:
            self._clocks.append(clock)
        self._clock_of = np.append(self._clock_of, self._clocks.index(clock))
        self._price = np.append(self._price, np.nan)
        self._usual = np.append(self._usual, np.nan)
        self._trades = np.append(self._trades, 0)
        bands = self._floors.shape[1]
        self._floors = np.vstack([self._floors, np.full(bands, np.inf)])
        self._steps = np.vstack([self._steps, np.full(bands, np.nan)])
        return len(self._price) - 1

    def set_price_steps(self, symbol: int, steps: PriceSteps) -> None:
        """Set the steps of a symbol's price, which are not judged before they are known."""
        if not steps:
            return
        more = max(len(steps) - self._floors.shape[1], 0)
        self._floors = np.pad(self._floors, ((0, 0), (0, more)), constant_values=np.inf)
        self._steps = np.pad(self._steps, ((0, 0), (0, more)), constant_values=np.nan)
        self._floors[symbol], self._steps[symbol] = np.inf, np.nan
        self._floors[symbol, : len(steps)] = [floor for floor, _ in steps]
        self._steps[symbol, : len(steps)] = [step for _, step in steps]

    def last_price(self, symbol: int) -> float:
        """Return the price of a symbol's last accepted trade, NaN before the first."""
        return float(self._price[symbol])

    def judge(
        self, batch: TradeBatch, now_us: int, newest_us: int = NO_TIME, *, healing: bool = False
    ) -> Judgement:
        """Judge a batch and remember what is accepted or flagged.

        Args:
            batch: the trades.
            now_us: the present, microseconds UTC.
            newest_us: time of the newest trade that the feed has delivered before.
            healing: the trades come by a request for an old interval: none is stale.
        """
        marks = _Marks(len(batch))
        ts, price, size = batch.ts, batch.price, batch.size
        latest = min(now_us + self.limits.future_us, _LAST_TIME)
        earliest = _FIRST_TIME
        if not healing and newest_us != NO_TIME:
            earliest = max(newest_us - self.limits.stale_us, _FIRST_TIME)
        # One question for all rules: nearly always nothing is wrong.
        sound = (ts >= earliest) & (ts <= latest) & (price > 0) & (price < np.inf)
        sound &= (size > 0) & (size < np.inf)
        if not sound.all():
            self._mark_unsound(batch, now_us, earliest, marks)
        self._mark_outside(batch, marks)
        good = np.flatnonzero(marks.verdict == Verdict.ACCEPT)
        if len(good):
            usable = batch if len(good) == len(batch) else batch.take(good)
            self._mark_odd(usable, good, marks)
        return Judgement(marks.verdict, marks.rule)

    def _mark_unsound(self, batch: TradeBatch, now_us: int, earliest: int, marks: _Marks) -> None:
        ts, price, size = batch.ts, batch.price, batch.size
        marks.mark((ts < _FIRST_TIME) | (ts > _LAST_TIME), "bad_time")
        marks.mark(~((price > 0) & (price < np.inf)), "bad_price")
        marks.mark(~((size > 0) & (size < np.inf)), "bad_size")
        marks.mark(ts > now_us + self.limits.future_us, "future_time")
        marks.mark(ts < earliest, "stale_time")

    def _mark_outside(self, batch: TradeBatch, marks: _Marks) -> None:
        usable = marks.verdict == Verdict.ACCEPT
        if len(self._clocks) == 1 and usable.all():
            outside = ~self._clocks[0].inside(batch.ts)
            marks.mark(outside, "outside_session")
            return
        clock_of = self._clock_of[batch.symbol]
        for number, clock in enumerate(self._clocks):
            rows = np.flatnonzero(usable & (clock_of == number))
            outside = np.zeros(len(batch), dtype=np.bool_)
            outside[rows] = ~clock.inside(batch.ts[rows])
            marks.mark(outside, "outside_session")

    def _mark_odd(self, batch: TradeBatch, rows: Integers, marks: _Marks) -> None:
        by_symbol = np.argsort(batch.symbol, kind="stable")
        symbol = batch.symbol[by_symbol]
        price, size = batch.price[by_symbol], batch.size[by_symbol]
        starts = run_starts(symbol)
        firsts = symbol[starts]
        before = np.empty_like(price)
        before[1:] = price[:-1]
        before[starts] = self._price[firsts]
        jump = np.abs(price / before - 1) > self.limits.price_jump + _TICK_ROUNDING
        known = self._trades[symbol] >= _FEWEST_TRADES
        spike = known & (size > self.limits.size_spike * self._usual[symbol])
        off = self._is_off_tick(price, symbol)
        for hit, rule in ((jump, "price_jump"), (spike, "size_spike"), (off, "off_tick")):
            if hit.any():
                marked = np.zeros(len(marks.verdict), dtype=np.bool_)
                marked[rows[by_symbol[hit]]] = True
                marks.mark(marked, rule)
        ends = run_ends(starts, len(symbol))
        counts = ends - starts
        self._price[firsts] = price[ends - 1]
        mean = np.add.reduceat(size, starts) / counts
        weight = 1 - (1 - 1 / _USUAL_TRADES) ** counts
        usual = self._usual[firsts]
        self._usual[firsts] = np.where(np.isnan(usual), mean, usual + weight * (mean - usual))
        self._trades[firsts] += counts

    def _is_off_tick(self, price: Floats, symbol: Integers) -> Flags:
        """Return which prices are no whole number of their symbol's steps."""
        step = np.full(len(price), np.nan)
        # The bands rise; there are three at most.
        for floors, steps in zip(self._floors.T, self._steps.T, strict=True):
            step = np.where(price >= floors[symbol], steps[symbol], step)
        whole = price / step
        # NaN where the step is not known compares as false. What a float cannot tell is no fault.
        off: Flags = np.abs(whole - np.round(whole)) > _TICK_ROUNDING + _FLOAT_ERROR * whole
        return off


def judge_quote(bid: float, ask: float, limits: Limits) -> tuple[Verdict, str | None]:
    """Return the verdict on a quote and the rule that decided.

    Args:
        bid: best price bid; a side that is missing is NaN or 0 and makes no fault.
        ask: best price asked.
        limits: where a spread is wide.
    """
    if not (bid > 0 and ask > 0):
        return Verdict.ACCEPT, None
    if bid > ask:
        return Verdict.QUARANTINE, "crossed_quote"
    if (ask - bid) / ((ask + bid) / 2) > limits.spread:
        return Verdict.FLAG, "wide_spread"
    return Verdict.ACCEPT, None
