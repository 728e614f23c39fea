"""Measure the time from a sensor's tick to indicators that can be queried.

    python -m benchmarks.bench_run_cost [--ticks N] [--launchers ours,default] [--latency-ms N]

The processes of `scizor up` run on embedded servers in a temporary directory: code server, daemon
and a warm worker. Yahoo is a stand-in on loopback that knows the last session of the ASX minute by
minute; the platform's clock stands still in that session until the benchmark moves it on by a
minute. The next tick of the sensor `asx_intraday` then asks for the run that fetches the new bars
of 18 symbols. Measured is the time from that tick's start, as Dagster's tick table has it, to the
moment at which the indicators of the new bars of all symbols can be selected, looked for every
20 ms from a process of its own.

Then the same with Dagster's default launcher, which starts a process for every run.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import psycopg
from psycopg.rows import dict_row

from benchmarks.common import Figure, load_average, median_seconds
from benchmarks.report import show

TICKS = 20
#: What moves the clock of the code location, see `benchmarks.run_cost_platform`.
CLOCK_VARIABLE = "BENCH_CLOCK_FILE"
SENSOR = "asx_intraday"
#: Sessions before the one that runs, so that indicators have their warm-up.
SESSIONS_BEFORE = 3
#: The session has run this long when the first tick comes.
SESSION_AGE = timedelta(minutes=150)
LAUNCHERS = ("ours", "default")
#: Evaluations of each sensor.
SENSOR_ROUNDS = 15

_START_SECONDS = 180
_TICK_SECONDS = 120
_POLL_SECONDS = 0.02
_DEFAULT_LAUNCHER = "run_launcher:\n  module: dagster\n  class: DefaultRunLauncher\n"

# The first one counts symbols whose newest minute is there, the second those whose running five
# minutes have been computed again.
_STORED = """
    SELECT count(*) FILTER (WHERE kind = 'bars' AND timeframe = '1m') AS bars_1m,
           count(*) FILTER (WHERE kind = 'indicators' AND timeframe = '1m') AS indicators_1m,
           count(*) FILTER (WHERE kind = 'bars' AND timeframe = '5m') AS bars_5m,
           count(*) FILTER (WHERE kind = 'indicators' AND timeframe = '5m') AS indicators_5m
    FROM (
        SELECT 'bars' AS kind, timeframe FROM market.bars
        WHERE (timeframe = '1m' AND ts = %(minute)s)
            OR (timeframe = '5m' AND ts = %(five)s AND ingested_at >= %(since)s)
        UNION ALL
        SELECT 'indicators', timeframe FROM market.indicators
        WHERE (timeframe = '1m' AND ts = %(minute)s)
            OR (timeframe = '5m' AND ts = %(five)s AND computed_at >= %(since)s)
    ) AS found
"""
_TICK = """
    SELECT r.run_id, r.status, extract(epoch FROM t.timestamp) AS tick
    FROM dagster.runs AS r
    JOIN dagster.job_ticks AS t ON t.tick_body LIKE '%%' || r.run_id || '%%'
    WHERE r.create_timestamp >= to_timestamp(%(since)s) AT TIME ZONE 'UTC'
"""
_EVENTS = """
    SELECT dagster_event_type AS kind, step_key, extract(epoch FROM timestamp) AS at
    FROM dagster.event_logs WHERE run_id = %s AND dagster_event_type IS NOT NULL ORDER BY id
"""


@dataclass(frozen=True)
class Tick:
    """What became of one tick; every value is seconds after its start.

    Attributes:
        launcher: who started the run.
        phases: name -> seconds, in the order in which they are passed.
        events: events that the run has written.
        cpu: process -> seconds of processor time that the tick took there.
        steps: step -> its start and its end.
    """

    launcher: str
    phases: dict[str, float]
    events: int
    cpu: dict[str, float]
    steps: dict[str, tuple[float, float]]

    @property
    def queryable(self) -> float:
        """Seconds until the indicators of all symbols could be selected."""
        return max(self.phases["indicators 1m"], self.phases["indicators 5m"])


class Session:
    """A running session of the ASX: what Yahoo has of it, and the platform's clock."""

    def __init__(self, clock_file: Path, latency_seconds: float) -> None:
        from scizor_core.sessions import get_calendar
        from tests.contract.yahoo_server import YahooServer

        today = datetime.now(UTC).date()
        sessions = get_calendar("asx").sessions(today - timedelta(days=14), today)
        self.before, self.running = sessions[-1 - SESSIONS_BEFORE : -1], sessions[-1]
        self.now = self.running.open + SESSION_AGE + timedelta(seconds=30)
        self._clock_file = clock_file
        self._rows: dict[str, list[tuple[Any, ...]]] = {}
        self.server = YahooServer(self.now)
        plain = self.server.respond

        def respond(path: str, query: dict[str, str]) -> Any:
            if latency_seconds:
                time.sleep(latency_seconds)
            return plain(path, query)

        self.server.respond = respond  # type: ignore[method-assign]  # the stand-in answers at once
        # An answer longer than a packet would wait 40 ms for the client's delayed ACK.
        self.server._http.RequestHandlerClass.disable_nagle_algorithm = True

    def trade(self, symbols: Sequence[str]) -> None:
        """Make up a minute bar of each symbol for every minute."""
        rng = np.random.default_rng(7)
        for symbol in symbols:
            self._rows[symbol] = []
            price = float(rng.uniform(5, 150))
            for session in [*self.before, self.running]:
                for start in pd.date_range(
                    session.open, session.close, freq="min", inclusive="left"
                ):
                    opened, price = price, price * float(np.exp(rng.normal(0, 0.0005)))
                    low, high = min(opened, price) - 0.01, max(opened, price) + 0.01
                    volume = int(rng.integers(1, 50_000))
                    row = (int(start.timestamp()), opened, high, low, price, volume)
                    self._rows[symbol].append(row)
        self._tell()

    def advance(self) -> None:
        """Let a minute pass."""
        self.now += timedelta(minutes=1)
        self._tell()

    def _tell(self) -> None:
        from scizor_resources.providers.yahoo.symbols import to_yahoo_symbol
        from tests.contract.yahoo_server import Series

        self.server.now = self.now
        clock = int(self.now.timestamp())
        for symbol, rows in self._rows.items():
            ticker = to_yahoo_symbol("asx", symbol)
            known = [row for row in rows if row[0] <= clock]
            self.server.put(
                Series(ticker, "1m", known, "Australia/Sydney", meta={"regularMarketTime": clock})
            )
        # Readers see the old time or the new one, never a part.
        temporary = self._clock_file.with_suffix(".new")
        temporary.write_text(self.now.isoformat())
        temporary.replace(self._clock_file)


class Bench:
    """The processes of a platform in a directory of its own."""

    def __init__(self, directory: Path, latency_seconds: float) -> None:
        self._directory = directory
        self._clock_file = directory / "clock"
        self._session = Session(self._clock_file, latency_seconds)
        self._stack = ExitStack()
        self._symbols = 0
        self._processes: dict[str, psutil.Process] = {}

    def __enter__(self) -> "Bench":
        from scizor_assets.launch import materialize_sessions
        from scizor_cli.worker import worker_command
        from scizor_resources.dagster_home import prepare_dagster_home, process_environment
        from scizor_resources.platform import Platform
        from scizor_resources.settings import load_settings

        with ExitStack() as stack:
            stack.enter_context(self._session.server)
            os.environ.update(self._settings(), SCIZOR_YAHOO_BASE_URL=self._session.server.base_url)
            platform = stack.enter_context(Platform.open(load_settings(), migrate=True))
            self._url = platform.endpoints.libpq_url
            # All of the portfolio minute by minute, and a stock that trades for the one that has
            # left the exchange.
            platform.reference.ensure("asx", "XYZ")
            with platform.warehouse.connect() as connection:
                connection.execute("UPDATE public.watchlist SET priority = 1, collect_1min = TRUE")
                connection.execute(
                    "UPDATE public.watchlist SET symbol = 'XYZ' "
                    "WHERE market = 'asx' AND symbol = 'APT'"
                )
            watched = platform.reference.watchlist("asx", active_only=True)
            self._symbols = len(watched)
            self._session.trade([entry.symbol for entry in watched])
            platform.now = lambda: self._session.now
            days = [each.session_date for each in [*self._session.before, self._session.running]]
            kept = dict(os.environ)
            materialize_sessions(platform, "asx", "1m", days)
            os.environ.clear()
            os.environ.update(kept)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._port = int(probe.getsockname()[1])
            self._home = prepare_dagster_home(platform.settings, platform.endpoints, self._port)
            self._environment = {
                **process_environment(platform.settings, platform.endpoints, self._home),
                CLOCK_VARIABLE: str(self._clock_file),
                "PYTHONPATH": str(Path(__file__).parent.parent),
            }
            arguments = ["-m", "benchmarks.run_cost_platform", "-a", "defs", "-h", "127.0.0.1"]
            code_server = [sys.executable, "-m", "dagster", "api", "grpc", *arguments]
            stack.enter_context(self._process("code-server", [*code_server, "-p", str(self._port)]))
            stack.enter_context(
                self._process("worker", worker_command(platform.settings.worker_concurrency))
            )
            self._wait(self._answers, _START_SECONDS)
            self._wait(
                lambda: "is ready" in (self._directory / "worker.log").read_text(), _START_SECONDS
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _settings(self) -> dict[str, str]:
        for name in [name for name in os.environ if name.startswith(("SCIZOR_", "DAGSTER_"))]:
            del os.environ[name]
        return {
            "SCIZOR_HOME": str(self._directory / "home"),
            "SCIZOR_CHAIN_ASX": "yahoo",
            # What Yahoo allows is not what is measured.
            "SCIZOR_YAHOO_REQUESTS_PER_MINUTE": "60000",
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }

    def ticks(self, launcher: str, count: int) -> Iterator[Tick]:
        """Yield the ticks with a launcher; two that warm up go before and do not count."""
        workspace = str(self._home / "workspace.yaml")
        with self._instance(launcher) as home:
            command = [sys.executable, "-m", "dagster._daemon", "run", "-w", workspace]
            with self._process("daemon", command, DAGSTER_HOME=str(home)):
                for number in range(-2, count):
                    tick = self._tick(launcher)
                    if number >= 0:
                        yield tick

    def sensor_costs(self, rounds: int) -> dict[str, float]:
        """Return sensor -> median milliseconds of one evaluation, as the code server makes it."""
        import dagster as dg

        from scizor_assets.build import build_defs
        from scizor_resources.resources import PlatformResource

        os.environ.update(self._environment, DAGSTER_HOME=str(self._home))
        definitions = build_defs(marts=False)
        found = {}
        with dg.DagsterInstance.get() as instance:
            for sensor in definitions.sensors or ():

                def evaluate(sensor: Any = sensor) -> None:
                    with dg.build_sensor_context(
                        instance=instance,
                        definitions=definitions,
                        repository_name="__repository__",
                        resources={"platform": PlatformResource()},
                        sensor_name=sensor.name,
                    ) as context:
                        sensor.evaluate_tick(context)

                found[sensor.name] = 1000 * median_seconds(evaluate, rounds)
        return found

    @contextmanager
    def _instance(self, launcher: str) -> Iterator[Path]:
        """Yield a Dagster home with that launcher."""
        if launcher == "ours":
            yield self._home
            return
        home = self._directory / launcher
        home.mkdir(exist_ok=True)
        text = (self._home / "dagster.yaml").read_text()
        first = text.index("run_launcher:")
        after = text.index("\n\n", first)
        (home / "dagster.yaml").write_text(text[:first] + _DEFAULT_LAUNCHER + text[after:])
        yield home

    def _tick(self, launcher: str) -> Tick:
        """Let a minute pass and follow what comes of it."""
        since, before = time.time(), self._cpu()
        with psycopg.connect(self._url, autocommit=True, row_factory=dict_row) as connection:
            # What is asked for again and again has to be seen as it is now.
            self._session.advance()
            minute = self._session.now.replace(second=0)
            five = minute - timedelta(minutes=minute.minute % 5)
            asked = {"minute": minute, "five": five, "since": datetime.fromtimestamp(since, UTC)}
            seen: dict[str, float] = {}
            deadline = time.monotonic() + _TICK_SECONDS
            while len(seen) < 4:  # noqa: PLR2004  # bars and indicators of two timeframes
                row = connection.execute(_STORED, asked).fetchone() or {}
                at = time.time()
                for name, number in row.items():
                    if number == self._symbols:
                        seen.setdefault(name.replace("_", " "), at)
                if time.monotonic() > deadline:
                    raise SystemExit(f"Waited in vain: {row} of {self._symbols}. {self._logs()}")
                time.sleep(_POLL_SECONDS)
            run = self._wait(lambda: self._ended(connection, since), _TICK_SECONDS)
            events = connection.execute(_EVENTS, [run["run_id"]]).fetchall()
        cpu = {name: taken - before[name] for name, taken in self._cpu().items()}
        return _tick_of(launcher, float(run["tick"]), events, seen, cpu)

    def _ended(self, connection: psycopg.Connection[Any], since: float) -> dict[str, Any] | None:
        run = connection.execute(_TICK, {"since": since}).fetchone()
        if run is not None and run["status"] == "FAILURE":
            raise SystemExit(f"The run failed. {self._logs()}")
        return run if run is not None and run["status"] == "SUCCESS" else None

    def _cpu(self) -> dict[str, float]:
        """Return the processor time that each process and its children have taken so far."""
        taken = {}
        for name, process in self._processes.items():
            family = [process, *process.children(recursive=True)]
            times = [each.cpu_times() for each in family]
            taken[name] = sum(each.user + each.system for each in times)
            taken[name] += times[0].children_user + times[0].children_system
        return taken

    def _logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-1500:]}" for path in self._directory.glob("*.log")
        )

    def _wait(self, what: Callable[[], Any], limit: float) -> Any:
        deadline = time.monotonic() + limit
        while not (found := what()):
            if time.monotonic() > deadline:
                raise SystemExit(f"Waited {limit:.0f} s in vain. {self._logs()}")
            time.sleep(0.1)
        return found

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1):
                return True
        except OSError:
            return False

    @contextmanager
    def _process(self, name: str, command: list[str], **variables: str) -> Iterator[None]:
        with (self._directory / f"{name}.log").open("a") as output:
            process = subprocess.Popen(
                command,
                env={**self._environment, **variables},
                cwd=self._home,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes[name] = psutil.Process(process.pid)
        try:
            yield
        finally:
            del self._processes[name]
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _tick_of(
    launcher: str,
    tick: float,
    events: list[dict[str, Any]],
    seen: dict[str, float],
    cpu: dict[str, float],
) -> Tick:
    first = {event["kind"]: float(event["at"]) for event in reversed(events)}
    steps: dict[str, tuple[float, float]] = {}
    for event in events:
        if event["kind"] == "STEP_START":
            steps[event["step_key"]] = (float(event["at"]) - tick, float("nan"))
        elif event["kind"] == "STEP_SUCCESS":
            steps[event["step_key"]] = (steps[event["step_key"]][0], float(event["at"]) - tick)
    moments = {
        "launched": first["PIPELINE_STARTING"],
        "started": first["PIPELINE_START"],
        "first step": first["STEP_START"],
        **{name: seen[name] for name in sorted(seen, key=lambda name: seen[name])},
        "run ended": first["PIPELINE_SUCCESS"],
    }
    return Tick(launcher, {k: v - tick for k, v in moments.items()}, len(events), cpu, steps)


def measure(
    ticks: int = TICKS,
    launchers: Sequence[str] = LAUNCHERS,
    latency_seconds: float = 0.0,
    on_tick: Callable[[Tick], None] = lambda _tick: None,
) -> list[Figure]:
    """Return median and 95th percentile of the ticks, and the medians of the phases."""
    found: dict[str, list[Tick]] = {name: [] for name in launchers}
    with (
        tempfile.TemporaryDirectory(prefix="scizor-bench-") as directory,
        Bench(Path(directory), latency_seconds) as bench,
    ):
        for name in launchers:
            for tick in bench.ticks(name, ticks):
                found[name].append(tick)
                on_tick(tick)
        costs = bench.sensor_costs(SENSOR_ROUNDS)
    return [
        *figures(found),
        *(
            Figure(
                f"one evaluation of sensor {name}", cost, "ms", note=f"median of {SENSOR_ROUNDS}"
            )
            for name, cost in costs.items()
        ),
    ]


def figures(found: dict[str, list[Tick]]) -> list[Figure]:
    """Return the figures of the ticks, beside those of the default launcher where it was asked."""
    out = []
    note = f"{len(next(iter(found.values())))} ticks; load {load_average():.1f}"
    peers = found.get("default")
    mine = found.get("ours") or peers or []
    for name, of in (
        ("median", statistics.median),
        ("95th percentile", lambda values: float(np.percentile(list(values), 95))),
    ):
        out.append(
            Figure(
                f"tick to indicators queryable, 18 symbols, {name}",
                of([tick.queryable for tick in mine]),
                "s",
                of([tick.queryable for tick in peers]) if peers else None,
                "DefaultRunLauncher" if peers else "",
                "<= 3" if name == "median" else "<= 6",
                note,
            )
        )
    out += [
        Figure(
            f"  tick to {phase}, median",
            statistics.median(tick.phases[phase] for tick in mine),
            "s",
            statistics.median(tick.phases[phase] for tick in peers) if peers else None,
            "DefaultRunLauncher" if peers else "",
            note=note,
        )
        for phase in mine[0].phases
    ]
    return out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="From a sensor's tick to rows in the database.")
    parser.add_argument("--ticks", type=int, default=TICKS)
    parser.add_argument("--launchers", default=",".join(LAUNCHERS))
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--steps", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))

    def tell(tick: Tick) -> None:
        phases = ", ".join(f"{name} {at:.2f}" for name, at in tick.phases.items())
        sys.stderr.write(
            f"{tick.launcher}: {tick.queryable:.2f} s ({phases}; {tick.events} events; "
            f"CPU {', '.join(f'{name} {taken:.2f}' for name, taken in tick.cpu.items())}; "
            f"load {load_average():.1f})\n"
        )
        if options.steps:
            for name, (start, end) in tick.steps.items():
                sys.stderr.write(
                    f"    {name}: {start:.2f} to {end:.2f} ({1000 * (end - start):.0f} ms)\n"
                )

    show(
        {
            "run_cost": measure(
                options.ticks, options.launchers.split(","), options.latency_ms / 1000, tell
            )
        }
    )


if __name__ == "__main__":
    main()
