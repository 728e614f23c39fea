"""How Dagster's own tables are read without Dagster: what a run or a backfill is about."""

import json
from collections.abc import Iterable
from typing import Any

#: Tags that tell a run's partition, or the two ends of its range.
PARTITION_TAGS = (
    "dagster/partition",
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
)
_SHOWN_ASSETS = 2


def run_subject(job: str, body: str) -> str:
    """Return what a run is about: its assets, or the name of its job.

    Args:
        job: job name as Dagster stores it.
        body: the run as Dagster stores it, JSON.
    """
    try:
        selection = json.loads(body).get("asset_selection")
    except (ValueError, AttributeError):
        return job
    return subject_of(job, selection)


def subject_of(job: str, selection: Any) -> str:
    """Return what a run is about: its assets, or the name of its job.

    Args:
        job: job name as Dagster stores it.
        selection: of assets, as it stands in the stored run.
    """
    if not job.startswith("__"):
        return job
    keys = selection.get("__frozenset__", []) if isinstance(selection, dict) else selection or []
    return (
        shortened("/".join(key["path"]) for key in keys if isinstance(key, dict) and "path" in key)
        or job
    )


def shortened(assets: Iterable[str]) -> str:
    """Return the first two of some asset keys, and how many more there are."""
    names = sorted(assets)
    rest = len(names) - _SHOWN_ASSETS
    return ", ".join(names[:_SHOWN_ASSETS]) + (f" +{rest}" if rest > 0 else "")
