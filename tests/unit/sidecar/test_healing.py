"""Holes of a feed: when they begin, how they are filled, and what survives a kill.

The world is a list of trades; the feed delivers those of the times at which it is connected, the
history tells them all. What is expected is what all of them make.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from scizor_core.stream.engine import BarState
from scizor_core.stream.trades import MICROSECONDS
from scizor_resources.errors import AuthError, TransientError, WarehouseAway
from scizor_resources.platform import Platform
from scizor_resources.trades.base import Listed, TradeColumns
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.heal_work import HealPatience
from scizor_sidecar.healing import Healer
from scizor_sidecar.journal import Hole, Journal
from scizor_sidecar.outage_book import OutageBook
from scizor_sidecar.pipeline import FeedPipeline, StreamedBar, Window

from .fakes import BTC, ETH, Clock

MINUTE = 60 * MICROSECONDS
START = datetime(2026, 3, 2, 12, tzinfo=UTC)
NOON = int(START.timestamp()) * MICROSECONDS

#: Time in seconds after noon, price; size is 1, the price is the id too.
World = dict[Stream, list[tuple[float, float]]]


def every(seconds: float, minutes: int) -> list[tuple[float, float]]:
    """Return trades at a steady rate, prices that say when."""
    count = int(minutes * 60 / seconds)
    return [(number * seconds + 0.5, 100 + number) for number in range(count)]


@dataclass
class History:
    """Tells the trades of the world up to now."""

    world: World
    clock: Clock
    same_as_live: bool = True
    most: int = 1_000
    #: So much of what has happened last it does not tell yet.
    behind_seconds: float = 0.0
    #: Times of trades that it does not tell.
    untold: set[float] = field(default_factory=set)
    fails: list[Exception] = field(default_factory=list)
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    name: str = "kraken"

    def fetch_trades(self, stream: Listed, start_us: int, end_us: int) -> TradeColumns:
        self.asked.append((stream.symbol, start_us, end_us))
        if self.fails:
            raise self.fails.pop(0)
        found = TradeColumns(end_us)
        now = (self.clock.at - START).total_seconds() - self.behind_seconds
        for second, price in self.world[cast("Stream", stream)]:
            ts = NOON + int(second * MICROSECONDS)
            if not (start_us <= ts < end_us and second < now) or second in self.untold:
                continue
            if len(found) >= self.most:
                return TradeColumns(ts, found.ts, found.price, found.size, found.trade_id)
            found.ts.append(ts)
            found.price.append(price)
            found.size.append(1.0)
            found.trade_id.append(int(price))
        return found


class Book(OutageBook):
    """Keeps what PostgreSQL would be told."""

    def __init__(self) -> None:
        self.rows: dict[int, list[Any]] = {}
        self.details: list[str] = []

    def began(self, hole: Hole) -> None:
        if hole.is_outage:
            self.rows.setdefault(hole.number, [hole.start, None, hole.reason])

    def ended(self, hole: Hole) -> None:
        self.began(hole)
        if hole.is_outage:
            self.rows[hole.number][1] = hole.end

    def told(self, hole: Hole, detail: str) -> None:
        del hole
        self.details.append(detail)

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def flush(self) -> None:
        pass


@dataclass
class FakeWarehouse:
    """Bars as PostgreSQL has them: (timeframe, minute after noon, source, trades)."""

    rows: list[tuple[str, int, str, int]] = field(default_factory=list)

    def read_bars(
        self, timeframe: str, start: datetime, end: datetime, instrument_ids: Sequence[int]
    ) -> pd.DataFrame:
        del instrument_ids
        found = [
            (pd.Timestamp(START + timedelta(minutes=minute)), source, trades)
            for each, minute, source, trades in self.rows
            if each == timeframe and start <= START + timedelta(minutes=minute) < end
        ]
        return pd.DataFrame(found, columns=["ts", "source", "trade_count"])


@dataclass
class FakePlatform:
    """A clock and stored bars; everything else is PostgreSQL's or a provider's."""

    clock: Clock
    warehouse: FakeWarehouse = field(default_factory=FakeWarehouse)

    def now(self) -> datetime:
        return self.clock.at


class Bars:
    """Keeps the last state of each bar."""

    def __init__(self) -> None:
        self.last: dict[tuple[str, str, int], tuple[Any, ...]] = {}
        self.states: dict[tuple[str, str, int], BarState] = {}
        self.sources: dict[tuple[str, str, int], str] = {}

    def on_window(self, window: Window) -> None:
        self.take(window.bars)

    def take(self, bars: Sequence[StreamedBar]) -> None:
        for each in bars:
            bar = each.bar
            key = (each.stream.symbol, bar.timeframe, (bar.start - NOON) // MINUTE)
            self.last[key] = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trade_count)
            self.states[key] = bar.state
            self.sources[key] = each.source

    def on_state(self, feed: str, state: FeedState, why: str, at: int) -> None:
        pass


class Scene:
    """One process on a world, whose time is moved by hand."""

    def __init__(
        self, folder: Path, world: World, clock: Clock | None = None, **history: Any
    ) -> None:
        self.clock = clock or Clock(START)
        self.world, self.wanted = world, frozenset(world)
        self.history: History | None = History(world, self.clock, **history)
        self.bars, self.book = Bars(), Book()
        self.journal, self.warehouse = Journal(folder), FakeWarehouse()
        pipelines: dict[str, FeedPipeline] = {}
        self.revised: list[StreamedBar] = []
        self.resubscribed: list[Stream] = []
        self.healer = Healer(
            cast("Platform", FakePlatform(self.clock, self.warehouse)),
            pipelines,
            self.journal,
            wanted=lambda _: self.wanted,
            revised=self.revised.extend,
            resubscribe=lambda _, stream: self.resubscribed.append(stream),
            sources=lambda *_: self.history,
            book=self.book,
            heal_hours=24,
            patience=HealPatience(settle_seconds=0),
            monotonic=self.clock.monotonic,
        )
        self.pipeline = FeedPipeline(
            "kraken", [self.healer, self.bars], self.clock.now, monotonic=self.clock.monotonic
        )
        pipelines["kraken"] = self.pipeline
        self.sent = dict.fromkeys(world, 0)

    def connect(self) -> None:
        self.pipeline.connecting()
        self.pipeline.connected()

    def cut(self) -> None:
        self.pipeline.disconnected(FeedState.WAITING, "the connection broke")

    def play(self, until: float, *, only: Stream | None = None) -> None:
        """Let time go on; what happens is delivered while the feed is connected."""
        now = (self.clock.at - START).total_seconds()
        while now < until:
            now = min(now + 0.5, until)
            self.clock.at = START + timedelta(seconds=now)
            if self.pipeline.is_connected:
                self.pipeline.alive()
            for stream in sorted(self.world):
                self._deliver(stream, now, is_heard=only in (None, stream))
            self.pipeline.step()

    def _deliver(self, stream: Stream, now: float, *, is_heard: bool) -> None:
        trades = self.world[stream]
        first = self.sent[stream]
        while self.sent[stream] < len(trades) and trades[self.sent[stream]][0] < now:
            self.sent[stream] += 1
        rows = range(first, self.sent[stream])
        if rows and is_heard and self.pipeline.is_connected and stream in self.wanted:
            self.pipeline.trades(
                [stream] * len(rows),
                [NOON + int(trades[row][0] * MICROSECONDS) for row in rows],
                [trades[row][1] for row in rows],
                [1.0] * len(rows),
                [int(trades[row][1]) for row in rows],
            )

    def heal(self) -> None:
        asyncio.run(self._heal())
        self.pipeline.step()

    async def _heal(self) -> None:
        await self.healer.tick()
        for care in self.healer._cares.values():  # noqa: SLF001  # what `run` does, without waiting
            await care.work.step()

    def close(self) -> None:
        """End as a kill does: the journal is as the last tick left it."""
        self.journal._file.close()  # noqa: SLF001  # closing it properly would write on


@pytest.fixture
def scenes(tmp_path: Path) -> Iterator[Any]:
    made: list[Scene] = []

    def make(
        world: World, clock: Clock | None = None, after: Scene | None = None, **history: Any
    ) -> Scene:
        if made:
            made[-1].close()
        made.append(Scene(tmp_path, world, clock if after is None else after.clock, **history))
        if after is not None:
            # The exchange is the same one, and as far as it was.
            made[-1].sent = after.sent
        return made[-1]

    yield make
    made[-1].close()


def bars_of(world: World, until: float, first_minute: int = 0) -> dict[Any, tuple[Any, ...]]:
    """Return the minute bars that all trades before an instant make."""
    found: dict[Any, list[float]] = {}
    for stream, trades in world.items():
        for second, price in trades:
            if first_minute * 60 <= second < until:
                found.setdefault((stream.symbol, "1m", int(second // 60)), []).append(price)
    return {
        key: (prices[0], max(prices), min(prices), prices[-1], float(len(prices)), len(prices))
        for key, prices in found.items()
    }


def minutes(scene: Scene) -> dict[Any, tuple[Any, ...]]:
    return {key: bar for key, bar in scene.bars.last.items() if key[1] == "1m"}


def states(scene: Scene) -> set[BarState]:
    return {state for key, state in scene.bars.states.items() if key[1] == "1m"}


def test_what_was_missed_while_the_connection_was_cut_is_filled(scenes: Any):
    scene = scenes({BTC: every(7, 20), ETH: every(11, 20)})
    scene.connect()
    scene.play(200)
    scene.heal()
    scene.cut()
    scene.play(430)
    scene.connect()
    scene.play(600)
    assert minutes(scene) != bars_of(scene.world, 600)

    scene.heal()

    assert minutes(scene) == bars_of(scene.world, 600)
    assert states(scene) <= {BarState.CLOSED, BarState.FORMING}


def test_bars_of_an_outage_are_provisional_until_it_is_healed(scenes: Any):
    scene = scenes({BTC: every(7, 20)})
    scene.connect()
    scene.play(200)
    scene.heal()
    scene.cut()
    scene.play(310)
    scene.connect()
    scene.play(500)
    before = {key[2]: state for key, state in scene.bars.states.items() if key[1] == "1m"}

    assert before[2] is BarState.CLOSED
    assert {before[minute] for minute in (3, 5)} == {BarState.PROVISIONAL}
    assert before[7] is BarState.CLOSED


def test_an_outage_stands_in_the_ledger_with_its_duration_and_reason(scenes: Any):
    scene = scenes({BTC: every(0.5, 20)})
    scene.connect()
    scene.play(200)
    scene.heal()
    scene.cut()
    assert scene.healer.open_outages[0].end is None
    scene.play(290)
    scene.connect()
    scene.heal()

    ((began, ended, reason),) = scene.book.rows.values()
    assert (ended - began) / MICROSECONDS == pytest.approx(90, abs=10)
    assert reason == "the connection broke"
    assert scene.healer.open_outages == []


def test_the_minute_in_which_a_feed_connects_first_is_whole(scenes: Any):
    scene = scenes({BTC: every(7, 20)})
    scene.play(400)
    scene.connect()
    scene.play(500)
    scene.heal()

    assert minutes(scene) == bars_of(scene.world, 500)
    assert scene.book.rows == {}


def test_the_first_quarter_of_an_hour_of_a_feed_that_replays_an_old_day_is_whole(scenes: Any):
    clock = Clock(START)
    scene = scenes({BTC: every(7, 40)}, clock)
    scene.play(400)
    clock.at += timedelta(days=200)
    scene.pipeline.connecting()
    scene.pipeline.connected()
    row = scene.sent[BTC]
    scene.pipeline.trades(
        [BTC],
        [NOON + int(scene.world[BTC][row][0] * MICROSECONDS)],
        [100 + row],
        [1.0],
        [100 + row],
    )
    scene.pipeline.step()
    scene.heal()
    # A minute that forms is not given out twice in one instant.
    clock.at += timedelta(seconds=1)
    scene.pipeline.step()

    assert minutes(scene) == bars_of(scene.world, 1e9)


def test_a_stream_that_joins_a_standing_connection_is_whole_from_its_quarter_on(scenes: Any):
    scene = scenes({BTC: every(7, 30), ETH: every(11, 30)})
    scene.wanted = frozenset({BTC})
    scene.connect()
    scene.play(1_000)
    scene.heal()
    scene.wanted = frozenset({BTC, ETH})
    scene.healer.added("kraken", ETH)
    scene.play(1_100)
    scene.heal()

    expected = bars_of({ETH: scene.world[ETH]}, 1_100, first_minute=15)
    found = {key: bar for key, bar in minutes(scene).items() if key[0] == "ETH/USD"}
    assert found == expected


def test_a_history_that_fails_is_asked_again_and_bars_stay_provisional_until_then(scenes: Any):
    scene = scenes({BTC: every(7, 20)})
    scene.connect()
    scene.play(200)
    scene.heal()
    scene.cut()
    scene.play(300)
    scene.connect()
    scene.history.fails = [TransientError("down", provider="kraken")] * 2
    for second in (400, 410, 430):
        assert scene.healer.open_outages != []
        scene.play(second)
        scene.heal()

    assert minutes(scene) == bars_of(scene.world, 430)
    assert scene.healer.open_outages == []


def test_a_long_hole_is_filled_piece_by_piece_and_nothing_is_asked_twice(scenes: Any):
    scene = scenes({BTC: every(1, 60)}, most=100)
    scene.connect()
    scene.play(100)
    scene.heal()
    scene.cut()
    scene.play(1_900)
    scene.connect()
    scene.history.asked.clear()
    scene.heal()

    starts = [start for _, start, _ in scene.history.asked]
    assert len(starts) == 19
    assert starts == sorted(set(starts))
    assert minutes(scene) == bars_of(scene.world, 1_900)


def test_after_a_kill_the_next_process_makes_the_bars_that_were_not_stored(scenes: Any):
    world = {BTC: every(7, 60), ETH: every(11, 60)}
    first = scenes(world)
    first.connect()
    first.play(1_830)
    first.heal()
    for stream in world:
        first.journal.stored_until(stream, NOON + 30 * MINUTE)
    asyncio.run(first.healer.tick())

    second = scenes(world, after=first)
    second.play(1_950)
    second.connect()
    second.play(2_100)
    second.heal()

    assert minutes(second) == bars_of(world, 2_100, first_minute=30)
    ((began, ended, reason),) = second.book.rows.values()
    assert (began, ended) == (NOON + 30 * MINUTE, NOON + 1_950 * MICROSECONDS)
    assert reason == "the sidecar was not running"


def test_a_hole_that_a_killed_process_has_left_is_filled_by_the_next(scenes: Any):
    world = {BTC: every(7, 60)}
    first = scenes(world)
    first.connect()
    first.play(910)
    first.heal()
    first.journal.stored_until(BTC, NOON + 15 * MINUTE)
    first.cut()
    first.play(1_000)
    first.connect()
    first.history.fails = [TransientError("down", provider="kraken")]
    first.play(1_300)
    first.heal()

    second = scenes(world, after=first)
    second.connect()
    second.play(1_400)
    second.heal()

    assert minutes(second) == bars_of(world, 1_400, first_minute=15)
    assert second.journal.holes == []


def test_a_symbol_that_is_silent_for_longer_than_ever_is_filled_and_asked_for_again(scenes: Any):
    scene = scenes({BTC: every(2, 30), ETH: every(2, 30)})
    scene.connect()
    scene.play(300)
    scene.heal()
    scene.play(420, only=BTC)
    scene.heal()

    assert minutes(scene) == bars_of(scene.world, 420)
    assert scene.resubscribed == [ETH]
    assert scene.healer.counts.silences == 1


def test_a_history_that_tells_other_times_than_the_feed_replaces_whole_minutes(scenes: Any):
    scene = scenes({BTC: every(7, 30)}, same_as_live=False)
    scene.connect()
    scene.play(200)
    scene.play(260)
    scene.heal()
    scene.cut()
    scene.play(330)
    scene.connect()
    scene.play(460)
    scene.heal()

    assert minutes(scene) == bars_of(scene.world, 460)


def test_a_minute_that_is_healed_with_all_of_its_trades_is_a_sample_no_longer(scenes: Any):
    scene = scenes({BTC: every(7, 30)}, same_as_live=False)
    scene.pipeline.limited([BTC], {})
    scene.connect()
    scene.play(200)
    scene.heal()
    scene.play(400)
    scene.cut()
    scene.play(530)
    scene.connect()
    scene.play(660)
    scene.heal()

    found = [scene.bars.sources["BTC/USD", "1m", minute] for minute in (5, 7, 10)]
    assert found == ["kraken:sampled", "kraken", "kraken:sampled"]


def test_a_market_that_is_closed_is_not_asked_for(scenes: Any):
    closed = Stream("asx", "CBA", 3)
    scene = scenes({closed: []})
    scene.connect()
    scene.play(10)
    scene.cut()
    scene.play(60)
    scene.connect()
    scene.heal()

    assert scene.history.asked == []
    assert scene.healer.open_outages == []


def test_bars_that_the_engine_has_forgotten_are_made_anew_apart(scenes: Any):
    scene = scenes({BTC: every(7, 120)})
    scene.connect()
    scene.play(6_000)
    scene.heal()
    scene.play(6_100)
    scene.healer.refetch("kraken", BTC, NOON + 30 * MICROSECONDS)
    scene.heal()

    bars = Bars()
    bars.take(scene.revised)
    expected = bars_of({BTC: scene.world[BTC]}, 900)
    assert {key: bar for key, bar in bars.last.items() if key[1] == "1m"} == expected
    assert {key for key in bars.last if key[1] != "1m"} == {
        *(("BTC/USD", "5m", minute) for minute in (0, 5, 10)),
        ("BTC/USD", "15m", 0),
    }


def test_a_trade_that_was_taken_back_leaves_its_bar(scenes: Any):
    scene = scenes({BTC: every(7, 30)})
    scene.connect()
    scene.play(1_000)
    scene.heal()
    del scene.world[BTC][20]
    scene.healer.refetch("kraken", BTC, NOON + 140 * MICROSECONDS)
    scene.heal()

    assert minutes(scene) == bars_of(scene.world, 1_000)


def test_where_no_trades_can_be_had_for_good_the_hole_is_given_up_and_bars_stay_provisional(
    scenes: Any,
):
    scene = scenes({BTC: every(7, 60)})
    scene.connect()
    scene.play(200)
    scene.heal()
    scene.cut()
    scene.play(310)
    scene.connect()
    scene.history.fails = [AuthError("no", provider="kraken")]
    scene.play(400)
    scene.heal()
    scene.healer._cares["kraken"].work._mender.by_bars = _no_bars  # noqa: SLF001  # a provider's
    scene.play(500)
    scene.heal()

    assert scene.healer.counts.given_up == 1
    assert scene.healer.open_outages == []
    assert "left to the repair of gaps: BTC/USD" in scene.book.details[-1]
    assert scene.bars.states["BTC/USD", "1m", 3] is BarState.PROVISIONAL


async def _no_bars(*_: Any) -> Any:
    raise AuthError("no", provider="kraken")


def test_what_a_stream_missed_is_nobodys_once_it_is_no_longer_wanted(scenes: Any):
    scene = scenes({BTC: every(7, 60), ETH: every(7, 60)})
    scene.connect()
    scene.play(200)
    scene.heal()
    scene.cut()
    scene.play(300)
    scene.wanted = frozenset({BTC})
    scene.heal()
    scene.play(400)
    scene.connect()
    scene.history.asked.clear()
    scene.heal()

    assert {symbol for symbol, _, _ in scene.history.asked} == {"BTC/USD"}
    assert scene.healer.open_outages == []


def test_a_stream_that_is_wanted_again_has_bars_that_end(scenes: Any):
    scene = scenes({BTC: every(7, 60), ETH: every(7, 60)})
    scene.connect()
    scene.play(200)
    scene.heal()
    scene.wanted = frozenset({BTC})
    scene.heal()
    scene.play(1_000)
    scene.wanted = frozenset({BTC, ETH})
    scene.heal()
    scene.play(1_400)
    scene.heal()
    scene.play(1_500)

    found = {
        key: bar for key, bar in minutes(scene).items() if key[0] == "ETH/USD" and key[2] >= 15
    }
    assert found == bars_of({ETH: scene.world[ETH]}, 1_500, first_minute=15)
    assert {scene.bars.states["ETH/USD", "1m", minute] for minute in range(15, 24)} == {
        BarState.CLOSED
    }


def test_bars_end_after_a_restart_while_postgresql_is_away(scenes: Any):
    world = {BTC: every(7, 60)}
    first = scenes(world)
    first.connect()
    first.play(1_100)
    first.heal()
    first.journal.stored_until(BTC, NOON + 17 * MINUTE)
    first.heal()

    second = scenes(world, after=first)
    second.connect()
    second.play(1_200)
    # Its platform has no PostgreSQL: what it asks for is refused.
    second.healer._cares["kraken"].work._mender.stored_minutes = _no_postgresql  # noqa: SLF001
    second.heal()
    second.play(1_500)

    assert minutes(second) == bars_of(world, 1_500, first_minute=15)
    assert {second.bars.states["BTC/USD", "1m", minute] for minute in range(15, 24)} == {
        BarState.CLOSED
    }


def _no_postgresql(*_: Any) -> Any:
    raise WarehouseAway("PostgreSQL is away")


def test_the_minute_in_which_a_stream_is_left_is_not_told_as_whole(scenes: Any):
    scene = scenes({BTC: every(7, 60), ETH: every(7, 60)})
    scene.connect()
    scene.play(200)
    scene.heal()
    scene.wanted = frozenset({BTC})
    scene.heal()
    scene.play(320)

    assert scene.bars.states["ETH/USD", "1m", 2] is BarState.CLOSED
    assert scene.bars.states["ETH/USD", "1m", 3] is BarState.PROVISIONAL
    assert scene.bars.states["ETH/USD", "5m", 0] is BarState.PROVISIONAL


@pytest.mark.parametrize("fails", [False, True])
def test_a_stream_may_be_left_while_it_is_filled(scenes: Any, fails: bool):
    scene = scenes({BTC: every(7, 60), ETH: every(7, 60)})
    scene.connect()
    scene.play(200)
    scene.heal()
    scene.cut()
    scene.play(310)
    scene.connect()
    scene.play(320)
    tell = scene.history.fetch_trades

    def left_meanwhile(stream: Listed, start_us: int, end_us: int) -> TradeColumns:
        if stream == BTC:
            scene.wanted = frozenset({ETH})
            scene.healer._leave(scene.healer._cares["kraken"], [("crypto", "BTC/USD")])  # noqa: SLF001
            if fails:
                raise AuthError("no", provider="kraken")
        return tell(stream, start_us, end_us)

    scene.history.fetch_trades = left_meanwhile
    scene.heal()

    assert scene.journal.holes == []
    eth = {key: bar for key, bar in minutes(scene).items() if key[0] == "ETH/USD"}
    assert eth == bars_of({ETH: scene.world[ETH]}, 320)


def test_a_stream_may_be_left_while_its_quarters_are_made_anew(scenes: Any):
    scene = scenes({BTC: every(7, 60)})
    scene.connect()
    scene.play(2_000)
    scene.heal()
    for minute in (0, 15):
        scene.healer.refetch("kraken", BTC, NOON + minute * MINUTE)
    scene.history.asked.clear()
    tell = scene.history.fetch_trades

    def left_meanwhile(stream: Listed, start_us: int, end_us: int) -> TradeColumns:
        scene.healer._cares["kraken"].work.leave(BTC)  # noqa: SLF001  # as the healer does
        return tell(stream, start_us, end_us)

    scene.history.fetch_trades = left_meanwhile
    scene.heal()

    assert len(scene.history.asked) == 1


def test_a_trade_taken_back_while_its_quarter_is_made_anew_leaves_its_bar_too(scenes: Any):
    scene = scenes({BTC: every(7, 30)})
    scene.connect()
    scene.play(1_000)
    scene.heal()
    tell = scene.history.fetch_trades

    def another_meanwhile(stream: Listed, start_us: int, end_us: int) -> TradeColumns:
        scene.history.fetch_trades = tell
        answer = tell(stream, start_us, end_us)
        del scene.world[BTC][30]
        scene.healer.refetch("kraken", BTC, NOON + 210 * MICROSECONDS)
        return answer

    scene.history.fetch_trades = another_meanwhile
    del scene.world[BTC][20]
    scene.healer.refetch("kraken", BTC, NOON + 140 * MICROSECONDS)
    scene.heal()
    scene.heal()

    assert minutes(scene) == bars_of(scene.world, 1_000)


def test_what_is_healed_after_a_long_absence_begins_with_a_whole_quarter(scenes: Any):
    world = {BTC: every(7, 26 * 60)}
    first = scenes(world)
    first.connect()
    first.play(60)
    first.heal()
    first.journal.stored_until(BTC, NOON + MINUTE)
    first.clock.at = START + timedelta(hours=24, minutes=7, seconds=20)

    second = scenes(world, first.clock, most=20_000)
    second.sent[BTC] = sum(each[0] < 24 * 3600 + 440 for each in world[BTC])
    second.healer._care("kraken").work._mender.stored_minutes = lambda *_: {}  # noqa: SLF001
    second.connect()
    second.play(24 * 3600 + 500)
    second.heal()

    above = {key[2]: bar for key, bar in second.bars.last.items() if key[1] == "15m"}
    assert min(above) <= 15
    assert {first: bars_above(world, first, 15) for first in above if first < 1440} == {
        first: bar for first, bar in above.items() if first < 1440
    }


def bars_above(world: World, first: int, count: int) -> tuple[Any, ...]:
    """Return the bar that all trades of BTC in some minutes make."""
    prices = [p for s, p in world[BTC] if first * 60 <= s < (first + count) * 60]
    return prices[0], max(prices), min(prices), prices[-1], float(len(prices)), len(prices)


def test_what_a_stream_traded_while_it_was_not_wanted_is_filled_when_it_is_again(scenes: Any):
    quiet = [each for each in every(7, 60) if not 180 <= each[0] < 400]
    scene = scenes({BTC: every(7, 60), ETH: quiet})
    scene.connect()
    scene.play(300)
    scene.heal()
    scene.journal.stored_until(ETH, NOON + 3 * MINUTE)
    scene.healer._cares["kraken"].work._mender.stored_minutes = lambda *_: {}  # noqa: SLF001
    scene.wanted = frozenset({BTC})
    scene.heal()
    scene.play(1_000)
    scene.heal()
    scene.wanted = frozenset({BTC, ETH})
    scene.heal()
    scene.play(1_100)
    scene.heal()

    assert minutes(scene) == bars_of(scene.world, 1_100)


def with_a_cut(scenes: Any, world: World, **history: Any) -> Scene:
    """Return a scene whose feed was away from 200 to 210 s, at 400 s."""
    scene = scenes(world, **history)
    scene.connect()
    scene.play(200)
    scene.heal()
    scene.cut()
    scene.play(210)
    scene.connect()
    scene.play(400)
    return cast("Scene", scene)


def test_a_minute_of_which_the_history_tells_less_than_came_live_stays_and_is_provisional(
    scenes: Any,
):
    scene = with_a_cut(scenes, {BTC: every(7, 30)}, same_as_live=False)
    before = minutes(scene)["BTC/USD", "1m", 3]
    scene.history.untold = {second for second, _ in scene.world[BTC] if 190 <= second < 240}
    scene.heal()

    assert minutes(scene)["BTC/USD", "1m", 3] == before
    assert scene.bars.states["BTC/USD", "1m", 3] is BarState.PROVISIONAL
    assert scene.healer.open_outages != []


def test_a_minute_that_the_history_does_not_tell_at_all_stays_and_is_provisional(scenes: Any):
    scene = with_a_cut(scenes, {BTC: every(7, 30)}, same_as_live=False)
    before = minutes(scene)["BTC/USD", "1m", 3]
    scene.history.untold = {second for second, _ in scene.world[BTC] if 180 <= second < 240}
    scene.heal()

    assert minutes(scene)["BTC/USD", "1m", 3] == before
    assert scene.bars.states["BTC/USD", "1m", 3] is BarState.PROVISIONAL


def test_a_history_that_told_less_of_a_minute_is_asked_until_it_tells_as_much(scenes: Any):
    scene = with_a_cut(scenes, {BTC: every(7, 30)}, same_as_live=False)
    scene.history.untold = {second for second, _ in scene.world[BTC] if 190 <= second < 240}
    scene.heal()
    scene.history.untold.clear()
    scene.play(410)
    scene.heal()

    assert minutes(scene) == bars_of(scene.world, 410)
    assert scene.bars.states["BTC/USD", "1m", 3] is BarState.CLOSED
    assert scene.healer.open_outages == []


@pytest.mark.parametrize("behind", [205, 400])
def test_bars_stay_provisional_while_the_history_is_behind_or_empty(scenes: Any, behind: float):
    scene = with_a_cut(scenes, {BTC: every(7, 30)})
    scene.history.behind_seconds = behind
    scene.heal()

    assert scene.bars.states["BTC/USD", "1m", 3] is BarState.PROVISIONAL
    assert "does not have the trade of" in scene.healer.open_outages[0].problem


def test_a_history_that_was_behind_is_asked_again_until_it_tells_what_came_live(scenes: Any):
    scene = with_a_cut(scenes, {BTC: every(7, 30)})
    scene.history.behind_seconds = 205
    scene.heal()
    scene.history.behind_seconds = 0
    scene.play(410)
    scene.heal()

    assert minutes(scene) == bars_of(scene.world, 410)
    assert states(scene) <= {BarState.CLOSED, BarState.REVISED, BarState.FORMING}
    assert scene.healer.open_outages == []


def test_a_history_that_is_behind_for_one_symbol_holds_up_no_other(scenes: Any):
    others = [(second + 0.1, price) for second, price in every(7, 30)]
    scene = with_a_cut(scenes, {BTC: every(7, 30), ETH: others})
    scene.history.untold = {second for second, _ in scene.world[BTC] if second > 195}
    scene.heal()

    assert scene.bars.states["BTC/USD", "1m", 3] is BarState.PROVISIONAL
    assert scene.bars.states["ETH/USD", "1m", 3] is BarState.CLOSED


def test_a_history_that_stays_behind_is_left_to_the_repair_of_gaps_with_that_reason(scenes: Any):
    scene = with_a_cut(scenes, {BTC: every(7, 60)})
    scene.history.behind_seconds = 1e6
    scene.healer._cares["kraken"].work._mender.by_bars = _no_bars  # noqa: SLF001  # a provider's
    for second in range(401, 2_400, 40):
        scene.play(second)
        scene.heal()

    assert scene.healer.counts.given_up == 1
    assert scene.bars.states["BTC/USD", "1m", 3] is BarState.PROVISIONAL
    assert "left to the repair of gaps: BTC/USD" in scene.book.details[-1]
    assert "does not have the trade of" in scene.book.details[-1]


def test_a_feed_whose_time_is_long_past_is_healed_without_a_false_alarm(scenes: Any):
    clock = Clock(START)
    scene = scenes({BTC: every(7, 30)}, clock)
    scene.play(5)
    clock.at += timedelta(days=200)
    tape = scene.world[BTC]

    def send(first: int, last: int) -> None:
        for ts, price in tape[first:last]:
            scene.pipeline.trades(
                [BTC], [NOON + int(ts * MICROSECONDS)], [price], [1.0], [int(price)]
            )
        clock.at += timedelta(seconds=1)
        scene.pipeline.step()

    scene.pipeline.connecting()
    scene.pipeline.connected()
    send(0, 20)
    scene.heal()
    scene.cut()
    clock.at += timedelta(seconds=1)
    scene.pipeline.connecting()
    scene.pipeline.connected()
    # What was told before it was fetched lies far after the hole, in the feed's own time.
    send(40, 100)
    scene.history.untold = {second for second, _ in tape[100:]}
    scene.heal()

    assert scene.healer.open_outages == []
    assert scene.healer.counts.failures == 0
    told = {key: bar for key, bar in minutes(scene).items() if key[2] < 11}
    assert told == {key: bar for key, bar in bars_of(scene.world, 1e9).items() if key[2] < 11}


def test_a_minute_whose_only_trade_was_taken_back_is_withdrawn(scenes: Any):
    # In the minutes 2 to 4 there is one trade, and in 5 to 9 there is none.
    world = {BTC: [each for each in every(7, 30) if not 120 <= each[0] < 600] + [(150.0, 99.0)]}
    world[BTC].sort()
    scene = scenes(world)
    scene.connect()
    scene.play(1_000)
    scene.heal()
    world[BTC].remove((150.0, 99.0))
    scene.sent[BTC] -= 1
    scene.healer.refetch("kraken", BTC, NOON + 150 * MICROSECONDS)
    scene.heal()

    assert scene.bars.states.pop(("BTC/USD", "1m", 2)) is BarState.WITHDRAWN
    del scene.bars.last["BTC/USD", "1m", 2]
    assert minutes(scene) == bars_of(world, 1_000)
    assert scene.bars.last["BTC/USD", "5m", 0] == bars_above(world, 0, 5)
    assert scene.bars.last["BTC/USD", "15m", 0] == bars_above(world, 0, 15)
    assert BarState.WITHDRAWN not in scene.bars.states.values()


def test_a_bar_that_the_engine_has_forgotten_is_withdrawn_where_it_is_stored(scenes: Any):
    scene = scenes({BTC: [each for each in every(7, 120) if not 60 <= each[0] < 900]})
    scene.connect()
    scene.play(6_000)
    scene.heal()
    scene.warehouse.rows = [
        ("1m", 0, "kraken", 9),
        ("1m", 7, "kraken", 1),
        ("1m", 8, "yahoo", 1),
        ("5m", 0, "kraken", 9),
        ("5m", 5, "kraken", 1),
        ("15m", 0, "kraken", 10),
    ]
    scene.play(6_100)
    scene.healer.refetch("kraken", BTC, NOON + 450 * MICROSECONDS)
    scene.heal()

    bars = Bars()
    bars.take(scene.revised)
    assert {key[1:] for key, state in bars.states.items() if state is BarState.WITHDRAWN} == {
        ("1m", 7),
        ("5m", 5),
    }
    assert {key[1:] for key, state in bars.states.items() if state is BarState.REVISED} == {
        ("1m", 0),
        ("5m", 0),
        ("15m", 0),
    }


def test_no_bar_is_withdrawn_while_the_history_is_behind(scenes: Any):
    scene = scenes({BTC: every(7, 30)})
    scene.connect()
    scene.play(1_000)
    scene.heal()
    before = minutes(scene)
    scene.history.behind_seconds = 990
    scene.healer.refetch("kraken", BTC, NOON + 140 * MICROSECONDS)
    scene.heal()

    assert minutes(scene) == before
    assert BarState.WITHDRAWN not in scene.bars.states.values()
    assert scene.healer.counts.failures == 1


def next_process(scenes: Any, first: Scene, until: float) -> Scene:
    """Return the process that goes on after a kill, at an instant, with what it has healed."""
    second = scenes(first.world, after=first)
    second.connect()
    second.play(until)
    second.healer._cares["kraken"].work._mender.stored_minutes = lambda *_: {}  # noqa: SLF001
    second.heal()
    return cast("Scene", second)


def test_a_trade_that_was_taken_back_before_a_kill_leaves_its_bar_in_the_next_process(scenes: Any):
    first = scenes({BTC: every(7, 60)})
    first.connect()
    first.play(1_000)
    first.heal()
    # Its quarter of an hour is not over yet.
    del first.world[BTC][130]
    first.sent[BTC] -= 1
    first.healer.refetch("kraken", BTC, NOON + 911 * MICROSECONDS)
    first.heal()
    first.play(1_870)
    first.journal.stored_until(BTC, NOON + 31 * MINUTE)
    asyncio.run(first.healer.tick())

    second = next_process(scenes, first, 1_900)

    bars = Bars()
    bars.take(second.revised)
    assert bars.last["BTC/USD", "1m", 15] == bars_of(first.world, 1e9)["BTC/USD", "1m", 15]
    assert second.journal.to_make_anew("kraken", BTC) == []


def send_late(scene: Scene) -> None:
    """Let a trade of minute 14 come when that is over."""
    scene.world[BTC].append((890.0, 5_000.0))
    scene.world[BTC].sort()
    scene.sent[BTC] += 1
    scene.pipeline.trades([BTC], [NOON + 890 * MICROSECONDS], [5_000.0], [1.0], [5_000])
    scene.pipeline.step()


def test_a_late_trade_whose_revision_was_not_stored_is_fetched_again_after_a_kill(scenes: Any):
    first = scenes({BTC: every(7, 60)})
    first.connect()
    first.play(910)
    first.heal()
    first.journal.stored_until(BTC, NOON + 15 * MINUTE)
    asyncio.run(first.healer.tick())
    send_late(first)

    second = next_process(scenes, first, 1_100)

    bars = Bars()
    bars.take(second.revised)
    assert bars.last["BTC/USD", "1m", 14] == bars_of(first.world, 1e9)["BTC/USD", "1m", 14]


def test_a_late_trade_whose_revision_is_stored_is_not_fetched_again(scenes: Any):
    scene = scenes({BTC: every(7, 60)})
    scene.connect()
    scene.play(910)
    scene.heal()
    send_late(scene)
    assert scene.journal.to_make_anew("kraken", BTC) == [NOON]
    asyncio.run(scene.healer._keep_late())  # noqa: SLF001  # what `run` does, without waiting

    assert scene.journal.to_make_anew("kraken", BTC) == []
