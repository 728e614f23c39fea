"""Trades: refusals, repeats, and bars that do not depend on the order of the rows."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scizor_core.bars import resample_bars
from scizor_core.sessions import get_calendar
from scizor_core.ticks import BUILT_BAR_COLUMNS, build_bars, repeated_ticks, tick_faults

START = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)


def make_ticks(rows: list[tuple[float, float, float, str | None]]) -> pd.DataFrame:
    """Rows are (seconds after 14:30 UTC, price, size, trade id)."""
    return pd.DataFrame(
        {
            "ts": pd.Series(
                [START + timedelta(seconds=row[0]) for row in rows], dtype="datetime64[us, UTC]"
            ),
            "price": [float(row[1]) for row in rows],
            "size": [float(row[2]) for row in rows],
            "trade_id": pd.Series([row[3] for row in rows], dtype="str"),
            "row_number": np.arange(1, len(rows) + 1),
        }
    )


# Eighths add up without rounding, so sums can be compared exactly whatever the grouping.
tick_rows = st.lists(
    st.tuples(
        st.integers(0, 1_800),
        st.integers(8, 80_000).map(lambda eighths: eighths / 8),
        st.integers(1, 8_000).map(lambda eighths: eighths / 8),
    ),
    min_size=1,
    max_size=60,
)


def with_ids(rows: list[tuple[int, float, float]], *, ids: bool) -> pd.DataFrame:
    return make_ticks(
        [
            (second, price, size, str(n) if ids else None)
            for n, (second, price, size) in enumerate(rows)
        ]
    )


def test_a_minute_of_trades_becomes_its_bar() -> None:
    bars = build_bars(
        make_ticks([(1, 10, 2, "1"), (20, 12, 1, "2"), (40, 9, 1, "3"), (59.9, 11, 4, "4")]), "1m"
    )
    assert list(bars.columns) == list(BUILT_BAR_COLUMNS)
    assert bars.iloc[0].to_dict() == {
        "ts": pd.Timestamp(START),
        "open": 10.0,
        "high": 12.0,
        "low": 9.0,
        "close": 11.0,
        "volume": 8.0,
        "vwap": (20 + 12 + 9 + 44) / 8,
        "trade_count": 4,
    }


def test_a_minute_without_a_trade_has_no_bar() -> None:
    bars = build_bars(make_ticks([(0, 10, 1, None), (180, 11, 1, None)]), "1m")
    assert bars["ts"].tolist() == [pd.Timestamp(START), pd.Timestamp(START + timedelta(minutes=3))]


def test_no_trades_make_no_bars_with_the_same_types() -> None:
    some = build_bars(make_ticks([(0, 10, 1, None)]), "1m")
    none = build_bars(make_ticks([]), "1m")
    assert none.empty
    assert none.dtypes.to_dict() == some.dtypes.to_dict()


def test_trade_ids_that_are_numbers_order_equal_times_as_numbers() -> None:
    bars = build_bars(make_ticks([(5, 10, 1, "10"), (5, 9, 1, "9")]), "1m")
    assert (bars["open"][0], bars["close"][0]) == (9.0, 10.0)


def test_trade_ids_longer_than_64_bits_still_order_as_numbers() -> None:
    bars = build_bars(make_ticks([(5, 2, 1, "1" + "0" * 30), (5, 1, 1, "9" * 30)]), "1m")
    assert (bars["open"][0], bars["close"][0]) == (1.0, 2.0)


def test_trade_ids_that_are_words_order_equal_times_as_text() -> None:
    bars = build_bars(make_ticks([(5, 9, 1, "a9"), (5, 10, 1, "a10")]), "1m")
    assert (bars["open"][0], bars["close"][0]) == (10.0, 9.0)


def test_trades_without_ids_keep_the_order_of_their_rows() -> None:
    ticks = make_ticks([(5, 10, 1, None), (5, 9, 1, None)])
    bars = build_bars(ticks.iloc[::-1], "1m")
    assert (bars["open"][0], bars["close"][0]) == (10.0, 9.0)


@given(rows=tick_rows, ids=st.booleans(), seed=st.integers(0, 1_000))
def test_any_permutation_of_the_rows_gives_the_same_bars(
    rows: list[tuple[int, float, float]], ids: bool, seed: int
) -> None:
    ticks = with_ids(rows, ids=ids)
    shuffled = ticks.sample(frac=1, random_state=seed)
    pd.testing.assert_frame_equal(
        build_bars(shuffled, "1m"), build_bars(ticks, "1m"), check_exact=True
    )


@given(rows=tick_rows)
def test_volumes_and_trade_counts_add_up(rows: list[tuple[int, float, float]]) -> None:
    bars = build_bars(with_ids(rows, ids=True), "15m")
    assert bars["volume"].sum() == sum(row[2] for row in rows)
    assert bars["trade_count"].sum() == len(rows)


@given(rows=tick_rows)
def test_vwap_lies_between_low_and_high(rows: list[tuple[int, float, float]]) -> None:
    bars = build_bars(with_ids(rows, ids=True), "5m")
    assert (bars["vwap"] >= bars["low"]).all()
    assert (bars["vwap"] <= bars["high"]).all()


@given(rows=tick_rows)
def test_minutes_resampled_to_five_equal_five_minutes_built_at_once(
    rows: list[tuple[int, float, float]],
) -> None:
    ticks = with_ids(rows, ids=True)
    minutes = build_bars(ticks, "1m").assign(
        instrument_id=1, session_date=pd.Timestamp("2026-03-02"), source="tape", is_final=True
    )
    resampled = resample_bars(minutes, "5m")[list(BUILT_BAR_COLUMNS)]
    pd.testing.assert_frame_equal(
        resampled, build_bars(ticks, "5m"), check_exact=False, rtol=1e-12, check_dtype=False
    )


def test_a_daily_bar_carries_the_exchange_date_of_its_trades() -> None:
    # 23:30 UTC on 1 March is 10:30 in Sydney on 2 March.
    ticks = make_ticks([(0, 10, 1, None)])
    ticks["ts"] = pd.Series([datetime(2026, 3, 1, 23, 30, tzinfo=UTC)], dtype="datetime64[us, UTC]")
    bars = build_bars(ticks, "1d", get_calendar("asx"))
    assert bars["ts"].tolist() == [pd.Timestamp("2026-03-02", tz="UTC")]


def test_daily_bars_without_a_calendar_are_refused() -> None:
    with pytest.raises(ValueError, match="calendar"):
        build_bars(make_ticks([(0, 10, 1, None)]), "1d")


@pytest.mark.parametrize(
    ("second", "price", "size", "reason"),
    [
        (0, float("nan"), 1, "price is missing or not a number"),
        (0, 0, 1, "price is not above zero"),
        (0, 1, -2, "size is not above zero"),
        (0, float("inf"), 1, "price is infinite"),
        (0, 1, float("nan"), "size is missing or not a number"),
        (-1, 1, 1, "outside every session of XNYS"),
        (0, 1, 1, ""),
    ],
)
def test_each_fault_of_a_trade_is_named(
    second: int, price: float, size: float, reason: str
) -> None:
    faults = tick_faults(make_ticks([(second, price, size, None)]), get_calendar("us"))
    assert faults.tolist() == [reason]


def test_a_trade_without_a_time_says_so() -> None:
    ticks = make_ticks([(0, 0, 1, None)])
    ticks["ts"] = pd.Series([pd.NaT], dtype="datetime64[us, UTC]")
    faults = tick_faults(ticks, get_calendar("crypto"))
    assert faults.tolist() == ["price is not above zero; time is missing or cannot be read"]


def test_only_known_trade_ids_can_repeat() -> None:
    ticks = make_ticks([(0, 1, 1, "7"), (1, 1, 1, None), (2, 1, 1, None), (3, 1, 1, "7")])
    assert repeated_ticks(ticks).tolist() == [False, False, False, True]
