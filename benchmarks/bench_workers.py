"""Measure what a second worker gains: the same backfill by one worker and by two.

    python -m benchmarks.bench_workers [--rounds N] [--partitions N] [--symbols N] [--simulated]

`scizor up` runs on embedded servers in a temporary directory, with one worker that does one run at
a time; `scizor worker` adds a second one like it. The backfill is the real thing: the partitions of
`crypto/bars_1m`, launched over the API that the UI uses, which Dagster cuts into runs of 20; every
bar is fetched, checked, written and recorded. The provider is a stand-in for Coinbase on loopback
that answers after 50 ms, as a near one does over the internet. With `--simulated` the
bars are computed by the worker instead, which keeps one core busy for each worker: that shows what
there is to gain on the cores that are free.

Each turn takes sessions of its own, because bars that are stored already are less work; in every
other round the two workers go first.

The time is that from the first run in the queue to the end of the last one. Dagster looks for new
backfills every 30 seconds, which comes on top, whatever the number of workers.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg.rows import dict_row

from benchmarks.common import Figure, load_average
from benchmarks.report import show
from scizor_resources.embedded.servers import EmbeddedServers

ROUNDS = 3
PARTITIONS = 200
SYMBOLS = 1
#: What a provider takes to answer.
LATENCY_SECONDS = 0.05
FIRST_SESSION = date(2022, 1, 1)
ASSET = "crypto/bars_1m"

_ANSWER_SECONDS = 300
_BACKFILL_SECONDS = 1800
_POLL_SECONDS = 0.5
_LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
_RUNS = """
    SELECT count(*) AS runs, count(*) FILTER (WHERE r.status = 'SUCCESS') AS succeeded,
           count(DISTINCT w.value) AS workers,
           count(*) FILTER (WHERE r.status IN ('FAILURE', 'CANCELED')) AS failed,
           max(r.end_time) - min(extract(epoch FROM r.create_timestamp)) AS seconds
    FROM dagster.run_tags AS b JOIN dagster.runs AS r USING (run_id)
    LEFT JOIN dagster.run_tags AS w ON w.run_id = r.run_id AND w.key = 'scizor/worker'
    WHERE b.key = 'dagster/backfill' AND b.value = %s
"""
_BARS = "SELECT count(*) AS bars FROM crypto.bars_1m WHERE ts >= %s AND ts < %s"

T = TypeVar("T")


@dataclass(frozen=True)
class Turn:
    """One backfill: how many workers did it, and how long they took."""

    workers: int
    runs: int
    bars: int
    seconds: float


def eventually(what: Callable[[], T | None], limit: float) -> T:
    """Return what `what` returns as soon as it is something; gives up after `limit` seconds."""
    deadline = time.monotonic() + limit
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > deadline:
            raise SystemExit(f"Waited {limit:.0f} s in vain.")
        time.sleep(_POLL_SECONDS)


class Candles(BaseHTTPRequestHandler):
    """Answers for candles of any product and minutes as Coinbase does, after its time."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: N802  # the name that http.server calls
        """Answer with a candle for every minute asked for, the newest first."""
        asked = parse_qs(urlsplit(self.path).query)
        first, last = int(asked["start"][0]), int(asked["end"][0])
        candles = [
            {
                "start": str(start),
                "low": f"{99 + start % 7}",
                "high": f"{101 + start % 7}",
                "open": f"{100 + start % 7}",
                "close": f"{100 + start % 7}.5",
                "volume": f"{1 + start % 11}",
            }
            for start in range(last - last % 60, first - 1, -60)
        ]
        body = json.dumps({"candles": candles}).encode()
        time.sleep(LATENCY_SECONDS)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def provider(*, simulated: bool) -> Iterator[dict[str, str]]:
    """Yield the settings with which bars of crypto come from loopback, or are computed."""
    if simulated:
        yield {"SCIZOR_CHAIN_CRYPTO": "simulated"}
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), Candles) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "SCIZOR_CHAIN_CRYPTO": "coinbase",
            "SCIZOR_COINBASE_BASE_URL": f"http://127.0.0.1:{server.server_port}",
            # What the workers share is not what is measured here.
            "SCIZOR_COINBASE_REQUESTS_PER_MINUTE": "60000",
        }
        server.shutdown()


def environment(home: Path, source: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a platform in `home` that asks nobody outside."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SCIZOR_")}
    return {
        **kept,
        **source,
        "SCIZOR_HOME": str(home),
        "SCIZOR_INTRADAY_START": FIRST_SESSION.isoformat(),
        "SCIZOR_WORKER_CONCURRENCY": "1",
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }


class Bench:
    """A platform of its own, with one worker, and a second one where wanted."""

    def __init__(self, home: Path, source: Mapping[str, str]) -> None:
        self._home, self._environment = home, environment(home, source)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])

    @contextmanager
    def running(self, symbols: int) -> Iterator[None]:
        """Start `scizor up` and watch so many symbols, minute by minute."""
        with self._process("up", "--port", str(self._port)):
            eventually(self._answers, _ANSWER_SECONDS)
            names = [f"C{number:02d}/USD" for number in range(symbols)]
            command = self._command("watchlist", "add", *names, "--market", "crypto", "--tier", "1")
            subprocess.run(command, env=self._environment, check=True, capture_output=True)
            yield

    @contextmanager
    def second_worker(self) -> Iterator[None]:
        """Add a worker, and let it leave afterwards."""
        with self._process("worker", "--name", "second") as log:
            eventually(lambda: "is ready" in log.read_text(), _ANSWER_SECONDS)
            yield

    def backfill(self, workers: int, first: date, partitions: int) -> Turn:
        """Launch a backfill and wait for its end."""
        keys = [(first + timedelta(days=day)).isoformat() for day in range(partitions)]
        selection = [{"path": ASSET.split("/")}]
        params = {"assetSelection": selection, "partitionNames": keys}
        answer = self._graphql(_LAUNCH, {"params": params})["launchPartitionBackfill"]
        if answer["__typename"] != "LaunchBackfillSuccess":
            raise SystemExit(f"The backfill was refused: {answer}")
        runs = -(-partitions // 20)

        def ended() -> dict[str, Any] | None:
            row = self._query(_RUNS, answer["backfillId"])
            if row["failed"]:
                raise SystemExit(f"{row['failed']} runs failed.")
            return row if row["succeeded"] == runs else None

        row = eventually(ended, _BACKFILL_SECONDS)
        if row["workers"] != workers:
            raise SystemExit(f"{row['workers']} workers took part, not {workers}.")
        bars = self._query(_BARS, first, first + timedelta(days=partitions))["bars"]
        return Turn(workers, runs, int(bars), float(row["seconds"]))

    def _query(self, statement: str, *parameters: object) -> dict[str, Any]:
        (url,) = (
            each.endpoint
            for each in EmbeddedServers(self._home).status()
            if each.name == "postgres"
        )
        with psycopg.connect(str(url), row_factory=dict_row) as connection:
            row = connection.execute(statement, parameters).fetchone()
        return row or {}

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "scizor_cli.main", *arguments]

    @contextmanager
    def _process(self, *arguments: str) -> Iterator[Path]:
        log = self._home.parent / f"{arguments[0]}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                self._command(*arguments),
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield log
        except SystemExit:
            sys.stderr.write(log.read_text()[-2000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/server_info", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def _graphql(self, query: str, variables: dict[str, object]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
        return data


def turns(rounds: int, partitions: int, symbols: int, *, simulated: bool) -> Iterator[Turn]:
    """Yield each backfill as it has ended; one of a single run goes before and does not count."""
    with (
        tempfile.TemporaryDirectory(prefix="scizor-bench-") as directory,
        provider(simulated=simulated) as source,
    ):
        bench = Bench(Path(directory) / "home", source)
        first = FIRST_SESSION
        with bench.running(symbols):
            bench.backfill(1, first, 20)
            first += timedelta(days=31)
            for number in range(rounds):
                for workers in (1, 2) if number % 2 == 0 else (2, 1):
                    # The second worker has its first run, which loads what is loaded lazily, too.
                    with bench.second_worker() if workers == 2 else contextlib.nullcontext():  # noqa: PLR2004
                        yield bench.backfill(workers, first, partitions)
                    first += timedelta(days=partitions)


def measure(
    rounds: int = ROUNDS,
    partitions: int = PARTITIONS,
    symbols: int = SYMBOLS,
    on_turn: Callable[[Turn], None] = lambda _turn: None,
    *,
    simulated: bool = False,
) -> list[Figure]:
    """Return the median time of each number of workers, and their ratio."""
    found: dict[int, list[Turn]] = {1: [], 2: []}
    for turn in turns(rounds, partitions, symbols, simulated=simulated):
        found[turn.workers].append(turn)
        on_turn(turn)
    one, two = (statistics.median(each.seconds for each in found[count]) for count in (1, 2))
    sizes = {(each.runs, each.bars) for each in [*found[1], *found[2]]}
    if len({runs for runs, _ in sizes}) != 1:
        raise SystemExit(f"The turns differ: {sizes}")
    runs = found[1][0].runs
    bars = round(statistics.median(each.bars for each in [*found[1], *found[2]]), -3)
    what = f"{partitions} partitions of {ASSET}, {bars:,.0f} bars in {runs} runs"
    what += ", simulated" if simulated else f", answers after {1000 * LATENCY_SECONDS:.0f} ms"
    note = f"median of {rounds}; load {load_average():.1f}"
    return [
        Figure(f"{what}: one worker", one, "s", note=note),
        Figure(f"{what}: two workers", two, "s", one, "one worker", f"<= {0.6 * one:.0f}", note),
        Figure("two workers' share of the time of one", 100 * two / one, "%", target="<= 60"),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what a second worker gains.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--partitions", type=int, default=PARTITIONS)
    parser.add_argument("--symbols", type=int, default=SYMBOLS)
    parser.add_argument("--simulated", action="store_true", help="compute the bars")
    options = parser.parse_args()
    # So that what was started is stopped as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))

    def tell(turn: Turn) -> None:
        sys.stderr.write(
            f"{turn.workers} worker(s): {turn.bars:,} bars in {turn.runs} runs, "
            f"{turn.seconds:.1f} s (load {load_average():.1f})\n"
        )

    figures = measure(
        options.rounds,
        options.partitions,
        options.symbols,
        tell,
        simulated=options.simulated,
    )
    show({"workers": figures})


if __name__ == "__main__":
    main()
