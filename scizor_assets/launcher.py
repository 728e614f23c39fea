"""The run launcher: dagster-celery's, but one that notices when a worker has gone.

Celery keeps a task of a killed worker in state STARTED for ever, and dagster-celery takes that
word for it, so the run would stay "started". Here the workers themselves are asked.
"""

import json
import time
from collections.abc import Iterable

from dagster import DagsterRun
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from scizor_resources.queues import QUEUES

#: Seconds that the workers get to say what they are doing.
INSPECT_SECONDS = 3.0
#: How long their answer counts: one question serves all runs that a round of monitoring looks at.
ANSWER_SECONDS = 5.0
#: Checks in a row in which no worker knows the task before its run counts as lost: one answer can
#: be late on a busy machine.
MISSED_CHECKS = 2


class WatchfulCeleryRunLauncher(CeleryRunLauncher):
    """Launches runs as Celery tasks and finds those whose worker has died."""

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Say whether a worker still executes `run`.

        The workers' word counts more than the result backend's, which may have been restarted
        empty, and which calls a message that came twice done. A run is lost when no worker has had
        its task in `MISSED_CHECKS` checks in a row. While the broker is down this raises, and the
        run stays as it is.
        """
        task_id = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task_id is None:  # executed in the process that made it, such as a command
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if task_id in self.tasks_at_workers():
            self._missed().pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if self.celery.AsyncResult(task_id).state == "FAILURE":
            return CheckRunHealthResult(WorkerStatus.FAILED, "The worker's process has ended.")
        missed = self._missed()[run.run_id] = self._missed().get(run.run_id, 0) + 1
        if missed < MISSED_CHECKS:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        del self._missed()[run.run_id]
        return CheckRunHealthResult(
            WorkerStatus.FAILED, "The worker that executed this run has gone."
        )

    def tasks_at_workers(self) -> frozenset[str]:
        """Return the ids of the tasks that workers execute or have taken from a queue."""
        asked_at, known = getattr(self, "_answer", (None, frozenset()))
        if asked_at is not None and time.monotonic() - asked_at < ANSWER_SECONDS:
            return known
        inspect = self.celery.control.inspect(timeout=INSPECT_SECONDS)
        # Reserved ones first: what begins in between is then among the active ones.
        reserved, active = inspect.reserved() or {}, inspect.active() or {}
        known = frozenset(
            task["id"]
            for answers in (reserved, active)
            for tasks in answers.values()
            for task in tasks
        )
        self._answer = (time.monotonic(), known)
        return known

    def tasks_in_queues(self) -> set[str]:
        """Return the ids of the tasks that wait for a worker."""
        with self.celery.connection_for_read() as connection:
            channel = connection.default_channel
            keys = [
                channel._q_for_pri(queue, step)  # noqa: SLF001  # kombu tells it nowhere else
                for queue in {*QUEUES, self.default_queue}
                for step in channel.priority_steps
            ]
            messages = [each for key in keys for each in channel.client.lrange(key, 0, -1)]
        return {json.loads(message)["headers"]["id"] for message in messages}

    def never_begun(self, runs: Iterable[DagsterRun]) -> list[DagsterRun]:
        """Return those of the runs that wait in no queue and are at no worker.

        Args:
            runs: launched, and not begun for some seconds.
        """
        waiting = {run.tags.get(DAGSTER_CELERY_TASK_ID_TAG): run for run in runs}
        waiting.pop(None, None)
        # The queues first: what a worker takes in between is then at a worker.
        for task_id in self.tasks_in_queues():
            waiting.pop(task_id, None)
        if not waiting:
            return []
        self.__dict__.pop("_answer", None)
        taken = self.tasks_at_workers()
        return [run for task_id, run in waiting.items() if task_id not in taken]

    def _missed(self) -> dict[str, int]:
        # Made on first use: the base class is built by Dagster from its config alone.
        if not hasattr(self, "_missed_checks"):
            self._missed_checks: dict[str, int] = {}
        return self._missed_checks
