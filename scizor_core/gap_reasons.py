"""Why each absent bar is absent: intervals that divide the absent bars of a session among reasons.

Pure. For one instrument and timeframe, the grid of expected bars, what is stored of it, and what is
known about the rest (listing, halts, sources that saw every trade, what a collection was told, what
was known before, outages) give the intervals of `quality.gaps`. Each absent bar lies in exactly one
of them. Of several things known about a bar the first of this list counts:

1. the instrument was not listed;
2. trading was halted, or a source that saw every trade saw none;
3. what the collection at hand was told;
4. what is stored from before;
5. the gaps of the finer bars it is made of;
6. an outage of a feed;
7. nothing: not yet fetched.

All instants are UTC, in microseconds since 1970.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Literal

import numpy as np
import numpy.typing as npt

from scizor_core.gap_grid import Grid
from scizor_core.gaps import (
    ABSENT,
    DELISTED,
    FEED_DOWN,
    HALTED,
    LATE_ARRIVAL,
    LISTING,
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
    Status,
    from_micros,
    to_micros,
)
from scizor_core.instruments import Instrument
from scizor_core.markets import TIMEFRAMES
from scizor_core.repair import EXPLAINING, attempts_after, given_up, next_attempt

#: What 5 minute bars, which providers are asked for as well, do not take over from 1 minute bars.
_OF_ONE_TIMEFRAME = frozenset({OUTSIDE_HISTORY, REFUSED})
#: Of a bar that a source has, and that was refused.
_UNUSABLE = "its rows were refused, see quality.quarantine"
_LATE = LATE_ARRIVAL // timedelta(microseconds=1)
_Ints = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Known:
    """What is known about the absent bars of one instrument, beside what is stored of its gaps.

    Attributes:
        halts: when trading was halted.
        quiet: when a source that saw every trade saw none; of the finer timeframes.
        seen: windows in which a source has now seen every trade; reason `NO_TRADES`.
        traded: instants of the trades or bars that those sources had, usable or not.
        findings: what a collection was told.
        finer: gaps of the finer bars that these are made of.
        is_derived: True where nobody is asked for these bars: they are made of the finer ones.
        outages: when a feed did not deliver.
    """

    halts: Sequence[Claim] = ()
    quiet: Sequence[Claim] = ()
    seen: Sequence[Claim] = ()
    traded: _Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    findings: Sequence[Claim] = ()
    finer: Sequence[Gap] = ()
    is_derived: bool = False
    outages: Sequence[Claim] = ()


@dataclass(frozen=True, slots=True)
class _State:
    """What is to be said of a bar: a claim, and where it comes from.

    Attributes:
        claim: interval and reason; the interval is of no further interest.
        is_found: the collection at hand was told so.
        copied: the finer gap whose state is taken over.
    """

    claim: Claim
    is_found: bool = False
    copied: Gap | None = None


_NOTHING = _State(Claim(0, 0, NOT_FETCHED))


def explain(
    grid: Grid,
    present: _Mask,
    instrument: Instrument,
    known: Known,
    stored: Sequence[Gap],
    lane: Lane = "backfill",
    expected: _Mask | None = None,
) -> tuple[list[Gap], list[ClosedGap]]:
    """Divide the absent bars of one instrument among reasons.

    Args:
        grid: the bars to expect.
        present: which of them are stored.
        instrument: whose; its listing excuses sessions.
        known: what is known about the absent ones.
        stored: gaps from before, of the sessions of the grid.
        lane: `repair` counts as another try at every gap that stays open, `live` as one at those
            of a running session that are due.
        expected: which bars of the grid are expected of this instrument, by default all.

    Returns:
        The gaps in order of time, as long as they can be, and what of the stored ones is closed.
    """
    absent = np.flatnonzero(~present if expected is None else ~present & expected)
    if not len(absent) and not stored:
        return [], []
    which, states = _states(grid, present, instrument, known, stored)
    was = np.full(len(grid.starts), -1, dtype=np.int64)
    bounds = np.array([(gap.start, gap.end) for gap in stored], dtype=np.int64).reshape(-1, 2)
    for number, (low, high) in enumerate(np.searchsorted(grid.starts, bounds).tolist()):
        was[low:high] = number
    late = grid.late(present)
    keys = np.stack([which[absent], was[absent], grid.session[absent], late[absent]])
    breaks = (np.diff(absent) != 1) | (np.diff(keys, axis=1) != 0).any(axis=0)
    firsts = np.concatenate([[0], np.flatnonzero(breaks) + 1]) if len(absent) else absent
    lasts = np.append(firsts[1:], len(absent)) - 1 if len(absent) else absent
    running = grid.is_running.tolist()
    gaps: list[Gap] = []
    last_position = -2
    for first, last in zip(absent[firsts].tolist(), absent[lasts].tolist(), strict=True):
        before = stored[was[first]] if was[first] >= 0 else None
        number = int(grid.session[first])
        stretch = _Stretch(
            start=int(grid.starts[first]),
            end=int(grid.ends[last]),
            day=grid.dates[number],
            late_until=int(grid.closes[number]) + _LATE if late[first] else None,
            counts=_counts(
                before, states[which[first]], lane, grid.now, is_running=running[number]
            ),
            now=grid.now,
        )
        gap = _resolve(states[which[first]], before, stretch)
        if gaps and first == last_position + 1 and _same(gaps[-1], gap):
            gaps[-1] = _joined_gaps(gaps[-1], gap)
        else:
            gaps.append(gap)
        last_position = last
    return gaps, _closed(grid, present, was, stored, gaps)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Absent bars in a row of which the same is known, and was known before.

    Attributes:
        start: start of the first.
        end: end of the last.
        day: their session.
        late_until: for the newest bars of a running session: until when they may be late.
        counts: having asked for them again, in vain, counts as a try.
        now: the present.
    """

    start: Micros
    end: Micros
    day: date
    late_until: Micros | None
    counts: bool
    now: Micros


def _states(
    grid: Grid, present: _Mask, instrument: Instrument, known: Known, stored: Sequence[Gap]
) -> tuple[_Ints, list[_State]]:
    """Return for each bar the number of what is to be said of it, and the list of those."""
    which = np.zeros(len(grid.starts), dtype=np.int64)
    states = [_NOTHING]

    def say(state: _State, bars: "slice | _Mask") -> None:
        states.append(state)
        which[bars] = len(states) - 1

    for claim in known.outages:
        say(_State(claim), grid.overlapping(claim.start, claim.end))
    _inherit(grid, known, which, states)
    for gap in stored:
        # What is worked out anew each time, and what says nothing, gives way to what is known now.
        is_kept = gap.reason in (FEED_DOWN, REFUSED, ABSENT, OUTSIDE_HISTORY)
        if is_kept and gap.source != LISTING and not gap.is_inherited:
            claim = Claim(gap.start, gap.end, gap.reason, gap.detail, gap.source)
            say(_State(claim), grid.starting(gap.start, gap.end))
    seen, traded = _seen(grid, known)
    if known.seen and (seen & traded & ~present).any():
        claim = Claim(0, 0, ABSENT, _UNUSABLE, known.seen[0].source)
        say(_State(claim, is_found=True), seen & traded & ~present)
    if not known.is_derived:
        for claim in known.findings:
            say(_State(claim, is_found=True), grid.starting(claim.start, claim.end))
    _say_quiet(grid, present, known, stored, which, states)
    for number, day in enumerate(grid.dates):
        absence = instrument.absence_on(day, day)
        if absence is not None:
            left = instrument.delisted_on is not None and day > instrument.delisted_on
            reason = DELISTED if left else OUTSIDE_HISTORY
            say(_State(Claim(0, 0, reason, absence, LISTING)), grid.session == number)
    return which, states


def _inherit(grid: Grid, known: Known, which: _Ints, states: list[_State]) -> None:
    """Let bars take over the state of the finer gaps they hold, the most promising one's."""
    own = frozenset() if known.is_derived else _OF_ONE_TIMEFRAME
    chosen = [
        gap
        for gap in known.finer
        if gap.reason not in (NO_TRADES, HALTED, DELISTED, *own) and gap.source != LISTING
    ]
    order = {reason: place for place, reason in enumerate((*OPEN_REASONS, OUTSIDE_HISTORY))}
    finer = TIMEFRAMES[max(TIMEFRAMES.index(grid.timeframe) - 1, 0)]
    for gap in sorted(chosen, key=lambda each: (-order[each.reason], -each.start)):
        claim = Claim(gap.start, gap.end, gap.reason, gap.detail, finer)
        states.append(_State(claim, copied=gap))
        which[grid.overlapping(gap.start, gap.end)] = len(states) - 1


def _say_quiet(
    grid: Grid,
    present: _Mask,
    known: Known,
    stored: Sequence[Gap],
    which: _Ints,
    states: list[_State],
) -> None:
    """Say of bars that nothing was to trade in them, or that nothing did.

    A bar is explained by halts and quiet times together, where they leave nothing of it out.
    """
    seen, traded = _seen(grid, known)
    before = [
        Claim(gap.start, gap.end, gap.reason, gap.detail, gap.source)
        for gap in stored
        if gap.reason == NO_TRADES
    ]
    quiet = np.zeros(len(grid.starts), dtype=np.bool_)
    for low, high in _union([*before, *known.quiet, *known.halts]):
        quiet[grid.inside(low, high)] = True
    halted = np.zeros(len(grid.starts), dtype=np.bool_)
    for low, high in _union(known.halts):
        halted[grid.inside(low, high)] = True
    # Who has now seen every trade knows better than who had before.
    quiet = ((quiet & ~seen) | (seen & ~traded) | halted) & ~present
    for claim in (*known.quiet, *before, *known.seen, *known.halts):
        bars = grid.overlapping(claim.start, claim.end)
        hit = quiet[bars]
        if hit.any():
            states.append(_State(claim))
            which[bars] = np.where(hit, len(states) - 1, which[bars])


def _seen(grid: Grid, known: Known) -> tuple[_Mask, _Mask]:
    """Return the bars of which a source has seen every trade, and those in which it saw one."""
    seen = np.zeros(len(grid.starts), dtype=np.bool_)
    for claim in known.seen:
        seen[grid.starting(claim.start, claim.end)] = True
    traded = np.zeros(len(grid.starts), dtype=np.bool_)
    if len(grid.starts) and len(known.traded):
        at = np.clip(np.searchsorted(grid.starts, known.traded, side="right") - 1, 0, None)
        inside = (grid.starts[at] <= known.traded) & (known.traded < grid.ends[at])
        traded[at[inside]] = True
    return seen, traded


def _resolve(state: _State, before: Gap | None, stretch: _Stretch) -> Gap:
    """Return the gap of bars of one state that were in one gap, or none, before."""
    claim, now = state.claim, stretch.now
    if stretch.late_until is not None and claim.reason in (NOT_FETCHED, ABSENT):
        late = Claim(0, 0, NOT_FETCHED)
        return _gap(late, before, stretch, "open", next_attempt_at=stretch.late_until)
    if state.copied is not None:
        finer = state.copied
        return _gap(
            claim,
            before,
            stretch,
            finer.status,
            finer.attempts,
            finer.last_attempt_at,
            finer.next_attempt_at,
        )
    if claim.reason in EXPLAINING:
        return _gap(claim, before, stretch, "explained")
    if before is None or before.status == "explained":
        return _opened(claim, before, stretch, 0, None)
    same = before.reason == claim.reason
    if before.status == "given up":
        learned = state.is_found and not same and claim.reason != FEED_DOWN
        return _opened(claim, before, stretch, 0, None) if learned else _kept(before, stretch)
    attempts = attempts_after(before.reason, claim.reason, before.attempts)
    if stretch.counts:
        said = claim if state.is_found else replace(claim, detail=before.detail)
        return _opened(said, before, stretch, attempts, now)
    if same and not before.is_inherited:
        return _kept(before, stretch)
    return _opened(claim, before, stretch, attempts - 1, before.last_attempt_at)


def _kept(before: Gap, stretch: _Stretch) -> Gap:
    """Return what is left of a gap."""
    if (before.start, before.end) == (stretch.start, stretch.end):
        return before
    return replace(before, start=stretch.start, end=stretch.end)


def _gap(
    claim: Claim,
    before: Gap | None,
    stretch: _Stretch,
    status: Status,
    attempts: int = 0,
    last_attempt_at: Micros | None = None,
    next_attempt_at: Micros | None = None,
) -> Gap:
    same = before is not None and before.reason == claim.reason
    return Gap(
        session_date=stretch.day,
        start=stretch.start,
        end=stretch.end,
        reason=claim.reason,
        source=claim.source,
        detail=claim.detail,
        status=status,
        attempts=attempts,
        last_attempt_at=last_attempt_at,
        next_attempt_at=next_attempt_at,
        detected_at=before.detected_at if before is not None and same else stretch.now,
    )


def _opened(
    claim: Claim,
    before: Gap | None,
    stretch: _Stretch,
    attempts: int,
    last_attempt_at: Micros | None,
) -> Gap:
    """Return a gap with the time of its next attempt, or given up."""
    at = from_micros(stretch.now)
    following = next_attempt(claim.reason, attempts, at)
    if following is None:
        claim = replace(claim, detail=given_up(attempts, at, claim.detail))
        return _gap(claim, before, stretch, "given up", attempts, last_attempt_at)
    due = to_micros(following)
    return _gap(claim, before, stretch, "open", attempts, last_attempt_at, due)


def _counts(
    before: Gap | None, state: _State, lane: Lane, now: Micros, *, is_running: bool
) -> bool:
    if before is None or before.next_attempt_at is None:
        return False
    if before.is_inherited and not state.is_found:
        # The try at the finer bars counts; these were not asked for themselves.
        return False
    return lane == "repair" or (lane == "live" and is_running and before.next_attempt_at <= now)


def _same(first: Gap, second: Gap) -> bool:
    """Say whether two gaps that touch are one."""
    if first.session_date != second.session_date or first.reason != second.reason:
        return False
    if first.status == "explained":
        return (first.source, first.detail, second.status) == (
            second.source,
            second.detail,
            first.status,
        )
    return (first.status, first.attempts, first.is_inherited) == (
        second.status,
        second.attempts,
        second.is_inherited,
    )


def _joined_gaps(first: Gap, second: Gap) -> Gap:
    tries = [each for each in (first.last_attempt_at, second.last_attempt_at) if each is not None]
    due = [each for each in (first.next_attempt_at, second.next_attempt_at) if each is not None]
    return replace(
        first,
        end=second.end,
        last_attempt_at=max(tries, default=None),
        next_attempt_at=min(due, default=None),
        detected_at=min(first.detected_at, second.detected_at),
    )


def _closed(
    grid: Grid, present: _Mask, was: _Ints, stored: Sequence[Gap], gaps: Sequence[Gap]
) -> list[ClosedGap]:
    """Return what of the stored gaps somebody asked for has come, or is explained now."""
    worth = np.array(
        [
            gap.status != "explained" and (gap.attempts > 0 or gap.reason != NOT_FETCHED)
            for gap in stored
        ],
        dtype=np.bool_,
    )
    if not worth.any():
        return []
    asked = (was >= 0) & worth[was]
    explained = np.zeros(len(grid.starts), dtype=np.bool_)
    for gap in gaps:
        if gap.status == "explained":
            explained[grid.starting(gap.start, gap.end)] = True
    closed: list[ClosedGap] = []
    outcomes: tuple[tuple[Literal["repaired", "explained"], _Mask], ...] = (
        ("repaired", asked & present),
        ("explained", asked & explained),
    )
    for outcome, mask in outcomes:
        bars = np.flatnonzero(mask)
        if not len(bars):
            continue
        breaks = np.flatnonzero((np.diff(bars) != 1) | (np.diff(was[bars]) != 0)) + 1
        for run in np.split(bars, breaks):
            gap = stored[was[run[0]]]
            closed.append(
                ClosedGap(gap, int(grid.starts[run[0]]), int(grid.ends[run[-1]]), outcome)
            )
    return sorted(closed, key=lambda each: each.start)


def _union(claims: Sequence[Claim]) -> list[tuple[Micros, Micros]]:
    """Return the intervals in order, those that touch or overlap as one."""
    joined: list[tuple[Micros, Micros]] = []
    for start, end in sorted((claim.start, claim.end) for claim in claims):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined
