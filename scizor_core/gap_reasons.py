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
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import numpy as np
import numpy.typing as npt

from scizor_core.gap_grid import Grid
from scizor_core.gap_history import (
    State,
    Stretch,
    are_one,
    counts_as_try,
    join_gaps,
    resolve,
)
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
)
from scizor_core.instruments import Instrument
from scizor_core.markets import TIMEFRAMES

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


_NOTHING = State(Claim(0, 0, NOT_FETCHED))


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
        stretch = Stretch(
            start=int(grid.starts[first]),
            end=int(grid.ends[last]),
            day=grid.dates[number],
            late_until=int(grid.closes[number]) + _LATE if late[first] else None,
            counts=counts_as_try(
                before, states[which[first]], lane, grid.now, is_running=running[number]
            ),
            now=grid.now,
        )
        gap = resolve(states[which[first]], before, stretch)
        if gaps and first == last_position + 1 and are_one(gaps[-1], gap):
            gaps[-1] = join_gaps(gaps[-1], gap)
        else:
            gaps.append(gap)
        last_position = last
    return gaps, _closed(grid, present, was, stored, gaps)


def _states(
    grid: Grid, present: _Mask, instrument: Instrument, known: Known, stored: Sequence[Gap]
) -> tuple[_Ints, list[State]]:
    """Return for each bar the number of what is to be said of it, and the list of those."""
    which = np.zeros(len(grid.starts), dtype=np.int64)
    states = [_NOTHING]

    def say(state: State, bars: "slice | _Mask") -> None:
        states.append(state)
        which[bars] = len(states) - 1

    for claim in known.outages:
        say(State(claim), grid.overlapping(claim.start, claim.end))
    _inherit(grid, known, which, states)
    for gap in stored:
        # What is worked out anew each time, and what says nothing, gives way to what is known now.
        is_kept = gap.reason in (FEED_DOWN, REFUSED, ABSENT, OUTSIDE_HISTORY)
        if is_kept and gap.source != LISTING and not gap.is_inherited:
            claim = Claim(gap.start, gap.end, gap.reason, gap.detail, gap.source)
            say(State(claim), grid.starting(gap.start, gap.end))
    seen, traded = _seen(grid, known)
    if known.seen and (seen & traded & ~present).any():
        claim = Claim(0, 0, ABSENT, _UNUSABLE, known.seen[0].source)
        say(State(claim, is_found=True), seen & traded & ~present)
    if not known.is_derived:
        for claim in known.findings:
            say(State(claim, is_found=True), grid.starting(claim.start, claim.end))
    _say_quiet(grid, present, known, stored, which, states)
    for number, day in enumerate(grid.dates):
        absence = instrument.absence_on(day, day)
        if absence is not None:
            left = instrument.delisted_on is not None and day > instrument.delisted_on
            reason = DELISTED if left else OUTSIDE_HISTORY
            say(State(Claim(0, 0, reason, absence, LISTING)), grid.session == number)
    return which, states


def _inherit(grid: Grid, known: Known, which: _Ints, states: list[State]) -> None:
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
        states.append(State(claim, copied=gap))
        which[grid.overlapping(gap.start, gap.end)] = len(states) - 1


def _say_quiet(
    grid: Grid,
    present: _Mask,
    known: Known,
    stored: Sequence[Gap],
    which: _Ints,
    states: list[State],
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
            states.append(State(claim))
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
