"""The ledger of gaps: after each write, why every absent bar of a session is absent.

One transaction per update: what is stored of the sessions is read (keys only), compared with the
calendar, explained by `scizor_core.gap_reasons`, and what differs is written. An update that finds
nothing new writes nothing. A complete session has no gaps and costs one comparison.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt

from scizor_core.bars import FINER
from scizor_core.gap_grid import Grid, build_grid
from scizor_core.gap_reasons import Known, explain
from scizor_core.gaps import (
    ABSENT,
    DELISTED,
    FEED_DOWN,
    HALTED,
    NO_TRADES,
    NOT_FETCHED,
    OPEN_REASONS,
    OUTSIDE_HISTORY,
    REFUSED,
    Claim,
    ClosedGap,
    Gap,
    Lane,
    Micros,
    to_micros,
)
from scizor_core.instruments import Instrument, WatchlistEntry, in_turn
from scizor_core.markets import Timeframe
from scizor_core.quality import coverage_ratio, quality_score
from scizor_core.sessions import get_calendar
from scizor_resources.stores.gaps import CompletenessRow, GapStore, Place
from scizor_resources.stores.reference import ReferenceStore
from scizor_resources.stores.warehouse import Warehouse

_DAY = timedelta(days=1)
_Mask = npt.NDArray[np.bool_]
_Ints = npt.NDArray[np.int64]


@dataclass
class Findings:
    """What a collection was told about bars it did not get, by instrument.

    Attributes:
        claims: intervals with a reason of `scizor_core.gaps`; a bar that is there all the same is
            no gap.
        seen: windows in which a source has seen every trade.
        traded: instants of the trades and bars it had, usable or not.
    """

    claims: dict[int, list[Claim]] = field(default_factory=dict)
    seen: dict[int, list[Claim]] = field(default_factory=dict)
    traded: dict[int, list[_Ints]] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreParts:
    """What is known of a session beside its completeness.

    Attributes:
        outliers: stored bars that a rule doubts.
        quarantined: refused rows.
        validity, agreement, timeliness: parts of the score, 0 to 1.
    """

    outliers: int = 0
    quarantined: int = 0
    validity: float = 1.0
    agreement: float = 1.0
    timeliness: float = 1.0


@dataclass
class LedgerUpdate:
    """What an update of the ledger came to.

    Attributes:
        rows: completeness of every instrument and session looked at.
        changed: of those, rows that are new or differ from what was stored.
        gaps_written: gaps that are new or differ.
        gaps_removed: gaps that are none any more, or part of another one.
        repaired: parts of gaps somebody had asked for whose bars have come.
        explained: parts of such gaps that have a reason now which needs no bars.
        open_gaps: gaps that will be asked for again.
        given_up: gaps that are not asked for any more.
    """

    rows: list[CompletenessRow] = field(default_factory=list)
    changed: int = 0
    gaps_written: int = 0
    gaps_removed: int = 0
    repaired: int = 0
    explained: int = 0
    open_gaps: int = 0
    given_up: int = 0

    def __add__(self, other: "LedgerUpdate") -> "LedgerUpdate":
        return LedgerUpdate(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(self))
        )


@dataclass
class _Stored:
    """What PostgreSQL has about the sessions of an update."""

    times: dict[int, _Ints]
    spans: dict[int, tuple[date, date]]
    gaps: dict[int, list[Gap]]
    finer: dict[int, list[Gap]]
    rows: dict[Place, CompletenessRow]
    halts: dict[int, list[Claim]]
    outages: list[tuple[int | None, Claim]]


class GapLedger:
    """Keeps `quality.gaps`, `quality.closed_gaps` and `quality.completeness`.

    Args:
        warehouse: bars and the ledger.
        reference: symbols and watchlist.
        now: clock, aware; bars whose interval has not ended are not expected yet.
    """

    def __init__(
        self, warehouse: Warehouse, reference: ReferenceStore, now: Callable[[], datetime]
    ) -> None:
        self._warehouse, self._reference, self._now = warehouse, reference, now

    def update(
        self,
        market: str,
        timeframe: Timeframe,
        sessions: Sequence[date],
        instrument_ids: Sequence[int],
        *,
        findings: Findings | None = None,
        lane: Lane = "backfill",
    ) -> LedgerUpdate:
        """Bring the ledger of some instruments and sessions up to date after a write.

        Args:
            market: name of the market.
            timeframe: length of the bars.
            sessions: session dates that were asked for or written.
            instrument_ids: the instruments concerned.
            findings: what was learned about absent bars.
            lane: `repair` counts as a try at each gap that stays open; `live` as one at those of
                a running session that are due.

        Raises:
            WarehouseError: PostgreSQL refused.
        """
        found = self._reference.by_id(instrument_ids)
        codes = sorted({each.symbol for each in found})
        wanted = set(instrument_ids)
        instruments = [
            each
            for each in in_turn(self._reference.instruments(market, codes))
            if each.instrument_id in wanted
        ]
        return self.record(market, timeframe, sessions, instruments, findings=findings, lane=lane)

    def record(
        self,
        market: str,
        timeframe: Timeframe,
        sessions: Sequence[date],
        instruments: Sequence[Instrument],
        *,
        findings: Findings | None = None,
        lane: Lane = "backfill",
        parts: Mapping[Place, ScoreParts] | None = None,
    ) -> LedgerUpdate:
        """Bring the ledger up to date; as `update`, for instruments whose listing is known.

        Args:
            market: name of the market.
            timeframe: length of the bars.
            sessions: session dates.
            instruments: the instruments, with the days on which they were listed.
            findings: what was learned about absent bars.
            lane: as in `update`.
            parts: (instrument_id, session date) -> the other parts of the score, measured anew;
                without it they stay as they are stored.

        Raises:
            WarehouseError: PostgreSQL refused.
        """
        grid = build_grid(get_calendar(market), sessions, timeframe, self._now())
        update = LedgerUpdate()
        if not grid.dates or not instruments:
            return update
        entries = {
            each.symbol: each
            for each in self._reference.watchlist(market, active_only=True)
            if collects(each, timeframe)
        }
        work = _Work(market, grid, entries, findings or Findings(), lane, parts)
        with self._warehouse.transaction() as connection:
            store = GapStore(connection)
            store.take_turns(market, timeframe, grid.dates)
            stored = self._read(store, market, grid, instruments, entries)
            results = [work.explained(each, stored) for each in instruments]
            self._write(store, timeframe, results, stored, update, grid.now)
        return update

    def _read(
        self,
        store: GapStore,
        market: str,
        grid: Grid,
        instruments: Sequence[Instrument],
        entries: Mapping[str, WatchlistEntry],
    ) -> _Stored:
        ids = [each.instrument_id for each in instruments]
        unwatched = [each.instrument_id for each in instruments if each.symbol not in entries]
        start, end = int(grid.opens[0]), int(grid.closes[-1])
        finer = FINER.get(grid.timeframe)
        return _Stored(
            # After the turn was taken: what another writer had stored before is seen.
            times=self._warehouse.bar_times(grid.timeframe, *_window(market, grid), ids),
            spans=(
                self._warehouse.sessions_with_bars(grid.timeframe, unwatched) if unwatched else {}
            ),
            gaps=store.gaps(grid.timeframe, grid.dates, ids),
            finer=store.gaps(finer, grid.dates, ids) if finer is not None else {},
            rows=store.completeness(grid.timeframe, grid.dates, ids),
            halts=store.halts(ids, start, end),
            outages=store.outages(market, start, end),
        )

    def _write(
        self,
        store: GapStore,
        timeframe: Timeframe,
        results: "Sequence[_Result]",
        stored: _Stored,
        update: LedgerUpdate,
        now: Micros,
    ) -> None:
        gone: list[tuple[int, Gap]] = []
        changed: list[tuple[int, Gap]] = []
        closed: list[tuple[int, ClosedGap]] = []
        for result in results:
            before = {gap.start: gap for gap in stored.gaps.get(result.instrument_id, [])}
            starts = {gap.start for gap in result.gaps}
            gone += [(result.instrument_id, gap) for at, gap in before.items() if at not in starts]
            changed += [
                (result.instrument_id, gap) for gap in result.gaps if before.get(gap.start) != gap
            ]
            closed += [(result.instrument_id, each) for each in result.closed]
            update.rows += result.rows
            states = Counter(gap.status for gap in result.gaps)
            update.open_gaps += states["open"]
            update.given_up += states["given up"]
        rows = [
            row
            for row in update.rows
            if stored.rows.get((row.instrument_id, row.session_date)) != row
        ]
        store.delete(timeframe, gone)
        store.write(timeframe, changed)
        store.close(timeframe, closed, now)
        store.write_completeness(rows)
        update.changed, update.gaps_written, update.gaps_removed = (
            len(rows),
            len(changed),
            len(gone),
        )
        outcomes = Counter(each.outcome for _, each in closed)
        update.repaired, update.explained = outcomes["repaired"], outcomes["explained"]


@dataclass(frozen=True)
class _Result:
    """What an update comes to for one instrument."""

    instrument_id: int
    gaps: list[Gap]
    closed: list[ClosedGap]
    rows: list[CompletenessRow]


@dataclass(frozen=True)
class _Work:
    """One update: what is the same for all instruments."""

    market: str
    grid: Grid
    entries: Mapping[str, WatchlistEntry]
    findings: Findings
    lane: Lane
    parts: Mapping[Place, ScoreParts] | None

    def explained(self, instrument: Instrument, stored: _Stored) -> _Result:
        """Return gaps and completeness of an instrument."""
        own = instrument.instrument_id
        times = stored.times.get(own, _NO_TIMES)
        positions = self.grid.positions(times)
        present = np.zeros(len(self.grid.starts), dtype=np.bool_)
        present[positions[positions >= 0]] = True
        excuses = self._not_expected(instrument, stored)
        expected: _Mask | None = None
        if any(excuses):
            wanted = np.array([not excuse for excuse in excuses], dtype=np.bool_)
            expected = wanted[self.grid.session]
        gaps, closed = explain(
            self.grid,
            present,
            instrument,
            self._known(instrument, stored),
            stored.gaps.get(own, []),
            self.lane,
            expected,
        )
        unexpected = self._sessions_off_grid(times[positions < 0])
        counts = self._counts(present, expected, unexpected)
        rows = self._rows(instrument, gaps, excuses, counts, stored)
        return _Result(own, gaps, closed, rows)

    def _not_expected(self, instrument: Instrument, stored: _Stored) -> list[str]:
        """Return for each session why nothing is expected of a symbol nobody collects, or ""."""
        if instrument.symbol in self.entries:
            return [""] * len(self.grid.dates)
        span = stored.spans.get(instrument.instrument_id)
        return [_outside(span, day) for day in self.grid.dates]

    def _known(self, instrument: Instrument, stored: _Stored) -> Known:
        own = instrument.instrument_id
        finer = stored.finer.get(own, [])
        entry = self.entries.get(instrument.symbol)
        made_of_minutes = (
            self.grid.timeframe == "5m" and entry is not None and not entry.collect_5min
        )
        traded = self.findings.traded.get(own)
        return Known(
            halts=stored.halts.get(own, ()),
            quiet=[
                Claim(gap.start, gap.end, gap.reason, gap.detail, gap.source)
                for gap in finer
                if gap.reason == NO_TRADES
            ],
            seen=self.findings.seen.get(own, ()),
            traded=np.concatenate(traded) if traded else _NO_TIMES,
            findings=self.findings.claims.get(own, ()),
            finer=finer,
            is_derived=self.grid.timeframe == "15m" or made_of_minutes,
            outages=[claim for whose, claim in stored.outages if whose in (None, own)],
        )

    def _sessions_off_grid(self, times: _Ints) -> _Ints:
        """Return the session of each bar that is not on the grid, such as a closing auction's."""
        if not len(times):
            return times
        starts, ends = self.grid.opens, self.grid.closes + _auction(self.market)
        if self.grid.timeframe == "1d":
            days = [datetime.combine(day, time(), UTC) for day in self.grid.dates]
            starts = np.array([to_micros(day) for day in days], dtype=np.int64)
            ends = starts + 1
        found = np.searchsorted(starts, times, side="right") - 1
        inside = (found >= 0) & (times < ends[np.clip(found, 0, None)])
        return found[inside]

    def _counts(
        self, present: _Mask, expected: _Mask | None, unexpected: _Ints
    ) -> tuple[list[int], list[int], list[int]]:
        size, session = len(self.grid.dates), self.grid.session
        wanted = session if expected is None else session[expected]
        there = present if expected is None else present & expected
        surplus = np.bincount(unexpected, minlength=size)
        if expected is not None:
            surplus = surplus + np.bincount(session[present & ~expected], minlength=size)
        return (
            np.bincount(wanted, minlength=size).tolist(),
            np.bincount(session[there], minlength=size).tolist(),
            surplus.tolist(),
        )

    def _rows(
        self,
        instrument: Instrument,
        gaps: Sequence[Gap],
        excuses: Sequence[str],
        counts: tuple[list[int], list[int], list[int]],
        stored: _Stored,
    ) -> list[CompletenessRow]:
        own = instrument.instrument_id
        if not len(stored.times.get(own, _NO_TIMES)) and instrument.symbol not in self.entries:
            # Nobody wants it and there is nothing of it: only what was said before is corrected.
            known = [(own, day) in stored.rows for day in self.grid.dates]
        else:
            known = [True] * len(self.grid.dates)
        by_day: dict[date, Counter[str]] = {}
        for gap in gaps:
            reasons = by_day.setdefault(gap.session_date, Counter())
            reasons[gap.reason] += (gap.end - gap.start) // self.grid.step
        expected, present, unexpected = counts
        return [
            self._row(
                instrument,
                day,
                by_day.get(day, Counter()),
                (expected[number], present[number], unexpected[number]),
                excuses[number],
                stored.rows.get((own, day)),
            )
            for number, day in enumerate(self.grid.dates)
            if known[number]
        ]

    def _row(
        self,
        instrument: Instrument,
        day: date,
        reasons: Counter[str],
        counts: tuple[int, int, int],
        excuse: str,
        before: CompletenessRow | None,
    ) -> CompletenessRow:
        expected, present, unexpected = counts
        excused = reasons[HALTED] + reasons[OUTSIDE_HISTORY] + reasons[DELISTED]
        coverage = coverage_ratio(
            expected=expected, present=present, quiet=reasons[NO_TRADES], excused=excused
        )
        parts = self._parts(instrument.instrument_id, day, before)
        return CompletenessRow(
            instrument_id=instrument.instrument_id,
            timeframe=self.grid.timeframe,
            session_date=day,
            expected=expected,
            present=present,
            quiet=reasons[NO_TRADES],
            feed_down=reasons[FEED_DOWN],
            not_fetched=reasons[NOT_FETCHED],
            refused=reasons[REFUSED],
            absent=reasons[ABSENT],
            halted=reasons[HALTED],
            outside_history=reasons[OUTSIDE_HISTORY],
            delisted=reasons[DELISTED],
            missing=sum(reasons[each] for each in OPEN_REASONS),
            unexpected=unexpected,
            outliers=parts.outliers,
            quarantined=parts.quarantined,
            coverage=round(coverage, 6),
            validity=parts.validity,
            agreement=parts.agreement,
            timeliness=parts.timeliness,
            score=quality_score(coverage, parts.validity, parts.agreement, parts.timeliness),
            reason=excuse or instrument.absence_on(day, day) or _reason(reasons, expected),
        )

    def _parts(self, own: int, day: date, before: CompletenessRow | None) -> ScoreParts:
        if self.parts is not None:
            return self.parts.get((own, day), ScoreParts())
        if before is None:
            return ScoreParts()
        return ScoreParts(
            before.outliers,
            before.quarantined,
            before.validity,
            before.agreement,
            before.timeliness,
        )


_NO_TIMES = np.empty(0, dtype=np.int64)


def collects(entry: WatchlistEntry, timeframe: Timeframe) -> bool:
    """Say whether bars of that timeframe are collected, or made, of an entry of the watchlist."""
    if timeframe == "1d":
        return True
    if timeframe == "1m":
        return entry.collect_1min
    return entry.collect_5min or entry.collect_1min


def _window(market: str, grid: Grid) -> tuple[datetime, datetime]:
    first, last = grid.dates[0], grid.dates[-1]
    if grid.timeframe == "1d":
        return datetime.combine(first, time(), UTC), datetime.combine(last, time(), UTC) + _DAY
    window = get_calendar(market).window(first, last + _DAY)
    if window is None:
        raise AssertionError("the grid has sessions")
    return window


def _auction(market: str) -> Micros:
    minutes = get_calendar(market).market.closing_auction_minutes
    return timedelta(minutes=minutes) // timedelta(microseconds=1)


def _outside(span: tuple[date, date] | None, session_date: date) -> str:
    """Return why nothing is expected of an imported symbol on a day, "" inside its span."""
    if span is None:
        return "not on the watchlist"
    if session_date < span[0]:
        return f"not on the watchlist; imported from {span[0]} on"
    if session_date > span[1]:
        return f"not on the watchlist; imported until {span[1]}"
    return ""


def _reason(reasons: Counter[str], expected: int) -> str:
    """Return the reason of most missing bars; of an excused session what excuses it."""
    missing = {each: reasons[each] for each in OPEN_REASONS if reasons[each]}
    if missing:
        return max(missing, key=lambda each: missing[each])
    excuses = (HALTED, OUTSIDE_HISTORY, DELISTED)
    if expected and sum(reasons[each] for each in excuses) == expected:
        return max(excuses, key=lambda each: reasons[each])
    return "complete"
