"""The indicators of live bars, carried on bar by bar from what PostgreSQL holds.

An instrument's series is begun from its stored bars (`WARMUP_BARS` of them, after which nothing
depends on where the series began) and from then on takes one bar at a time. A bar that comes
before the last one taken, healed or late, makes the series begin anew from the stored bars.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
import pandas as pd

from scizor_core.indicators import INDICATOR_COLUMNS, WARMUP_BARS
from scizor_core.markets import Timeframe
from scizor_core.stream.engine import STREAM_TIMEFRAMES, BarState
from scizor_core.stream.indicators import StreamingIndicators, bar_columns
from scizor_core.stream.trades import Floats, Integers
from scizor_resources.errors import ArchiveError, WarehouseError
from scizor_resources.platform import Platform
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.pipeline import StreamedBar, Window
from scizor_sidecar.session_days import SessionDays

#: Values of bars that still form are computed so often at most.
FORMING_SECONDS = 0.25
#: So long after a failure is PostgreSQL asked again for the beginning of series.
RETRY_SECONDS = 2.0
#: What begins within this time begins together.
_GATHER_SECONDS = 0.2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = 2**62
_FINAL = frozenset({BarState.CLOSED, BarState.REVISED})

#: Day number of the session, high, low, close, volume.
_Bar = tuple[int, float, float, float, float]
_Key = tuple[Stream, Timeframe]
#: Start and source of a bar beside its values.
_Taken = tuple[int, str, _Bar]


@dataclass(frozen=True, eq=False)
class IndicatorValues:
    """The indicators of one bar.

    Attributes:
        stream: the instrument.
        timeframe: 1m, 5m or 15m.
        start: start of the bar, microseconds UTC.
        session_day: the exchange's date, days since 1970.
        source: the bar's source.
        row: in the order of `INDICATOR_COLUMNS`, NaN where a value is not defined.
        warmup_bars: bars before it, `WARMUP_BARS` at most.
        is_final: whether the bar is closed; values of one that forms change with it.
    """

    stream: Stream
    timeframe: Timeframe
    start: int
    session_day: int
    source: str
    row: Floats
    warmup_bars: int
    is_final: bool

    @cached_property
    def values(self) -> Mapping[str, float | None]:
        """Name -> value, None where it is not defined."""
        return dict(zip(INDICATOR_COLUMNS, self.as_list(), strict=True))

    def as_list(self) -> list[float | None]:
        """Return the values in the order of `INDICATOR_COLUMNS`, None where not defined."""
        return [None if math.isnan(value) else value for value in self.row.tolist()]


@dataclass
class _Series:
    """The series of one instrument and timeframe.

    Attributes:
        slot: its number in the engine, None until it has begun.
        last: start of the last bar taken.
        before: how many bars it has had before that.
        kept: closed bars that came while it was not begun, by start.
        renewed_from: the earliest bar whose values are to be given out when it has begun.
    """

    slot: int | None = None
    last: int = -1
    before: int = 0
    kept: dict[int, _Taken] = field(default_factory=dict)
    renewed_from: int | None = None


class LiveIndicators:
    """Indicators of the bars of all pipelines; a listener.

    Args:
        platform: the opened platform.
        told: each is called with what is new: in `on_window`, and when a series has begun anew.
        settled: waits until the closed bars that came so far are in PostgreSQL.
        monotonic: clock in seconds.

    Attributes:
        changed: what the last window, or the last beginning, has changed.
        failures: how often PostgreSQL could not be asked.
    """

    def __init__(
        self,
        platform: Platform,
        told: Sequence[Callable[[Sequence[IndicatorValues]], None]] = (),
        *,
        settled: Callable[[], Awaitable[None]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._platform, self._told, self._monotonic = platform, tuple(told), monotonic
        self._settled = settled
        self._engine = StreamingIndicators()
        self._free: list[int] = []
        self._series: dict[_Key, _Series] = {}
        self._values: dict[_Key, IndicatorValues] = {}
        self._forming: dict[_Key, StreamedBar] = {}
        self._forming_at = float("-inf")
        self._to_begin: dict[_Key, None] = {}
        self._work = asyncio.Event()
        self._days = SessionDays()
        self.changed: list[IndicatorValues] = []
        self.failures = 0

    def values(self, stream: Stream, timeframe: Timeframe) -> Mapping[str, float | None] | None:
        """Return the newest values of an instrument, None while its series has not begun."""
        found = self._values.get((stream, timeframe))
        return None if found is None else found.values

    # ---- bars in

    def on_window(self, window: Window) -> None:
        """Carry the series on by the bars that are closed."""
        self.bars(window.bars)

    def on_state(self, feed: str, state: FeedState, why: str, at: int) -> None:
        """Take nothing: indicators do not depend on a feed's state."""

    def bars(self, bars: Sequence[StreamedBar]) -> None:
        """Take bars in the order in which they were closed."""
        waves: list[dict[_Key, StreamedBar]] = []
        depth: dict[_Key, int] = {}
        for each in bars:
            key = (each.stream, each.bar.timeframe)
            if each.bar.state is BarState.WITHDRAWN:
                self._withdraw(key, each.bar.start)
                continue
            if each.bar.state not in _FINAL:
                forming = self._forming.get(key)
                if forming is None or forming.bar.start <= each.bar.start:
                    self._forming[key] = each
                continue
            # A series takes one bar at a time; those of several series go together.
            wave = depth[key] = depth.get(key, -1) + 1
            if wave == len(waves):
                waves.append({})
            waves[wave][key] = each
        changed = [made for wave_ in waves for made in self._close(wave_)]
        self._give_out(changed + self._look_ahead())

    def _withdraw(self, key: _Key, start: int) -> None:
        """Begin a series anew without a bar that there is no more."""
        series = self._series.get(key)
        if series is not None:
            series.kept.pop(start, None)
            self._begin_later(key, series, start)

    def _close(self, bars: Mapping[_Key, StreamedBar]) -> list[IndicatorValues]:
        """Take at most one closed bar of each series."""
        nexts: dict[_Key, _Taken] = {}
        again: dict[_Key, _Taken] = {}
        for key, each in bars.items():
            taken = self._taken(each)
            if taken is None:
                continue
            start = each.bar.start
            forming = self._forming.get(key)
            if forming is not None and forming.bar.start <= start:
                del self._forming[key]
            series = self._series.setdefault(key, _Series())
            if series.slot is not None and start > series.last:
                nexts[key] = taken
            elif series.slot is not None and start == series.last:
                again[key] = taken
            else:
                series.kept[start] = taken
                self._begin_later(key, series, start)
        return self._carry_on(nexts) + self._carry_on(again, revises=True)

    def _taken(self, each: StreamedBar) -> _Taken | None:
        bar = each.bar
        day = self._days.day(each.stream.market, bar.start)
        if day is None:
            return None
        return bar.start, each.source, (day, bar.high, bar.low, bar.close, bar.volume)

    def _carry_on(
        self, bars: Mapping[_Key, _Taken], *, revises: bool = False
    ) -> list[IndicatorValues]:
        if not bars:
            return []
        take = self._engine.revise if revises else self._engine.update
        table = take(self._slots(bars), bar_columns([bar for _, _, bar in bars.values()]))
        out = []
        for (key, taken), row in zip(bars.items(), table, strict=True):
            series = self._series[key]
            if not revises:
                series.last, series.before = taken[0], series.before + 1
            out.append(self._made(key, taken, row, series.before - 1))
        return out

    def _look_ahead(self) -> list[IndicatorValues]:
        """Return the values that bars that form would have if they closed as they are."""
        now = self._monotonic()
        if not self._forming or now - self._forming_at < FORMING_SECONDS:
            return []
        self._forming_at = now
        forming, self._forming = self._forming, {}
        asked: dict[_Key, _Taken] = {}
        for key, each in forming.items():
            series = self._series.setdefault(key, _Series())
            taken = self._taken(each)
            if series.slot is None:
                self._begin_later(key, series)
            elif taken is not None and taken[0] > series.last:
                asked[key] = taken
        if not asked:
            return []
        table = self._engine.peek(
            self._slots(asked), bar_columns([bar for _, _, bar in asked.values()])
        )
        return [
            self._made(key, taken, row, self._series[key].before, is_final=False)
            for (key, taken), row in zip(asked.items(), table, strict=True)
        ]

    def _slots(self, keys: Iterable[_Key]) -> Integers:
        slots = [slot for key in keys if (slot := self._series[key].slot) is not None]
        return np.array(slots, dtype=np.int64)

    def _made(
        self, key: _Key, taken: _Taken, row: Floats, before: int, *, is_final: bool = True
    ) -> IndicatorValues:
        start, source, bar = taken
        made = IndicatorValues(*key, start, bar[0], source, row, min(before, WARMUP_BARS), is_final)
        newest = self._values.get(key)
        if newest is None or newest.start <= start:
            self._values[key] = made
        return made

    def _give_out(self, changed: list[IndicatorValues]) -> None:
        self.changed = changed
        if changed:
            for tell in self._told:
                tell(changed)

    # ---- the beginning of series

    def _begin_later(self, key: _Key, series: _Series, changed_from: int | None = None) -> None:
        if changed_from is not None:
            earlier = series.renewed_from
            series.renewed_from = changed_from if earlier is None else min(earlier, changed_from)
        if series.slot is not None:
            self._free.append(series.slot)
            series.slot = None
        self._to_begin[key] = None
        self._work.set()

    async def run(self) -> None:
        """Begin series that are to begin, until cancelled."""
        while True:
            await self._work.wait()
            # One after the other they would cost two hundred times as much.
            await asyncio.sleep(_GATHER_SECONDS)
            self._work.clear()
            keys, self._to_begin = list(self._to_begin), {}
            try:
                for timeframe in STREAM_TIMEFRAMES:
                    mine = [key for key in keys if key[1] == timeframe]
                    if mine:
                        await self._begin(timeframe, mine)
            except (WarehouseError, ArchiveError):
                self.failures += 1
                self._to_begin = dict.fromkeys([*keys, *self._to_begin])
                await asyncio.sleep(RETRY_SECONDS)
                self._work.set()

    async def flush(self) -> None:
        """Keep nothing: all of it can be made again from the bars."""

    async def _begin(self, timeframe: Timeframe, asked: Sequence[_Key]) -> None:
        keys = [key for key in asked if self._series[key].slot is None]
        if not keys:
            return
        if self._settled is not None:
            await self._settled()
        asked_for = _Asked(
            {key: dict(self._series[key].kept) for key in keys},
            {key: at for key in keys if (at := self._series[key].renewed_from) is not None},
        )
        played = await asyncio.to_thread(self._read_and_play, timeframe, asked_for)
        self._adopt(played)
        changed = [self._made(*each) for each in played.renewed]
        self._give_out(changed + self._catch_up(asked_for.kept))

    def _read_and_play(self, timeframe: Timeframe, asked: "_Asked") -> "_Played":
        """Take series through the stored bars and those that have come since. Blocks."""
        stored = self._read(timeframe, list(asked.kept), min(asked.renewed.values(), default=None))
        histories = {}
        for key, kept in asked.kept.items():
            # What has come is newer than what is stored.
            both = {**stored.bars.get(key[0].instrument_id, {}), **kept}
            histories[key] = {start: both[start] for start in sorted(both)}
        return _play(histories, stored.base, asked.renewed)

    def _adopt(self, played: "_Played") -> None:
        histories = played.histories
        slots = [self._free.pop() if self._free else int(self._engine.add()[0]) for _ in histories]
        theirs = np.arange(len(slots))
        self._engine.adopt(np.array(slots, dtype=np.int64), played.engine, theirs)
        for (key, history), slot in zip(histories.items(), slots, strict=True):
            series = self._series[key]
            series.slot, series.last = slot, max(history, default=-1)
            series.before, series.renewed_from = len(history), None

    def _catch_up(self, known: Mapping[_Key, Mapping[int, _Taken]]) -> list[IndicatorValues]:
        """Take the bars that were closed while series were begun; `known` are those before."""
        waves: list[dict[_Key, _Taken]] = []
        for key, before in known.items():
            series = self._series[key]
            came = [each for each in series.kept.values() if before.get(each[0]) != each]
            newer = sorted((each for each in came if each[0] > series.last), key=lambda one: one[0])
            if len(newer) < len(came):
                self._begin_later(key, series, min(each[0] for each in came))
                continue
            series.kept = {}
            for place, each in enumerate(newer):
                if place == len(waves):
                    waves.append({})
                waves[place][key] = each
        return [made for wave in waves for made in self._carry_on(wave)]

    def _read(self, timeframe: Timeframe, keys: Sequence[_Key], since: int | None) -> "_Stored":
        """Read the bars that series begin with, and their volume base. Blocks."""
        warehouse = self._platform.warehouse
        ids = sorted({key[0].instrument_id for key in keys})
        far = datetime(9999, 1, 1, tzinfo=UTC)
        if since is None:
            bars = warehouse.read_bars_around(timeframe, ids, far, WARMUP_BARS, before=True)
        else:
            at = _EPOCH + timedelta(microseconds=since)
            earlier = warehouse.read_bars_around(timeframe, ids, at, WARMUP_BARS, before=True)
            later = warehouse.read_bars(timeframe, at, far, instrument_ids=ids)
            bars = pd.concat([each for each in (earlier, later) if len(each)] or [earlier])
        bars = bars[bars["is_final"]].sort_values(["instrument_id", "ts"])
        if bars.empty:
            return _Stored({}, {})
        base = warehouse.obv_before(timeframe, bars.groupby("instrument_id")["ts"].min())
        return _Stored(
            _by_instrument(bars),
            {
                int(str(each)): (float(obv), float(close))
                for each, obv, close in zip(
                    base.index, base["obv"], base["previous_close"], strict=True
                )
            },
        )


@dataclass(frozen=True)
class _Asked:
    """Series that are to begin: their bars that have come, and from when on values are due."""

    kept: Mapping[_Key, Mapping[int, _Taken]]
    renewed: Mapping[_Key, int]


@dataclass(frozen=True)
class _Stored:
    """Bars by instrument and start, and on-balance volume and close before the first of them."""

    bars: Mapping[int, Mapping[int, _Taken]]
    base: Mapping[int, tuple[float, float]]


@dataclass(frozen=True)
class _Played:
    """Series that have taken their histories, and the rows that are to be given out."""

    histories: Mapping[_Key, Mapping[int, _Taken]]
    engine: StreamingIndicators
    renewed: list[tuple[_Key, _Taken, Floats, int]]


def _play(
    histories: Mapping[_Key, Mapping[int, _Taken]],
    base: Mapping[int, tuple[float, float]],
    renewed_from: Mapping[_Key, int],
) -> _Played:
    """Take series through their histories, all of them bar by bar side by side."""
    played = _Played(histories, StreamingIndicators(), [])
    played.engine.add(len(histories))
    rows = [(key, list(history.values())) for key, history in histories.items()]
    for slot, (key, _) in enumerate(rows):
        if key[0].instrument_id in base:
            played.engine.set_volume_base(slot, *base[key[0].instrument_id])
    for step in range(max((len(history) for _, history in rows), default=0)):
        alive = [slot for slot, (_, history) in enumerate(rows) if step < len(history)]
        bars = [rows[slot][1][step] for slot in alive]
        columns = bar_columns([bar for _, _, bar in bars])
        table = played.engine.update(np.array(alive, dtype=np.int64), columns)
        for slot, taken, row in zip(alive, bars, table, strict=True):
            key = rows[slot][0]
            if taken[0] >= renewed_from.get(key, _NEVER):
                played.renewed.append((key, taken, row, step))
    return played


def _by_instrument(bars: pd.DataFrame) -> dict[int, dict[int, _Taken]]:
    starts = bars["ts"].dt.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64)
    days = bars["session_date"].to_numpy(dtype="datetime64[D]").astype(np.int64)
    out: dict[int, dict[int, _Taken]] = {}
    columns = zip(
        bars["instrument_id"].tolist(),
        starts.tolist(),
        days.tolist(),
        *(bars[name].tolist() for name in ("high", "low", "close", "volume", "source")),
        strict=True,
    )
    for one, start, day, high, low, close, volume, source in columns:
        out.setdefault(one, {})[start] = start, source, (day, high, low, close, volume)
    return out
