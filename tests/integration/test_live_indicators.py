"""Indicators of live bars equal those of the batch, whatever order bars come in."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scizor_core.indicators import INDICATOR_COLUMNS, compute_indicators
from scizor_core.stream.engine import BarState, LiveBar
from scizor_resources.platform import Platform
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.live_indicators import IndicatorValues, LiveIndicators
from scizor_sidecar.pipeline import StreamedBar
from scizor_sidecar.spool import Spool
from scizor_sidecar.warm_writer import WarmWriter
from tests.unit.sidecar.fakes import eventually
from tests.unit.sidecar.streamed import MINUTE, window

# Shortly before midnight: the session changes within the series.
START = int(datetime(2026, 3, 2, 22, 30, tzinfo=UTC).timestamp()) * 1_000_000
STORED, ALL = 60, 150


@pytest.fixture
def btc(platform: Platform) -> Stream:
    instrument, _ = platform.reference.ensure("crypto", "BTC/USD")
    return Stream("crypto", "BTC/USD", instrument.instrument_id)


@pytest.fixture
def prices() -> pd.DataFrame:
    """Bars of a random walk, as `compute_indicators` takes them."""
    rng = np.random.default_rng(5)
    close = 100 * np.exp(rng.normal(0, 0.004, ALL).cumsum())
    ts = pd.to_datetime(START + MINUTE * np.arange(ALL), unit="us", utc=True).as_unit("us")
    return pd.DataFrame(
        {
            "instrument_id": 1,
            "ts": ts,
            "session_date": ts.tz_localize(None).normalize(),
            "high": close + rng.uniform(0, 1, ALL),
            "low": close - rng.uniform(0, 1, ALL),
            "close": close,
            "volume": rng.integers(1, 900, ALL).astype(float),
        }
    )


class Setup:
    """Indicators and a writer on a real database, with the first bars stored."""

    def __init__(self, platform: Platform, stream: Stream, prices: pd.DataFrame, folder: Path):
        self.stream, self.prices = stream, prices
        self.writer = WarmWriter(
            platform, Spool(folder), lambda _stream, _ts: None, flush_seconds=30
        )
        self.made: dict[int, IndicatorValues] = {}
        self.clock = 0.0
        self.indicators = LiveIndicators(
            platform, [self._note], settled=self.writer.settled, monotonic=lambda: self.clock
        )

    def _note(self, changed: list[IndicatorValues]) -> None:
        self.made.update({each.start: each for each in changed})

    def bar(self, number: int, state: BarState = BarState.CLOSED) -> StreamedBar:
        row = self.prices.iloc[number]
        start = START + number * MINUTE
        close = float(row["close"])
        bar = LiveBar(
            0, "1m", start, close, float(row["high"]), float(row["low"]), close,
            float(row["volume"]), close, 3, state,
        )  # fmt: skip
        return StreamedBar(self.stream, bar, "kraken", 0)

    def take(self, *bars: StreamedBar) -> None:
        for listener in (self.indicators, self.writer):
            listener.on_window(window(*bars))

    def take_one_by_one(self, *numbers: int) -> None:
        for number in numbers:
            self.take(self.bar(number))

    def has_made(self, *numbers: int) -> bool:
        return all(START + number * MINUTE in self.made for number in numbers)


def play(
    platform: Platform,
    stream: Stream,
    prices: pd.DataFrame,
    folder: Path,
    work: Callable[[Setup], Awaitable[None]],
) -> Setup:
    async def inside() -> Setup:
        setup = Setup(platform, stream, prices, folder)
        setup.writer.bars([setup.bar(number) for number in range(STORED)])
        await setup.writer.flush()
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(setup.writer.run()),
                tasks.create_task(setup.indicators.run()),
            ]
            await work(setup)
            for task in running:
                task.cancel()
        await setup.writer.close()
        return setup

    return asyncio.run(inside())


def assert_like_the_batch(setup: Setup, prices: pd.DataFrame, numbers: list[int]) -> None:
    expected = compute_indicators(prices)[list(INDICATOR_COLUMNS)].to_numpy()
    places = {START + number * MINUTE: place for place, number in enumerate(prices.index)}
    for number in numbers:
        start = START + number * MINUTE
        np.testing.assert_allclose(
            setup.made[start].row, expected[places[start]], rtol=1e-9, atol=1e-9
        )


def test_a_series_goes_on_from_the_stored_bars(
    platform: Platform, btc: Stream, prices: pd.DataFrame, tmp_path: Path
) -> None:
    async def work(setup: Setup) -> None:
        setup.take_one_by_one(60, 61, 62)
        await eventually(lambda: setup.has_made(60, 61, 62))
        setup.take_one_by_one(*range(63, ALL))

    setup = play(platform, btc, prices, tmp_path, work)

    assert_like_the_batch(setup, prices, list(range(STORED, ALL)))
    assert setup.made[START + 70 * MINUTE].warmup_bars == 70


def test_a_bar_that_is_healed_changes_all_that_follow(
    platform: Platform, btc: Stream, prices: pd.DataFrame, tmp_path: Path
) -> None:
    async def work(setup: Setup) -> None:
        setup.take_one_by_one(60, 61, 65, 66)
        await eventually(lambda: setup.has_made(60, 66))
        setup.made.clear()
        setup.take(setup.bar(62), setup.bar(63), setup.bar(64))
        setup.take_one_by_one(67)
        await eventually(lambda: setup.has_made(62, 67))

    setup = play(platform, btc, prices, tmp_path, work)

    assert_like_the_batch(setup, prices, list(range(62, 68)))


def test_a_revised_last_bar_replaces_itself(
    platform: Platform, btc: Stream, prices: pd.DataFrame, tmp_path: Path
) -> None:
    wrong = prices.copy()
    wrong.loc[61, "close"] += 0.3

    async def work(setup: Setup) -> None:
        setup.take_one_by_one(60)
        await eventually(lambda: setup.has_made(60))
        setup.prices = wrong
        setup.take_one_by_one(61)
        setup.prices = prices
        setup.take(setup.bar(61, BarState.REVISED))
        setup.take_one_by_one(62)

    setup = play(platform, btc, prices, tmp_path, work)

    assert_like_the_batch(setup, prices, [61, 62])


def test_a_bar_that_forms_has_values_and_leaves_no_trace(
    platform: Platform, btc: Stream, prices: pd.DataFrame, tmp_path: Path
) -> None:
    forming = prices.copy()
    forming.loc[61, ["close", "volume"]] *= 0.9999

    async def work(setup: Setup) -> None:
        setup.take_one_by_one(60)
        await eventually(lambda: setup.has_made(60))
        setup.clock += 1
        setup.prices = forming
        setup.take(setup.bar(61, BarState.FORMING))
        assert_like_the_batch(setup, forming, [61])
        assert not setup.made[START + 61 * MINUTE].is_final
        setup.prices = prices
        setup.take_one_by_one(61)

    setup = play(platform, btc, prices, tmp_path, work)

    assert_like_the_batch(setup, prices, [61])
    newest = setup.indicators.values(btc, "1m")
    assert newest is not None
    assert newest["sma_200"] is None
    assert newest["sma_10"] == pytest.approx(prices["close"].iloc[52:62].mean(), rel=1e-9)


def test_a_series_without_stored_bars_begins_with_its_first(
    platform: Platform, prices: pd.DataFrame, tmp_path: Path, btc: Stream
) -> None:
    instrument, _ = platform.reference.ensure("crypto", "ETH/USD")
    eth = Stream("crypto", "ETH/USD", instrument.instrument_id)

    async def work(setup: Setup) -> None:
        setup.stream = eth
        setup.take_one_by_one(*range(STORED, STORED + 20))
        await eventually(lambda: setup.has_made(*range(STORED, STORED + 20)))

    setup = play(platform, btc, prices, tmp_path, work)

    alone = prices.iloc[STORED : STORED + 20]
    assert_like_the_batch(setup, alone, list(alone.index))
