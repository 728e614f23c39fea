"""Which months are due, and on-balance volume put together from pieces."""

from datetime import UTC, date, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scizor_core.archive import (
    chain_segments,
    due_on,
    is_due,
    month_bounds,
    months_within,
    next_month,
    parse_month,
    volume_segment,
)
from scizor_core.errors import InvalidInputError


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_month_ends_where_the_next_one_begins() -> None:
    assert month_bounds(date(2023, 12, 1)) == (at("2023-12-01"), at("2024-01-01"))
    assert next_month(date(2024, 1, 1)) == date(2024, 2, 1)


@pytest.mark.parametrize(
    ("now", "due"),
    [("2026-03-03T00:00", False), ("2026-03-03T00:01", True), ("2024-02-15", False)],
    ids=["730 days after its end", "a minute later", "while it runs"],
)
def test_a_month_is_due_when_it_ended_more_than_so_many_days_ago(now: str, due: bool) -> None:
    # 2024-03-01 plus 730 days: two years without a leap day.
    assert due_on(date(2024, 2, 1), 732) == at("2026-03-03")
    assert is_due(date(2024, 2, 1), at(now), 732) is due


def test_the_running_month_is_never_due() -> None:
    assert not is_due(date(2026, 11, 1), at("2026-11-30T23:59"), 1)


def test_a_window_touches_the_months_in_which_it_has_an_instant() -> None:
    found = months_within(at("2024-10-31T23:00"), at("2024-12-01"))
    assert found == [date(2024, 10, 1), date(2024, 11, 1)]


@pytest.mark.parametrize("text", ["2022-13", "May 2022", "2022", "2022-5"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="2022-05"):
        parse_month(text)


@pytest.mark.parametrize("text", ["2022-05", "2022-05-01", " 2022-05-31 "])
def test_a_month_may_be_written_with_a_day(text: str) -> None:
    assert parse_month(text) == date(2022, 5, 1)


def obv(close: list[float], volume: list[float]) -> float:
    """On-balance volume, bar by bar; an equal close counts as a rise."""
    total = volume[0]
    for before, now, traded in zip(close, close[1:], volume[1:], strict=False):
        total += -traded if now < before else traded
    return total


_BARS = st.lists(
    st.tuples(st.integers(1, 5).map(float), st.integers(0, 100).map(float)), min_size=1, max_size=40
)


@given(_BARS, st.sets(st.integers(1, 39)))
def test_segments_chained_are_the_on_balance_volume_of_all_bars(
    bars: list[tuple[float, float]], cuts: set[int]
) -> None:
    close, volume = np.array([each[0] for each in bars]), np.array([each[1] for each in bars])
    edges = [0, *sorted(cut for cut in cuts if cut < len(bars)), len(bars)]
    segments = [
        volume_segment(close[start:end], volume[start:end])
        for start, end in zip(edges, edges[1:], strict=False)
    ]
    assert chain_segments(segments) == (obv(close.tolist(), volume.tolist()), close[-1])


def test_no_segment_is_no_volume() -> None:
    assert chain_segments([]) is None
