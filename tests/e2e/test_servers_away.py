"""Servers that `scizor up` did not start are not its to start again: everything waits for them."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from scizor_resources.embedded.servers import EmbeddedServers
from tests.e2e.at_work import AtWork, platform_at_work
from tests.e2e.shell import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: More runs than are handed over at once, so that some wait in Dagster's queue.
SESSIONS = [f"2022-01-{day:02}" for day in range(1, 21)]
_PUT_BACK = """
    SELECT count(*) FROM dagster.event_logs
    WHERE dagster_event_type = 'PIPELINE_ENQUEUED' GROUP BY run_id HAVING count(*) > 1
"""


@pytest.fixture
def up(tmp_path: Path) -> Iterator[AtWork]:
    with (
        EmbeddedServers(tmp_path / "servers") as servers,
        platform_at_work(tmp_path / "home", servers) as up,
    ):
        yield up


def kill(up: AtWork, name: str) -> None:
    pid = up.pid_of_server(name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_servers_that_are_away_are_waited_for_and_no_run_is_lost(up: AtWork) -> None:
    runs = [up.launch(["crypto/bars_1m"], session) for session in SESSIONS]
    eventually(lambda: up.finished(runs[0]), 120)

    kill(up, "valkey")
    eventually(lambda: "Valkey cannot be used" in up.said(), 60)
    eventually(lambda: up.ask(_PUT_BACK), 120)

    kill(up, "postgres")
    eventually(lambda: "PostgreSQL cannot be used" in up.said(), 60)
    for part in ("dagster._daemon", "scizor_assets.worker"):
        (process,) = up.children(part)
        process.kill()
    eventually(lambda: "daemon ended with code -9; it is started again when" in up.said(), 60)
    assert up.children("dagster._daemon") == []

    up.servers.start()

    eventually(lambda: "PostgreSQL is back" in up.said() and "Valkey is back" in up.said(), 60)
    assert set(up.await_success(400)) == set(runs)
    assert "Traceback" not in up.said()
