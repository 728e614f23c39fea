"""The bars and indicators of a day are the same, streamed or made by the Dagster assets."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from scizor_core.indicators import INDICATOR_COLUMNS
from scizor_core.markets import Timeframe
from scizor_core.stream.engine import STREAM_TIMEFRAMES, BarState, LiveBar
from scizor_core.stream.indicators import StreamingIndicators, bar_columns
from scizor_resources.platform import Platform
from scizor_resources.tape.importer import ImportSpec, import_file
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.pipeline import FeedPipeline
from tests.contract.lab.trade_tape import TradeTape, make_tape
from tests.unit.sidecar.fakes import Clock, Recorder

from .helpers import indicator_rows, query
from .test_assets import run

DAY = "2026-03-02"
NOW = datetime(2026, 3, 4, tzinfo=UTC)
SYMBOLS = ("BTC/USD", "ETH/USD")
STREAMS = tuple(Stream("crypto", symbol, number + 1) for number, symbol in enumerate(SYMBOLS))
_ASSETS = [f"crypto/{kind}_{each}" for kind in ("bars", "indicators") for each in STREAM_TIMEFRAMES]
_BARS = """
    SELECT symbol, (extract(epoch FROM b.ts) * 1000000)::bigint AS start, b.open, b.high, b.low,
           b.close, b.volume, b.vwap, b.trade_count
    FROM market.bars AS b JOIN public.symbols USING (instrument_id)
    WHERE b.timeframe = %s ORDER BY symbol, b.ts
"""
_MIDNIGHT_US = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) * 1_000_000
_DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def tape() -> TradeTape:
    """Return a day's trades, arriving up to two seconds late and out of order."""
    start = datetime(2026, 3, 2, tzinfo=UTC)
    return make_tape(SYMBOLS, 20_000, minutes=1_440, reorder_seconds=2, start=start, seed=3)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def batch(
    platform: Platform,
    instance: dg.DagsterInstance,
    tape: TradeTape,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Platform:
    """The platform after the assets of the day have been materialized from the same trades."""
    chosen = platform.settings.model_copy(update={"chain_crypto": ("tape",)})
    monkeypatch.setattr(platform, "settings", chosen)
    monkeypatch.setattr(platform, "now", lambda: NOW)
    trades = tape.frame()
    trades["time"] = pd.to_datetime(trades["ts"], unit="us", utc=True)
    for symbol, rows in trades.groupby("symbol"):
        platform.reference.ensure("crypto", str(symbol))
        path = tmp_path / f"{str(symbol).replace('/', '')}.csv"
        rows[["time", "price", "size", "trade_id"]].to_csv(path, index=False)
        spec = ImportSpec(market="crypto", symbol=str(symbol), timeframe="tick")
        import_file(path, spec, platform.settings.tape_directory, lambda: NOW)
    assert run(platform, instance, _ASSETS, DAY, symbols=list(SYMBOLS)).success
    return platform


def streamed(tape: TradeTape, seed: int) -> dict[tuple[str, Timeframe], list[LiveBar]]:
    """Return the closed bars of a tape that comes in pieces of random length, some of it twice."""
    chance = np.random.default_rng(seed)
    recorder, clock = Recorder(), Clock(NOW)
    pipeline = FeedPipeline("tape", [recorder], clock.now)
    for stream in STREAMS:
        pipeline.number(stream)
    pipeline.connecting()
    pipeline.connected()
    at = 0
    while at < len(tape):
        end = at + _piece(chance)
        rows = tape.arrival[max(at - int(chance.integers(0, 5)), 0) : end]
        at = end
        pipeline.trades(
            [STREAMS[number] for number in tape.symbol[rows]],
            tape.ts[rows].tolist(),
            tape.price[rows].tolist(),
            tape.size[rows].tolist(),
            tape.trade_id[rows].tolist(),
        )
        pipeline.step()
    pipeline.engine.close_until(_MIDNIGHT_US + _DAY_US)
    pipeline.step()
    last = {
        (each.stream.symbol, each.bar.timeframe, each.bar.start): each.bar
        for window in recorder.windows
        for each in window.bars
    }
    found: dict[tuple[str, Timeframe], list[LiveBar]] = {}
    for (symbol, timeframe, _), bar in sorted(last.items()):
        assert bar.state in (BarState.CLOSED, BarState.REVISED)
        found.setdefault((symbol, timeframe), []).append(bar)
    return found


def _piece(chance: np.random.Generator) -> int:
    """Return the length of a piece: mostly short, sometimes a burst."""
    return int(chance.integers(1, 30) if chance.random() < 0.9 else chance.integers(500, 3_000))


def indicators_of(bars: list[LiveBar]) -> np.ndarray:
    """Return the indicators after each bar, carried on bar by bar."""
    engine = StreamingIndicators()
    slots = engine.add()
    day = _MIDNIGHT_US // _DAY_US
    return np.vstack(
        [
            engine.update(slots, bar_columns([(day, bar.high, bar.low, bar.close, bar.volume)]))
            for bar in bars
        ]
    )


def test_streamed_bars_and_indicators_of_a_day_are_those_of_the_assets(
    batch: Platform, tape: TradeTape
) -> None:
    for seed in range(3):
        assert_equal(streamed(tape, seed), batch)


def assert_equal(found: dict[tuple[str, Timeframe], list[LiveBar]], batch: Platform) -> None:
    for timeframe in STREAM_TIMEFRAMES:
        stored = pd.DataFrame(query(batch, _BARS, timeframe))
        values = indicator_rows(batch, timeframe)
        assert len(stored) == sum(len(found[symbol, timeframe]) for symbol in SYMBOLS)
        for symbol in SYMBOLS:
            bars = found[symbol, timeframe]
            mine = stored[stored["symbol"] == symbol]
            assert [bar.start for bar in bars] == mine["start"].tolist()
            assert [bar.trade_count for bar in bars] == mine["trade_count"].tolist()
            np.testing.assert_allclose(
                [[b.open, b.high, b.low, b.close, b.volume, b.vwap] for b in bars],
                mine[["open", "high", "low", "close", "volume", "vwap"]].to_numpy(float),
                rtol=1e-9,
            )
            expected = values[values["symbol"] == symbol][list(INDICATOR_COLUMNS)]
            np.testing.assert_allclose(
                indicators_of(bars), expected.to_numpy(float), rtol=1e-9, atol=1e-9
            )
