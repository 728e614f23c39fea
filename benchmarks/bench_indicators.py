"""Measure the indicators against the library `ta` called symbol by symbol.

    python benchmarks/bench_indicators.py [--json] [--symbols N] [--reference-symbols N]

The main shape is one session of one-minute bars: 500 symbols x 390 bars behind 200 warm-up bars.
Two more show few symbols with long series. Rows per second count every row computed, warm-up
included, on both sides. `ta` is measured on some of the symbols only (one after the other, the
same columns) and its rows per second are taken to hold for the rest: its cost per symbol does not
depend on how many there are. Each figure is the median of the runs.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import ta.momentum
import ta.trend
import ta.volatility
import ta.volume
from rich.console import Console
from rich.table import Table

from scizor_core.indicators import INDICATOR_COLUMNS, compute_indicators

RUNS = 5
SESSION_BARS = 390
WARMUP_ROWS = 200


@dataclass(frozen=True)
class Measurement:
    """One shape, measured on both sides."""

    symbols: int
    rows_per_symbol: int
    reference_symbols: int
    runs: int
    seconds: float
    rows_per_second: float
    ta_rows_per_second: float
    ratio: float


def random_bars(symbols: int, rows: int, seed: int = 7) -> pd.DataFrame:
    """Return random walks at a cent's tick, in sessions of 390 one-minute bars."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0, 0.0012, (symbols, rows)).cumsum(axis=1)
    close = np.round(rng.uniform(2.0, 150.0, (symbols, 1)) * np.exp(steps), 2)
    opened = np.concatenate([close[:, :1], close[:, :-1]], axis=1)
    wick = np.round(rng.exponential(0.02, (2, symbols, rows)), 2)
    bar = np.arange(rows)
    days = pd.Timestamp("2026-01-05") + pd.to_timedelta(bar // SESSION_BARS, unit="D")
    minutes = pd.to_timedelta(bar % SESSION_BARS, unit="min")
    ts = (days + pd.Timedelta(hours=14, minutes=30) + minutes).tz_localize("UTC").as_unit("us")
    return pd.DataFrame(
        {
            "instrument_id": np.repeat(np.arange(1, symbols + 1), rows),
            "ts": ts.append([ts] * (symbols - 1)) if symbols > 1 else ts,
            "session_date": np.tile(days.as_unit("us").to_numpy(), symbols),
            "open": opened.ravel(),
            "high": (np.maximum(opened, close) + wick[0]).ravel(),
            "low": (np.minimum(opened, close) - np.minimum(wick[1], 0.5)).ravel(),
            "close": close.ravel(),
            "volume": rng.integers(0, 200_000, symbols * rows).astype("float64"),
        }
    )


def reference_indicators(bars: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of one symbol as `ta` computes them (without the session's vwap)."""
    high, low, close, volume = (bars[name] for name in ("high", "low", "close", "volume"))
    macd = ta.trend.MACD(close)
    bands = ta.volatility.BollingerBands(close)
    stochastic = ta.momentum.StochasticOscillator(high, low, close)
    directional = ta.trend.ADXIndicator(high, low, close)
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
        "adx_14": directional.adx(),
        "adx_pos_14": directional.adx_pos(),
        "adx_neg_14": directional.adx_neg(),
        "mfi_14": ta.volume.money_flow_index(high, low, close, volume),
        "volume_sma_20": ta.trend.sma_indicator(volume, 20),
    }
    return pd.DataFrame(columns)


def median_seconds(work: Callable[[], object], runs: int) -> float:
    """Return the median duration of `work` over `runs` runs, after one that does not count."""
    work()
    durations: list[float] = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def measure(symbols: int, rows: int, reference_symbols: int, runs: int = RUNS) -> Measurement:
    """Return the speed of both sides on `symbols` random walks of `rows` bars each.

    Raises:
        SystemExit: the two sides disagree, so that a comparison would mean nothing.
    """
    bars = random_bars(symbols, rows)
    sampled = min(symbols, reference_symbols)
    parts = [bars.iloc[i * rows : (i + 1) * rows] for i in range(sampled)]
    ours = compute_indicators(bars)
    for part in parts:
        expected = reference_indicators(part)
        found = ours.loc[part.index, list(expected.columns)]
        if not np.allclose(found, expected, rtol=1e-9, atol=1e-9, equal_nan=True):
            raise SystemExit("The indicators differ from ta's; see the unit tests.")
    seconds = median_seconds(lambda: compute_indicators(bars), runs)
    ta_seconds = median_seconds(lambda: [reference_indicators(part) for part in parts], runs)
    speed, ta_speed = symbols * rows / seconds, sampled * rows / ta_seconds
    return Measurement(
        symbols, rows, sampled, runs, seconds, speed, ta_speed, ratio=speed / ta_speed
    )


def render(measurements: list[Measurement]) -> Table:
    """Return the measurements as a table."""
    table = Table(
        title=f"{len(INDICATOR_COLUMNS)} indicators, median of {measurements[0].runs} runs",
        caption="ta: symbol by symbol, measured on 'ta symbols' of them, all columns but vwap",
    )
    for heading in ("symbols", "bars each", "seconds", "rows/s", "ta symbols", "ta rows/s"):
        table.add_column(heading, justify="right")
    table.add_column("times ta", justify="right", style="bold")
    for one in measurements:
        table.add_row(
            f"{one.symbols:,}",
            f"{one.rows_per_symbol:,}",
            f"{one.seconds:.3f}",
            f"{one.rows_per_second:,.0f}",
            f"{one.reference_symbols:,}",
            f"{one.ta_rows_per_second:,.0f}",
            f"{one.ratio:,.0f}x",
        )
    return table


def main(arguments: list[str] | None = None) -> None:
    """Measure, then print a table, or JSON with `--json`."""
    parser = argparse.ArgumentParser(description="Indicators against ta, symbol by symbol.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--symbols", type=int, default=500, help="symbols of the main shape")
    parser.add_argument(
        "--reference-symbols", type=int, default=20, help="symbols that ta is measured on"
    )
    options = parser.parse_args(arguments)
    shapes = [(options.symbols, WARMUP_ROWS + SESSION_BARS), (18, 3_300), (1, 10_000)]
    measurements = [
        # One long series takes ta as long as many short ones; two are enough to measure it.
        measure(symbols, rows, options.reference_symbols if rows < 1_000 else 2)
        for symbols, rows in shapes
    ]
    console = Console()
    if options.json:
        console.print_json(json.dumps([asdict(one) for one in measurements]))
    else:
        console.print(render(measurements))


if __name__ == "__main__":
    main()
