"""Yahoo's lab for the contract suite: the wire format of `yahoo_server` with the common faults."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Literal

from scizor_resources.providers.gate import Gate
from scizor_resources.providers.yahoo.client import YahooSettings
from scizor_resources.providers.yahoo.source import YahooSource
from tests.contract.lab.labs import Provider
from tests.contract.lab.server import HttpLab, Reply, Row, Seen
from tests.contract.yahoo_server import (
    COOKIE,
    CRUMB,
    INVALID_CRUMB,
    SERVER_ERROR,
    TOO_MANY_REQUESTS,
    Fault,
    Series,
    chart_error,
)

CHART_PATH = "/v8/finance/chart/"
_ANSWERS = {
    "rate_limited": TOO_MANY_REQUESTS,
    "server_error": SERVER_ERROR,
    "invalid_credentials": INVALID_CRUMB,
}


def wire_row(row: Row) -> tuple[object, ...]:
    return (row.epoch, row.open, row.high, row.low, row.close, row.volume)


class YahooLab(HttpLab):
    """Cookie, crumb and charts of New York."""

    def concerns_data(self, seen: Seen) -> bool:
        return seen.path.startswith(CHART_PATH)

    def respond(self, seen: Seen) -> Reply:
        if seen.path == "/v1/test/getcrumb":
            return Reply(CRUMB.encode(), headers={"Content-Type": "text/plain"})
        if not self.concerns_data(seen):
            return Reply(b"", 404, {"Set-Cookie": f"{COOKIE}; Path=/; Max-Age=31536000"})
        ticker, interval = seen.path.removeprefix(CHART_PATH), seen.query["interval"]
        if (ticker, interval) not in self.rows:
            found = "No data found, symbol may be delisted"
            return Reply(chart_error("Not Found", found).encode(), 404)
        rows = [wire_row(row) for row in self.faulty(self.rows[ticker, interval])]
        chart = Series(ticker, interval, rows)
        return Reply(chart.answer(int(seen.query["period1"]), int(seen.query["period2"])))

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        answer: Fault = _ANSWERS[kind]
        return Reply(answer.body.encode(), answer.status, {"Content-Type": answer.content_type})


@cache
def cache_directory() -> Path:
    """Return where yfinance keeps its cookies: one place for the process, as it wants it."""
    directory = tempfile.mkdtemp(prefix="scizor-yahoo-lab-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Path(directory)


def make_source(
    lab: YahooLab, gate: Gate, now: Callable[[], datetime], timeout_seconds: float
) -> YahooSource:
    settings = YahooSettings(
        cache_dir=cache_directory(), base_url=lab.url, timeout_seconds=timeout_seconds
    )
    return YahooSource(gate, settings, now=now)


PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="yahoo",
        lab=YahooLab,
        source=make_source,
        market="us",
        symbols=("AAPL", "BRK.B"),
        wire_symbols=("AAPL", "BRK-B"),
        skips=(("page_limit", "one chart holds every bar of the longest window it may span"),),
    ),
)
