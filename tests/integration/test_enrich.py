"""Indicators in the warehouse: equal to `ta` on the stored bars, in whatever order they came.

The reference is the library `ta` (0.11.0), called on each symbol's whole stored series.
"""

import random
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
import ta.momentum
import ta.trend
import ta.volatility
import ta.volume

from scizor_core.errors import UnknownSymbolError
from scizor_core.indicators import INDICATOR_COLUMNS, WARMUP_BARS
from scizor_core.sessions import get_calendar
from scizor_resources.pipeline.enrich import EnrichReport, enrich
from scizor_resources.platform import Platform

from .helpers import collector, execute, fingerprint, indicator_rows, query, simulated

DAYS = [
    each.session_date for each in get_calendar("asx").sessions(date(2022, 1, 4), date(2022, 1, 26))
]
SYMBOLS = ["CBA", "ZIP"]
VALUES = list(INDICATOR_COLUMNS)


def bars_of(
    platform: Platform, first: date, last: date, timeframe: str = "5m", symbols: list[str] = SYMBOLS
) -> None:
    """Collect simulated bars of sessions `first` to `last`, both included."""
    end = last + timedelta(days=1)
    collector(platform, timeframe, simulated()).collect(first, end, symbols)


def enriched(
    platform: Platform,
    first: date,
    last: date,
    timeframe: str = "5m",
    symbols: list[str] | None = None,
) -> EnrichReport:
    end = last + timedelta(days=1)
    return enrich(platform.warehouse, platform.reference, "asx", timeframe, first, end, symbols)


def ta_values(bars: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that `ta` has a function for."""
    high, low, close, volume = (bars[name] for name in ("high", "low", "close", "volume"))
    macd, bands = ta.trend.MACD(close), ta.volatility.BollingerBands(close)
    stochastic = ta.momentum.StochasticOscillator(high, low, close)
    adx = ta.trend.ADXIndicator(high, low, close)
    columns = {f"sma_{n}": ta.trend.sma_indicator(close, n) for n in (10, 20, 50, 200)}
    columns |= {f"ema_{n}": ta.trend.ema_indicator(close, n) for n in (10, 12, 20, 26, 50)}
    columns |= {f"rsi_{n}": ta.momentum.rsi(close, n) for n in (9, 14)}
    columns |= {
        "macd": macd.macd(),
        "macd_signal": macd.macd_signal(),
        "macd_diff": macd.macd_diff(),
        "bb_high": bands.bollinger_hband(),
        "bb_mid": bands.bollinger_mavg(),
        "bb_low": bands.bollinger_lband(),
        "bb_width": bands.bollinger_wband(),
        "bb_percent": bands.bollinger_pband(),
        "atr_14": ta.volatility.average_true_range(high, low, close),
        "vwap_14": ta.volume.volume_weighted_average_price(high, low, close, volume),
        "obv": ta.volume.on_balance_volume(close, volume),
        "stoch_k": stochastic.stoch(),
        "stoch_d": stochastic.stoch_signal(),
        "adx_14": adx.adx(),
        "adx_pos_14": adx.adx_pos(),
        "adx_neg_14": adx.adx_neg(),
        "mfi_14": ta.volume.money_flow_index(high, low, close, volume),
        "volume_sma_20": ta.trend.sma_indicator(volume, 20),
    }
    return pd.DataFrame(columns)


def assert_near(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Compare to 1e-9 of the largest value of a column; missing values in the same places."""
    for name in theirs.columns:
        one = ours[name].to_numpy(dtype="float64")
        other = theirs[name].to_numpy(dtype="float64")
        scale = max(1.0, float(np.nanmax(np.abs(other))))
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * scale, err_msg=name)


def test_rows_equal_ta_on_the_stored_bars_of_each_symbol(platform: Platform) -> None:
    bars_of(platform, DAYS[0], DAYS[-1])
    for day in DAYS:
        enriched(platform, day, day)
    rows = indicator_rows(platform, "5m")
    # 15 sessions of 72 bars: the last ones stand on more than the whole warm-up.
    assert len(DAYS) * 72 > WARMUP_BARS + 300
    for symbol in SYMBOLS:
        bars = pd.DataFrame(
            query(platform, "SELECT * FROM asx.bars_5m WHERE symbol = %s ORDER BY ts", symbol)
        )
        mine = rows[rows["symbol"] == symbol].reset_index(drop=True)
        assert list(mine["ts"]) == list(bars["ts"])
        assert_near(mine, ta_values(bars))


def test_the_vwap_starts_anew_with_each_session(platform: Platform) -> None:
    bars_of(platform, DAYS[0], DAYS[1])
    enriched(platform, DAYS[1], DAYS[1])
    bars = pd.DataFrame(
        query(
            platform,
            "SELECT * FROM asx.bars_5m WHERE symbol = 'CBA' AND session_date = %s ORDER BY ts",
            DAYS[1],
        )
    )
    typical = (bars["high"] + bars["low"] + bars["close"]) / 3
    expected = (typical * bars["volume"]).cumsum() / bars["volume"].cumsum()
    rows = indicator_rows(platform, "5m")
    mine = rows[rows["symbol"] == "CBA"]["vwap"]
    np.testing.assert_allclose(mine.to_numpy(dtype="float64"), expected, rtol=1e-12)


@pytest.mark.parametrize(("timeframe", "sessions"), [("1m", 5), ("5m", 15)])
def test_the_order_in_which_sessions_come_in_does_not_matter(
    platform: Platform, timeframe: str, sessions: int
) -> None:
    days = DAYS[:sessions]
    shuffled = random.Random(11).sample(days, len(days))
    for day in shuffled:
        bars_of(platform, day, day, timeframe)
        enriched(platform, day, day, timeframe)
    mixed = indicator_rows(platform, timeframe)
    execute(platform, "TRUNCATE market.indicators")
    for day in days:
        enriched(platform, day, day, timeframe)
    ascending = indicator_rows(platform, timeframe)
    assert list(mixed["ts"]) == list(ascending["ts"])
    assert_near(mixed, ascending[VALUES])


def test_from_new_to_old_gives_the_same_on_balance_volume_beyond_the_warm_up(
    platform: Platform,
) -> None:
    days = DAYS[:4]
    for day in reversed(days):
        bars_of(platform, day, day, "1m", ["CBA"])
        enriched(platform, day, day, "1m")
    backwards = indicator_rows(platform, "1m")
    execute(platform, "TRUNCATE market.indicators")
    enriched(platform, days[0], days[-1], "1m")
    assert len(backwards) > 2 * WARMUP_BARS - 300
    assert_near(backwards, indicator_rows(platform, "1m")[["obv", "ema_50", "adx_14"]])


def test_later_rows_are_brought_up_to_date_when_earlier_bars_arrive_late(
    platform: Platform,
) -> None:
    bars_of(platform, DAYS[1], DAYS[2])
    enriched(platform, DAYS[1], DAYS[2])
    before = indicator_rows(platform, "5m")
    bars_of(platform, DAYS[0], DAYS[0])
    report = enriched(platform, DAYS[0], DAYS[0])
    after = indicator_rows(platform, "5m").merge(before, on=["symbol", "ts"], suffixes=("", "_old"))
    first = after[after["symbol"] == "CBA"].iloc[0]
    assert pd.isna(first["sma_50_old"])
    assert first["sma_50"] == pytest.approx(
        query(
            platform,
            "SELECT avg(close) AS mean FROM (SELECT close FROM asx.bars_5m WHERE symbol = 'CBA' "
            "AND ts <= %s ORDER BY ts DESC LIMIT 50) AS b",
            first["ts"],
        )[0]["mean"],
        rel=1e-12,
    )
    assert report.refreshed == len(before)


def test_bars_without_indicators_in_between_do_not_hide_later_rows(platform: Platform) -> None:
    days = DAYS[:5]
    bars_of(platform, days[1], days[-1], "1m", ["CBA"])
    enriched(platform, days[-1], days[-1], "1m")
    bars_of(platform, days[0], days[0], "1m", ["CBA"])
    enriched(platform, days[0], days[0], "1m")
    mixed = indicator_rows(platform, "1m")
    execute(platform, "TRUNCATE market.indicators")
    for day in (days[0], days[-1]):
        enriched(platform, day, day, "1m")
    assert_near(mixed, indicator_rows(platform, "1m")[["obv", "ema_50"]])
    assert len(query(platform, "SELECT DISTINCT session_date FROM market.indicators")) == 2


def test_adding_later_bars_changes_no_earlier_row(platform: Platform) -> None:
    bars_of(platform, DAYS[0], DAYS[2])
    enriched(platform, DAYS[0], DAYS[2])
    before = indicator_rows(platform, "5m")
    bars_of(platform, DAYS[3], DAYS[4])
    enriched(platform, DAYS[3], DAYS[4])
    enriched(platform, DAYS[0], DAYS[4])
    after = indicator_rows(platform, "5m")
    earlier = after[after["ts"] <= before["ts"].max()].reset_index(drop=True)
    pd.testing.assert_frame_equal(earlier, before, check_exact=True)


def test_a_second_run_changes_no_row(platform: Platform) -> None:
    bars_of(platform, DAYS[0], DAYS[3])
    enriched(platform, DAYS[0], DAYS[3])
    before = fingerprint(platform)
    reports = [enriched(platform, day, day) for day in DAYS[:4]]
    assert fingerprint(platform) == before
    assert {(r.written.inserted, r.written.changed, r.refreshed) for r in reports} == {(0, 0, 0)}


def test_each_row_says_how_many_bars_it_stands_on(platform: Platform) -> None:
    bars_of(platform, DAYS[0], DAYS[10], symbols=["CBA"])
    enriched(platform, DAYS[0], DAYS[0])
    enriched(platform, DAYS[10], DAYS[10])
    rows = indicator_rows(platform, "5m")
    assert list(rows["warmup_bars"][:3]) == [0, 1, 2]
    assert set(rows["warmup_bars"][-72:]) == {WARMUP_BARS}


def test_symbols_narrow_what_is_computed(platform: Platform) -> None:
    bars_of(platform, DAYS[0], DAYS[0])
    report = enriched(platform, DAYS[0], DAYS[0], symbols=["zip"])
    assert report.symbols == 1
    assert set(indicator_rows(platform, "5m")["symbol"]) == {"ZIP"}


def test_an_unknown_symbol_is_refused_by_name(platform: Platform) -> None:
    with pytest.raises(UnknownSymbolError, match="Market 'asx' has no GMG here"):
        enriched(platform, DAYS[0], DAYS[0], symbols=["GMG"])


@pytest.mark.parametrize(
    ("first", "last"),
    [(date(2022, 1, 1), date(2022, 1, 2)), (DAYS[0], DAYS[0])],
    ids=["closed days", "no bars"],
)
def test_without_bars_nothing_is_computed(platform: Platform, first: date, last: date) -> None:
    assert enriched(platform, first, last) == EnrichReport()


def test_daily_rows_are_computed_month_by_month(platform: Platform) -> None:
    january, march = date(2021, 12, 1), date(2022, 2, 28)
    bars_of(platform, january, march, "1d", ["CBA"])
    enriched(platform, date(2022, 2, 1), date(2022, 2, 28), "1d")
    enriched(platform, date(2021, 12, 1), date(2022, 1, 31), "1d")
    bars = pd.DataFrame(query(platform, "SELECT * FROM asx.bars_1d ORDER BY ts"))
    assert_near(indicator_rows(platform, "1d"), ta_values(bars).drop(columns="sma_200"))
