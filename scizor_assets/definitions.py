"""The code location: `build_defs` puts the graph together, `defs` is what Dagster loads."""

from collections.abc import Mapping

import dagster as dg

from scizor_assets.bars import BARS_ASSETS
from scizor_assets.checks import ASSET_CHECKS
from scizor_assets.indicators import INDICATORS_ASSETS
from scizor_assets.jobs import JOBS
from scizor_assets.marts import build_marts
from scizor_assets.quality import QUALITY_ASSETS
from scizor_assets.reference import REFERENCE_ASSETS
from scizor_resources.resources import default_resources


def build_defs(overrides: Mapping[str, object] | None = None) -> dg.Definitions:
    """Return the definitions.

    Args:
        overrides: resources by name that take the place of the default ones (tests, CLI).
    """
    return dg.Definitions(
        assets=[
            *REFERENCE_ASSETS,
            *BARS_ASSETS,
            *INDICATORS_ASSETS,
            *QUALITY_ASSETS,
            build_marts(),
        ],
        asset_checks=ASSET_CHECKS,
        jobs=JOBS,
        # A Celery worker's children may not have children; runs are what goes side by side.
        executor=dg.in_process_executor,
        resources={**default_resources(), **(overrides or {})},
    )


defs = build_defs()
