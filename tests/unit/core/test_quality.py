"""Outliers and the parts of the score, against figures worked out by hand."""

from datetime import timedelta

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scizor_core.quality import (
    agreement_ratio,
    coverage_ratio,
    find_outliers,
    provider_delay,
    quality_score,
    validity_ratio,
)

OPEN = pd.Timestamp("2022-01-04 14:30", tz="UTC")
MINUTE = pd.Timedelta(minutes=1)


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


@pytest.mark.parametrize(
    ("counts", "ratio"),
    [
        ({"expected": 390, "present": 240, "quiet": 0, "excused": 0}, 240 / 390),
        ({"expected": 390, "present": 240, "quiet": 100, "excused": 50}, 1.0),
        ({"expected": 390, "present": 0, "quiet": 0, "excused": 390}, 1.0),
        ({"expected": 0, "present": 0, "quiet": 0, "excused": 0}, 1.0),
        ({"expected": 100, "present": 30, "quiet": 10, "excused": 20}, 0.5),
    ],
    ids=["missing", "all explained", "all excused", "nothing expected", "half"],
)
def test_coverage_counts_what_was_to_be_had(counts: dict[str, int], ratio: float) -> None:
    assert coverage_ratio(**counts) == ratio


@pytest.mark.parametrize(
    ("counts", "ratio"),
    [
        ({"stored": 100, "refused": 0, "outliers": 0}, 1.0),
        ({"stored": 100, "refused": 0, "outliers": 10}, 0.95),
        ({"stored": 75, "refused": 25, "outliers": 0}, 0.75),
        ({"stored": 5, "refused": 0, "outliers": 99}, 0.5),
        ({"stored": 0, "refused": 0, "outliers": 0}, 1.0),
        ({"stored": 0, "refused": 3, "outliers": 0}, 0.0),
    ],
    ids=["all good", "an outlier costs half", "refused rows", "outliers", "nothing", "refused"],
)
def test_validity_by_hand(counts: dict[str, int], ratio: float) -> None:
    assert validity_ratio(**counts) == ratio


def test_bars_that_another_source_has_differently_cost_agreement() -> None:
    assert agreement_ratio(stored=200, disputed=3) == 0.985
    assert agreement_ratio(stored=0, disputed=0) == 1.0


@pytest.mark.parametrize(
    ("source", "minutes"),
    [("yahoo", 20), ("alpaca-delayed_sip+yahoo", 20), ("kraken", 0)],
)
def test_a_joined_bar_is_as_late_as_its_latest_part(source: str, minutes: int) -> None:
    assert provider_delay(source) == timedelta(minutes=minutes)


def test_the_worked_example_of_the_documentation() -> None:
    # CBA, one session of 1m: 360 expected, 20 halted, 323 stored, 3 quiet, 14 missing; 3 of the
    # stored bars are outliers, 2 rows were refused, another source has 4 bars differently, and 8
    # of 300 bars that came live were late.
    coverage = coverage_ratio(expected=360, present=323, quiet=3, excused=20)
    validity = validity_ratio(stored=323, refused=2, outliers=3)
    agreement = agreement_ratio(stored=323, disputed=4)
    assert coverage == pytest.approx(0.958824, abs=1e-6)
    assert validity == pytest.approx(0.989231, abs=1e-6)
    assert agreement == pytest.approx(0.987616, abs=1e-6)
    assert quality_score(coverage, validity, agreement, 292 / 300) == 91.18


def test_the_score_is_the_product_of_its_parts() -> None:
    assert quality_score(0.5, 0.8, 0.9, 1.0) == 36.0
    assert quality_score(1.0) == 100.0
    assert quality_score(0.0) == 0.0
