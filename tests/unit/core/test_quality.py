"""Outliers, coverage and score, against figures worked out by hand, and the laws of coverage."""

from datetime import UTC, date, datetime

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scizor_core.quality import (
    Coverage,
    absent_runs,
    expected_by,
    find_outliers,
    measure_coverage,
    quality_score,
)
from scizor_core.sessions import get_calendar

OPEN = pd.Timestamp("2022-01-04 14:30", tz="UTC")
MINUTE = pd.Timedelta(minutes=1)
GRID = pd.date_range(OPEN, periods=60, freq="min").as_unit("us")


def series(
    closes: list[float], volumes: list[float] | None = None, instrument_id: int = 1
) -> pd.DataFrame:
    close = pd.Series(closes, dtype="float64")
    return pd.DataFrame(
        {
            "instrument_id": instrument_id,
            "ts": pd.date_range(OPEN, periods=len(closes), freq="min").as_unit("us"),
            "high": close * 1.001,
            "low": close * 0.999,
            "close": close,
            "volume": [100.0] * len(closes) if volumes is None else volumes,
        }
    )


def found(bars: pd.DataFrame, first_ts: pd.Timestamp | None = None) -> list[tuple[int, str, float]]:
    rows = find_outliers(bars, first_ts)
    return [
        (int((row.ts - OPEN) / MINUTE), row.rule, round(row.value, 6))
        for row in rows.itertuples(index=False)
    ]


@pytest.mark.parametrize(
    ("close", "expected"),
    [(110.0, []), (111.0, [(1, "price_change", 0.11)]), (89.0, [(1, "price_change", -0.11)])],
    ids=["ten per cent is allowed", "a jump", "a drop"],
)
def test_a_price_that_moves_over_ten_per_cent_is_found(close: float, expected: list) -> None:
    assert found(series([100, close])) == expected


def test_a_spread_over_five_per_cent_is_found() -> None:
    bars = series([100, 100]).assign(high=[102.0, 104.0], low=[98.0, 98.0])
    assert found(bars) == [(1, "spread", 0.06)]


@pytest.mark.parametrize(
    ("volume", "expected"),
    [(500.0, []), (510.0, [(20, "volume_ratio", 5.1)])],
    ids=["five times is allowed", "more is not"],
)
def test_volume_is_compared_with_the_twenty_bars_before(volume: float, expected: list) -> None:
    assert found(series([100] * 21, [100.0] * 20 + [volume])) == expected


def test_a_rule_says_nothing_without_the_bars_it_needs() -> None:
    assert found(series([100] * 20, [1.0] * 19 + [1e9])) == []


def test_volume_after_twenty_quiet_bars_has_nothing_to_be_compared_with() -> None:
    assert found(series([100] * 21, [0.0] * 20 + [1e6])) == []


def test_instruments_are_not_compared_with_each_other() -> None:
    assert found(pd.concat([series([100, 100]), series([900, 900], instrument_id=2)])) == []


def test_earlier_bars_serve_as_comparison_and_are_not_reported() -> None:
    bars = series([100, 120, 150])
    assert [row[0] for row in found(bars)] == [1, 2]
    assert found(bars, OPEN + 2 * MINUTE) == [(2, "price_change", 0.25)]


@settings(max_examples=40)
@given(
    closes=st.lists(st.floats(1, 200), min_size=2, max_size=60),
    cut=st.integers(1, 59),
    data=st.data(),
)
def test_what_is_found_does_not_depend_on_later_bars(
    closes: list[float], cut: int, data: st.DataObject
) -> None:
    volumes = data.draw(st.lists(st.floats(0, 1e6), min_size=len(closes), max_size=len(closes)))
    bars = series(closes, volumes)
    known = bars.iloc[:cut]
    assert [row for row in found(bars) if row[0] < len(known)] == found(known)


subsets = st.sets(st.sampled_from(list(GRID)))
intervals = st.lists(
    st.tuples(st.integers(0, 59), st.integers(1, 20)).map(
        lambda pair: (GRID[pair[0]], GRID[pair[0]] + pair[1] * MINUTE)
    ),
    max_size=5,
)


@given(expected=subsets, present=subsets, no_trades=intervals)
def test_expected_is_present_and_quiet_and_missing(
    expected: set[pd.Timestamp],
    present: set[pd.Timestamp],
    no_trades: list[tuple[pd.Timestamp, pd.Timestamp]],
) -> None:
    coverage = measure_coverage(
        pd.DatetimeIndex(sorted(expected), dtype="datetime64[us, UTC]"),
        pd.DatetimeIndex(sorted(present), dtype="datetime64[us, UTC]"),
        no_trades,
        "1m",
    )
    quiet = {
        each
        for each in expected - present
        if any(start <= each and each + MINUTE <= end for start, end in no_trades)
    }
    assert coverage == Coverage(
        expected=len(expected),
        present=len(expected & present),
        quiet=len(quiet),
        missing=len(expected - present - quiet),
        unexpected=len(present - expected),
    )
    assert coverage.expected == coverage.present + coverage.quiet + coverage.missing
    assert 0 <= coverage.ratio <= 1


def test_a_bucket_is_quiet_when_all_its_minutes_are_in_intervals_that_touch() -> None:
    expected = pd.DatetimeIndex([OPEN, OPEN + 5 * MINUTE, OPEN + 10 * MINUTE])
    no_trades = [
        (OPEN + 2 * MINUTE, OPEN + 5 * MINUTE),
        (OPEN, OPEN + 2 * MINUTE),
        (OPEN + 5 * MINUTE, OPEN + 9 * MINUTE),
    ]
    coverage = measure_coverage(expected, expected[2:], no_trades, "5m")
    assert (coverage.present, coverage.quiet, coverage.missing) == (1, 1, 1)


@given(present=subsets)
def test_absent_runs_are_the_missing_bars_in_whole_stretches(present: set[pd.Timestamp]) -> None:
    runs = absent_runs(GRID, pd.DatetimeIndex(sorted(present), dtype="datetime64[us, UTC]"), "1m")
    inside = [each for each in GRID if any(start <= each < end for start, end in runs)]
    assert inside == [each for each in GRID if each not in present]
    assert all(first[1] < second[0] for first, second in zip(runs, runs[1:], strict=False))


def test_absent_runs_by_hand() -> None:
    present = GRID[[0, 1, 4, 5]]
    assert absent_runs(GRID[:8], present, "1m") == [
        (GRID[2], GRID[4]),
        (GRID[6], GRID[8]),
    ]


@pytest.mark.parametrize(
    ("coverage", "outliers", "quarantined", "score"),
    [
        (Coverage(100, 100, 0, 0, 0), 0, 0, 100.0),
        (Coverage(100, 90, 10, 0, 0), 0, 0, 100.0),
        (Coverage(100, 80, 0, 20, 0), 0, 0, 80.0),
        (Coverage(100, 100, 0, 0, 0), 10, 0, 95.0),
        (Coverage(100, 75, 0, 25, 0), 0, 25, 56.25),
        (Coverage(100, 0, 0, 100, 0), 0, 0, 0.0),
        (Coverage(0, 0, 0, 0, 0), 0, 0, 100.0),
        (Coverage(10, 5, 0, 5, 0), 99, 0, 25.0),
    ],
    ids=[
        "complete",
        "quiet counts",
        "missing",
        "an outlier costs half",
        "refused rows",
        "nothing",
        "nothing to expect",
        "nothing but outliers",
    ],
)
def test_the_score_by_hand(
    coverage: Coverage, outliers: int, quarantined: int, score: float
) -> None:
    assert quality_score(coverage, outliers=outliers, quarantined=quarantined) == score


@pytest.mark.parametrize(
    ("now", "timeframe", "count"),
    [
        ("2022-01-04 14:29", "1m", 0),
        ("2022-01-04 14:31", "1m", 1),
        ("2022-01-04 14:34:59", "5m", 0),
        ("2022-01-04 14:35", "5m", 1),
        ("2022-01-04 20:59", "1d", 0),
        ("2022-01-04 21:00", "1d", 1),
        ("2022-01-05 00:00", "1m", 390),
    ],
)
def test_only_bars_that_have_ended_are_expected(now: str, timeframe: str, count: int) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=UTC)
    day = datetime.combine(date(2022, 1, 4), datetime.min.time(), UTC)
    assert len(expected_by(get_calendar("us"), day, timeframe, at)) == count
