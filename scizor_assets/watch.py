"""The sensor that finds runs which were made, or handed to a worker, and never began.

Dagster's run monitoring asks after runs that have begun (`WatchfulCeleryRunLauncher`). One whose
worker dies between taking it from the queue and its first step, or whose message is lost with the
broker, would stay "starting", which looks like waiting for a worker. One whose maker dies, or loses
its database, between making it and putting it into the queue would stay "not started". And one that
has failed may have lost its repetition: Dagster's daemon asks for it once, and when the code server
or PostgreSQL is away in that second, never again.
"""

import json
from datetime import datetime, timedelta

import dagster as dg
from dagster._core.events import RunFailureReason
from dagster._core.storage.tags import (
    AUTO_RETRY_RUN_ID_TAG,
    RUN_FAILURE_REASON_TAG,
    WILL_RETRY_TAG,
)
from dagster._time import get_current_datetime

from scizor_assets.launcher import WatchfulCeleryRunLauncher

#: A run begins within a second or two of being taken by a worker.
PATIENCE = timedelta(seconds=10)
#: A run is put into the queue at once; of many that a backfill makes together, the last one may
#: wait a while for its turn.
QUEUED_WITHIN = timedelta(minutes=2)
#: The daemon launches a run again within seconds of its failure, or not at all.
REPEATED_WITHIN = timedelta(minutes=1)
#: Older failures are no longer looked at.
_LOOKED_BACK = timedelta(hours=1)
_LOOKED_AT = 200
#: Tag of a failed run: how often its repetition was asked for anew.
ASKED_AGAIN_TAG = "scizor/asked_again"
_ASKED_AGAIN_AT_MOST = 3
_NOT_REPEATED = "Failed to retry run"
_TICK_SECONDS = 15
_REASONS = {
    dg.DagsterRunStatus.STARTING: (
        "It was handed to a worker that has gone, or its message was lost, before it began."
    ),
    dg.DagsterRunStatus.NOT_STARTED: (
        "It was made and never came into the queue: whoever made it has gone, or lost PostgreSQL."
    ),
}


@dg.sensor(
    name="lost_runs",
    minimum_interval_seconds=_TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Fails runs that were handed to a worker, wait in no queue and are at no worker, and runs "
        "that were made two minutes ago and never queued, so that they are launched anew; asks "
        "again for the repetition of failed runs where that failed. Looks every 15 seconds; twice "
        "missed is lost."
    ),
)
def lost_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Fail what is missed for the second time; remember what is missed for the first."""
    now = get_current_datetime()
    for run in unrepeated_runs(context.instance, now):
        asked = int(run.tags.get(ASKED_AGAIN_TAG, "0")) + 1
        context.instance.add_run_tags(run.run_id, {ASKED_AGAIN_TAG: str(asked)})
        # The daemon looks at failures as they are reported; this one is reported once more.
        context.instance.report_run_failed(run, "It could not be launched again; it is now.")
    missed = missing_runs(context.instance, now)
    before = set(json.loads(context.cursor or "[]"))
    lost = [run for run in missed if run.run_id in before]
    for run in lost:
        context.instance.report_run_failed(run, _REASONS[run.status])
    context.update_cursor(json.dumps(sorted(run.run_id for run in missed if run not in lost)))
    return dg.SkipReason(
        f"{len(lost)} runs were lost." if lost else f"{len(missed)} runs are missed."
    )


def missing_runs(instance: dg.DagsterInstance, at: datetime) -> list[dg.DagsterRun]:
    """Return runs that should have begun: in no queue, neither Dagster's nor Celery's, nor at work.

    Args:
        instance: the instance; one with another launcher has none.
        at: the present instant, aware.
    """
    launcher = instance.run_launcher
    if not isinstance(launcher, WatchfulCeleryRunLauncher):
        return []
    unqueued = _runs(instance, dg.DagsterRunStatus.NOT_STARTED, at - QUEUED_WITHIN)
    launched = _runs(instance, dg.DagsterRunStatus.STARTING, at - PATIENCE)
    return [*unqueued, *(launcher.never_begun(launched) if launched else [])]


def unrepeated_runs(instance: dg.DagsterInstance, at: datetime) -> list[dg.DagsterRun]:
    """Return runs that have failed, should have been launched again, and were not.

    Args:
        instance: the instance.
        at: the present instant, aware.
    """
    recent = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        updated_after=at - _LOOKED_BACK,
        updated_before=at - REPEATED_WITHIN,
    )
    records = instance.get_run_records(recent, limit=_LOOKED_AT)
    return [each.dagster_run for each in records if _lacks_repetition(instance, each.dagster_run)]


def _lacks_repetition(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    tags = run.tags
    if (
        AUTO_RETRY_RUN_ID_TAG in tags
        or tags.get(RUN_FAILURE_REASON_TAG) == RunFailureReason.STEP_FAILURE.value
        or int(tags.get(ASKED_AGAIN_TAG, "0")) >= _ASKED_AGAIN_AT_MOST
    ):
        return False
    if tags.get(WILL_RETRY_TAG) == "true":
        return True
    events = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    return any(
        event is not None and event.message == _NOT_REPEATED
        for event in (each.event_log_entry.dagster_event for each in events.records)
    )


def _runs(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus, since: datetime
) -> list[dg.DagsterRun]:
    """Return the runs that have had a status since before an instant."""
    unchanged = dg.RunsFilter(statuses=[status], updated_before=since)
    return [record.dagster_run for record in instance.get_run_records(unchanged)]
