"""The tape's lab for the contract suite: CSV files and a hand-written manifest in a directory."""

import csv
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scizor_resources.providers.base import BarBatch, BarRequest
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.tape import TapeSource
from scizor_resources.tape.manifest import MANIFEST_NAME
from tests.contract.lab.labs import Provider
from tests.contract.lab.server import TRANSPORT_FAULTS, HttpLab, Row

HEADER = ("timestamp", "open", "high", "low", "close", "volume")


class TapeLab:
    """A tape directory that a user has filled; rows are kept and faulty as in `HttpLab`."""

    def __init__(self) -> None:
        self.venue = HttpLab()  # for its rows and their faults; never started
        self.data_requests: list[Any] = []
        self._directory = TemporaryDirectory(prefix="scizor-tape-lab-")

    @property
    def data_faults(self) -> set[Any]:
        return self.venue.data_faults

    @property
    def directory(self) -> Path:
        return Path(self._directory.name)

    def put(self, symbol: str, timeframe: str, rows: list[Row]) -> None:
        self.venue.put(symbol, timeframe, rows)

    def inject(self, *_fault: Any) -> None:
        raise AssertionError("nothing is sent over a wire")

    def stop(self) -> None:
        """Nothing runs."""

    def write(self) -> None:
        """Write the files and the manifest; a symbol without rows has no file."""
        entries = []
        for (symbol, timeframe), rows in self.venue.rows.items():
            sent = self.venue.faulty(rows)
            if not sent:
                continue
            name = f"{symbol}-{timeframe}.csv"
            with (self.directory / name).open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream)
                writer.writerow(HEADER)
                for row in sent:
                    prices = (row.open, row.high, row.low, row.close)
                    writer.writerow((row.ts.isoformat(), *prices, row.volume))
            entries.append({"file": name, "market": "us", "symbol": symbol, "timeframe": timeframe})
        document = json.dumps(entries)
        (self.directory / MANIFEST_NAME).write_text(document, encoding="utf-8")

    def __enter__(self) -> "TapeLab":
        return self

    def __exit__(self, *_details: object) -> None:
        self._directory.cleanup()


class WrittenTape(TapeSource):
    """The tape of a lab; its files are written as the test wants them before they are read."""

    def __init__(self, lab: TapeLab, now: Callable[[], datetime]) -> None:
        super().__init__(lab.directory, now)
        self._lab = lab

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        self._lab.write()
        return super().fetch_bars(request)


def make_source(
    lab: TapeLab, _gate: Gate, now: Callable[[], datetime], _timeout_seconds: float
) -> WrittenTape:
    return WrittenTape(lab, now)


PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="tape",
        lab=TapeLab,
        source=make_source,
        market="us",
        symbols=("AAPL", "MSFT"),
        wire_symbols=("AAPL", "MSFT"),
        skips=(
            *((fault, "a file is read from disk, nothing is sent") for fault in TRANSPORT_FAULTS),
            ("refused", "a file is read from disk, there is no connection"),
            ("page_limit", "a file has no pages"),
            ("partial_last", "what was kept is history: every bar of a file is final"),
            ("null_rows", "refused too, but in the words of a file: 'open is missing ...'"),
            ("nan_text", "refused too, but in the words of a file: 'high is missing ...'"),
            ("duplicate_rows", "refused too, but in the words of a file: 'same time as row 1'"),
        ),
    ),
)
