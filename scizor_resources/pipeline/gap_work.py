"""What an update of the ledger of gaps comes to for one instrument: its gaps and its completeness.

Belongs here: arithmetic on what was read. Not here: reading and writing (`pipeline.gap_ledger`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt

from scizor_core.gap_grid import Grid
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
from scizor_core.instruments import Instrument, WatchlistEntry
from scizor_core.markets import Timeframe
from scizor_core.quality import coverage_ratio, quality_score
from scizor_core.sessions import get_calendar
from scizor_resources.stores.gaps import CompletenessRow, Place

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
class Stored:
    """What PostgreSQL has about the sessions of an update."""

    times: dict[int, _Ints]
    spans: dict[int, tuple[date, date]]
    gaps: dict[int, list[Gap]]
    finer: dict[int, list[Gap]]
    rows: dict[Place, CompletenessRow]
    halts: dict[int, list[Claim]]
    outages: list[tuple[int | None, Claim]]


@dataclass(frozen=True)
class Result:
    """What an update comes to for one instrument."""

    instrument_id: int
    gaps: list[Gap]
    closed: list[ClosedGap]
    rows: list[CompletenessRow]


@dataclass(frozen=True)
class Work:
    """One update: what is the same for all instruments."""

    market: str
    grid: Grid
    entries: Mapping[str, WatchlistEntry]
    findings: Findings
    lane: Lane
    parts: Mapping[Place, ScoreParts] | None

    def explained(self, instrument: Instrument, stored: Stored) -> Result:
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
        return Result(own, gaps, closed, rows)

    def _not_expected(self, instrument: Instrument, stored: Stored) -> list[str]:
        """Return for each session why nothing is expected of a symbol nobody collects, or ""."""
        if instrument.symbol in self.entries:
            return [""] * len(self.grid.dates)
        span = stored.spans.get(instrument.instrument_id)
        return [_outside(span, day) for day in self.grid.dates]

    def _known(self, instrument: Instrument, stored: Stored) -> Known:
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
        stored: Stored,
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
