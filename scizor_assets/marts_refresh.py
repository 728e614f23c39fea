"""The sensor that builds the marts anew after what they are made of has changed.

Belongs here: when. Not here: how dbt is called (`scizor_assets.marts`).
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from scizor_assets.automation import LAUNCHED_BY, is_under_way, sensor_status
from scizor_assets.backfills import WATCHLIST_CHANGES
from scizor_resources.platform import Platform

NAME = "marts_refresh"
#: After bars of a new symbol the marts are built at once, but not more often than that.
AT_LEAST = timedelta(seconds=60)
_TICK_SECONDS = 15


def build_marts_refresh(marts: dg.AssetsDefinition) -> dg.SensorDefinition:
    """Return the sensor `marts_refresh`.

    Args:
        marts: all dbt models.
    """
    sources = sorted({key for deps in marts.asset_deps.values() for key in deps} - set(marts.keys))

    @dg.sensor(
        name=NAME,
        target=[marts],
        minimum_interval_seconds=_TICK_SECONDS,
        default_status=sensor_status(),
        description=(
            "Builds the marts after bars, indicators, completeness or other ledgers have been "
            "materialized: at most every SCIZOR_MARTS_EVERY_SECONDS, after bars of a new symbol "
            "within a minute. One build at a time."
        ),
    )
    def marts_refresh(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.RunRequest | dg.SkipReason:
        instance = context.instance
        if is_under_way(instance, {LAUNCHED_BY: NAME}):
            return dg.SkipReason("The marts are being built.")
        began = last_build(instance)
        changed = last_change(instance, sources)
        if changed is None or (began is not None and changed <= began):
            return dg.SkipReason("Nothing has changed since the last build.")
        if began is not None:
            waits = timedelta(seconds=platform.settings.marts_every_seconds)
            if has_new_symbol(instance, began):
                waits = AT_LEAST
            due = began + waits
            if platform.now() < due:
                return dg.SkipReason(f"The next build is due at {due:%H:%M:%S} UTC.")
        return dg.RunRequest(
            run_key=f"{NAME}:{changed.isoformat()}",
            tags={"dagster/priority": "1", LAUNCHED_BY: NAME},
        )

    return marts_refresh


def last_build(instance: dg.DagsterInstance) -> datetime | None:
    """Return when the sensor's last build began, successful or not; None before the first."""
    records = instance.get_run_records(dg.RunsFilter(tags={LAUNCHED_BY: NAME}), limit=1)
    return records[0].create_timestamp.astimezone(UTC) if records else None


def last_change(instance: dg.DagsterInstance, keys: list[dg.AssetKey]) -> datetime | None:
    """Return when one of some assets was materialized last, None if none ever was."""
    entries = [record.asset_entry for record in instance.get_asset_records(keys)]
    stamps = [
        entry.last_materialization_record.timestamp
        for entry in entries
        if entry.last_materialization_record is not None
    ]
    return datetime.fromtimestamp(max(stamps), UTC) if stamps else None


def has_new_symbol(instance: dg.DagsterInstance, since: datetime) -> bool:
    """Say whether a run for a new symbol has succeeded since then."""
    runs = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.SUCCESS],
        tags={LAUNCHED_BY: WATCHLIST_CHANGES},
        # Some storages keep whole seconds.
        updated_after=since - timedelta(seconds=1),
    )
    return bool(instance.get_run_records(runs, limit=1))
