"""The Dagster resources; the only file outside scizor_assets that imports dagster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from scizor_resources.kept import KeptPlatforms
from scizor_resources.platform import Platform

#: Those of this process.
PLATFORMS = KeptPlatforms()


class PlatformResource(dg.ConfigurableResource[Platform]):
    """Gives assets the opened `Platform`.

    It is opened when a run starts, not when the definitions load, so that they load with nothing
    configured and no server running. The next run or tick in the same process uses it again.
    """

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Platform]:
        """Lend the platform for one run, or one tick of a sensor."""
        del context
        with PLATFORMS.lend() as platform:
            yield platform


def default_resources() -> dict[str, Any]:
    """Return the resources that the definitions use unless they are overridden."""
    return {"platform": PlatformResource()}
