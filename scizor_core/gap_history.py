"""What becomes of a gap over time: opened, tried again, given up, kept, joined with the next.

All instants are UTC, in microseconds since 1970.
"""

from dataclasses import dataclass, replace
from datetime import date

from scizor_core.gaps import (
    ABSENT,
    FEED_DOWN,
    NOT_FETCHED,
    Claim,
    Gap,
    Lane,
    Micros,
    Status,
    from_micros,
    to_micros,
)
from scizor_core.repair import EXPLAINING, attempts_after, given_up, next_attempt


@dataclass(frozen=True, slots=True)
class State:
    """What is to be said of a bar: a claim, and where it comes from.

    Attributes:
        claim: interval and reason; the interval is of no further interest.
        is_found: the collection at hand was told so.
        copied: the finer gap whose state is taken over.
    """

    claim: Claim
    is_found: bool = False
    copied: Gap | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
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


def resolve(state: State, before: Gap | None, stretch: Stretch) -> Gap:
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


def _kept(before: Gap, stretch: Stretch) -> Gap:
    """Return what is left of a gap."""
    if (before.start, before.end) == (stretch.start, stretch.end):
        return before
    return replace(before, start=stretch.start, end=stretch.end)


def _gap(
    claim: Claim,
    before: Gap | None,
    stretch: Stretch,
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
    stretch: Stretch,
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


def counts_as_try(
    before: Gap | None, state: State, lane: Lane, now: Micros, *, is_running: bool
) -> bool:
    """Say whether having asked for bars of an open gap, in vain, counts as a try.

    Args:
        before: the gap they were in, None where they were in none.
        state: what is to be said of them now.
        lane: what the collection is for.
        now: the present.
        is_running: their session trades, or has just closed.
    """
    if before is None or before.next_attempt_at is None:
        return False
    if before.is_inherited and not state.is_found:
        # The try at the finer bars counts; these were not asked for themselves.
        return False
    return lane == "repair" or (lane == "live" and is_running and before.next_attempt_at <= now)


def are_one(first: Gap, second: Gap) -> bool:
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


def join_gaps(first: Gap, second: Gap) -> Gap:
    """Return two gaps that touch as one; it is asked for when the first of them is due."""
    tries = [each for each in (first.last_attempt_at, second.last_attempt_at) if each is not None]
    due = [each for each in (first.next_attempt_at, second.next_attempt_at) if each is not None]
    return replace(
        first,
        end=second.end,
        last_attempt_at=max(tries, default=None),
        next_attempt_at=min(due, default=None),
        detected_at=min(first.detected_at, second.detected_at),
    )
