import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scizor_core.indicators import INDICATOR_COLUMNS, compute_indicators, compute_indicators_window
from scizor_core.stream.indicators import BarColumns, StreamingIndicators


def bars_of(seed: int, count: int, *, flat: bool = False, sessions: int = 3) -> pd.DataFrame:
    """Return a series of bars of one instrument, in sessions of their own dates."""
    random = np.random.default_rng(seed)
    close = 50 + np.cumsum(np.round(random.normal(0, 0.2, count), 2))
    if flat:
        close[count // 3 : count // 2] = close[count // 3]
    spread = np.round(random.exponential(0.1, (2, count)), 2) * (0 if flat else 1)
    return pd.DataFrame(
        {
            "instrument_id": 1,
            "ts": pd.date_range("2026-03-02", periods=count, freq="min", tz="UTC").as_unit("us"),
            "session_date": pd.Timestamp("2026-03-02")
            + pd.to_timedelta(np.arange(count) * sessions // max(count, 1), unit="D"),
            "high": close + spread[0],
            "low": close - spread[1],
            "close": close,
            "volume": random.integers(0 if flat else 1, 1000, count).astype(float),
        }
    )


def columns_of(bars: pd.DataFrame, rows: slice | list[int]) -> BarColumns:
    part = bars.iloc[rows]
    days = part["session_date"].to_numpy(dtype="datetime64[D]").astype("int64")
    values = (part[name].to_numpy(dtype="float64") for name in ("high", "low", "close", "volume"))
    return BarColumns(days, *values)


def streamed(bars: pd.DataFrame, indicators: StreamingIndicators | None = None) -> np.ndarray:
    """Return the values of a series, one bar after the other."""
    stream = indicators or StreamingIndicators()
    slot = stream.add()
    return np.vstack([stream.update(slot, columns_of(bars, [row])) for row in range(len(bars))])


def assert_equal(found: np.ndarray, wanted: pd.DataFrame) -> None:
    for number, name in enumerate(INDICATOR_COLUMNS):
        np.testing.assert_allclose(
            found[:, number], wanted[name].to_numpy(), rtol=1e-9, atol=1e-9, err_msg=name
        )


@pytest.mark.parametrize("count", [1, 13, 27, 60, 450])
def test_bar_by_bar_equals_the_whole_series(count: int):
    bars = bars_of(7, count)

    assert_equal(streamed(bars), compute_indicators(bars))


def test_flat_prices_and_minutes_without_volume_equal_the_batch_too():
    bars = bars_of(11, 300, flat=True)

    assert_equal(streamed(bars), compute_indicators(bars))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 120), flat=st.booleans())
def test_any_series_equals_the_batch(seed: int, count: int, flat: bool):
    bars = bars_of(seed, count, flat=flat)

    assert_equal(streamed(bars), compute_indicators(bars))


def test_many_series_are_carried_on_at_once_however_long_each_is():
    lengths = (250, 40, 13)
    series = [bars_of(number, length) for number, length in enumerate(lengths)]
    stream = StreamingIndicators()
    slots = stream.add(len(series))
    found: list[list[np.ndarray]] = [[] for _ in series]

    for row in range(max(lengths)):
        present = [number for number, length in enumerate(lengths) if row < length]
        parts = [columns_of(series[number], [row]) for number in present]
        values = stream.update(
            slots[present],
            BarColumns(
                *(np.concatenate([getattr(part, name) for part in parts])
                  for name in BarColumns.__dataclass_fields__)
            ),
        )  # fmt: skip
        for number, value in zip(present, values, strict=True):
            found[number].append(value)

    for values, bars in zip(found, series, strict=True):
        assert_equal(np.vstack(values), compute_indicators(bars))


def test_a_bar_that_forms_has_its_values_and_leaves_no_trace():
    bars = bars_of(3, 100)
    stream = StreamingIndicators()
    slot = stream.add()
    for row in range(99):
        stream.update(slot, columns_of(bars, [row]))

    stream.peek(slot, BarColumns(np.array([1]), *(np.array([value]) for value in (99.0, 1, 50, 7))))
    last = stream.peek(slot, columns_of(bars, [99]))
    closed = stream.update(slot, columns_of(bars, [99]))

    np.testing.assert_array_equal(last, closed)
    assert_equal(closed, compute_indicators(bars).iloc[[99]])


def test_a_revised_last_bar_gives_the_values_of_the_revised_series():
    bars = bars_of(5, 80)
    stream = StreamingIndicators()
    slot = stream.add()
    wrong = bars.assign(close=bars["close"].where(bars.index != 60, 49.0))
    for row in range(61):
        stream.update(slot, columns_of(wrong, [row]))

    stream.revise(slot, columns_of(bars, [60]))
    rest = [stream.update(slot, columns_of(bars, [row])) for row in range(61, 80)]

    assert_equal(np.vstack(rest), compute_indicators(bars).iloc[61:])


def test_on_balance_volume_goes_on_from_its_base():
    bars = bars_of(9, 60)
    base = pd.DataFrame({"obv": [12_345.0], "previous_close": [60.0]}, index=[1])
    stream = StreamingIndicators()
    slot = stream.add()
    stream.set_volume_base(int(slot[0]), 12_345.0, 60.0)

    found = np.vstack([stream.update(slot, columns_of(bars, [row])) for row in range(len(bars))])

    assert_equal(found, compute_indicators_window(bars, bars["ts"].iloc[0], base))


def test_slots_can_be_added_while_others_are_under_way():
    bars = bars_of(2, 90)
    stream = StreamingIndicators()
    slot = stream.add()
    for row in range(50):
        stream.update(slot, columns_of(bars, [row]))

    stream.add(500)
    rest = [stream.update(slot, columns_of(bars, [row])) for row in range(50, 90)]

    assert_equal(np.vstack(rest), compute_indicators(bars).iloc[50:])
