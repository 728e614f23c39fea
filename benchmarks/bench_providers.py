"""Measure what the adapters of the providers cost beside the wire.

    python -m benchmarks.bench_providers [--runs N] [name ...]

Each adapter fetches about 10,000 one-minute bars from the lab of its contract suite, a stand-in for
the provider on loopback. The lab runs in a process of its own. Two figures are taken: the CPU time
of this process, which is the adapter's and its SDK's, and the time on the clock, in which the lab's
own time is contained. Where the SDK has a usual way to fetch bars, it runs alternately with the
adapter against the same lab. Nothing limits the calls: what the rate budget costs is measured by
`bench_budget`.
"""

import argparse
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import pandas as pd

from benchmarks.common import Figure, load_average
from benchmarks.report import show
from scizor_core.sessions import get_calendar
from scizor_resources.providers.base import BarRequest, BarSource, SymbolRef
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.tape import TapeSource
from tests.contract.lab import (
    alpaca,
    binance,
    ccxt_coinbase,
    coinbase,
    finnhub,
    ibkr,
    kraken,
    tape,
    yahoo,
)
from tests.contract.lab.labs import Provider
from tests.contract.lab.server import Reply, Row, Seen

RUNS = 5
PER_BARS = 10_000
#: The evening of a Friday on which New York was open. Yahoo keeps minutes for 30 days before it.
NOW = datetime(2026, 11, 20, 21, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TIMEOUT_SECONDS = 60.0
SESSIONS = 13
_PERIOD = ("period1", "period2")

#: Fetches the same bars through the SDK alone and returns how many came.
Peer = Callable[[], int]


@dataclass(frozen=True)
class Case:
    """One adapter and what it is asked for.

    Attributes:
        what: name in the table.
        provider: its entry in the contract suite.
        minutes: bars of each symbol, None for `SESSIONS` sessions of New York.
        symbols: how many of the provider's two symbols are asked for.
        repeats: how many times the window is asked for.
        lab: makes the lab, None for the suite's own.
        peer: makes what the SDK does alone from the lab's address and the case.
        peer_name: what that is.
    """

    what: str
    provider: Provider
    minutes: int | None = None
    symbols: int = 2
    repeats: int = 1
    lab: Callable[[], Any] | None = None
    peer: Callable[[str, "Case"], Peer] | None = None
    peer_name: str = ""

    @property
    def times(self) -> list[datetime]:
        """The bar starts of each symbol."""
        if self.minutes is not None:
            first = NOW - self.minutes * MINUTE
            return [first + number * MINUTE for number in range(self.minutes)]
        calendar = get_calendar("us")
        dates = calendar.sessions((NOW - timedelta(days=40)).date(), NOW.date() + timedelta(days=1))
        return [
            each.to_pydatetime()
            for session in dates[-SESSIONS:]
            for each in calendar.expected(session.session_date, "1m")
        ]

    @property
    def request(self) -> BarRequest:
        """The window asked for."""
        times = self.times
        refs = [SymbolRef(n + 1, name) for n, name in enumerate(self.provider.symbols)]
        return BarRequest(
            self.provider.market, "1m", times[0], times[-1] + MINUTE, tuple(refs[: self.symbols])
        )

    @property
    def bars(self) -> int:
        """Bars that one use brings."""
        return len(self.times) * self.symbols * self.repeats

    def fill(self, lab: Any) -> None:
        """Put the bars into a lab."""
        make = alpaca.AlpacaRow if self.provider.name == "alpaca" else Row
        rows = [
            make(ts, price := 100 + number % 900 / 10, price + 0.7, price - 0.4, price + 0.3, 500)
            for number, ts in enumerate(self.times)
        ]
        for name in self.provider.wire_symbols[: self.symbols]:
            lab.put(name, "1m", rows)


class HoursYahooLab(yahoo.YahooLab):
    """Yahoo's lab that also tells the hours of each session, without which yfinance fails."""

    def respond(self, seen: Seen) -> Reply:
        """Answer a request in Yahoo's wire format."""
        reply = super().respond(seen)
        if reply.status == 200 and self.concerns_data(seen):
            first, last = (datetime.fromtimestamp(int(seen.query[n]), UTC) for n in _PERIOD)
            sessions = get_calendar("us").sessions(first.date(), last.date() + timedelta(days=1))
            reply.body["chart"]["result"][0]["meta"]["tradingPeriods"] = [
                [
                    {
                        "timezone": "EST",
                        "gmtoffset": -18_000,
                        "start": int(each.open.timestamp()),
                        "end": int(each.close.timestamp()),
                    }
                ]
                for each in sessions
            ]
        return reply


# ---- what the SDKs do alone


def _yfinance(lab_url: str, case: Case) -> Peer:
    """`Ticker.history`, eight days at a time, which is the most that Yahoo gives of minutes."""
    import yfinance
    from curl_cffi import requests
    from yfinance.cache import get_tz_cache
    from yfinance.data import YfData

    class Session(requests.Session):
        def request(self, method: Any, url: str, *args: Any, **options: Any) -> Any:
            host, slash, path = url.removeprefix("https://").partition("/")
            target = lab_url + slash + path if host.endswith("yahoo.com") else url
            return super().request(method, target, *args, **options)

    # Of pandas, about the next version.
    warnings.filterwarnings("ignore", module="yfinance")
    yfinance.set_tz_cache_location(str(yahoo.cache_directory()))
    for name in case.provider.wire_symbols:
        get_tz_cache().store(name, "America/New_York")

    def fetch() -> int:
        # It answers a repeated question about the past from memory.
        YfData.cache_get.cache_clear()
        count = 0
        with Session(impersonate="chrome") as session:
            for name in case.provider.wire_symbols[: case.symbols]:
                start = case.request.start
                while start < case.request.end:
                    end = min(start + timedelta(days=8), case.request.end)
                    history = yfinance.Ticker(name, session=session).history(
                        start=start, end=end, interval="1m", auto_adjust=False
                    )
                    count += len(history)
                    start = end
        return count

    return fetch


def _alpaca_py(url: str, case: Case) -> Peer:
    from alpaca.data.historical.stock import StockHistoricalDataClient
    from alpaca.data.requests import StockBarsRequest
    from alpaca.data.timeframe import TimeFrame

    client = StockHistoricalDataClient(alpaca.KEY_ID, alpaca.SECRET, url_override=url)
    wanted = StockBarsRequest(
        symbol_or_symbols=list(case.provider.wire_symbols),
        timeframe=TimeFrame.Minute,
        start=case.request.start,
        end=case.request.end - timedelta(seconds=1),
    )
    return lambda: len(client.get_stock_bars(wanted).df)


def _ccxt(name: str, url: str, case: Case, limit: int) -> Peer:
    import ccxt

    sdk = getattr(ccxt, name)({"enableRateLimit": False, "options": {"fetchMarkets": ["spot"]}})
    sdk.has["fetchCurrencies"] = False
    sdk.urls["api"] = _at(url, sdk.urls["api"])
    sdk.load_markets()
    columns = ["ts", "open", "high", "low", "close", "volume"]
    request = case.request
    stop = int(request.end.timestamp() * 1000)
    until = {"until": stop - 1} if name == "binance" else {}

    def fetch() -> int:
        count = 0
        for _ in range(case.repeats):
            for ref in request.symbols:
                since, rows = int(request.start.timestamp() * 1000), []
                while since < stop:
                    page = sdk.fetch_ohlcv(ref.symbol, "1m", since, limit, until)
                    if not page:
                        break
                    rows += page
                    since = page[-1][0] + 60_000
                frame = pd.DataFrame(rows, columns=columns)
                frame["ts"] = pd.to_datetime(frame["ts"], unit="ms", utc=True)
                count += len(frame)
        return count

    return fetch


def _at(url: str, addresses: Any) -> Any:
    """Return ccxt's table of addresses with the lab's host."""
    if isinstance(addresses, dict):
        return {name: _at(url, each) for name, each in addresses.items()}
    _, _, path = str(addresses).removeprefix("https://").partition("/")
    return f"{url}/{path}".rstrip("/")


CASES: dict[str, Case] = {
    case.what: case
    for case in (
        Case("tape", tape.PROVIDERS[0]),
        Case(
            "yahoo",
            yahoo.PROVIDERS[0],
            lab=HoursYahooLab,
            peer=_yfinance,
            peer_name="yfinance, Ticker.history",
        ),
        Case(
            "alpaca",
            alpaca.PROVIDERS[0],
            lab=lambda: alpaca.AlpacaLab(10_000),
            peer=_alpaca_py,
            peer_name="alpaca-py, get_stock_bars().df",
        ),
        Case("finnhub", finnhub.PROVIDERS[0]),
        Case("ibkr", next(each for each in ibkr.PROVIDERS if each.market == "us")),
        Case(
            "kraken, candles",
            kraken.PROVIDERS[0],
            minutes=kraken.CANDLES_KEPT,
            repeats=7,
            peer=partial(_ccxt, "kraken", limit=kraken.CANDLES_KEPT),
            peer_name="ccxt, fetch_ohlcv",
        ),
        Case("kraken, bars built from trades", kraken.PROVIDERS[0], minutes=5_000, symbols=1),
        Case("coinbase", coinbase.PROVIDERS[0], minutes=5_000),
        Case(
            "ccxt_coinbase",
            ccxt_coinbase.PROVIDERS[0],
            minutes=5_000,
            peer=partial(_ccxt, "coinbase", limit=coinbase.CANDLES_ASKED),
            peer_name="ccxt, fetch_ohlcv",
        ),
        Case(
            "binance",
            binance.PROVIDERS[0],
            minutes=5_000,
            peer=partial(_ccxt, "binance", limit=binance.KLINES_PER_CALL),
            peer_name="ccxt, fetch_ohlcv",
        ),
    )
}


# ---- the lab in its own process


def _serve(what: str, parent: Connection) -> None:
    """Run a lab, tell its address, and stop when told to."""
    case = CASES[what]
    with (case.lab or case.provider.lab)() as lab:
        case.fill(lab)
        parent.send(lab.url)
        parent.recv()


@contextmanager
def lab_address(case: Case) -> Iterator[str]:
    """Run the lab of a case in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(case.what, theirs), daemon=True)
    process.start()
    # So that `recv` ends when the process does.
    theirs.close()
    try:
        yield ours.recv()
        ours.send("stop")
    finally:
        process.join(10)
        process.kill()


@contextmanager
def opened(case: Case, gate: Gate) -> Iterator[tuple[BarSource, Peer | None]]:
    """Return the adapter and its peer, each talking to the running lab."""
    if case.what == "tape":
        with tape.TapeLab() as files:
            case.fill(files)
            files.write()
            yield TapeSource(files.directory, now=lambda: NOW), None
        return
    with lab_address(case) as url:
        lab = SimpleNamespace(url=url)
        source: Any = case.provider.source(lab, gate, lambda: NOW, TIMEOUT_SECONDS)
        peer = case.peer(url, case) if case.peer is not None else None
        if hasattr(source, "close"):
            with closing(source):
                yield source, peer
        else:
            yield source, peer


# ---- the figures


def clocked(work: Callable[[], int], expected: int) -> tuple[float, float]:
    """Return seconds on the clock and seconds of CPU that `work` takes, and check its bars."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = work()
    taken = time.perf_counter() - wall, time.process_time() - cpu
    if count != expected:
        raise SystemExit(f"Expected {expected:,} bars, got {count:,}.")
    return taken


def measure_case(case: Case, runs: int) -> list[Figure]:
    """Return CPU time and time on the clock of one adapter, in milliseconds per 10,000 bars."""
    gate = Gate(case.provider.name)
    request = case.request

    with opened(case, gate) as (source, peer):

        def fetch() -> int:
            return sum(len(source.fetch_bars(request).bars) for _ in range(case.repeats))

        ways = [fetch] if peer is None else [fetch, peer]
        for way in ways:
            clocked(way, case.bars)
        before = gate.counts.requests
        taken = [[clocked(way, case.bars) for way in ways] for _ in range(runs)]
        calls = (gate.counts.requests - before) / runs
    note = (
        f"{case.bars:,} bars in {calls:.0f} calls; median of {runs}, the peer alternately; "
        f"load {load_average():.1f}"
    )
    figures = []
    for part, name in ((1, "CPU time"), (0, "on the clock")):
        found = [
            1000 * PER_BARS / case.bars * statistics.median(run[way][part] for run in taken)
            for way in range(len(ways))
        ]
        peer_value = found[1] if len(found) > 1 else None
        what = f"{case.what}: {name}"
        figures.append(Figure(what, found[0], "ms", peer_value, case.peer_name, note=note))
    return figures


def measure(runs: int = RUNS, names: tuple[str, ...] = tuple(CASES)) -> list[Figure]:
    """Return the figures of the adapters, per 10,000 bars."""
    return [figure for name in names for figure in measure_case(CASES[name], runs)]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="What the adapters cost beside the wire.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {'; '.join(CASES)}")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of each way")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(CASES)
    if unknown:
        parser.error(f"no such adapter: {', '.join(sorted(unknown))}")
    show({"providers": measure(options.runs, tuple(options.names or CASES))})


if __name__ == "__main__":
    main()
