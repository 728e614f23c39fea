"""Simulated bars: a market made of arithmetic, for demonstrations and tests.

Every session of every symbol is drawn from its own seed, so the same bars come back whatever the
window, the timeframe, the order or the number of symbols. Rows say `source = simulated`, and the
warehouse never lets one replace a real bar.
"""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from statistics import NormalDist
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from scizor_core.bars import resample_bars
from scizor_core.markets import MARKETS, TIMEFRAME_MINUTES, TIMEFRAMES
from scizor_core.sessions import Session, SessionCalendar, get_calendar
from scizor_resources.providers.base import (
    BarBatch,
    BarRequest,
    Capabilities,
    empty_bars,
    empty_rejected,
    normalise_bars,
)

SOURCE = "simulated"

#: Standard deviation of the part of a price that changes over 1, 2, 4 ... 1,024 days (of its log).
#: It grows like that of a random walk, but stays bounded over decades.
DAILY_DEVIATION = 0.006
OCTAVES = 11
GAP_DEVIATION = 0.003
SESSION_DEVIATION = 0.012

_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_NORMAL = NormalDist()
_FLOAT_COLUMNS = ("open", "high", "low", "close", "volume", "vwap")


@dataclass(frozen=True)
class _Traits:
    """What a symbol is like: price level, trades per quiet minute, mean size of a trade."""

    base_price: float
    trades_per_minute: float
    trade_size: float
    whole_sizes: bool


@dataclass(frozen=True)
class _Minutes:
    """The traded minutes of one session; arrays of one length."""

    ts: npt.NDArray[np.datetime64]
    values: dict[str, npt.NDArray[np.float64]]
    trade_count: npt.NDArray[np.int64]


class SimulatedSource:
    """Bars from a seed.

    Args:
        seed: another seed is another market.
        now: clock, aware; no bar is given before it has ended.
    """

    def __init__(self, seed: int, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._seed = seed
        self._now = now

    @property
    def name(self) -> str:
        """The provider's name."""
        return SOURCE

    @property
    def capabilities(self) -> Capabilities:
        """Every market and timeframe."""
        return Capabilities(
            markets=frozenset(MARKETS), timeframes=frozenset(TIMEFRAMES), whole_sessions_only=True
        )

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        """Return the bars of the window that have ended; a minute without a trade has none.

        A coarser bar holds the minutes of its own whole bucket, even where the window begins
        inside it. `covered` are the parts of sessions that have passed.
        """
        began = time.perf_counter()
        calendar = get_calendar(request.market)
        now = self._now()
        sessions = [
            session
            for session in _sessions(calendar, request)
            if session.open < now and (request.timeframe != "1d" or session.close <= now)
        ]
        batch = BarBatch(bars=empty_bars(), rejected=empty_rejected())
        if sessions and request.symbols:
            bars = self._bars(request, calendar, sessions, now)
            batch.bars = normalise_bars(bars.assign(source=SOURCE, is_final=True))
        present = set(batch.bars["symbol"])
        windows = [_covered(request, session, now) for session in sessions]
        for ref in request.symbols:
            batch.covered.extend(
                (ref.symbol, first, last) for first, last in windows if first < last
            )
            if ref.symbol not in present:
                batch.empty_reasons[ref.symbol] = (
                    f"simulated: no {request.timeframe} bar of {calendar.market.calendar} "
                    "has ended in this window"
                )
        batch.latency_seconds = time.perf_counter() - began
        return batch

    def _bars(
        self,
        request: BarRequest,
        calendar: SessionCalendar,
        sessions: list[Session],
        now: datetime,
    ) -> pd.DataFrame:
        parts: list[_Minutes] = []
        owners: list[int] = []
        days: list[date] = []
        pairs = [(session, _next_date(calendar, session)) for session in sessions]
        for owner, ref in enumerate(request.symbols):
            for session, following in pairs:
                parts.append(self._session(calendar, ref.symbol, session, following))
                owners.append(owner)
                days.append(session.session_date)
        lengths = [len(part.ts) for part in parts]
        minutes = pd.DataFrame(
            {
                "instrument_id": np.repeat(owners, lengths),
                "ts": pd.DatetimeIndex(np.concatenate([part.ts for part in parts])).tz_localize(
                    "UTC"
                ),
                "session_date": np.repeat(np.array(days, dtype="datetime64[us]"), lengths),
                **{
                    column: np.concatenate([part.values[column] for part in parts])
                    for column in _FLOAT_COLUMNS
                },
                "trade_count": np.concatenate([part.trade_count for part in parts]),
            }
        )
        bars = _aggregated(minutes, request, now)
        symbols = np.array([ref.symbol for ref in request.symbols], dtype=object)
        return bars.assign(symbol=symbols[bars["instrument_id"].to_numpy(dtype="int64")])

    def _session(
        self, calendar: SessionCalendar, symbol: str, session: Session, following: date
    ) -> _Minutes:
        """Draw all minutes of one session."""
        market = calendar.market
        key = f"{self._seed}|{market.name}|{symbol}"
        traits = _traits(key, market.asset_class)
        start = _level(key, session.session_date)
        end = _level(key, following) - _gap(key, following)
        day = f"{key}|{session.session_date.isoformat()}"
        random = np.random.Generator(np.random.PCG64(_seed_of(day)))
        count = session.minutes
        shape = _activity(count, all_day=market.calendar == "24/7")
        steps = random.standard_normal(count) * np.sqrt(shape / shape.sum()) * SESSION_DEVIATION
        walk = np.r_[0.0, np.cumsum(steps)]
        # A bridge: the walk is bent so that it ends where the next session's level wants it.
        walk += (end - start - walk[-1]) * np.linspace(0.0, 1.0, count + 1)
        prices = _on_grid(traits.base_price * np.exp(start + walk))
        trades = random.poisson(traits.trades_per_minute * shape)
        spread = SESSION_DEVIATION / math.sqrt(count) * 0.7
        reach = np.abs(random.standard_normal((2, count))) * spread
        weights = random.random(count)
        sizes = random.gamma(2.0, traits.trade_size / 2, count)
        opens, closes = prices[:-1].copy(), prices[1:]
        opens[trades == 1] = closes[trades == 1]
        highs, lows = np.maximum(opens, closes), np.minimum(opens, closes)
        # Only a third trade can go beyond the first and the last.
        many = trades > 2
        highs = np.where(many, _on_grid(highs * (1 + reach[0])), highs)
        lows = np.where(many, _on_grid(lows * (1 - reach[1])), lows)
        volume = np.maximum(np.rint(trades * sizes), trades)
        if not traits.whole_sizes:
            volume = np.round(trades * sizes, 6) + trades * 1e-6
        middle = (opens + closes) / 2
        vwap = np.clip(middle + (weights - 0.5) * (highs - lows) / 2, lows, highs)
        traded = trades > 0
        ts = np.datetime64(session.open.replace(tzinfo=None), "us") + np.arange(
            count
        ) * np.timedelta64(60_000_000, "us")
        columns = (opens, highs, lows, closes, volume, vwap)
        return _Minutes(
            ts=ts[traded],
            values={
                name: values[traded] for name, values in zip(_FLOAT_COLUMNS, columns, strict=True)
            },
            trade_count=trades[traded].astype("int64"),
        )


def _sessions(calendar: SessionCalendar, request: BarRequest) -> list[Session]:
    if request.timeframe == "1d":
        return calendar.sessions(request.start.date(), request.end.date())
    around = calendar.sessions((request.start - _DAY).date(), (request.end + 2 * _DAY).date())
    return [each for each in around if each.close > request.start and each.open < request.end]


def _covered(request: BarRequest, session: Session, now: datetime) -> tuple[datetime, datetime]:
    if request.timeframe == "1d":
        midnight = datetime(
            session.session_date.year,
            session.session_date.month,
            session.session_date.day,
            tzinfo=UTC,
        )
        return midnight, midnight + _DAY
    passed = now.replace(second=0, microsecond=0)
    return max(session.open, request.start), min(session.close, request.end, passed)


def _aggregated(minutes: pd.DataFrame, request: BarRequest, now: datetime) -> pd.DataFrame:
    if request.timeframe == "1d":
        return _daily(minutes)
    bars = minutes
    if request.timeframe != "1m":
        bars = resample_bars(minutes.assign(source=SOURCE, is_final=True), request.timeframe)
        # A weighted mean of equal prices can miss them by one bit.
        bars["vwap"] = bars["vwap"].clip(bars["low"], bars["high"])
    length = pd.Timedelta(minutes=TIMEFRAME_MINUTES[request.timeframe])
    start, end, present = (pd.Timestamp(at) for at in (request.start, request.end, now))
    inside = (bars["ts"] >= start) & (bars["ts"] < end) & (bars["ts"] + length <= present)
    return bars[inside]


def _daily(minutes: pd.DataFrame) -> pd.DataFrame:
    turnover = minutes["vwap"] * minutes["volume"]
    groups = minutes.assign(turnover=turnover).groupby(["instrument_id", "session_date"])
    bars = groups.agg(
        open=("open", "first"),
        high=("high", "max"),
        low=("low", "min"),
        close=("close", "last"),
        volume=("volume", "sum"),
        trade_count=("trade_count", "sum"),
        turnover=("turnover", "sum"),
    ).reset_index()
    vwap = (bars["turnover"] / bars["volume"]).clip(bars["low"], bars["high"])
    return bars.assign(vwap=vwap, ts=bars["session_date"].dt.tz_localize("UTC"))


def _next_date(calendar: SessionCalendar, session: Session) -> date:
    """Return the date of the next session; the day after where the calendar ends."""
    day = session.session_date + _DAY
    following = calendar.sessions(day, day + 14 * _DAY)
    return following[0].session_date if following else day


def _activity(minutes: int, *, all_day: bool) -> npt.NDArray[np.float64]:
    """Return how busy each minute is, 1 in the quietest: busy at open and close."""
    if all_day:
        return 1.0 + 0.4 * (1 + np.sin(np.linspace(0, 2 * np.pi, minutes, endpoint=False)))
    position = np.linspace(-1.0, 1.0, minutes)
    shape: npt.NDArray[np.float64] = 1.0 + 3.0 * position**4
    return shape


def _on_grid(prices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Round to a cent, below 2 to a tenth of a cent; never to nothing."""
    fine = np.maximum(np.round(prices, 3), 0.001)
    return np.where(prices < 2, fine, np.round(prices, 2))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")


def _seed_of(text: str) -> np.random.SeedSequence:
    return np.random.SeedSequence(_digest(text))


@lru_cache(maxsize=65_536)
def _normal(text: str) -> float:
    """Return a standard normal number that the text decides."""
    return _NORMAL.inv_cdf((_digest(text) >> 76) / 2**52 + 2**-54)


@lru_cache(maxsize=4_096)
def _traits(key: str, asset_class: str) -> _Traits:
    def between(low: float, high: float, what: str) -> float:
        share = _NORMAL.cdf(_normal(f"{key}|{what}"))
        return low * cast("float", (high / low) ** share)

    crypto = asset_class == "crypto"
    return _Traits(
        base_price=between(1.0, 40_000.0, "price") if crypto else between(0.8, 180.0, "price"),
        trades_per_minute=between(3.5, 150.0, "trades"),
        trade_size=between(0.05, 5.0, "size") if crypto else between(30.0, 400.0, "size"),
        whole_sizes=not crypto,
    )


@lru_cache(maxsize=65_536)
def _level(key: str, day: date) -> float:
    """Return the log of the price at the open of `day` over the base price.

    A sum of curves, each through random numbers that lie 1, 2, 4 ... days apart, so that a day's
    level needs no other day and still moves like a market does.
    """
    level = _gap(key, day)
    ordinal = day.toordinal()
    for octave in range(OCTAVES):
        step = 1 << octave
        knot, inside = divmod(ordinal, step)
        share = (1 - math.cos(math.pi * inside / step)) / 2
        low = _normal(f"{key}|{octave}|{knot}")
        high = _normal(f"{key}|{octave}|{knot + 1}") if inside else low
        level += DAILY_DEVIATION * math.sqrt(step) * (low + (high - low) * share)
    return level


def _gap(key: str, day: date) -> float:
    """Return the log of what the price jumps overnight, between the close before and this open."""
    return GAP_DEVIATION * _normal(f"{key}|gap|{day.toordinal()}")
