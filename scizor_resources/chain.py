"""Ask a market's providers in order until every expected bar is there, explained or given up.

The first provider is asked for everything. What its answer leaves open, and only that, is asked of
the next: symbols it does not have, sessions without bars, and stretches inside a session that are
too long to be quiet minutes or that it broke off in. Bars of several providers are put side by
side, each with its source; two answers for the same bar are never averaged.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from scizor_core.markets import TIMEFRAME_MINUTES
from scizor_core.reconcile import DISAGREEMENT_COLUMNS, find_disagreements
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
from scizor_resources.providers.gate import Counts, Gate
from scizor_resources.verdicts import Finding, Reach, Verdicts

#: Expected bars that are absent for at least this long, in a row, are a hole that the next provider
#: is asked for. Shorter ones are what minutes without a trade look like.
HOLE_MINUTES = 15
#: A symbol with more holes than this is asked for once, from the first to the last of them.
MOST_HOLES = 6

_DAY = timedelta(days=1)
_Mask = npt.NDArray[np.bool_]


@dataclass
class ProviderCalls:
    """What one provider was asked and gave, for the accounts.

    Attributes:
        requests: calls on the wire, retries included.
        retries: those that were not the first try.
        records: bars received.
        error: why it failed, None where it did not.
    """

    requests: int = 0
    retries: int = 0
    records: int = 0
    error: str | None = None

    def __add__(self, other: "ProviderCalls") -> "ProviderCalls":
        return ProviderCalls(
            self.requests + other.requests,
            self.retries + other.retries,
            self.records + other.records,
            other.error or self.error,
        )


@dataclass
class ChainAnswer:
    """What a chain of providers answered together.

    Attributes:
        batch: bars, refused rows, coverage, calls and latency of all providers asked. Its
            `empty_reasons` hold each symbol that no provider has, with every provider's reason.
        failures: provider -> sentence, for each that failed as a whole.
        last_error: the last of those errors.
        calls: provider -> what it was asked and gave, in the order asked.
        incomplete: symbol -> the error in which its bars break off, where nobody had the rest.
        findings: why expected bars that nobody had are absent.
        seen: (symbol, start, end, provider) windows in which a provider has seen every trade.
        disagreements: bars of which a later provider has other values than the one that was
            kept, columns `DISAGREEMENT_COLUMNS`.
    """

    batch: BarBatch
    failures: dict[str, str] = field(default_factory=dict)
    last_error: ProviderError | None = None
    calls: dict[str, ProviderCalls] = field(default_factory=dict)
    incomplete: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    seen: list[tuple[str, datetime, datetime, str]] = field(default_factory=list)
    disagreements: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=list(DISAGREEMENT_COLUMNS))
    )

    @property
    def asked(self) -> list[str]:
        """The providers that were asked, in order."""
        return list(self.calls)


def fetch_through(sources: list[BarSource], request: BarRequest, *, now: datetime) -> ChainAnswer:
    """Send `request` to the first source, what it leaves open to the next, and so on.

    A source that does not serve the market or timeframe is passed over. A provider that fails as
    a whole is noted and the next one is asked; nothing is taken for empty because of an error.

    Args:
        sources: the providers in order.
        request: what is wanted.
        now: the present, UTC; bars whose interval has not ended are not missed.
    """
    answer = ChainAnswer(BarBatch(bars=empty_bars(), rejected=empty_rejected()))
    holes = _Holes(request, now)
    for source in sources:
        can = source.capabilities
        if request.market not in can.markets or request.timeframe not in can.timeframes:
            holes.note(source.name, f"does not serve {request.market} {request.timeframe}")
            continue
        for part in holes.requests(whole_sessions=can.whole_sessions_only):
            _ask(source, part, holes, answer)
    answer.batch.empty_reasons = holes.reasons_without_bars()
    answer.findings = holes.verdicts.findings()
    answer.incomplete = {
        symbol: answer.batch.errors[symbol] for symbol in holes.broken_off(answer.batch.errors)
    }
    return answer


def _ask(source: BarSource, part: BarRequest, holes: "_Holes", answer: ChainAnswer) -> None:
    calls = answer.calls.setdefault(source.name, ProviderCalls())
    gate: Gate | None = getattr(source, "gate", None)
    before = replace(gate.counts) if gate is not None else Counts()
    try:
        batch = source.fetch_bars(part)
    except ProviderError as error:
        answer.failures[source.name] = calls.error = str(error)
        answer.last_error = error
        if gate is not None:
            calls.requests += gate.counts.requests - before.requests
            calls.retries += gate.counts.retries - before.retries
        holes.note(source.name, str(error), part.symbols)
        holes.refused(source.name, part, error)
        return
    calls.requests += batch.requests
    calls.retries += batch.retries
    calls.records += len(batch.bars)
    calls.error = next(iter(batch.errors.values()), calls.error)
    kept, others = holes.take(source, part, batch)
    answer.seen += [(*window, source.name) for window in kept.covered]
    found = find_disagreements(answer.batch.bars, others, part.timeframe)
    if not found.empty:
        answer.disagreements = pd.concat(
            [each for each in (answer.disagreements, found) if not each.empty], ignore_index=True
        )
    _add_up(answer.batch, kept)


class _Holes:
    """Which expected bars of which symbols are still open, and why."""

    def __init__(self, request: BarRequest, now: datetime) -> None:
        self._request, self._now = request, now
        self._step = timedelta(minutes=TIMEFRAME_MINUTES[request.timeframe])
        self._calendar = get_calendar(request.market)
        self._sessions = self._sessions_of(request)
        self._expected, self._session_of = self._expectation(now)
        nothing_had = np.ones(len(self._expected), dtype=np.bool_)
        self._open: dict[str, _Mask] = {ref.symbol: nothing_had for ref in request.symbols}
        #: Symbols that no provider has yet been asked for: they are asked for the whole window.
        self._fresh = {ref.symbol for ref in request.symbols}
        self._reasons: dict[str, list[str]] = {ref.symbol: [] for ref in request.symbols}
        self._with_bars: set[str] = set()
        self.verdicts = Verdicts(
            request.timeframe, self._expected, self._expected + np.timedelta64(self._step)
        )

    def _sessions_of(self, request: BarRequest) -> list[Session]:
        around = self._calendar.sessions(
            (request.start - _DAY).date(), (request.end + 2 * _DAY).date()
        )
        bounds = ((each, self._bounds(each)) for each in around)
        return [
            each for each, (first, last) in bounds if first < request.end and last > request.start
        ]

    def _bounds(self, session: Session) -> tuple[datetime, datetime]:
        """Return from when to when a session may have bars, the closing auction included."""
        if self._request.timeframe == "1d":
            midnight = datetime.combine(session.session_date, time(), UTC)
            return midnight, midnight + _DAY
        auction = timedelta(minutes=self._calendar.market.closing_auction_minutes)
        return session.open, session.close + auction

    def _expectation(
        self, now: datetime
    ) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.int64]]:
        """Return the expected bar starts of the window, and the session that each belongs to."""
        starts, numbers = [], []
        for number, session in enumerate(self._sessions):
            expected = self._calendar.expected(session.session_date, self._request.timeframe)
            start, end = pd.Timestamp(self._request.start), pd.Timestamp(self._request.end)
            inside = (expected >= start) & (expected < end)
            # A day's bar is worth asking for while it forms; a minute that has not ended is not.
            if self._request.timeframe == "1d":
                inside &= session.open <= now
            else:
                inside &= expected + self._step <= pd.Timestamp(now)
            mine = expected[inside].tz_localize(None).to_numpy(dtype="datetime64[us]")
            starts.append(mine)
            numbers.append(np.full(len(mine), number, dtype=np.int64))
        if not starts:
            return np.array([], dtype="datetime64[us]"), np.array([], dtype=np.int64)
        return np.concatenate(starts), np.concatenate(numbers)

    # ---- what to ask next

    def requests(self, *, whole_sessions: bool = False) -> list[BarRequest]:
        """Return what to ask next; symbols with the same hole are asked for together.

        Args:
            whole_sessions: leave sessions alone of which some bar is there already.
        """
        groups: dict[tuple[datetime, datetime], list[SymbolRef]] = {}
        for ref in self._request.symbols:
            for span in self._spans_to_ask(ref.symbol, whole_sessions=whole_sessions):
                groups.setdefault(span, []).append(ref)
        return [
            replace(self._request, start=start, end=end, symbols=tuple(refs))
            for (start, end), refs in groups.items()
        ]

    def _spans_to_ask(
        self, symbol: str, *, whole_sessions: bool
    ) -> list[tuple[datetime, datetime]]:
        if symbol in self._fresh:
            return [(self._request.start, self._request.end)] if self._sessions else []
        mask = self._open[symbol]
        if whole_sessions:
            mask = mask & ~np.isin(self._session_of, self._session_of[~mask])
        if len(mask) and mask.all():
            return [(self._request.start, self._request.end)]
        spans = self._spans(mask)
        return [(spans[0][0], spans[-1][1])] if len(spans) > MOST_HOLES else spans

    def _spans(self, mask: _Mask) -> list[tuple[datetime, datetime]]:
        """Return the stretches of open bars; sessions that follow each other are one stretch."""
        return [
            (self._instant(self._expected[first]), self._end_of(last))
            for first, last in _runs(mask)
        ]

    def _instant(self, value: np.datetime64) -> datetime:
        found: datetime = value.astype("datetime64[us]").astype(object).replace(tzinfo=UTC)
        return found

    def _end_of(self, position: int) -> datetime:
        """Return where a stretch ends whose last bar is at `position`."""
        end = self._instant(self._expected[position]) + self._step
        is_last = (
            position + 1 == len(self._expected)
            or self._session_of[position + 1] != self._session_of[position]
        )
        if is_last and self._request.timeframe != "1d":
            session = self._sessions[self._session_of[position]]
            if end >= session.close:
                end = self._bounds(session)[1]
        return min(end, self._request.end)

    # ---- what an answer fills

    def refused(self, source: str, part: BarRequest, error: ProviderError) -> None:
        """Note that a source as a whole gave nothing for a part of the request."""
        asked = self._asked(part)
        for ref in part.symbols:
            bars = asked & self._open[ref.symbol]
            self.verdicts.failed(ref.symbol, bars, source, error, str(error))

    def _asked(self, part: BarRequest) -> _Mask:
        return (self._expected >= _naive(part.start)) & (self._expected < _naive(part.end))

    def take(
        self, source: BarSource, part: BarRequest, batch: BarBatch
    ) -> tuple[BarBatch, pd.DataFrame]:
        """Return what of an answer fills holes, and its other bars; close what is filled."""
        kept = np.zeros(len(batch.bars), dtype=np.bool_)
        times = batch.bars["ts"].dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
        symbols = batch.bars["symbol"].to_numpy()
        covered = []
        for ref in part.symbols:
            mine = symbols == ref.symbol
            if ref.symbol in self._fresh:
                kept |= mine
                windows = [(part.start, part.end)]
            else:
                windows = self._spans(self._open[ref.symbol])
                for start, end in windows:
                    kept |= mine & (times >= _naive(start)) & (times < _naive(end))
            seen = [
                (max(start, first), min(end, last))
                for symbol, start, end in batch.covered
                if symbol == ref.symbol
                for first, last in windows
            ]
            seen = [(start, end) for start, end in seen if start < end]
            covered += [(ref.symbol, start, end) for start, end in seen]
            answered = np.array([], dtype="datetime64[us]")
            if ref.symbol not in batch.errors:
                answered = times[mine & (times >= _naive(part.start)) & (times < _naive(part.end))]
            lacking = self._close(ref.symbol, part, times[mine & kept], answered, seen)
            if lacking.any():
                self._judge(ref.symbol, lacking, source, batch, times[mine])
            if (mine & kept).any():
                self._with_bars.add(ref.symbol)
            why = batch.errors.get(ref.symbol) or batch.empty_reasons.get(ref.symbol)
            if why or not mine.any():
                self.note(source.name, why or "has no bars", (ref,))
        self._fresh -= {ref.symbol for ref in part.symbols}
        return replace(batch, bars=batch.bars[kept], covered=covered), batch.bars[~kept]

    def _close(
        self,
        symbol: str,
        part: BarRequest,
        filled: npt.NDArray[np.datetime64],
        answered: npt.NDArray[np.datetime64],
        seen: list[tuple[datetime, datetime]],
    ) -> _Mask:
        """Close what an answer has filled, seen to be quiet, or makes look quiet.

        A few absent minutes are quiet ones only between bars of the same answer: in a session of
        which it has none, and where it broke off, they are open however few they are. What lies
        outside the part that was asked for is not judged.

        Args:
            symbol: the symbol.
            part: what was asked.
            filled: times of the bars that were kept.
            answered: times of all its bars; empty where it broke off.
            seen: windows in which it has seen every trade.

        Returns:
            The bars asked for that it neither had nor saw to be quiet.
        """
        still = self._open[symbol] & ~np.isin(self._expected, filled)
        for start, end in seen:
            still &= (self._expected < _naive(start)) | (self._expected >= _naive(end))
        asked = self._asked(part)
        lacking: _Mask = still & asked
        if self._request.timeframe != "1d":
            with_bars = np.unique(self._session_of[np.isin(self._expected, answered)])
            for first, last in _runs(lacking & np.isin(self._session_of, with_bars)):
                if (last - first + 1) * self._step < timedelta(minutes=HOLE_MINUTES):
                    still[first : last + 1] = False
        self._open[symbol] = still
        return lacking

    def _judge(
        self,
        symbol: str,
        lacking: _Mask,
        source: BarSource,
        batch: BarBatch,
        answered: npt.NDArray[np.datetime64],
    ) -> None:
        """Note why a source that has answered does not have some of the bars."""
        can, said = source.capabilities, batch.errors.get(symbol)
        if said is not None:
            self.verdicts.failed(symbol, lacking, source.name, batch.causes.get(symbol), said)
            return
        if can.own_files:
            # A file is the truth about the sessions it has bars of.
            there = np.unique(self._session_of[np.isin(self._expected, answered)])
            lacking = lacking & np.isin(self._session_of, there)
        span = can.max_age.get(self._request.timeframe)
        reach = None if span is None else Reach(span, _naive(self._now - span))
        self.verdicts.lacks(symbol, lacking, source.name, reach, own_files=can.own_files)

    def broken_off(self, symbols: Iterable[str]) -> list[str]:
        """Return those of the symbols that have bars and yet a hole."""
        return [each for each in symbols if each in self._with_bars and self._open[each].any()]

    def note(self, source: str, why: str, refs: Iterable[SymbolRef] | None = None) -> None:
        """Keep why a source has nothing for those symbols, by default for all with a hole."""
        for ref in self._request.symbols if refs is None else refs:
            if self._open[ref.symbol].any() or not len(self._expected):
                self._reasons[ref.symbol].append(f"{source}: {why}")

    def reasons_without_bars(self) -> dict[str, str]:
        """Return symbol -> why, for each symbol without any bar."""
        return {
            symbol: "; ".join(reasons) or "no provider is configured"
            for symbol, reasons in self._reasons.items()
            if symbol not in self._with_bars
        }


def _runs(mask: _Mask) -> list[tuple[int, int]]:
    """Return first and last position of each stretch of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [
        (int(first), int(after) - 1) for first, after in zip(edges[::2], edges[1::2], strict=True)
    ]


def _naive(at: datetime) -> np.datetime64:
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")


def _add_up(total: BarBatch, part: BarBatch) -> None:
    if not part.bars.empty:
        total.bars = pd.concat([each for each in (total.bars, part.bars) if not each.empty])
    if not part.rejected.empty:
        total.rejected = pd.concat([each for each in (total.rejected, part.rejected) if len(each)])
    total.errors.update(part.errors)
    total.causes.update(part.causes)
    total.covered.extend(part.covered)
    for reason, count in part.ignored.items():
        total.ignored[reason] = total.ignored.get(reason, 0) + count
    total.requests += part.requests
    total.retries += part.retries
    total.latency_seconds += part.latency_seconds
