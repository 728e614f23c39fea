"""A run on its way to the workers: handed over once, or back in the queue."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import WorkerStatus
from dagster._core.test_utils import freeze_time
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG
from dagster_celery.tasks import create_execute_job_task

from scizor_assets.launcher import PROCESS_TAG, BrokerAway, WatchfulCeleryRunLauncher
from scizor_assets.watch import ASKED_AGAIN_TAG, lost_runs, missing_runs, unrepeated_runs
from scizor_resources.embedded.processes import mark_of
from scizor_resources.endpoints import Endpoints
from scizor_resources.platform import Platform

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def launcher_at(url: str, instance: dg.DagsterInstance) -> WatchfulCeleryRunLauncher:
    launcher = WatchfulCeleryRunLauncher("backfill", broker=url, backend=url)
    launcher.register_instance(instance)
    return launcher


def hand_over(launcher: WatchfulCeleryRunLauncher, instance: dg.DagsterInstance) -> dg.DagsterRun:
    """Launch a run of nothing; returns it as the instance has it then."""
    run = instance.add_run(dg.DagsterRun(job_name="any"))
    signature = create_execute_job_task(launcher.celery).si(execute_job_args_packed={})
    try:
        launcher._launch_celery_task_run(run, signature, "execute_job")
    finally:
        (stored,) = instance.get_runs()
    return stored


def test_a_run_is_handed_over_as_the_task_that_it_knows(
    servers: Endpoints, platform: Platform, instance: dg.DagsterInstance
) -> None:
    launcher = launcher_at(servers.broker_url, instance)

    run = hand_over(launcher, instance)

    assert launcher.tasks_in_queues() == {run.tags[DAGSTER_CELERY_TASK_ID_TAG]}


def test_handing_over_leaves_nobody_listening_for_the_result(
    servers: Endpoints, platform: Platform, instance: dg.DagsterInstance
) -> None:
    launcher = launcher_at(servers.broker_url, instance)
    hand_over(launcher, instance)

    assert platform.link.call(lambda client: client.info("stats"))["pubsub_channels"] == 0


def test_a_run_that_valkey_does_not_take_goes_back_into_the_queue(
    instance: dg.DagsterInstance,
) -> None:
    # The daemon puts a run back for errors of this kind, and fails it for any other.
    with pytest.raises(DagsterUserCodeUnreachableError):
        hand_over(launcher_at(NOWHERE, instance), instance)


def test_that_valkey_is_away_is_said_without_its_address(instance: dg.DagsterInstance) -> None:
    with pytest.raises(BrokerAway, match="until Valkey answers") as caught:
        hand_over(launcher_at("redis://:secret@127.0.0.1:1/0", instance), instance)
    assert "secret" not in str(caught.value)


def test_a_run_of_a_daemon_that_died_before_it_had_a_task_is_missed(
    servers: Endpoints, platform: Platform, instance: dg.DagsterInstance
) -> None:
    run = dg.DagsterRun(job_name="any")

    assert launcher_at(servers.broker_url, instance).never_begun([run]) == [run]


def command_of(process_id: int, host: str) -> dg.DagsterRun:
    told = {"host": host, "pid": process_id, "started": mark_of(process_id).started}
    return dg.DagsterRun(job_name="any", tags={PROCESS_TAG: json.dumps(told)})


def test_a_run_of_a_command_that_was_killed_has_failed(
    servers: Endpoints, instance: dg.DagsterInstance
) -> None:
    launcher = launcher_at(servers.broker_url, instance)
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as command:
        run = command_of(command.pid, socket.gethostname())
        elsewhere = command_of(command.pid, "another machine")
        alive = launcher.check_run_worker_health(run).status
        command.kill()

    assert alive is WorkerStatus.RUNNING
    assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED
    assert launcher.check_run_worker_health(elsewhere).status is WorkerStatus.RUNNING


def test_a_run_that_was_made_and_never_queued_is_missed_after_two_minutes(
    servers: Endpoints, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = launcher_at(servers.broker_url, instance)
    monkeypatch.setattr(type(instance), "run_launcher", launcher)
    run = instance.add_run(dg.DagsterRun(job_name="any"))
    made = datetime.now(UTC)

    assert missing_runs(instance, made + timedelta(minutes=1)) == []
    assert [each.run_id for each in missing_runs(instance, made + timedelta(minutes=3))] == [
        run.run_id
    ]


def failed(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    run = instance.add_run(
        dg.DagsterRun(job_name="any", tags={f"dagster/{key}": tags[key] for key in tags})
    )
    instance.report_run_failed(run)
    return run


def unrepeated(instance: dg.DagsterInstance, seconds: float) -> list[str]:
    return [each.run_id for each in unrepeated_runs(instance, datetime.now(UTC) + after(seconds))]


def after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def test_a_failed_run_whose_repetition_never_came_is_asked_for_again(
    instance: dg.DagsterInstance,
) -> None:
    run = failed(instance, will_retry="true")

    assert unrepeated(instance, 30) == []
    assert unrepeated(instance, 90) == [run.run_id]


def test_a_failed_run_whose_repetition_was_given_up_is_asked_for_again(
    instance: dg.DagsterInstance,
) -> None:
    run = failed(instance, will_retry="false")
    assert unrepeated(instance, 90) == []

    # In the words of Dagster's daemon when the code server is away.
    instance.report_engine_event("Failed to retry run", run)

    assert unrepeated(instance, 90) == [run.run_id]


@pytest.mark.parametrize(
    "tags",
    [
        {"will_retry": "true", "auto_retry_run_id": "other"},
        {"will_retry": "false", "failure_reason": "STEP_FAILURE"},
        {"will_retry": "false"},
    ],
    ids=["repeated", "failed in a step", "repeated often enough"],
)
def test_other_failed_runs_are_left_alone(
    instance: dg.DagsterInstance, tags: dict[str, str]
) -> None:
    failed(instance, **tags)

    assert unrepeated(instance, 90) == []


def test_a_repetition_is_asked_for_three_times_at_most(instance: dg.DagsterInstance) -> None:
    run = failed(instance, will_retry="true")
    instance.add_run_tags(run.run_id, {ASKED_AGAIN_TAG: "3"})

    assert unrepeated(instance, 90) == []


def test_the_sensor_reports_such_a_failure_once_more(instance: dg.DagsterInstance) -> None:
    run = failed(instance, will_retry="true")
    with freeze_time(datetime.now(UTC) + after(90)):
        lost_runs(dg.build_sensor_context(instance=instance))

    kind = dg.DagsterEventType.RUN_FAILURE
    assert len(instance.get_records_for_run(run.run_id, of_type=kind).records) == 2
    (stored,) = instance.get_runs()
    assert stored.tags[ASKED_AGAIN_TAG] == "1"
