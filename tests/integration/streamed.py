"""What tests of the streaming process share: its settings, its process, and what it stored."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scizor_core.instruments import WatchlistEntry
from scizor_core.markets import Timeframe
from scizor_resources.platform import Platform
from scizor_resources.settings import load_settings
from scizor_resources.stores.hot import HotReader
from scizor_sidecar.pipeline import TIMER_SECONDS
from tests.contract.lab.trade_tape import TradeTape, bars_of, make_tape
from tests.contract.lab.ws_exchanges import LoopbackExchange
from tests.integration.helpers import query

TIMEFRAMES: dict[Timeframe, int] = {"1m": 1, "5m": 5, "15m": 15}
_COLUMNS = ("open", "high", "low", "close", "volume", "trade_count", "vwap")
#: A minute ends so long after its last trade, by the feed's own time.
_LATENESS_US = 2_000_000


def recent_tape(
    symbols: tuple[str, ...], trades: int, minutes: int, reorder_seconds: float = 2
) -> TradeTape:
    """Return a tape that ended a few minutes ago.

    What is older than `SCIZOR_STREAM_HEAL_HOURS` is not fetched again after a restart.
    """
    start = datetime.now(UTC) - timedelta(minutes=minutes + 5)
    start = start.replace(second=0, microsecond=0)
    return make_tape(symbols, trades, minutes=minutes, reorder_seconds=reorder_seconds, start=start)


def stream_from(
    exchange: LoopbackExchange,
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
    symbols: Sequence[str],
) -> None:
    """Let a platform, and processes started from here, stream symbols of an exchange."""
    name = exchange.venue.upper()
    monkeypatch.setenv("SCIZOR_STREAM_ASX", "none")
    monkeypatch.setenv("SCIZOR_STREAM_US", "none")
    monkeypatch.setenv("SCIZOR_STREAM_CRYPTO", exchange.venue)
    monkeypatch.setenv(f"SCIZOR_{name}_WS_URL", exchange.urls.ws)
    monkeypatch.setenv(f"SCIZOR_{name}_BASE_URL", exchange.urls.rest)
    monkeypatch.setenv(f"SCIZOR_{name}_REQUESTS_PER_MINUTE", "60000")
    platform.settings = load_settings()
    platform.reference.add([WatchlistEntry("crypto", each, 1, True) for each in symbols])


def stored_bars(platform: Platform, timeframe: Timeframe) -> pd.DataFrame:
    """Return market.bars of crypto with index (symbol, start in microseconds)."""
    rows = query(
        platform,
        "SELECT s.symbol, (extract(epoch FROM b.ts) * 1000000)::bigint AS start, b.open, b.high, "
        "b.low, b.close, b.volume, b.trade_count, b.vwap, b.is_final, b.source "
        "FROM market.bars AS b JOIN public.symbols AS s USING (instrument_id) "
        "WHERE b.timeframe = %s AND s.market = 'crypto'",
        timeframe,
    )
    names = ["symbol", "start", *_COLUMNS, "is_final", "source"]
    return pd.DataFrame(rows, columns=names).set_index(["symbol", "start"]).sort_index()


def hot_bars(platform: Platform, timeframe: Timeframe, symbols: Sequence[str]) -> pd.DataFrame:
    """Return the bars in Valkey that do not form any more, as `stored_bars`."""
    reader = HotReader(platform.link)
    frames = []
    for symbol in symbols:
        found = reader.bars("crypto", symbol, timeframe)
        if found is not None:
            frame = found.final().frame().reset_index()
            frame["start"] = (frame.pop("ts") - pd.Timestamp(0, tz="UTC")) // pd.Timedelta("1us")
            frames.append(frame.assign(symbol=symbol))
    if not frames:
        return stored_bars(platform, timeframe).iloc[:0]
    return pd.concat(frames).set_index(["symbol", "start"]).sort_index()


def compare(
    platform: Platform, tape: TradeTape, *, in_valkey: bool = False
) -> dict[str, dict[str, int]]:
    """Return for each timeframe how many bars are missing, fabricated, wrong.

    Only bars that are over count as missing: the last ones of the tape still form.

    Args:
        platform: where they are stored.
        tape: what was traded.
        in_valkey: look there and not into PostgreSQL.
    """
    trades = tape.frame()
    newest = int(tape.ts.max())
    found: dict[str, dict[str, int]] = {}
    for timeframe, minutes in TIMEFRAMES.items():
        expected = bars_of(trades, minutes)
        got = (
            hot_bars(platform, timeframe, tape.symbols)
            if in_valkey
            else stored_bars(platform, timeframe)
        )
        ends = expected.index.get_level_values("start") + minutes * 60_000_000
        over = expected[ends + _LATENESS_US <= newest]
        final = got[got["is_final"].astype(bool)]
        both = expected.join(final, rsuffix="_got", how="inner")
        wrong = np.zeros(len(both), dtype=bool)
        for column in _COLUMNS:
            pair = both[column].to_numpy(float), both[f"{column}_got"].to_numpy(float)
            wrong |= ~np.isclose(*pair, rtol=1e-9, atol=0)
        found[timeframe] = {
            "expected": len(over),
            "missing": len(over.index.difference(final.index)),
            "fabricated": len(got.index.difference(expected.index)),
            "wrong": int(wrong.sum()),
        }
    return found


def is_right(comparison: dict[str, dict[str, int]]) -> bool:
    """Say whether nothing is missing, fabricated or wrong."""
    return all(
        each["expected"] and not (each["missing"] or each["fabricated"] or each["wrong"])
        for each in comparison.values()
    )


def awaited(holds: Callable[[], object], seconds: float, pause: float = TIMER_SECONDS) -> bool:
    """Wait until something holds; returns whether it came to that."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


class Sidecar:
    """`scizor sidecar` in a process of its own.

    Args:
        log: where it writes what it says.
        arguments: of the command.
    """

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "scizor_cli.main", "sidecar", "--port", "0", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def said(self) -> str:
        return self.log.read_text()

    def streams(self) -> bool:
        """Say whether it has begun."""
        assert self.process.poll() is None, self.said()
        return "Streaming " in self.said()

    def terminate(self) -> int:
        """Send SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()
        self.process.wait(30)


@contextmanager
def sidecar(log: Path, *arguments: str) -> Iterator[Sidecar]:
    """Run a sidecar until the block is left."""
    running = Sidecar(log, *arguments)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()
