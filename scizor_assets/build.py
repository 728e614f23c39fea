"""Put the graph together.

Apart from `scizor_assets.definitions`, so that a command can build what it needs without dbt.
"""

from collections.abc import Mapping

import dagster as dg

from scizor_assets.alerting import ALERT_JOBS, ALERT_SCHEDULES, ALERT_SENSORS
from scizor_assets.archive import ARCHIVE_ASSETS, ARCHIVE_CHECKS, ARCHIVE_SCHEDULES
from scizor_assets.backfills import BACKFILL_SCHEDULES, BACKFILL_SENSORS
from scizor_assets.bars import BARS_ASSETS
from scizor_assets.catalyst import CATALYST_ASSETS, CATALYST_CHECKS
from scizor_assets.checks import ASSET_CHECKS
from scizor_assets.exchange import EXCHANGE_ASSETS, EXCHANGE_CHECKS
from scizor_assets.glass import GLASS_ASSETS, GLASS_CHECKS
from scizor_assets.human import HUMAN_ASSETS, HUMAN_CHECKS
from scizor_assets.indicators import INDICATORS_ASSETS
from scizor_assets.intraday import INTRADAY_SENSORS
from scizor_assets.jobs import JOBS
from scizor_assets.maintenance import MAINTENANCE_ASSETS
from scizor_assets.marts_refresh import build_marts_refresh
from scizor_assets.quality import QUALITY_ASSETS
from scizor_assets.reconciliation import RECONCILIATION_ASSETS
from scizor_assets.reference import REFERENCE_ASSETS
from scizor_assets.repair import REPAIR_SENSORS
from scizor_assets.schedules import SCHEDULES
from scizor_assets.streaming import STREAMING_ASSETS, STREAMING_SENSORS
from scizor_assets.watch import lost_runs
from scizor_resources.resources import default_resources


def build_defs(
    overrides: Mapping[str, object] | None = None, *, marts: bool = True
) -> dg.Definitions:
    """Return the definitions.

    Args:
        overrides: resources by name that take the place of the default ones (tests, CLI).
        marts: leave the dbt models out if false; importing dagster_dbt costs seconds that a run
            of bars has no use for.
    """
    models = _marts(marts)
    return dg.Definitions(
        assets=[
            *REFERENCE_ASSETS,
            *STREAMING_ASSETS,
            *BARS_ASSETS,
            *INDICATORS_ASSETS,
            *EXCHANGE_ASSETS,
            *GLASS_ASSETS,
            *HUMAN_ASSETS,
            *CATALYST_ASSETS,
            *QUALITY_ASSETS,
            *RECONCILIATION_ASSETS,
            *MAINTENANCE_ASSETS,
            *ARCHIVE_ASSETS,
            *models,
        ],
        asset_checks=[
            *ASSET_CHECKS,
            *EXCHANGE_CHECKS,
            *GLASS_CHECKS,
            *HUMAN_CHECKS,
            *CATALYST_CHECKS,
            *ARCHIVE_CHECKS,
        ],
        jobs=[*JOBS, *ALERT_JOBS],
        schedules=[*SCHEDULES, *BACKFILL_SCHEDULES, *ARCHIVE_SCHEDULES, *ALERT_SCHEDULES],
        sensors=[
            lost_runs,
            *INTRADAY_SENSORS,
            *BACKFILL_SENSORS,
            *REPAIR_SENSORS,
            *STREAMING_SENSORS,
            *ALERT_SENSORS,
            *map(build_marts_refresh, models),
        ],
        # A Celery worker's children may not have children; runs are what goes side by side.
        executor=dg.in_process_executor,
        resources={**default_resources(), **(overrides or {})},
    )


def _marts(wanted: bool) -> list[dg.AssetsDefinition]:
    if not wanted:
        return []
    # dagster_dbt takes seconds to import
    from scizor_assets.marts import build_marts

    return [build_marts()]
