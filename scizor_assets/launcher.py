"""The run launcher: dagster-celery's, but one that notices when a worker has gone.

Celery keeps a task of a killed worker in state STARTED for ever, and dagster-celery takes that
word for it, so the run would stay "started". Here the workers themselves are asked.
"""

from dagster import DagsterRun
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

#: Seconds that the workers get to say what they are doing.
INSPECT_SECONDS = 3.0
#: Checks in a row in which no worker knows the task before its run counts as lost: one answer can
#: be late on a busy machine.
MISSED_CHECKS = 2


class WatchfulCeleryRunLauncher(CeleryRunLauncher):
    """Launches runs as Celery tasks and finds those whose worker has died."""

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Say whether a worker still executes `run`.

        A run counts as failed when workers answer and none of them has had its task in
        `MISSED_CHECKS` checks in a row. While no worker answers at all nothing is known.
        """
        health = super().check_run_worker_health(run)
        if health.status is not WorkerStatus.RUNNING:
            return health
        answers = self.celery.control.inspect(timeout=INSPECT_SECONDS).active()
        if not answers:
            return CheckRunHealthResult(WorkerStatus.UNKNOWN, "No Celery worker answers.")
        task_id = run.tags[DAGSTER_CELERY_TASK_ID_TAG]
        if any(task["id"] == task_id for tasks in answers.values() for task in tasks):
            self._missed().pop(run.run_id, None)
            return health
        missed = self._missed()[run.run_id] = self._missed().get(run.run_id, 0) + 1
        if missed < MISSED_CHECKS:
            return health
        return CheckRunHealthResult(
            WorkerStatus.FAILED, "The Celery worker that executed this run has gone."
        )

    def _missed(self) -> dict[str, int]:
        # Made on first use: the base class is built by Dagster from its config alone.
        if not hasattr(self, "_missed_checks"):
            self._missed_checks: dict[str, int] = {}
        return self._missed_checks
