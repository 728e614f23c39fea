"""What the benchmarks share: servers of their own, bars, and how a duration is taken."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import sqlalchemy as sa

from scizor_resources.embedded.servers import EmbeddedServers
from scizor_resources.endpoints import Endpoints
from scizor_resources.stores import schema

SESSION_BARS = 390


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        what: what was done, a sentence fragment.
        value: the number.
        unit: its unit.
        peer: the same by the usual way, None where there is none.
        peer_name: what that way is.
        target: what SCIZOR set out to reach, with its sign: ">= 350,000".
        note: how it was taken.
    """

    what: str
    value: float
    unit: str
    peer: float | None = None
    peer_name: str = ""
    target: str = ""
    note: str = ""


@contextmanager
def embedded_servers() -> Iterator[Endpoints]:
    """Run PostgreSQL and Valkey in a temporary directory, away from what the user has."""
    with (
        tempfile.TemporaryDirectory(prefix="scizor-bench-") as home,
        EmbeddedServers(Path(home)) as running,
    ):
        started = running.start()
        yield Endpoints(started.libpq_url, started.redis_url)


def new_database(servers: Endpoints, name: str) -> Endpoints:
    """Return a new, migrated database on these servers; one of that name is dropped."""
    with psycopg.connect(servers.libpq_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
        # What earlier measurements left to be written is not the next one's to pay for.
        connection.execute("CHECKPOINT")
    url = sa.make_url(servers.libpq_url).set(database=name)
    made = Endpoints(url.render_as_string(hide_password=False), servers.redis_url)
    schema.upgrade(sa.create_engine(made.sqlalchemy_url, poolclass=sa.NullPool))
    return made


def minute_bars(symbols: int, sessions: int, seed: int = 7) -> pd.DataFrame:
    """Return one-minute bars as `Warehouse.write_bars` takes them, sorted by key.

    Random walks at a cent's tick, sessions of 390 bars on the weekdays from 2024-01-02 on.
    """
    rng = np.random.default_rng(seed)
    rows = sessions * SESSION_BARS
    days = pd.bdate_range("2024-01-02", periods=sessions).to_numpy().astype("datetime64[us]")
    day = np.repeat(days, SESSION_BARS)
    minute = np.tile(np.arange(SESSION_BARS), sessions) + 14 * 60 + 30
    ts = day + minute.astype("timedelta64[m]")
    steps = rng.normal(0.0, 0.0005, (symbols, rows)).cumsum(axis=1)
    close = np.maximum(np.round(rng.uniform(20, 400, (symbols, 1)) * np.exp(steps), 2), 0.02)
    opened = np.concatenate([close[:, :1], close[:, :-1]], axis=1)
    high = np.maximum(opened, close) + 0.02
    low = np.minimum(opened, close) - 0.01
    count = symbols * rows
    return pd.DataFrame(
        {
            "instrument_id": np.repeat(np.arange(1, symbols + 1), rows),
            "timeframe": _repeated("1m", count),
            "ts": pd.Series(np.tile(ts, symbols)).dt.tz_localize("UTC"),
            "session_date": np.tile(day, symbols),
            "open": opened.ravel(),
            "high": high.ravel(),
            "low": low.ravel(),
            "close": close.ravel(),
            "volume": rng.integers(0, 200_000, count).astype("float64"),
            "vwap": np.round((high + low) / 2, 4).ravel(),
            "trade_count": pd.array(rng.integers(0, 900, count), dtype="Int64"),
            "adj_close": np.full(count, np.nan),
            "source": _repeated("tape", count),
            "is_final": np.ones(count, dtype=np.bool_),
        }
    )


def _repeated(word: str, count: int) -> "pd.Series[str]":
    return pd.Series([word], dtype="str").repeat(count).reset_index(drop=True)


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_seconds(work: Callable[[], object], runs: int) -> float:
    """Return the median duration of `work` over `runs` runs, after one that does not count."""
    work()
    return statistics.median(seconds(work) for _ in range(runs))


def load_average() -> float:
    """Return how many processes wanted a core over the last minute."""
    return os.getloadavg()[0]
