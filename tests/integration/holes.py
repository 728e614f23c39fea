"""A market on loopback whose provider fails in every way, and a clock that repairs go by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from scizor_assets.build import build_defs
from scizor_assets.repair import gap_repair
from scizor_core.markets import Timeframe
from scizor_core.sessions import get_calendar
from scizor_resources.errors import AuthError, TransientError
from scizor_resources.platform import Platform
from scizor_resources.providers.base import (
    BarBatch,
    BarRequest,
    Capabilities,
    empty_bars,
    empty_rejected,
    normalise_bars,
)

from .helpers import execute, query

_STEPS = {"1m": "1min", "5m": "5min", "1d": "1D"}


class Venue:
    """A provider that has every minute of every session, but for what it is told not to have.

    Attributes:
        is_down: it answers nobody.
        refused: symbols that the plan does not allow.
        seen: symbols of which it sees every trade.
        absent: (symbol, start, end) of which it has no bars, half open.
        has_bars: without it every answer is empty.
        asked: every request.
    """

    def __init__(
        self, name: str, now: Callable[[], datetime], reach: timedelta, *, has_bars: bool = True
    ) -> None:
        self.name = name
        self.is_down = False
        self.refused: set[str] = set()
        self.seen: set[str] = set()
        self.absent: list[tuple[str, datetime, datetime]] = []
        self.has_bars = has_bars
        self.asked: list[BarRequest] = []
        self._now, self._reach = now, reach

    @property
    def capabilities(self) -> Capabilities:
        reaches: dict[Timeframe, timedelta] = {"1m": self._reach, "5m": self._reach}
        return Capabilities(frozenset({"asx"}), frozenset({"1m", "5m", "1d"}), max_age=reaches)

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        self.asked.append(request)
        if self.is_down:
            raise TransientError(f"{self.name} answered HTTP 503", provider=self.name)
        batch = BarBatch(empty_bars(), empty_rejected(), requests=1)
        frames = []
        for ref in request.symbols:
            if ref.symbol in self.refused:
                error = AuthError(f"the plan has no {ref.symbol}", provider=self.name, status=403)
                batch.errors[ref.symbol], batch.causes[ref.symbol] = str(error), error
                continue
            if ref.symbol in self.seen:
                batch.covered.append((ref.symbol, request.start, request.end))
            frame = self._bars(ref.symbol, request)
            if frame.empty:
                batch.empty_reasons[ref.symbol] = f"no bars of {ref.symbol} here"
            else:
                frames.append(frame)
        if frames:
            batch.bars = normalise_bars(pd.concat(frames))
        return batch

    def _bars(self, symbol: str, request: BarRequest) -> pd.DataFrame:
        minutes = self._minutes(symbol, request)
        if request.timeframe == "1d":
            minutes = minutes.map(session_of)
        times = minutes.floor(_STEPS[request.timeframe]).unique()
        prices = dict.fromkeys(("open", "high", "low", "close"), 10.0)
        columns = {"symbol": symbol, "ts": times, "volume": 100.0, "source": self.name, **prices}
        return pd.DataFrame(columns)

    def _minutes(self, symbol: str, request: BarRequest) -> pd.DatetimeIndex:
        nothing = pd.DatetimeIndex([], dtype="datetime64[us, UTC]")
        if not self.has_bars:
            return nothing
        first, last = request.start.date() - timedelta(days=1), request.end.date()
        parts = [
            pd.date_range(each.open, each.close, freq="1min", inclusive="left", unit="us")
            for each in get_calendar("asx").sessions(first, last + timedelta(days=2))
        ]
        times = pd.DatetimeIndex([ts for part in parts for ts in part])
        for whose, start, end in self.absent:
            if whose == symbol:
                times = times[(times < start) | (times >= end)]
        placed = times.map(session_of) if request.timeframe == "1d" else times
        kept = (placed >= request.start) & (placed < request.end) & (times < self._now())
        if request.timeframe != "1d":
            kept &= times >= self._now() - self._reach
        return times[kept]


def session_of(ts: pd.Timestamp) -> pd.Timestamp:
    """Return midnight UTC of the Sydney session that a minute of January is in."""
    return (ts + pd.Timedelta(hours=11)).normalize()


@dataclass
class Week:
    """The platform in a week of its own: clock, providers, runs in this process.

    Attributes:
        platform: the opened platform; its clock is `now`.
        instance: where runs are recorded.
        now: the present; whoever holds the week moves it.
        primary: asked first.
        secondary: asked for what the primary one leaves open; it has nothing.
    """

    platform: Platform
    instance: dg.DagsterInstance
    now: datetime
    primary: Venue = field(init=False)
    secondary: Venue = field(init=False)

    def __post_init__(self) -> None:
        def clock() -> datetime:
            return self.now

        reach = timedelta(days=30)
        self.primary = Venue("primary", clock, reach)
        self.secondary = Venue("secondary", clock, reach, has_bars=False)
        self.platform.now = clock
        resources = {"platform": dg.ResourceDefinition.hardcoded_resource(self.platform)}
        self._definitions = build_defs(resources, marts=False)

    # ---- what is done

    def fill(self, first: date, last: date, symbols: Sequence[str], timeframe: Timeframe) -> None:
        """Collect sessions as a backfill does, and measure them."""
        assert timeframe in ("1m", "1d")
        daily = timeframe == "1d"
        for each in ("1d",) if daily else ("1m", "5m", "15m"):
            chosen = [name for name in symbols if each != "1m" or name in self._minutes()]
            if chosen:
                collector = self.platform.collector("asx", each)
                collector.collect(first, last + timedelta(days=1), chosen)
        self.measure(first, last, daily=daily)

    def measure(self, first: date, last: date, *, daily: bool = False) -> None:
        """Measure sessions as the asset completeness does."""
        meter = self.platform.completeness_meter("asx")
        meter.measure(first, last + timedelta(days=1), daily=daily)

    def _minutes(self) -> set[str]:
        rows = self.platform.reference.watchlist("asx", active_only=True)
        return {each.symbol for each in rows if each.collect_1min}

    def punch(self, symbol: str, session: date, first: int, last: int) -> None:
        """Delete the bars of minutes `first` to `last - 1` of a session, of all timeframes."""
        start, end = instants(session, first, last)
        execute(
            self.platform,
            "DELETE FROM market.bars AS b USING public.symbols AS s "
            "WHERE s.instrument_id = b.instrument_id AND s.symbol = %s AND b.timeframe <> '1d' "
            "AND b.ts >= %s AND b.ts < %s",
            symbol,
            start,
            end,
        )

    def tick(self) -> list[dict[str, Any]]:
        """Evaluate the sensor and execute what it asks for; returns what each run says of gaps."""
        found = gap_repair(dg.build_sensor_context(instance=self.instance), platform=self.platform)
        return [self._execute(request) for request in found] if isinstance(found, list) else []

    def _execute(self, request: dg.RunRequest) -> dict[str, Any]:
        job = self._definitions.resolve_job_def(str(request.job_name))
        result = job.execute_in_process(
            instance=self.instance,
            asset_selection=list(request.asset_selection or ()),
            partition_key=request.partition_key,
            run_config={
                **request.run_config,
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            tags={**request.tags, "dagster/run_key": str(request.run_key)},
        )
        assert result.success
        ops = request.run_config["ops"]
        finest = next(iter(ops))
        event = result.asset_materializations_for_node(finest)[0]
        metadata = {key: value.value for key, value in event.metadata.items()}
        return {
            "bars": finest.removeprefix("asx__bars_"),
            "first": request.partition_key or request.tags["dagster/asset_partition_range_start"],
            "last": request.partition_key or request.tags["dagster/asset_partition_range_end"],
            "symbols": ops[finest]["config"]["symbols"],
            "gaps": {
                key.removeprefix("gaps_"): value
                for key, value in metadata.items()
                if key.startswith("gaps_")
            },
        }

    def next_due(self) -> datetime | None:
        """Return when the next gap is due that the sensor has asked for before."""
        rows = query(
            self.platform,
            "SELECT min(next_attempt_at) AS at FROM quality.gaps "
            "WHERE status = 'open' AND attempts > 0",
        )
        found: datetime | None = rows[0]["at"]
        return found

    # ---- what is found

    def gaps(self, symbol: str, session: date, timeframe: str = "1m") -> list[tuple[Any, ...]]:
        """Return minutes, reason, status and attempts of a session's gaps."""
        opened, _ = instants(session, 0, 1)
        rows = query(
            self.platform,
            "SELECT start_ts, end_ts, reason, status, attempts FROM asx.gaps WHERE symbol = %s "
            "AND session_date = %s AND timeframe = %s ORDER BY start_ts",
            symbol,
            session,
            timeframe,
        )
        return [
            (
                (row["start_ts"] - opened) // timedelta(minutes=1),
                (row["end_ts"] - opened) // timedelta(minutes=1),
                row["reason"],
                row["status"],
                row["attempts"],
            )
            for row in rows
        ]

    def closed(self, symbol: str) -> set[tuple[str, str, str, int]]:
        """Return timeframe, reason, outcome and attempts of the closed gaps of a symbol."""
        rows = query(
            self.platform,
            "SELECT timeframe, reason, outcome, attempts FROM quality.closed_gaps "
            "JOIN public.symbols USING (instrument_id) WHERE symbol = %s",
            symbol,
        )
        return {tuple(row.values()) for row in rows}  # type: ignore[misc]  # four columns

    def does_not_add_up(self) -> list[dict[str, Any]]:
        """Return the sessions whose ledger does not divide what is expected without rest.

        Counted anew in SQL from market.bars and quality.gaps; on the ASX a session of January has
        360 minutes.
        """
        return query(self.platform, _ADDS_UP)


_ADDS_UP = """
    WITH steps (timeframe, step, expected) AS (
        VALUES ('1m', interval '1 minute', 360), ('5m', interval '5 minutes', 72),
               ('15m', interval '15 minutes', 24), ('1d', interval '1 day', 1)
    ),
    absent AS (
        SELECT g.instrument_id, g.timeframe, g.session_date, g.reason, ts
        FROM quality.gaps AS g JOIN steps AS s USING (timeframe),
             LATERAL generate_series(g.start_ts, g.end_ts - interval '1 second', s.step) AS ts
    ),
    told AS (
        SELECT instrument_id, timeframe, session_date, count(*) AS bars,
               count(DISTINCT ts) AS distinct_bars,
               count(*) FILTER (WHERE reason = 'no trades') AS quiet,
               count(*) FILTER (WHERE reason = 'halted') AS halted,
               count(*) FILTER (WHERE reason = 'delisted') AS delisted,
               count(*) FILTER (WHERE reason = 'outside history') AS outside_history,
               count(*) FILTER (WHERE reason = 'feed down') AS feed_down,
               count(*) FILTER (WHERE reason = 'not yet fetched') AS not_fetched,
               count(*) FILTER (WHERE reason = 'provider refused') AS refused,
               count(*) FILTER (WHERE reason = 'absent in every source') AS absent
        FROM absent GROUP BY 1, 2, 3
    ),
    stored AS (
        SELECT instrument_id, timeframe, session_date, count(*) AS bars
        FROM market.bars GROUP BY 1, 2, 3
    ),
    both_said AS (
        SELECT a.instrument_id, a.timeframe, a.session_date, count(*) AS bars
        FROM absent AS a JOIN market.bars AS b
            ON (b.instrument_id, b.timeframe, b.ts) = (a.instrument_id, a.timeframe, a.ts)
        GROUP BY 1, 2, 3
    ),
    places AS (
        SELECT instrument_id, timeframe, session_date FROM quality.completeness
        UNION SELECT instrument_id, timeframe, session_date FROM stored
        UNION SELECT instrument_id, timeframe, session_date FROM told
    )
    SELECT sy.symbol, p.timeframe, p.session_date::text, c.expected, c.present, c.missing,
           stored.bars AS stored, told.bars AS told
    FROM places AS p
    JOIN steps AS s USING (timeframe)
    JOIN public.symbols AS sy USING (instrument_id)
    LEFT JOIN quality.completeness AS c USING (instrument_id, timeframe, session_date)
    LEFT JOIN told USING (instrument_id, timeframe, session_date)
    LEFT JOIN stored USING (instrument_id, timeframe, session_date)
    LEFT JOIN both_said USING (instrument_id, timeframe, session_date)
    WHERE c.expected IS DISTINCT FROM s.expected
       OR c.expected <> c.present + c.quiet + c.excused + c.missing
       OR c.present <> coalesce(stored.bars, 0)
       OR c.expected - c.present <> coalesce(told.bars, 0)
       OR coalesce(told.bars, 0) <> coalesce(told.distinct_bars, 0)
       OR both_said.bars > 0
       OR (c.quiet, c.halted, c.delisted, c.outside_history, c.feed_down, c.not_fetched, c.refused,
           c.absent) IS DISTINCT FROM (coalesce(told.quiet, 0), coalesce(told.halted, 0),
           coalesce(told.delisted, 0), coalesce(told.outside_history, 0),
           coalesce(told.feed_down, 0), coalesce(told.not_fetched, 0), coalesce(told.refused, 0),
           coalesce(told.absent, 0))
    ORDER BY 1, 2, 3
"""


def instants(session: date, first: int, last: int) -> tuple[datetime, datetime]:
    """Return start and end of minutes `first` to `last - 1` of a session in Sydney's summer."""
    opened = datetime.combine(session, time(), UTC) - timedelta(hours=1)
    return opened + timedelta(minutes=first), opened + timedelta(minutes=last)
