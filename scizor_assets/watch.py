"""The sensor that finds runs which were handed to a worker and never began.

Dagster's run monitoring asks after runs that have begun (`WatchfulCeleryRunLauncher`). One whose
worker dies between taking it from the queue and its first step, or whose message is lost with the
broker, would stay "starting", which looks like waiting for a worker.
"""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg

from scizor_assets.launcher import WatchfulCeleryRunLauncher

#: A run begins within a second or two of being taken by a worker.
PATIENCE = timedelta(seconds=10)
_TICK_SECONDS = 15
_REASON = "It was handed to a worker that has gone, or its message was lost, before it began."


@dg.sensor(
    name="lost_runs",
    minimum_interval_seconds=_TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Fails runs that were handed to a worker, wait in no queue and are at no worker, so that "
        "they are launched anew. Looks every 15 seconds; twice missed is lost."
    ),
)
def lost_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Fail what is missed for the second time; remember what is missed for the first."""
    missed = missing_runs(context.instance, datetime.now(UTC))
    before = set(json.loads(context.cursor or "[]"))
    lost = [run for run in missed if run.run_id in before]
    for run in lost:
        context.instance.report_run_failed(run, _REASON)
    context.update_cursor(json.dumps(sorted(run.run_id for run in missed if run not in lost)))
    return dg.SkipReason(
        f"{len(lost)} runs were lost." if lost else f"{len(missed)} runs are missed."
    )


def missing_runs(instance: dg.DagsterInstance, at: datetime) -> list[dg.DagsterRun]:
    """Return runs that should have begun: neither in a queue nor at a worker.

    Args:
        instance: the instance; one with another launcher has none.
        at: the present instant, aware.
    """
    launcher = instance.run_launcher
    if not isinstance(launcher, WatchfulCeleryRunLauncher):
        return []
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING], updated_before=at - PATIENCE)
    )
    if not records:
        return []
    return launcher.never_begun(record.dagster_run for record in records)
