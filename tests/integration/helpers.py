"""What several integration tests share: sources to choose from, and fingerprints of tables."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from scizor_core.markets import TIMEFRAMES, Timeframe
from scizor_resources.errors import ProviderError
from scizor_resources.pipeline.collect import BarCollector
from scizor_resources.platform import Platform
from scizor_resources.providers.base import (
    BarBatch,
    BarRequest,
    BarSource,
    Capabilities,
    empty_bars,
    empty_rejected,
    normalise_bars,
)
from scizor_resources.providers.gate import Lane
from scizor_resources.providers.simulated import SimulatedSource
from scizor_resources.tape.importer import ImportSpec, import_file

SIMULATED_NOW = datetime(2026, 11, 20, tzinfo=UTC)


def simulated(seed: int = 7) -> SimulatedSource:
    return SimulatedSource(seed, now=lambda: SIMULATED_NOW)


class FixedSource:
    """Answers with the rows it was given that lie in the window; remembers what it was asked."""

    def __init__(
        self,
        rows: pd.DataFrame | None = None,
        name: str = "fixed",
        timeframes: tuple[Timeframe, ...] = TIMEFRAMES,
    ) -> None:
        self.name = name
        self.rows = normalise_bars(rows) if rows is not None else empty_bars()
        self.asked: list[BarRequest] = []
        self._timeframes = timeframes

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(frozenset({"asx", "us", "crypto"}), frozenset(self._timeframes))

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        self.asked.append(request)
        names = [ref.symbol for ref in request.symbols]
        inside = self.rows["symbol"].isin(names) & self.rows["ts"].between(
            pd.Timestamp(request.start), pd.Timestamp(request.end), inclusive="left"
        )
        batch = BarBatch(self.rows[inside].reset_index(drop=True), empty_rejected(), requests=1)
        present = set(batch.bars["symbol"])
        batch.empty_reasons = {
            name: f"no bars of {name} here" for name in names if name not in present
        }
        return batch

    def asked_symbols(self) -> set[str]:
        return {ref.symbol for request in self.asked for ref in request.symbols}


class FailingSource:
    """Hands requests on to another source until it has failed; `after` calls are answered."""

    def __init__(
        self, error: BaseException, *, after: int = 0, inner: BarSource | None = None
    ) -> None:
        self.name = "failing"
        self.calls = 0
        self._error, self._after, self._inner = error, after, inner

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(frozenset({"asx", "us", "crypto"}), frozenset(TIMEFRAMES))

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        self.calls += 1
        if self._inner is None or self.calls > self._after:
            raise self._error
        return self._inner.fetch_bars(request)


class BrokenProviderError(ProviderError):
    """For failures that are neither transient nor permanent by name."""


def rows_of(symbol: str, bars: list[tuple[str, float, float, float, float, float]]) -> pd.DataFrame:
    """Return bars (time in UTC, open, high, low, close, volume) of a symbol as a source's rows."""
    frame = pd.DataFrame(bars, columns=["ts", "open", "high", "low", "close", "volume"])
    return frame.assign(
        symbol=symbol,
        ts=pd.to_datetime(frame["ts"], utc=True, format="ISO8601"),
        source="fixed",
        is_final=True,
    )


def flat(symbol: str, times: list[str], price: float = 10.0, volume: float = 100.0) -> pd.DataFrame:
    return rows_of(symbol, [(at, price, price, price, price, volume) for at in times])


def collector(
    platform: Platform,
    timeframe: Timeframe,
    *sources: BarSource,
    market: str = "asx",
    now: Callable[[], datetime] = lambda: SIMULATED_NOW,
    lane: Lane = "backfill",
) -> BarCollector:
    return BarCollector(
        market,
        timeframe,
        warehouse=platform.warehouse,
        reference=platform.reference,
        quality=platform.quality,
        providers=platform.providers,
        sources=list(sources),
        now=now,
        lane=lane,
    )


def put_on_tape(platform: Platform, text: str, **spec: Any) -> None:
    """Import a CSV text into the platform's tape."""
    directory: Path = platform.settings.tape_directory
    path = directory.parent / f"file {abs(hash(text))}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    import_file(path, ImportSpec(**spec), directory, lambda: SIMULATED_NOW)


def fingerprint(platform: Platform, *, stamps: bool = True) -> dict[str, str]:
    """Return a digest of every table in schemas market and quality.

    Args:
        platform: the platform.
        stamps: count the columns that say when a row was written, too.
    """
    hidden = "" if stamps else "- 'ingested_at' - 'computed_at' - 'updated_at' - 'detected_at' "
    hidden += "" if stamps else "- 'quarantined_at' - 'superseded_at' - 'revision_id'"
    with platform.warehouse.connect() as connection:
        tables = connection.execute(
            "SELECT c.oid::regclass::text AS name FROM pg_class AS c "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE n.nspname IN ('market', 'quality') AND c.relkind IN ('r', 'p') "
            "AND NOT c.relispartition ORDER BY 1"
        ).fetchall()
        out = {}
        for table in tables:
            row = connection.execute(
                "SELECT count(*) || ' ' || coalesce(md5(string_agg(line, ' ' ORDER BY line)), '') "
                f"AS digest FROM (SELECT (to_jsonb(t) {hidden})::text AS line "
                f"FROM {table['name']} AS t) AS x"
            ).fetchone()
            out[table["name"]] = row["digest"] if row else ""
    return out


def query(platform: Platform, sql: str, *parameters: Any) -> list[dict[str, Any]]:
    with platform.warehouse.connect() as connection:
        return connection.execute(sql, parameters).fetchall()


def execute(platform: Platform, sql: str, *parameters: Any) -> None:
    with platform.warehouse.connect() as connection:
        connection.execute(sql, parameters)


def indicator_rows(platform: Platform, timeframe: str) -> pd.DataFrame:
    """Return market.indicators of a timeframe with symbols, ordered by symbol and ts."""
    rows = query(
        platform,
        "SELECT s.symbol, i.* FROM market.indicators AS i JOIN public.symbols AS s "
        "USING (instrument_id) WHERE i.timeframe = %s ORDER BY s.symbol, i.ts",
        timeframe,
    )
    return pd.DataFrame(rows)


def midnight(day: str) -> datetime:
    return datetime.combine(datetime.fromisoformat(day).date(), time(), UTC)


def next_day(day: datetime) -> datetime:
    return day + timedelta(days=1)
