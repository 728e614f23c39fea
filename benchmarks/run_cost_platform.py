"""The code location of `bench_run_cost`: the platform's own definitions with another clock.

Only the sensor that is measured runs, as often as Dagster looks at sensors; everything else is as
in `scizor_assets.definitions`. The present is the instant in the file that the benchmark writes.
"""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import dagster as dg

from benchmarks.bench_run_cost import CLOCK_VARIABLE, SENSOR
from scizor_assets.build import build_defs
from scizor_resources.platform import Platform



def simulated_now() -> datetime:
    """Return the instant that the benchmark has chosen, aware."""
    return datetime.fromisoformat(Path(os.environ[CLOCK_VARIABLE]).read_text())


class SimulatedPlatform(dg.ConfigurableResource[Platform]):
    """The platform, opened for each use as `PlatformResource` does, with the benchmark's clock."""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Platform]:
        """Open the platform."""
        del context
        with Platform.open() as platform:
            platform.now = simulated_now
            yield platform


if True:
    from datetime import timedelta
    from scizor_core.cadence import sessions_to_refresh
    from scizor_core.markets import get_market, INTRADAY_TIMEFRAMES

    @dg.sensor(name="asx_intraday", job_name="asx_session", minimum_interval_seconds=1)
    def stand_in(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]):
        at = platform.now()
        (session,) = sessions_to_refresh(get_market("asx"), at)
        with platform.warehouse.connect() as connection:
            connection.execute("SELECT 1")
        lane = {"config": {"lane": "live"}}
        yield dg.RunRequest(
            run_key=at.strftime("asx %Y-%m-%dT%H:%M"),
            partition_key=session.session_date.isoformat(),
            run_config={"ops": {f"asx__bars_{each}": lane for each in INTRADAY_TIMEFRAMES}},
            tags={"dagster/priority": "10"},
        )


def bench_definitions() -> dg.Definitions:
    """Return the definitions."""
    built = build_defs({"platform": SimulatedPlatform()})
    sensors = [copy.copy(each) for each in [*built.sensors, stand_in] if each.name == SENSOR]
    for sensor in sensors:
        sensor._default_status = dg.DefaultSensorStatus.RUNNING
        sensor._min_interval = 1
    return dg.Definitions(
        assets=built.assets,
        asset_checks=built.asset_checks,
        jobs=built.jobs,
        schedules=built.schedules,
        sensors=[*(each for each in built.sensors if each.name != SENSOR), *sensors],
        executor=built.executor,
        resources=built.resources,
    )


defs = bench_definitions()
