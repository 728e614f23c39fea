"""The tape as a live feed: order, pace, what joins and leaves, and the bars that come of it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scizor_core.errors import InvalidInputError
from scizor_core.stream.engine import STREAM_TIMEFRAMES
from scizor_core.ticks import TICK_COLUMNS
from scizor_resources.errors import BadRequest
from scizor_resources.providers.tape import TapeSource
from scizor_resources.tape.importer import ImportSpec, import_file
from scizor_sidecar.feeds.base import Stream, Wanted
from scizor_sidecar.feeds.tape import CHUNK, TapeFeed
from scizor_sidecar.pipeline import FeedPipeline
from tests.contract.lab.heard import HeardTrades
from tests.contract.lab.trade_tape import START, TradeTape, bars_of, make_tape
from tests.unit.sidecar.fakes import BTC, ETH, Clock, Recorder, eventually

BOTH = frozenset({BTC, ETH})
_SECOND_US = 1_000_000
_START_US = int(START.timestamp()) * _SECOND_US


class Files:
    """Trades in memory: symbol -> (seconds after `START`, price)."""

    def __init__(self, **trades: Sequence[tuple[float, float]]) -> None:
        self._trades = {f"{name}/USD": rows for name, rows in trades.items()}

    def trades_span(self, market: str, symbol: str) -> tuple[datetime, datetime] | None:
        del market
        if symbol == "BAD/USD":
            raise InvalidInputError("the file is torn")
        rows = self._trades.get(symbol)
        return None if not rows else (_at(rows[0][0]), _at(rows[-1][0]))

    def trades(self, market: str, symbol: str, start: datetime, end: datetime) -> pd.DataFrame:
        del market
        rows = [row for row in self._trades[symbol] if start <= _at(row[0]) < end]
        frame = pd.DataFrame(
            {
                "ts": pd.Series([_at(seconds) for seconds, _ in rows], dtype="datetime64[us, UTC]"),
                "price": [price for _, price in rows],
                "size": 1.0,
                "trade_id": pd.Series([f"{price:.0f}" for _, price in rows], dtype="str"),
                "row_number": range(1, len(rows) + 1),
            }
        )
        return frame[list(TICK_COLUMNS)]


def _at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Time:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


class TimedSink(HeardTrades):
    """Notes when trades came."""

    def __init__(self, time: Time) -> None:
        super().__init__()
        self._time = time
        self.times: list[float] = []

    def trades(self, streams: Sequence[Stream], ts: Sequence[int], *columns: object) -> None:
        super().trades(streams, ts, *columns)  # type: ignore[arg-type]
        self.times += [self._time.seconds] * len(ts)


def played(
    feed: TapeFeed,
    sink: HeardTrades,
    trades: int,
    wanted: frozenset[Stream] = BOTH,
    then: Callable[[Wanted], Awaitable[None]] | None = None,
) -> HeardTrades:
    """Return the sink when so many trades have come, and what was to happen then has."""

    async def run() -> None:
        want = Wanted(wanted)
        task = asyncio.ensure_future(feed.run(want, sink))
        await eventually(lambda: len(sink.rows) >= trades or task.done())
        if then is not None:
            await then(want)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    return sink


def prices(sink: HeardTrades) -> list[float]:
    return [row[2] for row in sink.rows]


def test_trades_of_all_symbols_come_in_the_order_of_their_time():
    files = Files(BTC=[(0, 1), (2, 3), (7_300, 5)], ETH=[(1, 2), (7_200, 4)])
    sink = played(TapeFeed(files, speed=0), HeardTrades(), 5)
    assert sink.rows[1] == ("ETH/USD", _START_US + _SECOND_US, 2.0, 1.0)
    assert (prices(sink), sink.ids) == ([1, 2, 3, 4, 5], ["1", "2", "3", "4", "5"])


@pytest.mark.parametrize("speed", [1, 4])
def test_trades_come_when_they_are_due(speed: float):
    time = Time()
    files = Files(BTC=[(0, 1), (10, 2), (60, 3)])
    feed = TapeFeed(files, speed=speed, monotonic=time.monotonic, sleep=time.sleep)
    sink = TimedSink(time)
    played(feed, sink, 3, frozenset({BTC}))
    assert sink.times == pytest.approx([0, 10 / speed, 60 / speed])


def test_a_night_without_trades_is_skipped():
    time = Time()
    files = Files(BTC=[(0, 1), (10 * 86_400, 2), (10 * 86_400 + 5, 3)])
    feed = TapeFeed(files, monotonic=time.monotonic, sleep=time.sleep)
    sink = TimedSink(time)
    played(feed, sink, 3, frozenset({BTC}))
    assert sink.times == pytest.approx([0, 0, 5])


def test_trades_of_one_instant_are_handed_over_together_once():
    rows = [(1, float(number)) for number in range(1, CHUNK + 11)]
    sink = played(TapeFeed(Files(BTC=[*rows, (2, 9_999)]), speed=0), HeardTrades(), len(rows) + 1)
    assert prices(sink) == [price for _, price in rows] + [9_999]


def test_a_symbol_that_joins_comes_in_at_the_tapes_time():
    time = Time()
    files = Files(BTC=[(second, 1.0) for second in range(100)], ETH=[(s, 2.0) for s in range(100)])
    feed = TapeFeed(files, monotonic=time.monotonic, sleep=time.sleep)
    sink = HeardTrades()

    async def join(wanted: Wanted) -> None:
        await wanted.set(BOTH)
        await eventually(lambda: sink.rows[-1][1] == _START_US + 99 * _SECOND_US)

    played(feed, sink, 10, frozenset({BTC}), join)
    by_symbol = {
        name: [(row[1] - _START_US) // _SECOND_US for row in sink.rows if row[0] == name]
        for name in ("BTC/USD", "ETH/USD")
    }
    first = by_symbol["ETH/USD"][0]
    assert first >= 10
    assert by_symbol == {"BTC/USD": list(range(100)), "ETH/USD": list(range(first, 100))}
    assert sink.connections == 1


def test_a_symbol_that_leaves_is_heard_no_more():
    time = Time()
    files = Files(BTC=[(second, 1.0) for second in range(100)], ETH=[(s, 2.0) for s in range(100)])
    feed = TapeFeed(files, monotonic=time.monotonic, sleep=time.sleep)
    sink = HeardTrades()
    left_at: list[int] = []

    async def leave(wanted: Wanted) -> None:
        await wanted.set(frozenset({BTC}))
        left_at.append(sink.rows[-1][1])
        await eventually(lambda: sink.rows[-1][1] == _START_US + 99 * _SECOND_US)

    played(feed, sink, 10, BOTH, leave)
    # The piece that was on its way may still come.
    last = max(row[1] for row in sink.rows if row[0] == "ETH/USD")
    assert last <= left_at[0] + 2 * _SECOND_US


def test_the_next_run_goes_on_where_the_last_was_cut():
    time = Time()
    files = Files(BTC=[(second, float(second + 1)) for second in range(1_000)])
    feed = TapeFeed(files, monotonic=time.monotonic, sleep=time.sleep)
    sink = HeardTrades()
    played(feed, sink, 100, frozenset({BTC}))
    played(feed, sink, 1_000, frozenset({BTC}))
    assert prices(sink) == list(range(1, 1_001))


def test_at_its_end_the_tape_stays_connected_and_ends_when_nothing_is_wanted():
    async def run() -> HeardTrades:
        sink, wanted = HeardTrades(), Wanted(frozenset({BTC}))
        task = asyncio.ensure_future(TapeFeed(Files(BTC=[(0, 1)]), speed=0).run(wanted, sink))
        await eventually(lambda: sink.lives > 0)
        assert not task.done()
        await wanted.set(frozenset())
        await task
        return sink

    assert prices(asyncio.run(run())) == [1]


def test_symbols_that_the_tape_does_not_have_are_rejected_with_the_reason():
    bad = Stream("crypto", "BAD/USD", 9)
    sink = played(TapeFeed(Files(BTC=[(0, 1)]), speed=0), HeardTrades(), 1, BOTH | {bad})
    assert sink.rejections == {
        "ETH/USD": "The tape has no trades of ETH/USD.",
        "BAD/USD": "the file is torn",
    }


def test_a_tape_of_which_nothing_can_be_played_says_so():
    with pytest.raises(BadRequest, match="import some"):
        asyncio.run(TapeFeed(Files(), speed=0).run(Wanted(BOTH), HeardTrades()))


def _import(tape: TradeTape, folder: Path) -> TapeSource:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    frame = tape.frame().iloc[tape.arrival]
    frame["time"] = pd.to_datetime(frame["ts"], unit="us", utc=True)
    for symbol, rows in frame.groupby("symbol"):
        path = folder / f"{str(symbol).replace('/', '')}.csv"
        rows[["time", "price", "size", "trade_id"]].to_csv(path, index=False)
        spec = ImportSpec(market="crypto", symbol=str(symbol), timeframe="tick")
        import_file(path, spec, folder / "tape", lambda: now)
    return TapeSource(folder / "tape", lambda: now)


def test_the_bars_of_imported_trades_are_those_of_the_trades(tmp_path: Path):
    symbols = ("BTC/USD", "ETH/USD", "SOL/USD")
    tape = make_tape(symbols, 30_000, minutes=90, reorder_seconds=2, quiet_share=0.3)
    source = _import(tape, tmp_path)
    streams = frozenset(Stream("crypto", name, at) for at, name in enumerate(symbols))
    recorder = Recorder()

    async def run() -> FeedPipeline:
        pipeline = FeedPipeline("tape", [recorder], Clock(_at(7_200)).now)
        feed = TapeFeed(source, speed=0)
        tasks = [
            asyncio.ensure_future(each)
            for each in (feed.run(Wanted(streams), pipeline), pipeline.run())
        ]
        await eventually(lambda: pipeline.counts.trades >= len(tape))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        pipeline.step(last=True)
        return pipeline

    counts = asyncio.run(run()).counts
    assert (counts.trades, counts.quarantined, counts.repeated) == (len(tape), 0, 0)
    last = {
        (each.stream.symbol, each.bar.timeframe, each.bar.start): each.bar
        for window in recorder.windows
        for each in window.bars
    }
    columns = ["open", "high", "low", "close", "volume", "trade_count"]
    for timeframe in STREAM_TIMEFRAMES:
        expected = bars_of(tape.frame(), int(timeframe[:-1]))[columns]
        found = {
            (symbol, start): [getattr(bar, name) for name in columns]
            for (symbol, frame, start), bar in last.items()
            if frame == timeframe
        }
        assert sorted(found) == list(expected.index)
        actual = np.array([found[key] for key in expected.index])
        np.testing.assert_allclose(actual, expected.to_numpy(), rtol=1e-9)
