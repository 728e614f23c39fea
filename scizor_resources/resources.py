"""The Dagster resources; the only file outside scizor_assets that imports dagster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from scizor_resources.platform import Platform


class PlatformResource(dg.ConfigurableResource[Platform]):
    """Gives assets the opened `Platform`.

    It is opened when a run starts, not when the definitions load, so that they load with nothing
    configured and no server running.
    """

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Platform]:
        """Open the platform for one run and let go of it afterwards."""
        del context
        with Platform.open() as platform:
            yield platform


def default_resources() -> dict[str, Any]:
    """Return the resources that the definitions use unless they are overridden."""
    return {"platform": PlatformResource()}
