"""When a gap is asked for again, how often, what is said when that ends, and in which runs.

Pure: the back-off is data, the clock is given. Which gaps there are stands in `quality.gaps`; what
asks for them again is the sensor `gap_repair`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from scizor_core.errors import ContractError
from scizor_core.markets import TIMEFRAME_MINUTES, TIMEFRAMES, Timeframe
from scizor_core.sessions import get_calendar

_MINUTE, _HOUR, _DAY, _WEEK = (
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
    timedelta(weeks=1),
)

#: Reason -> how long to wait before the first try, the second one, and so on. After the last one
#: the gap is given up.
BACK_OFF: dict[str, tuple[timedelta, ...]] = {
    # A provider that does not answer is back within minutes as a rule; after three days it is an
    # outage that a person knows of, and `scizor gaps` shows what it has left behind.
    "feed down": (_MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 6 * _HOUR, _DAY, 2 * _DAY),
    # Providers fill in late: Yahoo after 15 to 20 minutes, others with their nightly corrections.
    # What none of them has a day later does not come any more.
    "absent in every source": (15 * _MINUTE, 2 * _HOUR, _DAY),
    # Asked soon, because the session may be running; daily for a week, by when the nightly
    # backfill has passed as well.
    "not yet fetched": (5 * _MINUTE, 30 * _MINUTE, 6 * _HOUR, *[_DAY] * 7),
    # Only a person can change a plan or a key: a call a week is enough to notice.
    "provider refused": (_DAY, *[_WEEK] * 4),
}

#: Reasons after which nothing is missing: asking again would bring the same.
EXPLAINING: frozenset[str] = frozenset({"no trades", "halted", "outside history", "delisted"})

#: How much a try has learned about the bars, by the reason it ended with: nothing; that others may
#: have them; that nobody has.
_LEARNED = {
    "not yet fetched": 0,
    "feed down": 0,
    "provider refused": 1,
    "absent in every source": 2,
}


def next_attempt(reason: str, attempts: int, at: datetime) -> datetime | None:
    """Return when a gap is asked for the next time, None where it is not any more.

    Args:
        reason: why the bars are absent, as in `quality.gaps`.
        attempts: how often it has been asked for so far, 0 for a new gap.
        at: the last try, or when the gap was found; aware.

    Returns:
        An aware instant after `at`; None where the reason explains the gap or the tries are used
        up.

    Raises:
        ContractError: no such reason, or a negative number of attempts.
    """
    if attempts < 0:
        raise ContractError(f"A gap cannot have been asked for {attempts} times.")
    if reason in EXPLAINING:
        return None
    waits = _waits(reason)
    return at + waits[attempts] if attempts < len(waits) else None


def attempts_after(before: str, reason: str, attempts: int) -> int:
    """Return the number of attempts of a gap after one more that has left it absent.

    A try that learns more than those before begins a count of its own: how often a provider was
    down says nothing about how late it fills in.

    Args:
        before: reason of the gap before the attempt.
        reason: its reason after it.
        attempts: how often it had been asked for before the attempt.
    """
    if _LEARNED.get(reason, 0) > _LEARNED.get(before, 0):
        return 1
    return attempts + 1


def given_up(attempts: int, at: datetime, last_answer: str) -> str:
    """Return the sentence that stands with a gap which is not asked for any more.

    Args:
        attempts: how often it has been asked for.
        at: the last try, aware.
        last_answer: what was said to it, "" where nothing was.
    """
    times = {1: "once", 2: "twice"}.get(attempts, f"{attempts} times")
    said = last_answer.strip().rstrip(".")
    return f"asked {times} until {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" + (
        f", the last answer was: {said}." if said else "."
    )


def _waits(reason: str) -> tuple[timedelta, ...]:
    try:
        return BACK_OFF[reason]
    except KeyError:
        known = ", ".join((*BACK_OFF, *sorted(EXPLAINING)))
        raise ContractError(f"'{reason}' is not a reason of a gap. Known are {known}.") from None


# ---- which runs to ask for

#: Partitions (sessions, or months of daily bars) that one run takes.
MOST_PARTITIONS = 20
#: Bars that one run asks for; 10,000 symbols of a session of 390 minutes are four runs.
MOST_BARS = 1_000_000
#: Neighbouring partitions become one run although their symbols differ, as long as it asks for at
#: most this many times what is due: a provider answers a range of days as fast as one.
_ASK_ALONG = 1.25
_SESSIONS_OF_A_MONTH = 23


@dataclass(frozen=True)
class DueGaps:
    """Gaps of one partition of a market that may be asked for now.

    Attributes:
        market: name of the market.
        timeframe: finest timeframe in which bars are absent; coarser ones follow from it.
        partition: session date; first day of the month for daily bars.
        symbols: whose gaps they are, in order.
        is_unfetched: they are gaps that nobody has asked for so far.
        gaps: how many.
        since: when the first of them was due, aware.
        identity: digest of the gaps and their attempts.
    """

    market: str
    timeframe: Timeframe
    partition: date
    symbols: tuple[str, ...]
    is_unfetched: bool
    gaps: int
    since: datetime
    identity: str


@dataclass(frozen=True)
class Collection:
    """A run that waits or is being executed.

    Attributes:
        market: name of the market.
        timeframes: timeframes of the bars it collects.
        first: first partition.
        last: last partition, included.
        symbols: only these, None: all that are watched.
        is_repair: it was asked for by gap repair.
    """

    market: str
    timeframes: frozenset[Timeframe]
    first: date
    last: date
    symbols: frozenset[str] | None
    is_repair: bool

    def concerns(self, due: DueGaps) -> bool:
        """Say whether it is about that partition, daily bars and others apart."""
        return (
            self.market == due.market
            and self.first <= due.partition <= self.last
            and ("1d" in self.timeframes) == (due.timeframe == "1d")
        )


@dataclass(frozen=True)
class RepairRun:
    """One run to ask for.

    Attributes:
        market: name of the market.
        timeframe: finest timeframe to collect.
        first: first partition.
        last: last partition, included.
        symbols: which symbols, in order.
        key: the same for the same gaps after the same number of attempts.
    """

    market: str
    timeframe: Timeframe
    first: date
    last: date
    symbols: tuple[str, ...]
    key: str


def without_collected(due: Sequence[DueGaps], under_way: Sequence[Collection]) -> list[DueGaps]:
    """Return what is left to ask for beside the runs that are under way.

    A partition that is being repaired is left alone. What was never fetched is left to any run
    that will fetch it.
    """
    left = []
    for each in due:
        around = [run for run in under_way if run.concerns(each)]
        if any(run.is_repair for run in around):
            continue
        symbols = each.symbols
        if each.is_unfetched:
            around = [run for run in around if each.timeframe in run.timeframes]
            symbols = tuple(symbol for symbol in symbols if not _is_asked(symbol, around))
        if symbols:
            left.append(replace(each, symbols=symbols))
    return left


def _is_asked(symbol: str, under_way: Sequence[Collection]) -> bool:
    return any(run.symbols is None or symbol in run.symbols for run in under_way)


def plan_repairs(due: Sequence[DueGaps], at: datetime, most_runs: int) -> list[RepairRun]:
    """Return the runs to ask for now, newest partitions first.

    Neighbouring partitions with the same symbols, or nearly so, are one run; one that would ask
    for more than `MOST_BARS` is divided by symbols.

    Args:
        due: what is due.
        at: the present, aware.
        most_runs: more runs than that are left for later.
    """
    runs = [run for piece in _joined(_by_partition(due)) for run in _divided(piece, at)]
    order = {timeframe: number for number, timeframe in enumerate(TIMEFRAMES)}
    runs.sort(key=lambda run: (-run.last.toordinal(), run.market, order[run.timeframe]))
    return runs[:most_runs]


def _by_partition(due: Sequence[DueGaps]) -> list[DueGaps]:
    """Return one entry per market, timeframe and partition; each symbol at its finest timeframe."""
    order = {timeframe: number for number, timeframe in enumerate(TIMEFRAMES)}
    asked: dict[tuple[str, date, bool], set[str]] = {}
    found: dict[tuple[str, Timeframe, date], DueGaps] = {}
    for each in sorted(due, key=lambda each: order[each.timeframe]):
        key = (each.market, each.timeframe, each.partition)
        before = found.get(key)
        finer = asked.setdefault((each.market, each.partition, each.timeframe == "1d"), set())
        mine = set(before.symbols) if before else set[str]()
        symbols = mine | (set(each.symbols) - finer)
        if not symbols:
            continue
        finer |= symbols
        found[key] = replace(
            each,
            symbols=tuple(sorted(symbols)),
            gaps=each.gaps + (before.gaps if before else 0),
            since=min(each.since, before.since) if before else each.since,
            identity=(before.identity if before else "") + each.identity,
        )
    return list(found.values())


def _joined(due: Sequence[DueGaps]) -> list[list[DueGaps]]:
    """Group neighbouring partitions of a market and timeframe that one run takes."""
    pieces: list[list[DueGaps]] = []
    ordered = sorted(due, key=lambda each: (each.market, each.timeframe, each.partition))
    for each in reversed(ordered):
        if pieces and _fits(pieces[-1], each):
            pieces[-1].append(each)
        else:
            pieces.append([each])
    return pieces


def _fits(piece: Sequence[DueGaps], earlier: DueGaps) -> bool:
    """Say whether a partition can join a piece whose last one is the one after it."""
    last = piece[-1]
    if (last.market, last.timeframe) != (earlier.market, earlier.timeframe):
        return False
    if len(piece) == MOST_PARTITIONS or not _follow(earlier, last):
        return False
    together = [*piece, earlier]
    symbols = {symbol for each in together for symbol in each.symbols}
    asked, wanted = len(symbols) * len(together), sum(len(each.symbols) for each in together)
    return asked <= _ASK_ALONG * wanted


def _follow(earlier: DueGaps, later: DueGaps) -> bool:
    """Say whether no partition lies between two."""
    if earlier.timeframe == "1d":
        after = (earlier.partition.replace(day=28) + timedelta(days=4)).replace(day=1)
        return after == later.partition
    between = get_calendar(earlier.market).sessions(earlier.partition + _DAY, later.partition)
    return not between


def _divided(piece: Sequence[DueGaps], at: datetime) -> list[RepairRun]:
    symbols = sorted({symbol for each in piece for symbol in each.symbols})
    size = max(1, MOST_BARS // sum(_bars_of(each) for each in piece))
    # A run that ends without having counted an attempt leaves its gaps due: they are asked for
    # again an hour later, and once an hour from then on.
    hours = (at - min(each.since for each in piece)) // _HOUR
    market, timeframe = piece[0].market, piece[0].timeframe
    first, last = piece[-1].partition, piece[0].partition
    runs = []
    for start in range(0, len(symbols), size):
        chosen = tuple(symbols[start : start + size])
        text = repr(([each.identity for each in piece], chosen, hours))
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        key = f"{market}:{timeframe}:{first}:{last}:{digest}"
        runs.append(RepairRun(market, timeframe, first, last, chosen, key))
    return runs


def _bars_of(due: DueGaps) -> int:
    """Return how many bars a symbol has in a partition."""
    if due.timeframe == "1d":
        return _SESSIONS_OF_A_MONTH
    session = get_calendar(due.market).session(due.partition)
    minutes = session.minutes if session is not None else TIMEFRAME_MINUTES["1d"]
    return max(1, minutes // TIMEFRAME_MINUTES[due.timeframe])
