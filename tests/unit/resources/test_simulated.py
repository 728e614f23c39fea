"""The simulated source: the same bars however they are asked for, and never one too early."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scizor_core.bars import resample_bars
from scizor_core.markets import MARKETS, TIMEFRAMES, Timeframe
from scizor_core.schemas.bars import bar_faults
from scizor_core.sessions import get_calendar
from scizor_resources.providers.base import SOURCE_BAR_COLUMNS, BarBatch, BarRequest, SymbolRef
from scizor_resources.providers.simulated import SimulatedSource

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SYMBOLS = {"asx": ("CBA", "BHP"), "us": ("AAPL", "IBM"), "crypto": ("BTC/USD", "ETH/USD")}
BOTH_CBA_AND_BHP = ("CBA", "BHP")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ask(
    start: str | datetime,
    end: str | datetime,
    *symbols: str,
    market: str = "asx",
    timeframe: Timeframe = "1m",
    now: datetime = NOW,
    seed: int = 7,
) -> BarBatch:
    bounds = [each if isinstance(each, datetime) else at(each) for each in (start, end)]
    refs = tuple(SymbolRef(n, symbol) for n, symbol in enumerate(symbols or ("CBA",), start=1))
    source = SimulatedSource(seed, lambda: now)
    return source.fetch_bars(BarRequest(market, timeframe, bounds[0], bounds[1], refs))


def rows(batch: BarBatch, symbol: str = "CBA") -> pd.DataFrame:
    return batch.bars[batch.bars["symbol"] == symbol].reset_index(drop=True)


@pytest.mark.parametrize("market", sorted(MARKETS))
@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_every_bar_keeps_the_contract(market: str, timeframe: Timeframe) -> None:
    batch = ask("2026-11-16", "2026-11-20", *SYMBOLS[market], market=market, timeframe=timeframe)
    bars = batch.bars
    assert tuple(bars.columns) == SOURCE_BAR_COLUMNS
    assert set(bars["symbol"]) == set(SYMBOLS[market])
    assert set(bar_faults(bars, get_calendar(market), timeframe)) == {""}
    assert (bars["vwap"].between(bars["low"], bars["high"])).all()
    assert (bars["trade_count"] > 0).all()
    assert not bars.duplicated(["symbol", "ts"]).any()
    assert set(bars["source"]) == {"simulated"}


@settings(max_examples=20, deadline=None)
@given(first=st.integers(0, 6_000), length=st.integers(1, 3_000))
def test_a_window_is_a_slice_of_a_larger_one(first: int, length: int) -> None:
    start = at("2026-11-10") + timedelta(minutes=first)
    end = start + timedelta(minutes=length)
    whole = rows(ask("2026-11-09", "2026-11-18"))
    expected = whole[(whole["ts"] >= start) & (whole["ts"] < end)].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows(ask(start, end)), expected)


def test_order_and_number_of_symbols_do_not_matter() -> None:
    together = ask("2026-11-16", "2026-11-18", *BOTH_CBA_AND_BHP)
    reverse = ask("2026-11-16", "2026-11-18", *BOTH_CBA_AND_BHP[::-1])
    alone = ask("2026-11-16", "2026-11-18", "CBA")
    pd.testing.assert_frame_equal(together.bars, reverse.bars)
    pd.testing.assert_frame_equal(rows(together), rows(alone))


def test_other_seeds_and_symbols_are_other_markets() -> None:
    def closes(symbol: str, seed: int) -> list[float]:
        bars = ask("2026-11-01", "2026-11-18", symbol, timeframe="1d", seed=seed).bars
        return bars["close"].tolist()

    assert closes("CBA", 7) != closes("CBA", 8)
    assert closes("CBA", 7) != closes("BHP", 7)


@pytest.mark.parametrize("timeframe", ["5m", "15m"])
def test_coarser_bars_are_its_own_minutes_resampled(timeframe: Timeframe) -> None:
    minutes = ask("2026-11-16", "2026-11-18").bars.assign(instrument_id=1)
    minutes["session_date"] = get_calendar("asx").place(minutes["ts"])
    wanted = ["ts", "open", "high", "low", "close", "volume", "vwap", "trade_count"]
    pd.testing.assert_frame_equal(
        ask("2026-11-16", "2026-11-18", timeframe=timeframe).bars[wanted],
        resample_bars(minutes, timeframe)[wanted],
        check_dtype=False,
    )


def test_daily_bars_are_its_own_minutes_of_the_session() -> None:
    session = get_calendar("asx").session(at("2026-11-17").date())
    assert session is not None
    minutes = ask(session.open, session.close).bars
    day = ask("2026-11-17", "2026-11-18", timeframe="1d").bars.iloc[0]
    assert day["ts"] == pd.Timestamp("2026-11-17", tz="UTC")
    assert day["open"] == minutes["open"].iloc[0]
    assert day["close"] == minutes["close"].iloc[-1]
    assert (day["high"], day["low"]) == (minutes["high"].max(), minutes["low"].min())
    assert day["volume"] == minutes["volume"].sum()
    assert day["trade_count"] == minutes["trade_count"].sum()


@pytest.mark.parametrize("timeframe", ["1m", "5m", "15m"])
def test_no_bar_is_given_before_it_has_ended(timeframe: Timeframe) -> None:
    # Sydney opens at 23:00 UTC; at 23:07:30 seven minutes and one five-minute bar have ended.
    now = at("2026-11-16T23:07:30")
    bars = ask("2026-11-16T12:00", "2026-11-18", timeframe=timeframe, now=now).bars
    last = {"1m": "2026-11-16T23:06", "5m": "2026-11-16T23:00", "15m": None}[timeframe]
    assert (bars["ts"].max() if len(bars) else None) == (last and pd.Timestamp(last, tz="UTC"))


def test_no_daily_bar_is_given_before_the_close() -> None:
    before = ask("2026-11-17", "2026-11-18", timeframe="1d", now=at("2026-11-17T04:59"))
    after = ask("2026-11-17", "2026-11-18", timeframe="1d", now=at("2026-11-17T05:00"))
    assert (len(before.bars), len(after.bars)) == (0, 1)
    assert before.empty_reasons == {"CBA": "simulated: no 1d bar of XASX has ended in this window"}
    assert before.covered == []


def test_bars_given_early_in_a_session_are_not_changed_later() -> None:
    early = ask("2026-11-16", "2026-11-18", now=at("2026-11-17T01:00"))
    late = ask("2026-11-16", "2026-11-18")
    pd.testing.assert_frame_equal(early.bars, late.bars.head(len(early.bars)))


def test_covered_is_what_has_passed_of_each_session() -> None:
    batch = ask("2026-11-16T12:00", "2026-11-18T12:00", now=at("2026-11-18T01:02:03"))
    assert batch.covered == [
        ("CBA", at("2026-11-16T23:00"), at("2026-11-17T05:00")),
        ("CBA", at("2026-11-17T23:00"), at("2026-11-18T01:02")),
    ]


def test_closed_days_have_no_bars() -> None:
    batch = ask("2026-11-14", "2026-11-15T12:00")
    assert batch.bars.empty
    assert list(batch.empty_reasons) == ["CBA"]


def test_prices_stand_on_the_grid_of_the_exchange() -> None:
    bars = ask("2026-11-01", "2026-11-18", "ANZ", "CBA", timeframe="1d").bars
    cents, tenths = bars["close"] * 100, bars["close"] * 1_000
    assert (bars["close"] < 2).any()
    assert np.allclose(tenths, tenths.round())
    assert np.allclose(cents[bars["close"] >= 2], cents[bars["close"] >= 2].round())


def test_prices_go_on_from_session_to_session() -> None:
    bars = ask("2016-01-01", "2026-11-18", *BOTH_CBA_AND_BHP, timeframe="1d").bars
    for _, mine in bars.groupby("symbol"):
        overnight = np.log(mine["open"] / mine["close"].shift(1)).dropna()
        daily = np.log(mine["close"]).diff().dropna()
        # Overnight jumps are drawn with 0.3 %; a day moves by 1 to 2 % as shares do.
        assert 0.002 < overnight.std() < 0.005
        assert 0.008 < daily.std() < 0.025


def test_volume_is_highest_at_open_and_close() -> None:
    bars = ask("2026-10-01", "2026-11-18").bars
    of_day = bars.groupby(bars["ts"].dt.tz_convert("Australia/Sydney").dt.hour)["volume"].mean()
    assert of_day[10] > of_day[12] < of_day[15]


def test_some_minutes_of_a_quiet_symbol_have_no_trade() -> None:
    symbols = [f"Q{n:02d}" for n in range(30)]
    batch = ask("2026-11-16T12:00", "2026-11-17T12:00", *symbols)
    sizes = batch.bars.groupby("symbol").size()
    assert sizes.max() == 360
    assert 300 < sizes.min() < 360
