"""kill -9 of each part of a platform at work: it recovers by itself, no bar is lost or doubled."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psutil
import psycopg
import pytest
import redis

from tests.e2e.at_work import SYMBOLS, AtWork, platform_at_work
from tests.e2e.formula_lab import bars_between
from tests.e2e.shell import eventually, scizor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PARTS = (
    "PostgreSQL",
    "a PostgreSQL connection",
    "Valkey",
    "the daemon",
    "the webserver",
    "the code server",
    "the worker",
)
#: Sessions that each part's load has, one run each, and as many in a backfill.
SESSIONS = 20
RECOVERED_WITHIN_SECONDS = 90
FINISHED_WITHIN_SECONDS = 300
_COMMANDS = {
    "the daemon": "dagster._daemon",
    "the webserver": "scizor_assets.webserver",
    "the code server": "scizor_assets.definitions",
    "the worker": "scizor_assets.worker",
}
_BACKFILL = """
mutation Backfill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
_START_SENSOR = """
mutation Start($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) {
    __typename
    ... on Sensor { sensorState { id status } }
    ... on PythonError { message }
  }
}
"""
_STOP_SENSOR = "mutation Stop($id: String!) { stopSensor(id: $id) { __typename } }"
_STORED = """
    SELECT b.symbol, extract(epoch FROM b.ts)::bigint AS epoch, b.open, b.high, b.low, b.close,
           b.volume
    FROM crypto.bars_1m AS b WHERE b.session_date >= %s AND b.session_date <= %s AND b.is_final
"""


@dataclass
class Parts:
    """The parts of a platform, as processes."""

    up: AtWork

    def pid_of(self, part: str) -> int | None:
        """Return the process of a part as it is now, None while there is none."""
        if part in _COMMANDS:
            (pid,) = [each.pid for each in self.up.children(_COMMANDS[part])] or [None]
            return pid
        if part == "a PostgreSQL connection":
            at_work = self.up.ask(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
                "AND pid <> pg_backend_pid() ORDER BY (state <> 'idle') DESC, query_start DESC"
            )
            return int(at_work[0][0]) if at_work else None
        return self.up.pid_of_server({"PostgreSQL": "postgres", "Valkey": "valkey"}[part])

    def answers(self, part: str) -> bool:
        """Say whether a part does its work."""
        if part in _COMMANDS and self.pid_of(part) is None:
            return False
        with contextlib.suppress(OSError, psycopg.Error, redis.RedisError, AssertionError):
            if part in ("PostgreSQL", "a PostgreSQL connection"):
                return self.up.ask("SELECT 1") == [(1,)]
            if part == "Valkey":
                with redis.Redis.from_url(self.up.address("valkey")) as client:
                    return bool(client.ping())
            if part == "the daemon":
                return self._heartbeats() >= 5
            if part == "the worker":
                return self._worker_is_ready()
            if part == "the code server":
                # The webserver goes on with what it has loaded: it is the port that tells.
                listening = psutil.Process(self.pid_of(part)).net_connections("tcp")
                return "LISTEN" in {each.status for each in listening} and self.up.serves()
            return self.up.serves()
        return False

    def _worker_is_ready(self) -> bool:
        log = (self.up.home / "logs" / "worker.log").read_text()
        # Each start says so once; up has told of each end.
        ends = self.up.said().count("The worker ended")
        return log.count("is ready") > ends

    def _heartbeats(self) -> int:
        """Return of how many of its threads the daemon has told since it was started."""
        began = datetime.fromtimestamp(psutil.Process(self.pid_of("the daemon")).create_time(), UTC)
        statement = "SELECT count(*) FROM dagster.daemon_heartbeats WHERE timestamp > %s"
        return int(self.up.ask(statement, began.replace(tzinfo=None))[0][0])


def start_refresh(up: AtWork) -> str:
    """Switch the refresh of every minute on; returns its id."""
    selector = {
        "repositoryLocationName": "scizor",
        "repositoryName": "__repository__",
        "sensorName": "crypto_intraday",
    }
    answer: Any = up.graphql(_START_SENSOR, {"selector": selector})["startSensor"]
    assert answer["__typename"] == "Sensor", answer
    return str(answer["sensorState"]["id"])


def start_backfill(up: AtWork, sessions: list[str]) -> str:
    """Launch a backfill as the UI does; returns its id."""
    params = {
        "assetSelection": [{"path": ["crypto", "bars_1m"]}],
        "partitionNames": sessions,
        "title": "a load",
    }
    answer: Any = up.graphql(_BACKFILL, {"params": params})["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return str(answer["backfillId"])


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AtWork]:
    with platform_at_work(tmp_path_factory.mktemp("killed")) as up:
        yield up


@pytest.fixture(scope="module")
def refresh(up: AtWork) -> str:
    return start_refresh(up)


def span(part: str, kind: int) -> list[str]:
    """Return sessions that no other part's load has."""
    number = 2 * PARTS.index(part) + kind
    first = date(2022, 1, 1) + timedelta(days=number * SESSIONS)
    return [(first + timedelta(days=day)).isoformat() for day in range(SESSIONS)]


def counted(up: AtWork, before: frozenset[str]) -> dict[str, int]:
    """Return how many runs that are not in `before` have which status now."""
    found: dict[str, int] = {}
    for run, statuses in up.runs().items():
        if run not in before:
            found[statuses[-1]] = found.get(statuses[-1], 0) + 1
    return found


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_killed_under_load_costs_nothing(
    up: AtWork, refresh: str, part: str, record_property: Callable[[str, object], None]
) -> None:
    single, together = span(part, 0), span(part, 1)
    parts, before = Parts(up), frozenset(up.runs())
    backfill = start_backfill(up, together)
    for session in single:
        up.launch(["crypto/bars_1m"], session)
    eventually(lambda: counted(up, before).get("SUCCESS", 0) >= 3, 120)
    eventually(lambda: counted(up, before).get("STARTED", 0) >= 1, 60)

    victim = parts.pid_of(part)
    assert victim is not None
    killed_at = time.monotonic()
    os.kill(victim, signal.SIGKILL)

    def is_back() -> bool:
        up.runs_on()
        return not psutil.pid_exists(victim) and parts.answers(part)

    eventually(is_back, RECOVERED_WITHIN_SECONDS)
    record_property("seconds_until_it_answers", round(time.monotonic() - killed_at, 1))
    # The daemon may not have made its run yet: to wait for runs alone would end too early.
    eventually(lambda: status_of(up, backfill) == "COMPLETED_SUCCESS", FINISHED_WITHIN_SECONDS)
    statuses = up.await_success(FINISHED_WITHIN_SECONDS, before)
    record_property("seconds_until_all_runs_ended", round(time.monotonic() - killed_at, 1))
    record_property("runs_done_again", sum(len(each) - 1 for each in statuses.values()))
    for sessions in (single, together):
        assert stored(up, sessions[0], sessions[-1]) == served(sessions[0], sessions[-1])
    assert revisions(up, single[0], together[-1]) == 0


def status_of(up: AtWork, backfill: str) -> str:
    """Return what Dagster says of a backfill."""
    ((status,),) = up.ask("SELECT status FROM dagster.bulk_actions WHERE key = %s", backfill)
    return str(status)


def stored(up: AtWork, first: str, last: str) -> list[tuple[Any, ...]]:
    rows = up.ask(_STORED, first, last)
    return sorted(tuple(float(x) if n > 1 else x for n, x in enumerate(row)) for row in rows)


def served(first: str, last: str) -> list[tuple[Any, ...]]:
    """Return what the provider has of those sessions, UTC days of 1,440 minutes."""
    begin = int(datetime.fromisoformat(first).replace(tzinfo=UTC).timestamp())
    end = int(datetime.fromisoformat(last).replace(tzinfo=UTC).timestamp()) + 86_400 - 60
    return sorted(
        (symbol, row.epoch, row.open, row.high, row.low, row.close, row.volume)
        for symbol in SYMBOLS
        for row in bars_between(symbol.replace("/", "-"), begin, end)
    )


def revisions(up: AtWork, first: str, last: str) -> int:
    """Return how many bars of those sessions were written a second time with other values."""
    found = up.ask(
        "SELECT count(*) FROM market.bar_revisions WHERE ts >= %s::date AND ts < %s::date + 1",
        first,
        last,
    )
    return int(found[0][0])


def test_the_refresh_of_the_running_session_went_on(up: AtWork, refresh: str) -> None:
    up.graphql(_STOP_SENSOR, {"id": refresh})
    up.await_success(FINISHED_WITHIN_SECONDS)

    today = datetime.now(UTC).date().isoformat()
    rows = stored(up, today, today)
    latest = max(row[1] for row in rows)
    assert rows == [row for row in served(today, today) if row[1] <= latest]


def test_up_stops_in_order_afterwards_and_leaves_no_process(up: AtWork) -> None:
    everything = psutil.Process(up.process.pid).children(recursive=True)
    zombies = [each.pid for each in everything if each.status() == psutil.STATUS_ZOMBIE]
    assert zombies == []

    up.process.send_signal(signal.SIGTERM)

    assert up.process.wait(120) == 0
    assert [each for each in everything if each.is_running()] == []
    assert "not running" in scizor(up.home, "status").stdout


def test_what_happened_was_said(up: AtWork) -> None:
    said = up.said()
    for part in ("PostgreSQL is back", "Valkey is back", "The daemon ended", "The worker ended"):
        assert part in said
    assert "Traceback" not in said
