"""The run launcher: dagster-celery's, but one that notices when a worker has gone.

Celery keeps a task of a killed worker in state STARTED for ever, and dagster-celery takes that
word for it, so the run would stay "started". Here the workers themselves are asked.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Iterable
from typing import Any

import redis
from celery.result import denied_join_result
from dagster import DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import (
    DAGSTER_CELERY_QUEUE_TAG,
    DAGSTER_CELERY_RUN_PRIORITY_TAG,
    DAGSTER_CELERY_TASK_ID_TAG,
)
from kombu.exceptions import OperationalError

from scizor_resources.embedded.processes import Mark, is_alive, mark_of
from scizor_resources.queues import QUEUES

#: Tag of a run that is executed by the process which made it, such as a command: which one it is.
PROCESS_TAG = "scizor/process"
#: Seconds that the workers get to say what they are doing.
INSPECT_SECONDS = 3.0
#: How long their answer counts: one question serves all runs that a round of monitoring looks at.
ANSWER_SECONDS = 5.0
#: Checks in a row in which no worker knows the task before its run counts as lost: one answer can
#: be late on a busy machine.
MISSED_CHECKS = 2


def process_tag() -> str:
    """Return the value of `PROCESS_TAG` for this process."""
    mark = mark_of(os.getpid())
    return json.dumps({"host": socket.gethostname(), "pid": mark.pid, "started": mark.started})


def _health_of_process(run: DagsterRun) -> CheckRunHealthResult:
    """Say whether the process that executes a run is there, as far as this machine can know."""
    told = json.loads(run.tags.get(PROCESS_TAG, "{}"))
    if told.get("host") != socket.gethostname() or is_alive(Mark(told["pid"], told["started"])):
        return CheckRunHealthResult(WorkerStatus.RUNNING)
    return CheckRunHealthResult(WorkerStatus.FAILED, "The command that executed this run is gone.")


class BrokerAway(DagsterUserCodeUnreachableError):
    """Valkey does not take a run; the daemon puts the run back into Dagster's queue.

    It does so for errors of this kind only (`max_user_code_failure_retries` of the coordinator);
    any other one fails the run, and an outage of seconds would fail all that wait.
    """


class WatchfulCeleryRunLauncher(CeleryRunLauncher):
    """Launches runs as Celery tasks and finds those whose worker has died."""

    def _launch_celery_task_run(
        self, run: DagsterRun, task_signature: Any, routing_key: str
    ) -> None:
        """Hand a run to the workers.

        The run knows its task before there is one: killed in between, it is found as a task that
        is nowhere. The packaged launcher tags it afterwards, and then it is looked for by nobody.

        Raises:
            BrokerAway: Valkey does not take it.
        """
        queue = run.tags.get(DAGSTER_CELERY_QUEUE_TAG, self.default_queue)
        task_id = str(uuid.uuid4())
        self._instance.add_run_tags(run.run_id, {DAGSTER_CELERY_TASK_ID_TAG: task_id})
        try:
            # Nobody waits for the result here; Celery would listen for it for ever.
            with denied_join_result():
                task_signature.apply_async(
                    task_id=task_id,
                    priority=int(run.tags.get(DAGSTER_CELERY_RUN_PRIORITY_TAG, "0")),
                    queue=queue,
                    routing_key=f"{queue}.{routing_key}",
                )
        except (OperationalError, redis.RedisError, OSError) as error:
            raise BrokerAway(
                f"Valkey did not take run {run.run_id} ({type(error).__name__}); it waits in the "
                "queue until Valkey answers. Check that the servers run: scizor status."
            ) from error
        self._instance.report_engine_event(
            f"Handed to the workers' queue {queue} as Celery task {task_id}.",
            run,
            cls=self.__class__,
        )

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Say whether a worker still executes `run`.

        The workers' word counts more than the result backend's, which may have been restarted
        empty, and which calls a message that came twice done. A run is lost when no worker has had
        its task in `MISSED_CHECKS` checks in a row. While the broker is down this raises, and the
        run stays as it is.
        """
        task_id = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task_id is None:
            return _health_of_process(run)
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
            runs: launched, and not begun for some seconds. One without a task was being launched
                by a daemon that has gone.
        """
        waiting = {run.tags.get(DAGSTER_CELERY_TASK_ID_TAG, run.run_id): run for run in runs}
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
