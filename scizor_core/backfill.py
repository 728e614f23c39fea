"""What a backfill has to ask for, in which pieces, and what nobody can serve.

Pure: sessions, what providers reach and what is stored already come in; pieces come out, newest
first. A piece is a range of partitions of one market and timeframe for some symbols, long enough
that each request of the provider is full and short enough that little is lost when it breaks off.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe
from scizor_core.sessions import Session, SessionCalendar

#: Calendar days that a piece of intraday bars spans at most.
SPAN_DAYS = 30
#: A span whose symbols need this many different ranges is asked for as one range for all of them.
MOST_RANGES = 6
#: Kept from the edge of what a provider reaches: a piece may wait in the queue for a while.
REACH_MARGIN = timedelta(hours=1)
#: A session is fetched by a backfill from this long after its close, before that by what runs while
#: and after the market is open.
AFTER_CLOSE = timedelta(hours=1)

_DAY = timedelta(days=1)
_NAMED_SYMBOLS = 3


@dataclass(frozen=True)
class Reach:
    """What one provider serves of one timeframe.

    Attributes:
        provider: its name.
        timeframe: the timeframe.
        max_age: how far back it reaches from now, None without limit.
        max_window: the longest window of one request, None without limit.
        batch_size: symbols that one request can ask for.
        counts_calls: False where it answers from this machine.
        holds: first and last date of what it has, by symbol, where that is all it can serve (files
            of the user); None where it serves any symbol.
    """

    provider: str
    timeframe: Timeframe
    max_age: timedelta | None = None
    max_window: timedelta | None = None
    batch_size: int = 1
    counts_calls: bool = True
    holds: Mapping[str, Sequence[tuple[date, date]]] | None = None

    def reaches(self, session: Session, symbol: str, now: datetime) -> bool:
        """Say whether the whole session is within reach."""
        day = session.session_date
        if self.holds is not None:
            return any(first <= day <= last for first, last in self.holds.get(symbol, ()))
        if self.max_age is None:
            return True
        begins = datetime.combine(day, time(), UTC) if self.timeframe == "1d" else session.open
        return begins >= now - self.max_age + REACH_MARGIN

    @property
    def limit(self) -> str:
        """How far it reaches, as part of a sentence."""
        if self.holds is not None:
            return f"{self.provider} has no file of it"
        if self.max_age is None:
            return f"{self.provider} reaches back without limit"
        days, hours = self.max_age.days, self.max_age.total_seconds() / 3600
        back = f"{days} days" if days > 1 else f"{hours:g} hours"
        return f"{self.provider} reaches {back} back"


@dataclass(frozen=True)
class Wish:
    """One symbol to fill.

    Attributes:
        symbol: its code.
        timeframes: the timeframes wanted; "15m" is derived from "5m" and comes with it.
        listed_from: first day that it can have bars, None where not known.
        delisted_on: last day that it can have bars, None while it is listed.
    """

    symbol: str
    timeframes: frozenset[Timeframe]
    listed_from: date | None = None
    delisted_on: date | None = None


@dataclass(frozen=True)
class Scope:
    """What is to be filled, and what the platform and the chain of providers allow.

    Attributes:
        market: name of the market.
        since: timeframe -> first session wanted.
        until: first date no longer wanted.
        now: the present, aware; sessions that have not closed a while ago are left to the refresh.
        reaches: what the configured providers serve, in the order of the chain.
        chain: all providers of the chain, those included that cannot be asked.
        not_configured: provider -> what has to be set before it can be asked.
        first_partitions: timeframe -> date of the first partition.
        archived: timeframe -> first days of the months that are in the archive only.
        symbols_per_run: symbols that one piece has at most.
    """

    market: str
    since: Mapping[Timeframe, date]
    until: date
    now: datetime
    reaches: Sequence[Reach]
    chain: Sequence[str] = ()
    not_configured: Mapping[str, str] = field(default_factory=dict)
    first_partitions: Mapping[Timeframe, date] = field(default_factory=dict)
    archived: Mapping[Timeframe, Set[date]] = field(default_factory=dict)
    symbols_per_run: int = 50

    def of(self, timeframe: Timeframe) -> list[Reach]:
        """Return the reaches of a timeframe."""
        return [each for each in self.reaches if each.timeframe == timeframe]


@dataclass(frozen=True)
class Piece:
    """What one run fills.

    Attributes:
        market: name of the market.
        timeframe: the finest timeframe of the run; what is derived from it comes with it.
        first: first partition: the date of a session, or of the first day of a month.
        last: last partition, included.
        symbols: the symbols.
        sessions: pairs of symbol and session that are to be filled.
        provider: who is asked first; empty where nobody is called.
        requests: calls that it takes.
    """

    market: str
    timeframe: Timeframe
    first: date
    last: date
    symbols: tuple[str, ...]
    sessions: int
    provider: str
    requests: int


@dataclass(frozen=True)
class Unreachable:
    """A range that no configured provider can serve.

    Attributes:
        timeframe: the timeframe.
        symbols: the symbols.
        first: first session.
        last: last session, included.
        reason: why, as part of a sentence.
    """

    timeframe: Timeframe
    symbols: tuple[str, ...]
    first: date
    last: date
    reason: str

    @property
    def sentence(self) -> str:
        """What cannot be had and why."""
        named = ", ".join(self.symbols[:_NAMED_SYMBOLS])
        more = len(self.symbols) - _NAMED_SYMBOLS
        who = named + f" and {more} more" * (more > 0)
        when = f"on {self.first}" if self.first == self.last else f"{self.first} to {self.last}"
        return f"{self.timeframe} of {who}, {when}: {self.reason}."


@dataclass(frozen=True)
class Plan:
    """A backfill.

    Attributes:
        market: name of the market.
        pieces: what to do, in that order.
        unreachable: what nobody can serve.
        settled: pairs of symbol, timeframe and session that are stored or explained already.
        notes: a sentence for each symbol that is left out, such as a delisted one.
    """

    market: str
    pieces: tuple[Piece, ...] = ()
    unreachable: tuple[Unreachable, ...] = ()
    settled: int = 0
    notes: tuple[str, ...] = ()

    @property
    def sessions(self) -> int:
        """Pairs of symbol and session that are to be filled."""
        return sum(piece.sessions for piece in self.pieces)

    @property
    def requests(self) -> dict[str, int]:
        """Provider -> calls that the pieces take."""
        found: dict[str, int] = {}
        for piece in self.pieces:
            if piece.provider:
                found[piece.provider] = found.get(piece.provider, 0) + piece.requests
        return found


def plan_backfill(
    wishes: Sequence[Wish],
    scope: Scope,
    settled: Mapping[tuple[str, Timeframe], Set[date]],
    calendar: SessionCalendar,
) -> Plan:
    """Return the pieces that fill what is neither stored nor explained.

    Daily bars come first, as they are few calls; then the newest sessions of all symbols, 1m before
    5m. Where a session is filled by 1m, its 5m and 15m follow from that. Equal input gives an equal
    plan.

    Args:
        wishes: the symbols; their order decides who is in the first piece of a span.
        scope: what is to be filled.
        settled: (symbol, timeframe) -> sessions that need nothing.
        calendar: the market's sessions.
    """
    needs: dict[Timeframe, dict[str, list[date]]] = {}
    unreachable: list[Unreachable] = []
    done = 0
    for timeframe in ("1d", "1m", "5m"):
        chosen = [wish for wish in wishes if _normal(wish, timeframe)]
        if not chosen or timeframe not in scope.since:
            continue
        sorter = _Sorter(scope, timeframe, calendar)
        for wish in chosen:
            done += sorter.take(wish, settled.get((wish.symbol, timeframe), frozenset()))
        needs[timeframe] = sorter.needs
        unreachable += sorter.unreachable()
    for symbol, finer in needs.get("1m", {}).items():
        coarse = needs.get("5m", {})
        if symbol in coarse:
            covered = set(finer)
            coarse[symbol] = [day for day in coarse[symbol] if day not in covered]
    pieces = [
        piece
        for timeframe, by_symbol in needs.items()
        for piece in _cut(scope, timeframe, by_symbol)
    ]
    order = {"1d": 0, "1m": 1, "5m": 2}
    pieces.sort(
        key=lambda each: (each.timeframe != "1d", -each.last.toordinal(), order[each.timeframe])
    )
    return Plan(scope.market, tuple(pieces), tuple(unreachable), done)


def span_days(max_window: timedelta | None) -> int:
    """Return the calendar days of a piece whose requests may each be that long.

    A whole number of requests, so that none is asked for a rest.
    """
    days = 0 if max_window is None else max_window.days
    if not days or days >= SPAN_DAYS:
        return SPAN_DAYS
    return days * (SPAN_DAYS // days)


def _normal(wish: Wish, timeframe: Timeframe) -> bool:
    return timeframe in wish.timeframes or (timeframe == "5m" and "15m" in wish.timeframes)


class _Sorter:
    """Sorts the sessions of symbols into what is settled, what can be had, and what cannot."""

    def __init__(self, scope: Scope, timeframe: Timeframe, calendar: SessionCalendar) -> None:
        self._scope, self._timeframe = scope, timeframe
        self._reaches = scope.of(timeframe)
        found = calendar.sessions(scope.since[timeframe], scope.until)
        self._sessions = [each for each in found if each.close + AFTER_CLOSE <= scope.now]
        general = [each for each in self._reaches if each.holds is None]
        #: Sessions that have nowhere to go, whoever has them, and why.
        self._barred = {
            each.session_date: why for each in self._sessions if (why := self._bar(each))
        }
        #: Sessions that nobody has for just any symbol.
        self._out_of_reach = {
            each.session_date
            for each in self._sessions
            if not any(reach.reaches(each, "", scope.now) for reach in general)
        }
        self.needs: dict[str, list[date]] = {}
        self._out: dict[tuple[date, date, str], list[str]] = {}

    def _bar(self, session: Session) -> str:
        day = session.session_date
        first = self._scope.first_partitions.get(self._timeframe)
        if first is not None and day < first:
            name = "DAILY" if self._timeframe == "1d" else "INTRADAY"
            return f"the first partition is {first}, see SCIZOR_{name}_START"
        # A session of Sydney's summer opens on the day before, by UTC.
        months = {day.replace(day=1), min(session.open.date(), day).replace(day=1)}
        if months & self._scope.archived.get(self._timeframe, frozenset()):
            return "it is in the archive, and `scizor archive restore` brings it back"
        return ""

    def _chain_refusal(self) -> str:
        limits = {each.provider: each.limit for each in self._reaches}
        parts = []
        for name in dict.fromkeys([*self._scope.chain, *limits]):
            if name in self._scope.not_configured:
                parts.append(f"{name} is not configured ({self._scope.not_configured[name]})")
            else:
                parts.append(limits.get(name, f"{name} has no {self._timeframe} bars"))
        return ", ".join(parts) or "no provider is configured"

    def take(self, wish: Wish, settled: Set[date]) -> int:
        """Sort the sessions of one symbol; returns how many are settled."""
        needed: list[date] = []
        refused: list[tuple[date, str]] = []
        done = 0
        for session in self._sessions:
            day = session.session_date
            if (wish.listed_from is not None and day < wish.listed_from) or (
                wish.delisted_on is not None and day > wish.delisted_on
            ):
                continue
            if day in settled:
                done += 1
            elif day in self._barred:
                refused.append((day, self._barred[day]))
            elif day in self._out_of_reach and not self._is_held(session, wish.symbol):
                refused.append((day, self._chain_refusal()))
            else:
                needed.append(day)
        if needed:
            self.needs[wish.symbol] = needed
        for reason in dict.fromkeys(reason for _, reason in refused):
            days = [day for day, why in refused if why == reason]
            self._out.setdefault((days[0], days[-1], reason), []).append(wish.symbol)
        return done

    def _is_held(self, session: Session, symbol: str) -> bool:
        return any(
            each.holds is not None and each.reaches(session, symbol, self._scope.now)
            for each in self._reaches
        )

    def unreachable(self) -> list[Unreachable]:
        """Return what nobody can serve, symbols with the same range together."""
        return [
            Unreachable(self._timeframe, tuple(symbols), first, last, reason)
            for (first, last, reason), symbols in self._out.items()
        ]


def _cut(scope: Scope, timeframe: Timeframe, needs: Mapping[str, list[date]]) -> list[Piece]:
    """Cut what symbols need into pieces; spans are counted back from the newest session."""
    newest = max((days[-1] for days in needs.values() if days), default=scope.until)
    reach = next(
        (each for each in scope.of(timeframe) if each.counts_calls and each.holds is None), None
    )
    spans: dict[int, dict[str, list[date]]] = {}
    length = span_days(reach.max_window if reach is not None else None)
    for symbol, days in needs.items():
        for day in days:
            number = 0 if timeframe == "1d" else (newest - day).days // length
            spans.setdefault(number, {}).setdefault(symbol, []).append(day)
    return [
        _piece(scope, timeframe, first, last, symbols, by_symbol, reach)
        for _, by_symbol in sorted(spans.items())
        for (first, last), symbols in _ranges(timeframe, by_symbol, scope.symbols_per_run)
    ]


def _ranges(
    timeframe: Timeframe, needs: Mapping[str, list[date]], most: int
) -> list[tuple[tuple[date, date], tuple[str, ...]]]:
    """Group symbols by the range of partitions that they need, newest first."""
    groups: dict[tuple[date, date], list[str]] = {}
    for symbol, days in needs.items():
        first, last = days[0], days[-1]
        if timeframe == "1d":
            first, last = first.replace(day=1), last.replace(day=1)
        groups.setdefault((first, last), []).append(symbol)
    if len(groups) > MOST_RANGES:
        span = min(first for first, _ in groups), max(last for _, last in groups)
        groups = {span: list(needs)}
    return [
        (span, tuple(symbols[at : at + most]))
        for span, symbols in sorted(groups.items(), key=lambda item: item[0][::-1], reverse=True)
        for at in range(0, len(symbols), most)
    ]


def _piece(
    scope: Scope,
    timeframe: Timeframe,
    first: date,
    last: date,
    symbols: tuple[str, ...],
    needs: Mapping[str, list[date]],
    reach: Reach | None,
) -> Piece:
    sessions = sum(len(needs[symbol]) for symbol in symbols)
    if reach is None:
        return Piece(scope.market, timeframe, first, last, symbols, sessions, "", 0)
    end = _next_month(last) if timeframe == "1d" else last + _DAY
    windows = 1 if reach.max_window is None else -((first - end) // reach.max_window)
    calls = windows * -(-len(symbols) // reach.batch_size)
    return Piece(scope.market, timeframe, first, last, symbols, sessions, reach.provider, calls)


def _next_month(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)


def expected_bars(session: Session, timeframe: Timeframe) -> int:
    """Return how many bars of a timeframe a whole session has, the closing auction left out."""
    if timeframe == "1d":
        return 1
    step = TIMEFRAME_MINUTES[timeframe] * 60
    first = int(session.open.timestamp()) // step * step
    return -((first - int(session.close.timestamp())) // step)
