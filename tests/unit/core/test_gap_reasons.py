"""Why absent bars are absent: precedence by hand, and the laws that hold for any facts.

The session is New York's of 4 January 2022: 14:30 to 21:00 UTC, 390 minutes. Minutes are counted
from the open.
"""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scizor_core.gap_grid import Grid, build_grid
from scizor_core.gap_reasons import Known, explain
from scizor_core.gaps import (
    ABSENT,
    DELISTED,
    FEED_DOWN,
    HALTED,
    NO_TRADES,
    NOT_FETCHED,
    OUTSIDE_HISTORY,
    REASONS,
    REFUSED,
    Claim,
    Gap,
    from_micros,
    to_micros,
)
from scizor_core.instruments import Instrument
from scizor_core.markets import Timeframe
from scizor_core.sessions import get_calendar

DAY = date(2022, 1, 4)
OPEN = datetime(2022, 1, 4, 14, 30, tzinfo=UTC)
LONG_AFTER = datetime(2022, 2, 1, tzinfo=UTC)
ACME = Instrument(1, "us", "ACME")


def instant(minute: float) -> int:
    return to_micros(OPEN + timedelta(minutes=minute))


def grid(
    timeframe: Timeframe = "1m", now: datetime = LONG_AFTER, days: tuple[date, ...] = (DAY,)
) -> Grid:
    return build_grid(get_calendar("us"), days, timeframe, now)


def having(bars: Grid, *spans: tuple[int, int]) -> np.ndarray:
    """Return which bars start in one of the spans of minutes."""
    present = np.zeros(len(bars.starts), dtype=np.bool_)
    for first, last in spans:
        present |= (bars.starts >= instant(first)) & (bars.starts < instant(last))
    return present


def claim(first: float, last: float, reason: str, **more: str) -> Claim:
    return Claim(instant(first), instant(last), reason, **more)


def shown(gaps: list[Gap]) -> list[tuple[float, float, str]]:
    """Return start and end in minutes, and reason."""
    return [
        ((gap.start - instant(0)) / 60e6, (gap.end - instant(0)) / 60e6, gap.reason) for gap in gaps
    ]


def told(first: float, last: float, reason: str) -> Known:
    return Known(findings=[claim(first, last, reason)])


def test_what_nobody_has_asked_for_is_not_yet_fetched_and_open() -> None:
    bars = grid()
    gaps, closed = explain(bars, having(bars, (0, 100)), ACME, Known(), [])
    assert shown(gaps) == [(100, 390, NOT_FETCHED)]
    assert (gaps[0].status, gaps[0].attempts, closed) == ("open", 0, [])
    # The first try of what was not fetched comes five minutes later.
    assert gaps[0].next_attempt_at == to_micros(LONG_AFTER + timedelta(minutes=5))


def test_a_complete_session_has_no_gaps() -> None:
    bars = grid()
    assert explain(bars, having(bars, (0, 390)), ACME, Known(), []) == ([], [])


def test_each_reason_gives_way_to_the_one_before_it() -> None:
    bars = grid()
    known = Known(
        halts=[claim(10, 20, HALTED)],
        quiet=[claim(15, 30, NO_TRADES)],
        findings=[claim(15, 40, REFUSED)],
        outages=[claim(0, 60, FEED_DOWN)],
    )
    stored = explain(bars, having(bars, (60, 390)), ACME, told(35, 50, ABSENT), [])[0]
    gaps, _ = explain(bars, having(bars, (60, 390)), ACME, known, stored)
    assert shown(gaps) == [
        (0, 10, FEED_DOWN),
        (10, 20, HALTED),
        (20, 30, NO_TRADES),
        (30, 40, REFUSED),
        (40, 50, ABSENT),
        (50, 60, FEED_DOWN),
    ]


@pytest.mark.parametrize(
    ("instrument", "reason", "words"),
    [
        (replace(ACME, delisted_on=date(2022, 1, 3)), DELISTED, "delisted: last traded on 2022"),
        (replace(ACME, listed_from=date(2022, 1, 5)), OUTSIDE_HISTORY, "not yet listed: first"),
    ],
    ids=["left", "not there yet"],
)
def test_a_day_on_which_it_was_not_listed_is_explained(
    instrument: Instrument, reason: str, words: str
) -> None:
    bars = grid()
    gaps, _ = explain(bars, having(bars), instrument, told(0, 390, FEED_DOWN), [])
    assert shown(gaps) == [(0, 390, reason)]
    assert gaps[0].status == "explained"
    assert gaps[0].detail.startswith(words)


def test_a_bar_is_explained_by_a_halt_and_quiet_minutes_together() -> None:
    bars = grid("5m")
    known = Known(halts=[claim(2, 11, HALTED)], quiet=[claim(0, 2, NO_TRADES)])
    gaps, _ = explain(bars, having(bars, (15, 390)), ACME, known, [])
    # The third bar was tradable for four of its minutes.
    assert shown(gaps) == [(0, 10, HALTED), (10, 15, NOT_FETCHED)]


def test_a_daily_bar_is_halted_only_when_the_whole_session_was() -> None:
    bars = grid("1d")
    for last, reason in ((389, NOT_FETCHED), (390, HALTED)):
        known = Known(halts=[claim(0, last, HALTED)])
        gaps, _ = explain(bars, having(bars), ACME, known, [])
        assert [gap.reason for gap in gaps] == [reason]


def test_a_source_that_sees_every_trade_takes_back_what_another_called_quiet() -> None:
    bars = grid()
    quiet = Known(seen=[claim(0, 390, NO_TRADES)])
    stored, _ = explain(bars, having(bars, (30, 390)), ACME, quiet, [])
    assert shown(stored) == [(0, 30, NO_TRADES)]
    now = Known(seen=[claim(0, 20, NO_TRADES)], traded=np.array([instant(10.5)], dtype=np.int64))
    gaps, _ = explain(bars, having(bars, (30, 390)), ACME, now, stored)
    assert shown(gaps) == [(0, 10, NO_TRADES), (10, 11, ABSENT), (11, 30, NO_TRADES)]


def test_derived_bars_say_what_the_bars_they_are_made_of_say() -> None:
    minutes = grid()
    finer, _ = explain(minutes, having(minutes, (40, 390)), ACME, told(0, 40, OUTSIDE_HISTORY), [])
    bars = grid("15m")
    known = Known(finer=finer, is_derived=True)
    gaps, _ = explain(bars, having(bars, (45, 390)), ACME, known, [])
    assert shown(gaps) == [(0, 45, OUTSIDE_HISTORY)]
    assert gaps[0].source == "5m"


def test_what_one_provider_keeps_no_longer_may_still_be_had_in_a_coarser_timeframe() -> None:
    minutes = grid()
    finer, _ = explain(minutes, having(minutes), ACME, told(0, 390, OUTSIDE_HISTORY), [])
    bars = grid("5m")
    gaps, _ = explain(bars, having(bars), ACME, Known(finer=finer), [])
    assert shown(gaps) == [(0, 390, NOT_FETCHED)]


# ---- a running session


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (ABSENT, [(10, 20, ABSENT), (50, 60, NOT_FETCHED)]),
        (FEED_DOWN, [(10, 20, FEED_DOWN), (50, 60, FEED_DOWN)]),
    ],
    ids=["late", "down"],
)
def test_the_newest_minutes_of_a_running_session_are_late_unless_an_error_was_told(
    reason: str, expected: list[tuple[int, int, str]]
) -> None:
    bars = grid(now=OPEN + timedelta(minutes=60, seconds=30))
    present = having(bars, (0, 10), (20, 50))
    gaps, _ = explain(bars, present, ACME, told(0, 390, reason), [])
    assert shown(gaps) == expected


def test_late_minutes_are_not_asked_for_before_the_session_is_over() -> None:
    bars = grid(now=OPEN + timedelta(minutes=60))
    gaps, _ = explain(bars, having(bars, (0, 50)), ACME, told(0, 60, ABSENT), [])
    assert gaps[0].next_attempt_at == instant(390 + 40)


def test_minutes_older_than_any_provider_is_late_are_judged_although_the_session_runs() -> None:
    bars = grid(now=OPEN + timedelta(minutes=120))
    gaps, _ = explain(bars, having(bars, (0, 50)), ACME, told(0, 120, ABSENT), [])
    assert shown(gaps) == [(50, 80, ABSENT), (80, 120, NOT_FETCHED)]


# ---- attempts


def later(minutes: float) -> Grid:
    return grid(now=LONG_AFTER + timedelta(minutes=minutes))


def test_a_repair_that_leaves_a_gap_counts_until_it_is_given_up() -> None:
    bars = grid()
    present = having(bars, (60, 390))
    gaps, _ = explain(bars, present, ACME, told(0, 60, ABSENT), [])
    found = [(gaps[0].attempts, gaps[0].status)]
    for tries in range(1, 4):
        at = later(60 * 24 * tries)
        gaps, _ = explain(at, present, ACME, told(0, 60, ABSENT), gaps, "repair")
        found.append((gaps[0].attempts, gaps[0].status))
    # 15 minutes, 2 hours, 24 hours: the third try was the last.
    assert found == [(0, "open"), (1, "open"), (2, "open"), (3, "given up")]
    assert gaps[0].detail.startswith("asked 3 times until 2022-02-04 00:00 UTC")
    assert gaps[0].next_attempt_at is None


def test_a_backfill_does_not_count() -> None:
    bars = grid()
    gaps, _ = explain(bars, having(bars), ACME, told(0, 390, ABSENT), [])
    again, _ = explain(later(600), having(bars), ACME, told(0, 390, ABSENT), gaps, "backfill")
    assert again == gaps


def test_the_live_lane_counts_for_what_is_due_in_a_running_session() -> None:
    begin = OPEN + timedelta(minutes=200)
    present = having(grid(now=begin), (60, 200))
    first, _ = explain(grid(now=begin), present, ACME, told(0, 60, ABSENT), [], "live")
    attempts = []
    for minutes in (1, 14, 15, 16):
        bars = grid(now=begin + timedelta(minutes=minutes))
        there = having(bars, (60, 200 + minutes))
        first, _ = explain(bars, there, ACME, told(0, 60, ABSENT), first, "live")
        attempts.append(first[0].attempts)
    assert attempts == [0, 0, 1, 1]


def test_what_is_left_of_a_gap_keeps_its_attempts() -> None:
    bars = grid()
    gaps, _ = explain(bars, having(bars), ACME, told(0, 390, FEED_DOWN), [])
    gaps, _ = explain(later(2), having(bars), ACME, told(0, 390, FEED_DOWN), gaps, "repair")
    rest, closed = explain(later(3), having(bars, (100, 200)), ACME, Known(), gaps)
    assert shown(rest) == [(0, 100, FEED_DOWN), (200, 390, FEED_DOWN)]
    assert {gap.attempts for gap in rest} == {1}
    assert [(each.outcome, each.start, each.end) for each in closed] == [
        ("repaired", instant(100), instant(200))
    ]


def test_a_gap_that_is_explained_leaves_a_record_of_what_it_was() -> None:
    bars = grid()
    gaps, _ = explain(bars, having(bars), ACME, told(0, 390, FEED_DOWN), [])
    known = Known(halts=[claim(0, 390, HALTED)])
    now, closed = explain(bars, having(bars), ACME, known, gaps)
    assert shown(now) == [(0, 390, HALTED)]
    assert [(each.outcome, each.gap.reason) for each in closed] == [("explained", FEED_DOWN)]


def test_what_was_merely_not_yet_fetched_leaves_no_record() -> None:
    bars = grid()
    gaps, _ = explain(bars, having(bars), ACME, Known(), [])
    assert explain(bars, having(bars, (0, 390)), ACME, Known(), gaps) == ([], [])


@pytest.mark.parametrize(
    ("reason", "status"), [(FEED_DOWN, "given up"), (REFUSED, "open")], ids=["down", "refused"]
)
def test_what_was_given_up_is_taken_up_again_only_when_something_else_is_learned(
    reason: str, status: str
) -> None:
    bars = grid()
    gaps, _ = explain(bars, having(bars), ACME, told(0, 390, ABSENT), [])
    for tries in range(3):
        gaps, _ = explain(later(tries), having(bars), ACME, told(0, 390, ABSENT), gaps, "repair")
    assert gaps[0].status == "given up"
    gaps, _ = explain(later(99), having(bars), ACME, told(0, 390, reason), gaps)
    assert gaps[0].status == status


# ---- laws

spans = st.tuples(st.integers(0, 389), st.integers(1, 120)).map(
    lambda pair: (pair[0], min(pair[0] + pair[1], 390))
)


def claims(*reasons: str) -> st.SearchStrategy[list[Claim]]:
    return st.lists(
        st.tuples(spans, st.sampled_from(reasons)).map(lambda drawn: claim(*drawn[0], drawn[1])),
        max_size=4,
    )


facts = st.builds(
    Known,
    halts=claims(HALTED),
    quiet=claims(NO_TRADES),
    findings=claims(ABSENT, FEED_DOWN, REFUSED, OUTSIDE_HISTORY),
    outages=claims(FEED_DOWN),
)
held = st.lists(spans, max_size=6)
timeframes = st.sampled_from(["1m", "5m", "15m"])


@settings(max_examples=60)
@given(timeframe=timeframes, present=held, known=facts)
def test_intervals_hold_every_absent_bar_once_and_no_other(
    timeframe: Timeframe, present: list[tuple[int, int]], known: Known
) -> None:
    bars = grid(timeframe)
    there = having(bars, *present)
    gaps, _ = explain(bars, there, ACME, known, [])
    inside = [
        [gap.start <= start and end <= gap.end for gap in gaps]
        for start, end in zip(bars.starts.tolist(), bars.ends.tolist(), strict=True)
    ]
    assert [sum(row) for row in inside] == [int(not each) for each in there]
    assert all(gap.reason in REASONS for gap in gaps)
    assert all((gap.status == "open") == (gap.next_attempt_at is not None) for gap in gaps)


@settings(max_examples=40)
@given(present=held, known=facts)
def test_intervals_are_as_long_as_they_can_be(present: list[tuple[int, int]], known: Known) -> None:
    bars = grid()
    gaps, _ = explain(bars, having(bars, *present), ACME, known, [])
    touching = [
        (first, second)
        for first, second in zip(gaps, gaps[1:], strict=False)
        if first.end == second.start
    ]
    assert all(first.reason != second.reason for first, second in touching)


@settings(max_examples=40)
@given(timeframe=timeframes, present=held, known=facts)
def test_a_second_look_changes_nothing(
    timeframe: Timeframe, present: list[tuple[int, int]], known: Known
) -> None:
    there = having(grid(timeframe), *present)
    gaps, _ = explain(grid(timeframe), there, ACME, known, [])
    for now in (known, replace(known, findings=())):
        at = grid(timeframe, LONG_AFTER + timedelta(hours=7))
        assert explain(at, there, ACME, now, gaps) == (gaps, [])


@settings(max_examples=60)
@given(present=held, known=facts, data=st.data())
def test_the_order_in_which_facts_become_known_does_not_matter(
    present: list[tuple[int, int]], known: Known, data: st.DataObject
) -> None:
    bars = grid()
    steps = ["bars", "halts", "quiet", "findings", "outages"]
    at_once, _ = explain(bars, having(bars, *present), ACME, known, [])
    stored: list[Gap] = []
    seen: dict[str, object] = {}
    there = having(bars)
    for step in data.draw(st.permutations(steps)):
        if step == "bars":
            there = having(bars, *present)
        elif step != "findings":
            seen[step] = getattr(known, step)
        # What a collection is told is told once; tables are read each time.
        told_now = {"findings": known.findings} if step == "findings" else {}
        stored, _ = explain(bars, there, ACME, Known(**seen, **told_now), stored)  # type: ignore[arg-type]
    assert shown(stored) == shown(at_once)


def test_instants_come_back_as_they_went() -> None:
    at = datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC)
    assert from_micros(to_micros(at)) == at
