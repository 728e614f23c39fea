"""What Dagster still has to do: partitions of assets that queued runs and backfills wait for."""

from collections import Counter

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

_RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


def pending_partitions(instance: dg.DagsterInstance, definitions: dg.Definitions) -> Counter[str]:
    """Return asset key -> partitions that no run has yet begun with.

    Args:
        instance: the platform's Dagster instance.
        definitions: the graph, for the partitions of a range and of a backfill.
    """
    pending: Counter[str] = Counter()
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED])
    )
    graph = definitions.resolve_asset_graph()
    for record in records:
        run = record.dagster_run
        for key in run.asset_selection or ():
            pending[key.to_user_string()] += _count(run, graph.get(key).partitions_def)
    for backfill in instance.get_backfills(
        filters=BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
    ):
        if not backfill.is_asset_backfill:
            continue
        data = backfill.get_asset_backfill_data(graph)
        # What has been requested is a run, and counted above while that is queued.
        left = data.target_subset - data.requested_subset
        for key, partitions in left.partitions_subsets_by_asset_key.items():
            pending[key.to_user_string()] += len(partitions)
    return pending


def _count(run: dg.DagsterRun, partitions: dg.PartitionsDefinition | None) -> int:
    first, last = (run.tags.get(tag) for tag in _RANGE)
    if partitions is None or first is None or last is None:
        return 1
    return len(partitions.get_partition_keys_in_range(dg.PartitionKeyRange(first, last)))
