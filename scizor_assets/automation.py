"""What sensors and schedules have in common.

Belongs here: whether they run from the start, and whether a run of theirs is still under way.
"""

import dagster as dg

from scizor_resources.settings import get_settings

#: Tag of a run with the name of the sensor or schedule that asked for it, or "cli".
LAUNCHED_BY = "scizor/launched_by"

UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def schedule_status() -> dg.DefaultScheduleStatus:
    """Return whether schedules run from the start: in the live profile."""
    live = get_settings().profile == "live"
    return dg.DefaultScheduleStatus.RUNNING if live else dg.DefaultScheduleStatus.STOPPED


def sensor_status() -> dg.DefaultSensorStatus:
    """Return whether sensors run from the start: in the live profile."""
    live = get_settings().profile == "live"
    return dg.DefaultSensorStatus.RUNNING if live else dg.DefaultSensorStatus.STOPPED


def is_under_way(
    instance: dg.DagsterInstance, tags: dict[str, str], job_name: str | None = None
) -> bool:
    """Say whether a run with those tags (and of that job) waits or is being executed."""
    runs = dg.RunsFilter(job_name=job_name, statuses=UNDER_WAY, tags=tags)
    return bool(instance.get_run_records(runs, limit=1))
