"""The run coordinator: Dagster's queue, where every run gets the tags that decide its way.

Belongs here: which Celery queue a run goes to and which limit it counts towards. The limits
themselves stand in dagster.yaml (`scizor_resources.dagster_home`).
"""

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import LaunchRunContext
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._core.storage.dagster_run import ACTIVE_RUN_STATUSES
from dagster._core.storage.tags import PRIORITY_TAG
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG, DAGSTER_CELERY_RUN_PRIORITY_TAG

from scizor_core.markets import MARKETS
from scizor_resources.queues import BACKFILL, LIVE, message_priority, queue_of

#: Whose providers a run of the backfill lane asks: a market, or an asset that others feed.
POOL_TAG = "scizor/pool"
#: Groups whose assets ask providers of their own, each asset its own pool.
_FED_BY_OTHERS = frozenset({"glass", "human", "catalyst", "exchange"})


class LanedRunCoordinator(QueuedRunCoordinator[dg.DagsterInstance]):
    """Queues runs as Dagster does, and tells each its Celery queue and its pool by tags.

    Live runs are not queued while there is room: the daemon looks into its queue once a second, and
    none of its limits but the number of all runs concerns them.
    """

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Tag a run and put it into the queue, or launch it at once."""
        run = context.dagster_run
        tags = {**lane_tags(run), **run.tags}
        missing = {key: value for key, value in tags.items() if key not in run.tags}
        if missing:
            self._instance.add_run_tags(run.run_id, missing)
        is_live = tags[DAGSTER_CELERY_QUEUE_TAG] == LIVE
        if is_live and run.status == dg.DagsterRunStatus.NOT_STARTED and self._has_room():
            return self._launch(context)
        return super().submit_run(context)

    def _has_room(self) -> bool:
        config = self._instance.get_concurrency_config().run_queue_config
        active = self._instance.get_runs_count(dg.RunsFilter(statuses=list(ACTIVE_RUN_STATUSES)))
        return config is not None and active < config.max_concurrent_runs

    def _launch(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Launch a live run at once, as the daemon would with its next look into the queue.

        Where the launcher is out of reach the run goes into the queue, which tries it again.
        """
        run_id, job_name = context.dagster_run.run_id, context.dagster_run.job_name
        starting = dg.DagsterEvent(
            event_type_value=dg.DagsterEventType.PIPELINE_STARTING.value, job_name=job_name
        )
        self._instance.report_dagster_event(starting, run_id=run_id)
        run = self._run(run_id)
        try:
            self._instance.run_launcher.launch_run(LaunchRunContext(run, context.workspace))
        except DagsterUserCodeUnreachableError as error:
            self._instance.report_engine_event(str(error), run)
            queued = dg.DagsterEvent.job_enqueue(run)
            self._instance.report_dagster_event(queued, run_id=run_id)
        except Exception as error:
            self._instance.report_engine_event(str(error), run)
            self._instance.report_run_failed(run)
            raise
        return self._run(run_id)

    def _run(self, run_id: str) -> dg.DagsterRun:
        run = self._instance.get_run_by_id(run_id)
        if run is None:
            raise dg.DagsterInvariantViolationError(f"Run {run_id} was deleted meanwhile.")
        return run


def lane_tags(run: dg.DagsterRun) -> dict[str, str]:
    """Return the tags of a run's way: queue, message priority, and pool in the backfill lane.

    Only backfills count towards a pool: a refresh of an open market must not wait until a backfill
    of the same market has ended.
    """
    priority = _priority(run)
    queue = run.tags.get(DAGSTER_CELERY_QUEUE_TAG) or queue_of(priority)
    tags = {
        DAGSTER_CELERY_QUEUE_TAG: queue,
        DAGSTER_CELERY_RUN_PRIORITY_TAG: str(message_priority(priority)),
    }
    pool = _pool(run)
    if queue == BACKFILL and pool is not None:
        tags[POOL_TAG] = pool
    return tags


def _priority(run: dg.DagsterRun) -> int:
    try:
        return int(run.tags.get(PRIORITY_TAG, "0"))
    except ValueError:
        return 0


def _pool(run: dg.DagsterRun) -> str | None:
    """Return whose providers the run asks, None where it asks nobody."""
    if run.asset_selection is None:  # a job by name: `asx_session`
        market = run.job_name.partition("_")[0]
        return market if market in MARKETS else None
    pools = set()
    for key in run.asset_selection:
        group, *rest = key.path
        if group in MARKETS and rest and rest[0].startswith("bars_"):
            pools.add(group)
        elif group in _FED_BY_OTHERS:
            pools.add(key.to_user_string())
    return "+".join(sorted(pools)) or None
