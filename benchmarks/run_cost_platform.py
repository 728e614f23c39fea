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
from scizor_resources.resources import PLATFORMS


def simulated_now() -> datetime:
    """Return the instant that the benchmark has chosen, aware."""
    return datetime.fromisoformat(Path(os.environ[CLOCK_VARIABLE]).read_text())


class SimulatedPlatform(dg.ConfigurableResource[Platform]):
    """The platform as `PlatformResource` gives it, with the benchmark's clock."""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Platform]:
        """Lend the platform."""
        del context
        with PLATFORMS.lend() as platform:
            platform.now = simulated_now
            yield platform


def bench_definitions() -> dg.Definitions:
    """Return the definitions."""
    built = build_defs({"platform": SimulatedPlatform()})
    sensors = [copy.copy(each) for each in built.sensors or () if each.name == SENSOR]
    for sensor in sensors:
        # There is no other way to start one that is off by default without the UI.
        sensor._default_status = dg.DefaultSensorStatus.RUNNING  # type: ignore[attr-defined]
        sensor._min_interval = 1  # type: ignore[attr-defined]
    return dg.Definitions(
        assets=built.assets,
        asset_checks=built.asset_checks,
        jobs=built.jobs,
        schedules=built.schedules,
        sensors=[*(each for each in built.sensors or () if each.name != SENSOR), *sensors],
        executor=built.executor,
        resources=built.resources,
    )


defs = bench_definitions()
