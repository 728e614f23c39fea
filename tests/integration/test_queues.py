"""The queues on a real Valkey: a worker takes the live runs first."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from celery import Celery
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from scizor_assets.launcher import WatchfulCeleryRunLauncher
from scizor_resources.endpoints import Endpoints
from scizor_resources.platform import Platform
from scizor_resources.queues import QUEUES, message_priority, queue_of

#: A worker with the settings of ours, whose only task writes down what it was given.
_PROGRAM = """
import sys
from pathlib import Path

from scizor_assets.worker import app

@app.task(name="note")
def note(text):
    with Path(sys.argv[1]).open("a") as out:
        out.write(text + "\\n")
    if text == "last":
        raise SystemExit(0)

app.worker_main(["worker", "--pool", "solo", "--queues", sys.argv[2], "--loglevel", "error"])
"""


@pytest.fixture
def broker(platform: Platform) -> Iterator[Celery]:
    url = platform.endpoints.broker_url
    with Celery("test", broker=url, backend=url) as app:
        yield app


def send(broker: Celery, text: str, priority: int) -> str:
    result = broker.send_task(
        "note",
        args=[text],
        queue=queue_of(priority),
        priority=message_priority(priority),
    )
    return str(result.id)


def work(tmp_path: Path, queues: str) -> list[str]:
    """Let a worker take everything; returns what it was given, in order."""
    out = tmp_path / "taken"
    subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(out), queues],
        check=False,
        capture_output=True,
        timeout=120,
    )
    return out.read_text().split()


def test_a_live_run_behind_twenty_backfills_is_taken_first(broker: Celery, tmp_path: Path) -> None:
    for number in range(20):
        send(broker, f"backfill-{number}", 0)
    send(broker, "refresh", 10)
    send(broker, "last", -1)

    taken = work(tmp_path, ",".join(QUEUES))

    assert taken == ["refresh", *(f"backfill-{number}" for number in range(20)), "last"]


@pytest.mark.slow
def test_among_live_runs_the_higher_priority_goes_first(broker: Celery, tmp_path: Path) -> None:
    send(broker, "ledger", 5)
    send(broker, "refresh", 10)
    send(broker, "last", 0)

    assert work(tmp_path, ",".join(QUEUES)) == ["refresh", "ledger", "last"]


@pytest.mark.slow
def test_a_worker_for_backfills_leaves_live_runs_to_others(broker: Celery, tmp_path: Path) -> None:
    send(broker, "refresh", 10)
    send(broker, "backfill", 0)
    send(broker, "last", 0)

    assert work(tmp_path, "backfill") == ["backfill", "last"]


@pytest.fixture
def launcher(servers: Endpoints) -> WatchfulCeleryRunLauncher:
    return WatchfulCeleryRunLauncher(
        "backfill", broker=servers.broker_url, backend=servers.broker_url
    )


def run_with(task_id: str) -> dg.DagsterRun:
    return dg.DagsterRun(job_name="any", tags={DAGSTER_CELERY_TASK_ID_TAG: task_id})


def test_a_run_that_waits_in_a_queue_is_not_missed(
    broker: Celery, launcher: WatchfulCeleryRunLauncher
) -> None:
    waiting = [run_with(send(broker, "text", priority)) for priority in (10, 5, 0)]
    lost = run_with("no-such-task")

    assert launcher.never_begun([*waiting, lost]) == [lost]


def test_a_run_that_no_worker_has_is_lost_at_the_second_look(
    launcher: WatchfulCeleryRunLauncher, platform: Platform
) -> None:
    lost = run_with("no-such-task")

    assert launcher.check_run_worker_health(lost).status is dg_status("RUNNING")
    assert launcher.check_run_worker_health(lost).status is dg_status("FAILED")


def test_a_run_of_a_command_is_not_looked_for_at_workers(
    launcher: WatchfulCeleryRunLauncher,
) -> None:
    own = dg.DagsterRun(job_name="any")
    assert [launcher.check_run_worker_health(own).status for _ in range(3)] == [
        dg_status("RUNNING")
    ] * 3


def dg_status(name: str) -> object:
    from dagster._core.launcher import WorkerStatus

    return WorkerStatus[name]
