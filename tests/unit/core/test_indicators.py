"""Indicators: equal to `ta` symbol by symbol, and the laws that make them safe to compute in parts.

The reference is the library `ta` (0.11.0), called on each symbol's whole series; for the session's
VWAP, which `ta` does not have, a loop over the rows.
"""

import numpy as np
import pandas as pd
import pytest
import ta.momentum
import ta.trend
import ta.volatility
import ta.volume
from hypothesis import given, settings
from hypothesis import strategies as st

from scizor_core.errors import ContractError, InvalidInputError
from scizor_core.indicators import (
    INDICATOR_COLUMNS,
    WARMUP_BARS,
    compute_indicators,
    compute_indicators_window,
)

SESSION_BARS = 60
KEYS = ["instrument_id", "ts", "session_date"]
VALUES = list(INDICATOR_COLUMNS)
OPEN = pd.Timestamp("2026-01-05 14:30", tz="UTC")

# Bars that `ta` needs before it answers at all: with fewer it raises IndexError or ValueError.
ATR_NEEDS, DIRECTIONS_NEED, ADX_NEEDS = 14, 14, 28


def make_bars(
    closes: list[float] | np.ndarray,
    *,
    highs: list[float] | np.ndarray | None = None,
    lows: list[float] | np.ndarray | None = None,
    volumes: list[float] | np.ndarray | None = None,
    instrument_id: int = 1,
    session_bars: int = SESSION_BARS,
) -> pd.DataFrame:
    """Return one instrument's one-minute bars, `session_bars` a day from 14:30 UTC on."""
    close = np.asarray(closes, dtype="float64")
    count = len(close)
    bar = np.arange(count)
    days = pd.to_timedelta(bar // session_bars, unit="D")
    ts = OPEN + days + pd.to_timedelta(bar % session_bars, unit="min")
    return pd.DataFrame(
        {
            "instrument_id": np.full(count, instrument_id),
            "ts": ts.as_unit("us"),
            "session_date": (pd.Timestamp("2026-01-05") + days).as_unit("us"),
            "open": close,
            "high": close if highs is None else np.asarray(highs, dtype="float64"),
            "low": close if lows is None else np.asarray(lows, dtype="float64"),
            "close": close,
            "volume": np.full(count, 100.0) if volumes is None else np.asarray(volumes, "float64"),
        }
    )


def random_walk(
    count: int,
    seed: int,
    *,
    price: float = 40.0,
    tick: float = 0.01,
    volatility: float = 0.002,
    quiet: float = 0.0,
    volume: float = 50_000,
    silent: float = 0.0,
    instrument_id: int = 1,
) -> pd.DataFrame:
    """Return a random walk in whole ticks.

    `quiet` is the share of bars whose close does not move, `silent` that of bars without volume.
    """
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0, volatility, count) * (rng.random(count) >= quiet)
    close = np.maximum(np.round(price * np.exp(steps.cumsum()) / tick), 1) * tick
    before = np.concatenate([close[:1], close[:-1]])
    wicks = np.round(rng.exponential(price * volatility / tick, (2, count)))
    high = np.maximum(before, close) + wicks[0] * tick
    low = np.maximum(np.minimum(before, close) - wicks[1] * tick, tick / 2)
    volumes = np.round(rng.uniform(0, 2 * volume, count)) * (rng.random(count) >= silent)
    return make_bars(close, highs=high, lows=low, volumes=volumes, instrument_id=instrument_id)


def ta_indicators(bars: pd.DataFrame) -> pd.DataFrame:
    """Return one instrument's columns as `ta` and a loop compute them.

    Where `ta` refuses a series as too short for ATR or ADX, the zeros stand that it gives for the
    same rows of a longer series.
    """
    high, low, close, volume = (bars[name] for name in ("high", "low", "close", "volume"))
    zeros = pd.Series(0.0, index=bars.index)
    macd = ta.trend.MACD(close)
    stochastic = ta.momentum.StochasticOscillator(high, low, close)
    columns = {f"sma_{n}": ta.trend.sma_indicator(close, n) for n in (10, 20, 50, 200)}
    columns |= {f"ema_{n}": ta.trend.ema_indicator(close, n) for n in (10, 12, 20, 26, 50)}
    columns |= {f"rsi_{n}": ta.momentum.rsi(close, n) for n in (9, 14)}
    columns |= {
        "macd": macd.macd(),
        "macd_signal": macd.macd_signal(),
        "macd_diff": macd.macd_diff(),
        "atr_14": zeros,
        "vwap": pd.Series(session_vwap(bars), index=bars.index),
        "vwap_14": ta.volume.volume_weighted_average_price(high, low, close, volume),
        "obv": ta.volume.on_balance_volume(close, volume),
        "stoch_k": stochastic.stoch(),
        "stoch_d": stochastic.stoch_signal(),
        "adx_14": zeros,
        "adx_pos_14": zeros,
        "adx_neg_14": zeros,
        "mfi_14": ta.volume.money_flow_index(high, low, close, volume),
        "volume_sma_20": ta.trend.sma_indicator(volume, 20),
    }
    columns |= ta_bands(close)
    if len(bars) >= ATR_NEEDS:
        columns["atr_14"] = ta.volatility.average_true_range(high, low, close)
    if len(bars) >= DIRECTIONS_NEED:
        directional = ta.trend.ADXIndicator(high, low, close)
        columns["adx_pos_14"] = directional.adx_pos()
        columns["adx_neg_14"] = directional.adx_neg()
        if len(bars) >= ADX_NEEDS:
            columns["adx_14"] = directional.adx()
    return pd.DataFrame(columns)[VALUES]


def ta_bands(close: "pd.Series[float]") -> dict[str, "pd.Series[float]"]:
    """Return the Bollinger columns; for windows of equal closes, of `ta` on that window alone.

    pandas 3.1 keeps a running variance: after the price has moved, a window of equal closes has a
    deviation of some 1e-8 left, which depends on the bars before the window. Alone it has none.
    """
    columns = _bands(close)
    equal = close.rolling(20).max() == close.rolling(20).min()
    for place in np.flatnonzero(equal):
        for name, values in _bands(close.iloc[place - 19 : place + 1]).items():
            columns[name].iloc[place] = values.iloc[-1]
    return columns


def _bands(close: "pd.Series[float]") -> dict[str, "pd.Series[float]"]:
    bands = ta.volatility.BollingerBands(close)
    return {
        "bb_high": bands.bollinger_hband(),
        "bb_mid": bands.bollinger_mavg(),
        "bb_low": bands.bollinger_lband(),
        "bb_width": bands.bollinger_wband(),
        "bb_percent": bands.bollinger_pband(),
    }


def session_vwap(bars: pd.DataFrame) -> list[float]:
    """Return the VWAP from each session's first bar on, row by row."""
    out: list[float] = []
    session, money, shares = None, 0.0, 0.0
    for row in bars.itertuples():
        if row.session_date != session:
            session, money, shares = row.session_date, 0.0, 0.0
        money += (row.high + row.low + row.close) / 3 * row.volume
        shares += row.volume
        out.append(money / shares if shares > 0 else float("nan"))
    return out


def stack(*frames: pd.DataFrame) -> pd.DataFrame:
    """Return the frames one below the other, numbered 1, 2, ... as instruments."""
    numbered = [frame.assign(instrument_id=n) for n, frame in enumerate(frames, start=1)]
    return pd.concat(numbered, ignore_index=True)


def assert_equals_ta(bars: pd.DataFrame) -> None:
    """Compare every instrument of `bars`, computed together, with `ta` on it alone."""
    ours = compute_indicators(bars)
    for instrument_id, part in bars.groupby("instrument_id"):
        expected = ta_indicators(part)
        for name in VALUES:
            np.testing.assert_allclose(
                ours.loc[part.index, name],
                expected[name],
                rtol=1e-9,
                atol=1e-9,
                equal_nan=True,
                err_msg=f"{name} of instrument {instrument_id}",
            )


KINDS = {
    "walk": {},
    "penny": {"price": 0.02, "tick": 0.001, "volatility": 0.03},
    "expensive": {"price": 90_000.0, "tick": 0.5},
    "quiet": {"quiet": 0.8},
    "flat": {"volatility": 0.0},
    "large volume": {"volume": 1e9},
    "often without volume": {"silent": 0.6},
    "never traded": {"silent": 1.0},
}


@st.composite
def frames(draw: st.DrawFn, *, longest: int = 90, most: int = 3) -> pd.DataFrame:
    """Draw some instruments of various kinds and lengths."""
    count = draw(st.integers(1, most))
    return stack(
        *(
            random_walk(
                draw(st.integers(1, longest)),
                draw(st.integers(0, 2**32 - 1)),
                **KINDS[draw(st.sampled_from(sorted(KINDS)))],
            )
            for _ in range(count)
        )
    )


# --- equal to ta -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_series_equals_ta(kind: str) -> None:
    assert_equals_ta(random_walk(700, seed=11, **KINDS[kind]))


@pytest.mark.parametrize("count", [1, 2, 5, 13, 14, 15, 27, 28, 29, 127, 128, 129, 257])
def test_a_series_of_any_length_equals_ta(count: int) -> None:
    assert_equals_ta(random_walk(count, seed=5))


def test_series_of_different_lengths_in_one_frame_equal_ta() -> None:
    lengths = [1, 400, 5, 28, 131, 20]
    assert_equals_ta(stack(*(random_walk(n, seed=n) for n in lengths)))


def test_volumes_of_a_billion_after_small_ones_do_not_drift() -> None:
    volumes = np.concatenate([np.full(300, 3.0), np.full(300, 4e9), np.full(60, 7.0)])
    bars = random_walk(660, seed=3).assign(volume=volumes)

    last = compute_indicators(bars).iloc[-1]

    typical = (bars["high"] + bars["low"] + bars["close"]).to_numpy()[-14:] / 3
    assert last["volume_sma_20"] == 7.0
    assert last["vwap_14"] == pytest.approx(typical.mean(), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(bars=frames())
def test_any_frame_equals_ta(bars: pd.DataFrame) -> None:
    assert_equals_ta(bars)


def test_a_window_of_equal_closes_has_no_width_whatever_came_before() -> None:
    closes = [*random_walk(200, seed=11)["close"], *[40.26] * 20]

    last = compute_indicators(make_bars(closes)).iloc[-1]

    assert last["bb_width"] == 0.0
    assert np.isnan(last["bb_percent"])


# --- laws ------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(bars=frames(longest=200), share=st.floats(0.0, 1.0))
def test_cutting_the_future_off_changes_nothing_before(bars: pd.DataFrame, share: float) -> None:
    rows = bars.groupby("instrument_id").cumcount()
    length = bars.groupby("instrument_id")["ts"].transform("size")
    past = rows <= (share * length).astype("int64")

    whole = compute_indicators(bars)[past]

    pd.testing.assert_frame_equal(compute_indicators(bars[past]), whole, check_exact=True)


@settings(max_examples=40, deadline=None)
@given(bars=frames(longest=200, most=4))
def test_instruments_computed_together_equal_each_alone(bars: pd.DataFrame) -> None:
    alone = [compute_indicators(part) for _, part in bars.groupby("instrument_id")]

    pd.testing.assert_frame_equal(compute_indicators(bars), pd.concat(alone), check_exact=True)


@settings(max_examples=25, deadline=None)
@given(bars=frames(longest=200, most=4), data=st.data())
def test_the_order_of_instruments_does_not_matter(bars: pd.DataFrame, data: st.DataObject) -> None:
    order = data.draw(st.permutations(list(bars["instrument_id"].unique())))
    shuffled = pd.concat([bars[bars["instrument_id"] == one] for one in order])

    found = compute_indicators(shuffled).sort_index()

    pd.testing.assert_frame_equal(found, compute_indicators(bars), check_exact=True)


@settings(max_examples=40, deadline=None)
@given(bars=frames(longest=120))
def test_no_value_is_infinite(bars: pd.DataFrame) -> None:
    assert not np.isinf(compute_indicators(bars)[VALUES].to_numpy()).any()


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    level=st.floats(0.2, 5.0),
    kind=st.sampled_from(["walk", "penny", "expensive", "quiet", "large volume"]),
)
def test_after_the_warm_up_no_column_but_obv_knows_where_its_series_began(
    seed: int, level: float, kind: str
) -> None:
    session = 4 * SESSION_BARS
    earlier = random_walk(5 * session, seed, **KINDS[kind])
    earlier[["open", "high", "low", "close"]] *= level
    recent = random_walk(WARMUP_BARS + session, seed + 1, **KINDS[kind])
    columns = ["open", "high", "low", "close", "volume"]
    both = pd.concat([earlier, recent])
    total = len(both)
    clock = make_bars(np.ones(total), session_bars=session)
    # The last session has to begin where the warm-up ends.
    clock["session_date"] = clock["session_date"].shift(-(total % session)).ffill()
    history = clock.assign(**{name: both[name].to_numpy() for name in columns})
    first_ts = history["ts"].iloc[-session]
    names = [name for name in VALUES if name != "obv"]

    long = compute_indicators_window(history, first_ts)[names]
    short = compute_indicators_window(history.iloc[-session - WARMUP_BARS :], first_ts)[names]

    pd.testing.assert_frame_equal(short, long, rtol=1e-9, atol=1e-9)


def test_the_warm_up_is_the_shortest_that_forgets_the_slowest_average() -> None:
    # A step from 1 to 0 at the first bar: what is left of it is the weight of the series' start.
    left = 1.0 - compute_indicators(make_bars([1.0, *[2.0] * 800]))["ema_50"].to_numpy() + 1.0

    assert left[WARMUP_BARS] <= 1.1e-12
    assert (49 / 51) ** WARMUP_BARS <= 1e-12 < (49 / 51) ** (WARMUP_BARS - 1)


# --- vwap ------------------------------------------------------------------------------------


def test_vwap_restarts_with_each_session() -> None:
    bars = make_bars([10.0, 20.0, 50.0, 30.0], volumes=[1.0, 3.0, 5.0, 5.0], session_bars=2)

    assert compute_indicators(bars)["vwap"].tolist() == [10.0, 17.5, 50.0, 40.0]


def test_vwap_restarts_with_each_instrument_in_the_same_session() -> None:
    bars = stack(make_bars([10.0, 20.0]), make_bars([70.0]))

    assert compute_indicators(bars)["vwap"].tolist() == [10.0, 15.0, 70.0]


def test_vwap_is_missing_until_the_session_has_volume() -> None:
    bars = make_bars([10.0, 11.0, 12.0], volumes=[0.0, 0.0, 4.0])

    np.testing.assert_array_equal(compute_indicators(bars)["vwap"], [np.nan, np.nan, 12.0])


# --- edge shapes -----------------------------------------------------------------------------


def test_an_empty_frame_gives_an_empty_frame_with_all_columns() -> None:
    out = compute_indicators(make_bars([1.0]).iloc[:0])

    assert out.empty
    assert list(out.columns) == [*KEYS, *VALUES]
    assert (out[VALUES].dtypes == "float64").all()


def test_rows_keys_and_index_are_those_of_the_bars() -> None:
    bars = stack(random_walk(30, seed=1), random_walk(3, seed=2)).set_index(np.arange(33) * 2)

    out = compute_indicators(bars)

    pd.testing.assert_frame_equal(out[KEYS], bars[KEYS])
    assert list(out.columns) == [*KEYS, *VALUES]
    assert (out[VALUES].dtypes == "float64").all()


def test_the_bars_are_left_as_they_were() -> None:
    bars = random_walk(40, seed=8)
    before = bars.copy(deep=True)

    compute_indicators(bars)

    pd.testing.assert_frame_equal(bars, before)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sma_200", 7.77),
        ("ema_50", 7.77),
        ("macd", 0.0),
        ("macd_signal", 0.0),
        ("macd_diff", 0.0),
        ("bb_high", 7.77),
        ("bb_width", 0.0),
        ("bb_percent", np.nan),
        ("rsi_14", 100.0),
        ("stoch_k", np.nan),
        ("stoch_d", np.nan),
        ("atr_14", 0.0),
        ("adx_14", 0.0),
        ("adx_pos_14", 0.0),
        ("mfi_14", np.nan),
    ],
)
def test_flat_prices_give_exactly(name: str, expected: float) -> None:
    last = compute_indicators(make_bars([7.77] * 300))[name].iloc[-1]

    np.testing.assert_equal(last, expected)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("sma_10", 9),
        ("sma_200", 199),
        ("ema_10", 9),
        ("ema_50", 49),
        ("rsi_9", 8),
        ("rsi_14", 13),
        ("macd", 25),
        ("macd_signal", 33),
        ("macd_diff", 33),
        ("bb_mid", 19),
        ("bb_percent", 19),
        ("atr_14", 0),
        ("vwap", 0),
        ("vwap_14", 13),
        ("obv", 0),
        ("stoch_k", 13),
        ("stoch_d", 15),
        ("adx_14", 0),
        ("mfi_14", 13),
        ("volume_sma_20", 19),
    ],
)
def test_the_first_row_with_a_value_is(name: str, first: int) -> None:
    values = compute_indicators(random_walk(210, seed=21))[name].to_numpy()

    assert int(np.argmax(~np.isnan(values))) == first


@pytest.mark.parametrize(
    ("name", "first"), [("atr_14", 13), ("adx_pos_14", 15), ("adx_neg_14", 15), ("adx_14", 27)]
)
def test_wilder_columns_are_zero_before_their_seed(name: str, first: int) -> None:
    # The price rises and falls in turn, and each bar has a range: nothing is zero by itself.
    close = 10 + np.arange(60) % 7 * 0.5
    values = compute_indicators(make_bars(close, highs=close + 1, lows=close - 1))[name]

    assert (values[:first] == 0).all()
    assert (values[first:] > 0).all()


def test_a_division_by_zero_becomes_a_missing_value_not_infinity() -> None:
    # A bar that breaks its contract: it closes above a high that equals its low.
    broken = make_bars([6.0] * 14, highs=[5.0] * 14, lows=[5.0] * 14)

    assert np.isnan(compute_indicators(broken)["stoch_k"].iloc[-1])


def test_a_missing_minute_is_no_row_and_changes_nothing() -> None:
    bars = random_walk(100, seed=4)
    gap = bars.copy()
    gap.loc[50:, "ts"] += pd.Timedelta(minutes=7)

    pd.testing.assert_frame_equal(compute_indicators(gap)[VALUES], compute_indicators(bars)[VALUES])


# --- obv and windows -------------------------------------------------------------------------


def test_obv_adds_the_first_bar_and_bars_with_an_equal_close() -> None:
    bars = make_bars([10.0, 10.0, 9.0, 11.0], volumes=[1.0, 2.0, 4.0, 8.0])

    assert compute_indicators(bars)["obv"].tolist() == [1.0, 3.0, -1.0, 7.0]


def obv_base(rows: dict[int, tuple[float, float]]) -> pd.DataFrame:
    """Return a base: instrument -> (obv, previous close)."""
    return pd.DataFrame.from_dict(rows, orient="index", columns=["obv", "previous_close"])


def test_a_window_returns_only_rows_from_its_first_instant_on() -> None:
    bars = stack(random_walk(80, seed=1), random_walk(120, seed=2))
    first_ts = bars["ts"].iloc[70]

    window = compute_indicators_window(bars, first_ts)

    whole = compute_indicators(bars)
    pd.testing.assert_frame_equal(window, whole[whole["ts"] >= first_ts])


def test_obv_goes_on_from_its_base_as_if_never_cut() -> None:
    bars = stack(random_walk(120, seed=1), random_walk(120, seed=2))
    whole = compute_indicators(bars)
    place = bars.groupby("instrument_id").cumcount()
    before = bars[place == 49].set_index("instrument_id")
    base = pd.DataFrame(
        {"obv": whole.loc[place == 49, "obv"].to_numpy(), "previous_close": before["close"]}
    )

    window = compute_indicators_window(bars[place >= 50], OPEN, base)

    pd.testing.assert_series_equal(window["obv"], whole.loc[place >= 50, "obv"])


def test_the_first_bar_counts_down_when_the_close_before_the_window_was_higher() -> None:
    bars = make_bars([10.0, 11.0], volumes=[5.0, 2.0])

    window = compute_indicators_window(bars, OPEN, obv_base({1: (100.0, 10.5)}))

    assert window["obv"].tolist() == [95.0, 97.0]


def test_a_base_without_previous_close_begins_the_series() -> None:
    bars = make_bars([10.0, 9.0], volumes=[5.0, 2.0])

    window = compute_indicators_window(bars, OPEN, obv_base({1: (0.0, np.nan)}))

    assert window["obv"].tolist() == [5.0, 3.0]


def test_an_instrument_without_base_begins_at_zero() -> None:
    bars = stack(make_bars([10.0], volumes=[5.0]), make_bars([10.0], volumes=[6.0]))

    window = compute_indicators_window(bars, OPEN, obv_base({2: (100.0, 11.0), 9: (7.0, 1.0)}))

    assert window["obv"].tolist() == [5.0, 94.0]


# --- refusals --------------------------------------------------------------------------------


def test_bars_of_an_instrument_in_two_pieces_are_refused() -> None:
    bars = make_bars([1.0, 2.0, 3.0]).assign(instrument_id=[1, 2, 1])

    with pytest.raises(ContractError, match="comes back"):
        compute_indicators(bars)


@pytest.mark.parametrize("order", [[1, 0], [0, 0]], ids=["backwards", "repeated"])
def test_bars_out_of_order_are_refused(order: list[int]) -> None:
    with pytest.raises(ContractError, match="ascending order of ts"):
        compute_indicators(make_bars([1.0, 2.0]).iloc[order])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["high", "low", "close", "volume"])
def test_a_value_that_is_not_finite_is_refused_by_name(name: str, value: float) -> None:
    bars = make_bars([1.0, 2.0])
    bars.loc[1, name] = value

    with pytest.raises(ContractError, match=f"finite {name}"):
        compute_indicators(bars)


@pytest.mark.parametrize("name", ["ts", "session_date"])
def test_a_bar_without_time_or_session_is_refused(name: str) -> None:
    bars = make_bars([1.0, 2.0])
    bars.loc[1, name] = pd.NaT

    with pytest.raises(ContractError, match=f"need a {name}"):
        compute_indicators(bars)


def test_an_absent_column_is_named() -> None:
    with pytest.raises(ContractError, match="lack session_date, volume"):
        compute_indicators(make_bars([1.0]).drop(columns=["session_date", "volume"]))


def test_a_first_instant_without_zone_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no zone"):
        compute_indicators_window(make_bars([1.0]), OPEN.tz_localize(None))


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        (obv_base({1: (1.0, 1.0)}).drop(columns="previous_close"), "lacks previous_close"),
        (pd.concat([obv_base({1: (1.0, 1.0)})] * 2), "twice"),
        (obv_base({1: (np.nan, 1.0)}), "not finite"),
    ],
    ids=["absent column", "repeated instrument", "missing obv"],
)
def test_an_unusable_base_is_refused(base: pd.DataFrame, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        compute_indicators_window(make_bars([1.0]), OPEN, base)
