"""Ask a market's providers in order until each session of a symbol has an answer or a reason."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta

import pandas as pd

from scizor_core.sessions import Session, get_calendar
from scizor_resources.errors import ProviderError
from scizor_resources.providers.base import (
    BarBatch,
    BarRequest,
    BarSource,
    SymbolRef,
    empty_bars,
    empty_rejected,
)

_DAY = timedelta(days=1)


@dataclass
class ChainAnswer:
    """What a chain of providers answered together.

    Attributes:
        batch: bars, refused rows, coverage, calls and latency of all providers asked. Its
            `empty_reasons` hold each symbol that no provider has, with every provider's reason.
        failures: provider -> sentence, for each that failed as a whole.
        last_error: the last of those errors.
        asked: providers that were asked, in order.
    """

    batch: BarBatch
    failures: dict[str, str] = field(default_factory=dict)
    last_error: ProviderError | None = None
    asked: list[str] = field(default_factory=list)


def fetch_through(sources: list[BarSource], request: BarRequest) -> ChainAnswer:
    """Send `request` to the first source, the sessions it leaves open to the next, and so on.

    The first source with bars of a symbol's session has that session; another one is not mixed
    in. A source that does not serve the market or timeframe is passed over. A provider that fails
    as a whole is noted and the next one is asked; nothing is taken for empty because of an error.
    """
    answer = ChainAnswer(BarBatch(bars=empty_bars(), rejected=empty_rejected()))
    holes = _Holes(request)
    for source in sources:
        can = source.capabilities
        if request.market not in can.markets or request.timeframe not in can.timeframes:
            holes.note(source.name, f"does not serve {request.market} {request.timeframe}")
            continue
        for part in holes.requests():
            if source.name not in answer.asked:
                answer.asked.append(source.name)
            try:
                batch = source.fetch_bars(part)
            except ProviderError as error:
                answer.failures[source.name] = str(error)
                answer.last_error = error
                holes.note(source.name, str(error), part.symbols)
                continue
            _add_up(answer.batch, holes.take(source.name, part, batch))
    answer.batch.empty_reasons = holes.reasons_without_bars()
    return answer


class _Holes:
    """Which sessions of which symbols have no bars yet, and why."""

    def __init__(self, request: BarRequest) -> None:
        self._request = request
        self._calendar = get_calendar(request.market)
        self._sessions = {each.session_date: each for each in self._sessions_of(request)}
        every = frozenset(self._sessions)
        self._open: dict[str, frozenset[date]] = {ref.symbol: every for ref in request.symbols}
        self._reasons: dict[str, list[str]] = {ref.symbol: [] for ref in request.symbols}
        self._with_bars: set[str] = set()

    def _sessions_of(self, request: BarRequest) -> list[Session]:
        if request.timeframe == "1d":
            return self._calendar.sessions(request.start.date(), request.end.date())
        around = self._calendar.sessions(
            (request.start - _DAY).date(), (request.end + 2 * _DAY).date()
        )
        return [each for each in around if self._overlap(each) is not None]

    def _overlap(self, session: Session) -> tuple[datetime, datetime] | None:
        """Return the part of the request's window that is the session, None where it is not."""
        first, last = _bounds(session, self._request, self._calendar.market.closing_auction_minutes)
        first, last = max(first, self._request.start), min(last, self._request.end)
        return (first, last) if first < last else None

    def requests(self) -> list[BarRequest]:
        """Return what to ask next: symbols with the same stretch of open sessions together."""
        groups: dict[tuple[date, date], list[SymbolRef]] = {}
        for ref in self._request.symbols:
            days = self._open[ref.symbol]
            if days:
                groups.setdefault((min(days), max(days)), []).append(ref)
        whole = (min(self._sessions), max(self._sessions)) if self._sessions else None
        return [
            replace(self._request, symbols=tuple(refs))
            if stretch == whole
            else self._narrowed(stretch, refs)
            for stretch, refs in groups.items()
        ]

    def _narrowed(self, stretch: tuple[date, date], refs: list[SymbolRef]) -> BarRequest:
        first = self._overlap(self._sessions[stretch[0]])
        last = self._overlap(self._sessions[stretch[1]])
        if first is None or last is None:
            raise AssertionError("only sessions inside the window are open")
        return replace(self._request, start=first[0], end=last[1], symbols=tuple(refs))

    def take(self, source: str, part: BarRequest, batch: BarBatch) -> BarBatch:
        """Return what of an answer fills holes, and close them."""
        days = self._days(batch.bars)
        kept = [
            pd.isna(day) or day in self._open.get(symbol, ())
            for symbol, day in zip(batch.bars["symbol"], days, strict=True)
        ]
        covered = [window for entry in batch.covered for window in self._still_open(*entry)]
        found: dict[str, set[date]] = {}
        for symbol, day in zip(batch.bars["symbol"], days, strict=True):
            found.setdefault(symbol, set()).add(day)
        for ref in part.symbols:
            self._open[ref.symbol] -= found.get(ref.symbol, set())
            if ref.symbol in found:
                self._with_bars.add(ref.symbol)
            else:
                why = batch.errors.get(ref.symbol) or batch.empty_reasons.get(ref.symbol)
                self.note(source, why or "has no bars", (ref,))
        return replace(batch, bars=batch.bars[kept], covered=covered)

    def _days(self, bars: pd.DataFrame) -> list[date]:
        if self._request.timeframe == "1d":
            return list(bars["ts"].dt.date)
        return list(self._calendar.place(bars["ts"]).dt.date)

    def _still_open(
        self, symbol: str, start: datetime, end: datetime
    ) -> Iterator[tuple[str, datetime, datetime]]:
        """Cut a covered window down to the sessions that were asked for."""
        days = self._open.get(symbol, frozenset())
        if len(days) == len(self._sessions):
            yield symbol, start, end
            return
        for day in sorted(days):
            seen = self._overlap(self._sessions[day])
            if seen is not None and max(start, seen[0]) < min(end, seen[1]):
                yield symbol, max(start, seen[0]), min(end, seen[1])

    def note(self, source: str, why: str, refs: Iterable[SymbolRef] | None = None) -> None:
        """Keep why a source has nothing for those symbols, by default for all with a hole."""
        for ref in self._request.symbols if refs is None else refs:
            if self._open[ref.symbol] or not self._sessions:
                self._reasons[ref.symbol].append(f"{source}: {why}")

    def reasons_without_bars(self) -> dict[str, str]:
        """Return symbol -> why, for each symbol without any bar."""
        return {
            symbol: "; ".join(reasons) or "no provider is configured"
            for symbol, reasons in self._reasons.items()
            if symbol not in self._with_bars
        }


def _bounds(
    session: Session, request: BarRequest, auction_minutes: int
) -> tuple[datetime, datetime]:
    if request.timeframe == "1d":
        midnight = datetime.combine(session.session_date, time(), UTC)
        return midnight, midnight + _DAY
    return session.open, session.close + timedelta(minutes=auction_minutes)


def _add_up(total: BarBatch, part: BarBatch) -> None:
    if not part.bars.empty:
        total.bars = pd.concat([total.bars, part.bars])
    if not part.rejected.empty:
        total.rejected = pd.concat([total.rejected, part.rejected])
    total.errors.update(part.errors)
    total.covered.extend(part.covered)
    total.requests += part.requests
    total.latency_seconds += part.latency_seconds
