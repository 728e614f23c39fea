"""Live runs are launched at once while there is room, and never lost where that fails."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import dagster as dg
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.test_utils import create_run_for_test, instance_for_test
from dagster._serdes import ConfigurableClass, ConfigurableClassData

STARTING, QUEUED, FAILURE = (
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.FAILURE,
)
ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("scizor"), "__repository__"), "asx_session"
)


class RecordingLauncher(RunLauncher[dg.DagsterInstance], ConfigurableClass):
    """Notes the runs that it is given, or raises `error`."""

    launched: ClassVar[list[dg.DagsterRun]] = []
    error: ClassVar[Exception | None] = None

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "RecordingLauncher":
        return cls(inst_data, **config_value)

    def launch_run(self, context: LaunchRunContext) -> None:
        if self.error is not None:
            raise self.error
        self.launched.append(context.dagster_run)

    def terminate(self, run_id: str) -> bool:
        raise NotImplementedError(run_id)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    RecordingLauncher.launched.clear()
    RecordingLauncher.error = None
    overrides = {
        "run_coordinator": {
            "module": "scizor_assets.coordinator",
            "class": "LanedRunCoordinator",
            "config": {"max_concurrent_runs": 2},
        },
        "run_launcher": {"module": __name__, "class": "RecordingLauncher"},
    }
    with instance_for_test(overrides=overrides) as made:
        yield made


def submit(
    instance: dg.DagsterInstance, priority: int, status: dg.DagsterRunStatus | None = None
) -> dg.DagsterRun:
    """Submit a run; nothing here looks at the workspace."""
    run = create_run_for_test(
        instance,
        job_name=ORIGIN.job_name,
        status=status,
        tags={"dagster/priority": str(priority)},
        remote_job_origin=ORIGIN,
    )
    if status is None:
        workspace: Any = None
        instance.run_coordinator.submit_run(SubmitRunContext(run, workspace))
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def test_a_live_run_is_launched_without_waiting_in_the_queue(instance: dg.DagsterInstance) -> None:
    run = submit(instance, 10)
    assert [each.run_id for each in RecordingLauncher.launched] == [run.run_id]
    assert run.status == STARTING


def test_the_launcher_is_told_the_queue_of_the_workers(instance: dg.DagsterInstance) -> None:
    submit(instance, 10)
    (launched,) = RecordingLauncher.launched
    assert launched.tags["dagster-celery/queue"] == "live"


def test_a_backfill_waits_in_the_queue(instance: dg.DagsterInstance) -> None:
    assert submit(instance, 0).status == QUEUED
    assert RecordingLauncher.launched == []


def test_a_live_run_waits_while_all_places_are_taken(instance: dg.DagsterInstance) -> None:
    for status in (STARTING, dg.DagsterRunStatus.STARTED):
        submit(instance, 0, status)
    assert submit(instance, 10).status == QUEUED
    assert RecordingLauncher.launched == []


def test_runs_that_have_ended_take_no_place(instance: dg.DagsterInstance) -> None:
    for status in (dg.DagsterRunStatus.SUCCESS, FAILURE, dg.DagsterRunStatus.CANCELED):
        submit(instance, 0, status)
    assert submit(instance, 10).status == STARTING


def test_a_live_run_that_cannot_be_handed_over_waits_in_the_queue(
    instance: dg.DagsterInstance,
) -> None:
    RecordingLauncher.error = DagsterUserCodeUnreachableError("the broker is away")
    assert submit(instance, 10).status == QUEUED


def test_a_live_run_that_cannot_be_launched_at_all_has_failed(instance: dg.DagsterInstance) -> None:
    RecordingLauncher.error = ValueError("no such thing")
    with pytest.raises(ValueError, match="no such thing"):
        submit(instance, 10)
    (run,) = instance.get_runs()
    assert run.status == FAILURE
